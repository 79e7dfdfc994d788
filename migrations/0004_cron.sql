-- Schedules: up to which moment the times of each are settled, so that none fires twice and none is lost. A row outlives
-- its unit as long as the rest of it.

CREATE TABLE cron_state (
    unit       TEXT    NOT NULL PRIMARY KEY,
    schedule   TEXT    NOT NULL,                -- expression and time zone that it is about
    settled_at INTEGER NOT NULL,                -- no time up to this one is due any more
    fired_at   INTEGER                          -- the time that fired last
) STRICT, WITHOUT ROWID;
