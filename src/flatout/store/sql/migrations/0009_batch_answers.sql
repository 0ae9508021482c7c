-- What providers have answered to the rows of batches stands in a table of its own. It is written once, deleted once,
-- and moves nothing else: the rows of the ledger stay as small as they are when they are placed.
-- A row with a result is answered, whatever its state; a row whose item is answered is kept.

DROP TRIGGER item_settles_batch_row;
DROP TRIGGER replaced_item_settles_batch_row;
DROP INDEX batch_rows_of_batch;

CREATE TABLE batch_answers (
  item_index INTEGER PRIMARY KEY,
  earlier BLOB,                     -- MessagePack: the results before this one, to which the model was asked again
  status INTEGER,                   -- the result: the HTTP status of the live endpoint; NULL: not here yet
  body BLOB                         -- the result: what the live endpoint would have answered
);

INSERT INTO batch_answers SELECT item_index, earlier, status, body FROM batch_rows
WHERE state <> 'kept' AND (earlier IS NOT NULL OR status IS NOT NULL);

ALTER TABLE batch_rows RENAME TO former_batch_rows;

CREATE TABLE batch_rows (
  item_index INTEGER PRIMARY KEY,
  batch INTEGER NOT NULL,           -- the latest one that it stood in
  state TEXT NOT NULL CHECK (state IN ('sent', 'expired', 'cancelled', 'missing', 'back', 'kept')),
  tries INTEGER NOT NULL,           -- how many batches it stood in
  most INTEGER,                     -- the most rows of its next batch; NULL: as many as fit
  fingerprint BLOB NOT NULL         -- of the call that was sent, as in items
);

INSERT INTO batch_rows
SELECT item_index, batch, CASE state WHEN 'answered' THEN 'sent' ELSE state END, tries, most, fingerprint
FROM former_batch_rows ORDER BY item_index;

DROP TABLE former_batch_rows;

CREATE INDEX batch_rows_of_batch ON batch_rows (batch);

CREATE TRIGGER answered_item_settles_batch_row AFTER INSERT ON items WHEN NEW.state = 'answered' BEGIN
  DELETE FROM batch_answers WHERE item_index = NEW.item_index;
END;

CREATE TRIGGER replaced_answered_item_settles_batch_row AFTER UPDATE OF state ON items WHEN NEW.state = 'answered' BEGIN
  DELETE FROM batch_answers WHERE item_index = NEW.item_index;
END;

-- Any other item settles only what no provider has: one that failed before is unsent again while its row is under way.
CREATE TRIGGER item_settles_batch_row AFTER INSERT ON items WHEN NEW.state <> 'answered' BEGIN
  UPDATE batch_rows SET state = 'kept' WHERE item_index = NEW.item_index AND (
    state <> 'sent' OR EXISTS (SELECT 1 FROM batch_answers WHERE item_index = NEW.item_index AND status IS NOT NULL)
  );
  DELETE FROM batch_answers WHERE item_index = NEW.item_index
    AND EXISTS (SELECT 1 FROM batch_rows WHERE item_index = NEW.item_index AND state = 'kept');
END;

CREATE TRIGGER replaced_item_settles_batch_row AFTER UPDATE OF state ON items WHEN NEW.state <> 'answered' BEGIN
  UPDATE batch_rows SET state = 'kept' WHERE item_index = NEW.item_index AND (
    state <> 'sent' OR EXISTS (SELECT 1 FROM batch_answers WHERE item_index = NEW.item_index AND status IS NOT NULL)
  );
  DELETE FROM batch_answers WHERE item_index = NEW.item_index
    AND EXISTS (SELECT 1 FROM batch_rows WHERE item_index = NEW.item_index AND state = 'kept');
END;

-- The attempts of an item are settled by a trigger of their own, for the rows of batches have none. Neither trigger
-- needs what the other one does, so their order does not matter.

DROP TRIGGER item_settles_attempts;
DROP TRIGGER replaced_item_settles_attempts;

CREATE TRIGGER item_counts AFTER INSERT ON items BEGIN
  UPDATE run SET items = items + 1, spent = spent
    + max(0, coalesce(NEW.cost - (SELECT total(cost) FROM journal WHERE item_index = NEW.item_index), 0));
END;

CREATE TRIGGER replaced_item_counts AFTER UPDATE OF state ON items WHEN NEW.cost IS NOT NULL BEGIN
  UPDATE run SET spent = spent
    + max(0, NEW.cost - (SELECT total(cost) FROM journal WHERE item_index = NEW.item_index));
END;

CREATE TRIGGER item_settles_attempts AFTER INSERT ON items
WHEN EXISTS (SELECT 1 FROM attempts WHERE item_index = NEW.item_index AND outcome IS NULL) BEGIN
  UPDATE run SET spent = spent
    + (SELECT total(estimated_cost) FROM attempts WHERE item_index = NEW.item_index AND outcome IS NULL)
  WHERE NEW.cost IS NULL;
  UPDATE attempts SET outcome = CASE WHEN attempt < NEW.attempts THEN 'retried' ELSE NEW.state END
  WHERE item_index = NEW.item_index AND outcome IS NULL;
END;

CREATE TRIGGER replaced_item_settles_attempts AFTER UPDATE OF state ON items
WHEN EXISTS (SELECT 1 FROM attempts WHERE item_index = NEW.item_index AND outcome IS NULL) BEGIN
  UPDATE run SET spent = spent
    + (SELECT total(estimated_cost) FROM attempts WHERE item_index = NEW.item_index AND outcome IS NULL)
  WHERE NEW.cost IS NULL;
  UPDATE attempts SET outcome = CASE WHEN attempt < NEW.attempts THEN 'retried' ELSE NEW.state END
  WHERE item_index = NEW.item_index AND outcome IS NULL;
END;

PRAGMA user_version = 9;
