-- How long each phase took: of the last step of a unit that took effect, and of the step that an event tells of.
ALTER TABLE units ADD COLUMN phases TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(phases)); -- JSON: names and milliseconds
ALTER TABLE events ADD COLUMN phases TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(phases)); -- JSON: names and milliseconds
