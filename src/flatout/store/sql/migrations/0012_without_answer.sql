-- The items without an answer, so that whoever watches a run of a million rows counts them at every look.

CREATE INDEX items_without_answer ON items (error, state, finished_at) WHERE state <> 'answered';

PRAGMA user_version = 12;
