-- Deliveries say which way they came, and those that a relay altered are told of: one row for many of them.
CREATE TABLE deliveries_new (
    number      INTEGER NOT NULL PRIMARY KEY,                          -- grows; pages are cut by it
    source      TEXT    NOT NULL,
    provider    TEXT    NOT NULL CHECK (provider IN ('github', 'gitea')),
    via         TEXT    NOT NULL CHECK (via IN ('direct', 'relay')),
    id          TEXT    NOT NULL,                                      -- the provider's; of altered ones our own
    event       TEXT    NOT NULL,
    reference   TEXT,                                                  -- the ref that was pushed
    revision    TEXT,                                                  -- the commit that it named
    body        TEXT    NOT NULL CHECK (length(body) = 64),            -- its SHA-256
    verdict     TEXT    NOT NULL CHECK (verdict IN ('accepted', 'ignored', 'relay-altered')),
    reason      TEXT    NOT NULL,
    repeat      INTEGER NOT NULL CHECK (repeat IN (0, 1)),             -- the body had come before
    duplicates  INTEGER NOT NULL DEFAULT 0 CHECK (duplicates >= 0),    -- the id came again; more that were altered
    received_at INTEGER NOT NULL,
    UNIQUE (source, provider, id)
) STRICT;

INSERT INTO deliveries_new
    (number, source, provider, via, id, event, reference, revision, body, verdict, reason, repeat, duplicates, received_at)
SELECT number, source, provider, 'direct', id, event, reference, revision, body, verdict, reason, repeat, duplicates,
    received_at
FROM deliveries;

DROP TABLE deliveries;
ALTER TABLE deliveries_new RENAME TO deliveries;

CREATE INDEX deliveries_body ON deliveries (source, body);
CREATE INDEX deliveries_at ON deliveries (received_at);
