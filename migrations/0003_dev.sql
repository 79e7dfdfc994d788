-- Dev mode: a git source whose tree is taken from a working copy, until when, and what came from there.

ALTER TABLE sources ADD COLUMN dev_path TEXT;      -- the working copy; null while dev mode is off
ALTER TABLE sources ADD COLUMN dev_since INTEGER   -- together with dev_path
    CHECK ((dev_path IS NULL) = (dev_since IS NULL));
ALTER TABLE sources ADD COLUMN dev_until INTEGER   -- when it ends by itself
    CHECK (dev_until IS NULL OR dev_path IS NOT NULL);
-- Whether something that is deployed came from a working copy.
ALTER TABLE sources ADD COLUMN strayed INTEGER NOT NULL DEFAULT 0 CHECK (strayed IN (0, 1));

ALTER TABLE history ADD COLUMN dev_path TEXT;      -- the working copy that the files came from
