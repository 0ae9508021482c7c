-- A row of a batch changes its state twice. An index that holds the state is rewritten each time, all over the index,
-- because results come in any order; nothing that is read often needs it.

DROP INDEX batch_rows_of_batch;

CREATE INDEX batch_rows_of_batch ON batch_rows (batch);

PRAGMA user_version = 8;
