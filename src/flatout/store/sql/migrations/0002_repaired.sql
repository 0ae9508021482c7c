-- Whether a parsed answer was got out of one that was not quite JSON.

ALTER TABLE items ADD COLUMN repaired INTEGER NOT NULL DEFAULT 0;

PRAGMA user_version = 2;
