-- The targets of a route that an item was sent to: what each one did, cost, and why it was left. JSON; NULL without one.

ALTER TABLE items ADD COLUMN trail TEXT;

PRAGMA user_version = 5;
