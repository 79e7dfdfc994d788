-- A row in every table as the migrations up to the hosts make it, with every kind of value.
INSERT INTO sources
    (name, declared, spec, seen, attempted, deployed, last_fetch_at, conditions, suspended_reason,
     suspended_since, passes)
VALUES
    ('local', 'file', '{"local":{"path":"/srv/tasks","debounce_ms":null}}', NULL, NULL, NULL, NULL, '[]', NULL, NULL, 3),
    ('team', 'command', '{"git":{"url":"https://example.org/r.git","branch":"main","path":"units","poll_ms":30000}}',
     '3333333333333333333333333333333333333333', '2222222222222222222222222222222222222222',
     '1111111111111111111111111111111111111111', 1700000000000,
     '[{"type":"Ready","status":"True","reason":"Deployed","message":"all is deployed","since":1}]',
     'on holiday', 1700000000001, 0);

INSERT INTO units
    (id, source, name, desired, attempted, deployed, deployed_revision, generation, action, rule, reason,
     conditions, problems, held_hash, held_by, held_reason, held_since, suspended_reason, suspended_since,
     failures, retry_at, pinned, updated_at, phases)
VALUES
    ('local/a', 'local', 'a', NULL, NULL, NULL, NULL, 0, NULL, NULL, '', '[]',
     '[{"reason":"InvalidManifest","message":"no runtime","file":"a/task.yaml","at":[1,2]}]',
     NULL, NULL, NULL, NULL, NULL, NULL, 1, 1700000001000, NULL, 1700000000000, '[]'),
    ('team/jobs/digest', 'team', 'digest',
     'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb',
     'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb',
     'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',
     '1111111111111111111111111111111111111111', 4, 'sync', 'task.updated', 'files changed',
     '[{"type":"Ready","status":"False","reason":"Held","message":"held","since":2}]', '[]',
     'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'user', 'rolled back', 1700000000002,
     'freeze', 1700000000003, 0, NULL,
     'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 1700000000004,
     '[["fetch",11.25],["act",0.5]]');

INSERT INTO removed_units
    (unit, generation, removed_at)
VALUES ('team/jobs/gone', 7, 1700000000005);

INSERT INTO versions
    (id, unit, hash, name, revision, deployed_at, spec, files)
VALUES
    (1, 'team/jobs/digest', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'digest',
     '1111111111111111111111111111111111111111', 1700000000006,
     '{"name":"digest","description":"","runtime":"shell","entry":"task.sh","trigger":"manual","params":{},"env":{},"timeout_ms":60000,"exclude":[]}',
     'f cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc 12 lib/with space.sh' || char(10) ||
     'x dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd 0 task.sh' || char(10)),
    (2, 'team/jobs/digest', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'digest', NULL, NULL,
     '{"name":"digest","description":"d","runtime":{"command":["echo"]},"entry":null,"trigger":{"daemon":"always"},"params":{},"env":{},"timeout_ms":null,"exclude":["*.tmp"]}',
     '');

INSERT INTO history
    (id, unit, source, generation, cause, cause_detail, revision, rewritten, from_hash, to_hash, action,
     rule, reason, files, phases, outcome, proof, error, at)
VALUES
    (1, 'team/jobs/digest', 'team', 4, 'poll', '', '1111111111111111111111111111111111111111', 1, NULL,
     'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'sync', 'task.added', 'it is new',
     '[{"path":"task.sh","change":"added"}]', '[["observe",1.5]]', 'succeeded', 'registered', '', 1700000000007);

INSERT INTO events
    (id, at, type, source, unit, hash, revision, message, phases)
VALUES
    (1, 1700000000008, 'unit.registered', 'team', 'team/jobs/digest',
     'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',
     '1111111111111111111111111111111111111111', 'registered', '[["observe",0.8],["act",0.1]]'),
    (2, 1700000000009, 'source.failed', 'local', NULL, NULL, NULL, 'the folder is gone', '[]');

