-- Hosts that commits are told at: what one said of calls to come holds after a restart too.
CREATE TABLE hosts (
    api    TEXT PRIMARY KEY,                                           -- base of its API
    token  INTEGER NOT NULL,                                           -- a number that is another one with another token
    shut_until INTEGER,                                                -- nothing is said before
    why    TEXT NOT NULL DEFAULT ''                                    -- because of this
) STRICT;
