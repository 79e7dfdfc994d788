-- The store's first shape.
--
-- Times are milliseconds since 1970 (UTC). Hashes are SHA-256 in 64 hexadecimal digits. A unit is named by its
-- id, `source/key`. Columns whose comment says JSON hold documents that no query looks into.

-- Where desired state comes from.
CREATE TABLE sources (
    name             TEXT    NOT NULL PRIMARY KEY,
    declared         TEXT    NOT NULL CHECK (declared IN ('file', 'command')),
    spec             TEXT    NOT NULL CHECK (json_valid(spec)),        -- JSON: the source as it is configured
    seen             TEXT,                                             -- the newest commit that was fetched
    attempted        TEXT,                                             -- the newest that a pass decided on
    deployed         TEXT,                                             -- the newest of which all took effect
    last_fetch_at    INTEGER,
    conditions       TEXT    NOT NULL CHECK (json_valid(conditions)),  -- JSON
    suspended_reason TEXT,
    suspended_since  INTEGER,
    passes           INTEGER NOT NULL CHECK (passes >= 0),             -- passes that found nothing
    CHECK ((suspended_reason IS NULL) = (suspended_since IS NULL))
) STRICT;

-- What is known of each unit that is there.
CREATE TABLE units (
    id                TEXT    NOT NULL PRIMARY KEY,
    source            TEXT    NOT NULL REFERENCES sources (name),
    name              TEXT    NOT NULL,                                -- to show
    desired           TEXT    CHECK (length(desired) = 64),
    attempted         TEXT    CHECK (length(attempted) = 64),
    deployed          TEXT    CHECK (length(deployed) = 64),           -- written only after it took effect
    deployed_revision TEXT,
    generation        INTEGER NOT NULL CHECK (generation >= 0),
    action            TEXT    CHECK (action IN ('noop', 'sync', 'rebuild', 'remove')),
    rule              TEXT,
    reason            TEXT    NOT NULL,
    conditions        TEXT    NOT NULL CHECK (json_valid(conditions)), -- JSON
    problems          TEXT    NOT NULL CHECK (json_valid(problems)),   -- JSON
    held_hash         TEXT    CHECK (length(held_hash) = 64),          -- not this hash again
    held_by           TEXT    CHECK (held_by IN ('user', 'crash')),
    held_reason       TEXT,
    held_since        INTEGER,
    suspended_reason  TEXT,
    suspended_since   INTEGER,
    failures          INTEGER NOT NULL CHECK (failures >= 0),
    retry_at          INTEGER,
    pinned            TEXT    CHECK (length(pinned) = 64),             -- the version that a rollback chose
    updated_at        INTEGER NOT NULL,
    CHECK ((held_hash IS NULL) = (held_by IS NULL)),
    CHECK ((held_hash IS NULL) = (held_reason IS NULL)),
    CHECK ((held_hash IS NULL) = (held_since IS NULL)),
    CHECK ((suspended_reason IS NULL) = (suspended_since IS NULL))
) STRICT;

