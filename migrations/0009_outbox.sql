-- What commits are told of how they fare: the newest state of each, until it is said and for a while after.
CREATE TABLE outbox (
    source       TEXT    NOT NULL,
    api          TEXT    NOT NULL,                                     -- base of the host's API
    repository   TEXT    NOT NULL,                                     -- OWNER/NAME there
    revision     TEXT    NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('pending', 'success', 'failure', 'error')),
    summary      TEXT    NOT NULL,
    times        TEXT    NOT NULL,                                     -- of the phases; no news by themselves
    changed_at   INTEGER NOT NULL,
    posted_state TEXT             CHECK (posted_state IN ('pending', 'success', 'failure', 'error')),
    posted_summary TEXT,
    posted_at    INTEGER,
    attempts     INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),     -- that failed since the last change
    due_at       INTEGER,                                              -- NULL: said, or given up
    error        TEXT    NOT NULL DEFAULT '',                          -- why it could not be said
    PRIMARY KEY (source, repository, revision)
) STRICT;

CREATE INDEX outbox_due ON outbox (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX outbox_changed ON outbox (source, changed_at);
CREATE INDEX outbox_posted ON outbox (source, posted_at);
