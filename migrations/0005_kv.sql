-- What tasks keep between their runs, and how runs hang together.

-- Values of tasks. They outlive versions; those of a unit that is gone go with the rest of it.
CREATE TABLE kv (
    task       TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    value      TEXT    NOT NULL,                              -- JSON, as it was given
    size       INTEGER NOT NULL CHECK (size >= 0),            -- bytes of key and value
    updated_at INTEGER NOT NULL,
    UNIQUE (task, key)
) STRICT;

-- What each task keeps altogether, so that a limit costs no counting.
CREATE TABLE kv_totals (
    task TEXT    NOT NULL PRIMARY KEY,
    keys INTEGER NOT NULL CHECK (keys >= 0),
    size INTEGER NOT NULL CHECK (size >= 0)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER kv_added AFTER INSERT ON kv BEGIN
    INSERT INTO kv_totals (task, keys, size) VALUES (NEW.task, 1, NEW.size)
        ON CONFLICT (task) DO UPDATE SET keys = keys + 1, size = size + excluded.size;
END;

CREATE TRIGGER kv_changed AFTER UPDATE ON kv BEGIN
    UPDATE kv_totals SET size = size - OLD.size + NEW.size WHERE task = NEW.task;
END;

CREATE TRIGGER kv_removed AFTER DELETE ON kv BEGIN
    UPDATE kv_totals SET keys = keys - 1, size = size - OLD.size WHERE task = OLD.task;
    DELETE FROM kv_totals WHERE task = OLD.task AND keys = 0;
END;

ALTER TABLE runs ADD COLUMN cause_detail TEXT NOT NULL DEFAULT '';                    -- more of what started it
ALTER TABLE runs ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1 CHECK (attempt > 0);
ALTER TABLE runs ADD COLUMN first TEXT;       -- the first attempt's id; null for the first one itself
ALTER TABLE runs ADD COLUMN retried_by TEXT;  -- the next attempt's id