-- Units that are gone. Their versions, history and runs stay for a while.
CREATE TABLE removed_units (
    unit       TEXT    NOT NULL PRIMARY KEY,
    generation INTEGER NOT NULL CHECK (generation >= 0),               -- a unit that comes back goes on from here
    removed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX removed_units_at ON removed_units (removed_at);

-- A unit that is there again is not gone. An upsert of a unit that is there does not fire this.
CREATE TRIGGER units_come_back AFTER INSERT ON units BEGIN
    DELETE FROM removed_units WHERE unit = NEW.id;
END;

-- Versions of units: what is needed to run one again without its source. The files' bytes are kept outside, by
-- their hashes. The two long columns stand last, so that a listing does not read them.
CREATE TABLE versions (
    id          INTEGER NOT NULL PRIMARY KEY,
    unit        TEXT    NOT NULL,
    hash        TEXT    NOT NULL CHECK (length(hash) = 64),
    name        TEXT    NOT NULL,                                      -- to show
    revision    TEXT,                                                  -- the commit that it was first seen in
    deployed_at INTEGER,                                               -- the last time; null if it never was
    spec        TEXT    NOT NULL,                                      -- JSON: the resolved spec, canonical
    files       TEXT    NOT NULL,                                      -- a line for each file: mode hash size path
    UNIQUE (unit, hash)
) STRICT;

-- One row for each step of a pass.
CREATE TABLE history (
    id           INTEGER NOT NULL PRIMARY KEY,                         -- grows; pages are cut by it
    unit         TEXT    NOT NULL,
    source       TEXT    NOT NULL,
    generation   INTEGER NOT NULL CHECK (generation >= 0),
    cause        TEXT    NOT NULL CHECK (cause IN
                         ('start', 'poll', 'webhook', 'file', 'command', 'dev', 'rollback', 'drift')),
    cause_detail TEXT    NOT NULL,
    revision     TEXT,
    rewritten    INTEGER NOT NULL CHECK (rewritten IN (0, 1)),
    from_hash    TEXT    CHECK (length(from_hash) = 64),
    to_hash      TEXT    CHECK (length(to_hash) = 64),
    action       TEXT    NOT NULL CHECK (action IN ('noop', 'sync', 'rebuild', 'remove')),
    rule         TEXT    NOT NULL,
    reason       TEXT    NOT NULL,
    files        TEXT    NOT NULL CHECK (json_valid(files)),           -- JSON: what differs
    phases       TEXT    NOT NULL CHECK (json_valid(phases)),          -- JSON: names and milliseconds
    outcome      TEXT    NOT NULL CHECK (outcome IN
                         ('succeeded', 'failed', 'rolledBack', 'superseded', 'pending')),
    proof        TEXT    NOT NULL,
    error        TEXT    NOT NULL,
    at           INTEGER NOT NULL
) STRICT;

-- Each ends with the row's id, so a page needs no sorting.
CREATE INDEX history_unit ON history (unit);
CREATE INDEX history_source ON history (source);
CREATE INDEX history_at ON history (at);

-- What clients were told.
CREATE TABLE events (
    id       INTEGER NOT NULL PRIMARY KEY,
    at       INTEGER NOT NULL,
    type     TEXT    NOT NULL,
    source   TEXT    NOT NULL,
    unit     TEXT,
    hash     TEXT    CHECK (length(hash) = 64),
    revision TEXT,
    message  TEXT    NOT NULL
) STRICT;

CREATE INDEX events_at ON events (at);

-- Runs of tasks.
CREATE TABLE runs (
    number      INTEGER NOT NULL PRIMARY KEY,                          -- grows; pages are cut by it
    id          TEXT    NOT NULL UNIQUE,                               -- no run is recorded twice
    task        TEXT    NOT NULL,
    hash        TEXT    NOT NULL CHECK (length(hash) = 64),
    revision    TEXT,
    cause       TEXT    NOT NULL,                                      -- what started it
    status      TEXT    NOT NULL CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'timedOut',
                                                   'cancelled', 'interrupted', 'skipped')),
    exit_code   INTEGER,
    started_at  INTEGER NOT NULL,
    ended_at    INTEGER,
    pid         INTEGER,                                               -- with the next two: its process
    pid_started INTEGER,
    boot        TEXT,
    error       TEXT    NOT NULL,
    output      TEXT,                                                  -- JSON: what it gave back
    response    TEXT,                                                  -- JSON: the HTTP answer that it set
    CHECK ((ended_at IS NULL) = (status IN ('queued', 'running'))),
    CHECK ((pid IS NULL) = (pid_started IS NULL)),
    CHECK ((pid IS NULL) = (boot IS NULL))
) STRICT;

CREATE INDEX runs_task ON runs (task);
CREATE INDEX runs_status ON runs (status);
CREATE INDEX runs_ended ON runs (ended_at);

-- What runs wrote, line by line. Goes with its run.
CREATE TABLE logs (
    run    INTEGER NOT NULL REFERENCES runs (number) ON DELETE CASCADE,
    seq    INTEGER NOT NULL,                                           -- from 1, without gaps
    at     INTEGER NOT NULL,
    stream TEXT    NOT NULL CHECK (stream IN ('stdout', 'stderr', 'log', 'system')),
    text   TEXT    NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;
