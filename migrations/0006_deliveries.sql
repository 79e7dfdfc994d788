-- Deliveries of push webhooks whose signature was right. Those that were not leave no trace here.
CREATE TABLE deliveries (
    number      INTEGER NOT NULL PRIMARY KEY,                          -- grows; pages are cut by it
    source      TEXT    NOT NULL,
    provider    TEXT    NOT NULL CHECK (provider IN ('github', 'gitea')),
    id          TEXT    NOT NULL,                                      -- the provider's
    event       TEXT    NOT NULL,
    reference   TEXT,                                                  -- the ref that was pushed
    revision    TEXT,                                                  -- the commit that it named
    body        TEXT    NOT NULL CHECK (length(body) = 64),            -- its SHA-256
    verdict     TEXT    NOT NULL CHECK (verdict IN ('accepted', 'ignored')),
    reason      TEXT    NOT NULL,
    repeat      INTEGER NOT NULL CHECK (repeat IN (0, 1)),             -- the body had come before
    duplicates  INTEGER NOT NULL DEFAULT 0 CHECK (duplicates >= 0),    -- the id came again
    received_at INTEGER NOT NULL,
    UNIQUE (source, provider, id)
) STRICT;

CREATE INDEX deliveries_body ON deliveries (source, body);
CREATE INDEX deliveries_at ON deliveries (received_at);
