-- Whether a parsed answer was recovered from not quite valid JSON, and why an attempt was tried again.

ALTER TABLE items ADD COLUMN repaired INTEGER NOT NULL DEFAULT 0;

-- Why the attempt before this one failed. NULL for the first attempt, so that calls that succeed at once pay nothing.
ALTER TABLE attempts ADD COLUMN after TEXT;

PRAGMA user_version = 2;
