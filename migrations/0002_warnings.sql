-- What in a unit's manifest has no effect.
ALTER TABLE units ADD COLUMN warnings TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(warnings)); -- JSON
