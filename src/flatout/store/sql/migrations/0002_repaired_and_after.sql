-- Whether a parsed answer was got out of one that was not quite JSON; and why an attempt was tried again.

ALTER TABLE items ADD COLUMN repaired INTEGER NOT NULL DEFAULT 0;

-- What the attempt before this one failed of; NULL for the first, so that calls that succeed at once pay nothing.
ALTER TABLE attempts ADD COLUMN after TEXT;

PRAGMA user_version = 2;