INSERT INTO runs
    (number, id, task, hash, revision, cause, status, exit_code, started_at, ended_at, pid, pid_started,
     boot, error, output, response)
VALUES
    (1, '0123456789abcdef', 'team/jobs/digest', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',
     '1111111111111111111111111111111111111111', 'manual', 'succeeded', 0, 1700000000010, 1700000000011,
     12, 34, 'boot', '', '{"a":1}', '{"status":204}'),
    (2, 'fedcba9876543210', 'team/jobs/digest', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb',
     NULL, 'daemon', 'running', NULL, 1700000000012, NULL, NULL, NULL, NULL, '', NULL, NULL);

INSERT INTO logs
    (run, seq, at, stream, text)
VALUES (1, 1, 1700000000010, 'stdout', 'hello'), (1, 2, 1700000000011, 'system', 'ended');

-- What this migration brought.
UPDATE sources SET dev_path = '/home/me/team/units', dev_since = 1700000000002, dev_until = 1700000000003, strayed = 1
WHERE name = 'team';
UPDATE history SET dev_path = '/home/me/team/units';

INSERT INTO kv
    (task, key, value, size, updated_at)
VALUES ('team/jobs/digest', 'last/seen', '{"id":7}', 17, 1700000000013), ('team/jobs/gone', 'n', '1', 2, 1700000000014);

INSERT INTO runs
    (id, task, hash, revision, cause, cause_detail, attempt, first, retried_by, status, started_at, ended_at, error)
VALUES
    ('0123456789abcde0', 'team/jobs/digest', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', NULL, 'chain',
     '0123456789abcdef', 1, NULL, '0123456789abcde1', 'failed', 1700000000015, 1700000000016, 'it ended with exit code 1'),
    ('0123456789abcde1', 'team/jobs/digest', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', NULL, 'chain',
     '0123456789abcdef', 2, '0123456789abcde0', NULL, 'queued', 1700000000017, NULL, ''),
    ('0123456789abcde2', 'team/jobs/digest', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', NULL, 'manual',
     '', 1, NULL, NULL, 'skipped', 1700000000018, 1700000000018, 'another one is not over');
INSERT INTO cron_state (unit, schedule, settled_at, fired_at) VALUES
    ('team/a', '*/5 * * * *' || char(10) || 'Europe/Berlin', 1700000000000, 1700000000000),
    ('team/gone', '@daily' || char(10), 1690000000000, NULL);
INSERT INTO deliveries (source, provider, via, id, event, reference, revision, body, verdict, reason, repeat, duplicates,
    received_at) VALUES
    ('team', 'github', 'direct', '72d3162e-cc78-11e3-81ab-4c9367dc0958', 'push', 'refs/heads/main',
     '0123456789abcdef0123456789abcdef01234567',
     'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'accepted', '', 0, 2, 1700000000000),
    ('team', 'gitea', 'relay', '1', 'ping', NULL, NULL, 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb',
     'ignored', 'pong', 1, 0, 1700000000001),
    ('team', 'github', 'relay', 'altered-1700000000002', 'push', NULL, NULL,
     'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'relay-altered', 'its signature does not fit', 0,
     17, 1700000000002);

INSERT INTO outbox (source, api, repository, revision, state, summary, times, changed_at, posted_state, posted_summary,
    posted_at, attempts, due_at, error) VALUES
    ('team', 'https://api.github.com', 'team/jobs', '0123456789abcdef0123456789abcdef01234567', 'success',
     '3 units live', 'fetch 12 ms', 1700000000000, 'pending', '3 units to deploy', 1700000000001, 2, 1700000000002,
     'it answered 500'),
    ('team', 'https://api.github.com', 'team/jobs', '1123456789abcdef0123456789abcdef01234567', 'error',
     'superseded', '', 1700000000003, NULL, NULL, NULL, 0, NULL, '');

INSERT INTO hosts (api, token, shut_until, why)
VALUES
    ('https://api.github.com', -7, 1700000000001, 'it answered 429'),
    ('https://ghe.example/api/v3', 7, NULL, '');
