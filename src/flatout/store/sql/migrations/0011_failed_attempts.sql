-- An attempt that failed and may be paid for is in doubt until its item is over, but it is not in flight any more: its
-- item may wait for long before it is tried again.

ALTER TABLE attempts ADD COLUMN failed INTEGER NOT NULL DEFAULT 0; -- whether it has failed

PRAGMA user_version = 11;
