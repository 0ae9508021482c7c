-- The ledger of the batch lane: what was handed to a provider's batch endpoint, and what became of each row of it.

CREATE TABLE batches (
  number INTEGER PRIMARY KEY,       -- from 1
  target TEXT NOT NULL,             -- endpoint/model
  key TEXT NOT NULL,                -- tells keys and addresses apart without showing them
  stamp TEXT NOT NULL,              -- our label, at the provider and in the id of each row
  state TEXT NOT NULL CHECK (state IN ('intended', 'open', 'ended', 'dropped')),
  rows INTEGER NOT NULL,
  size INTEGER NOT NULL,            -- bytes of the rows' requests
  digest BLOB NOT NULL,             -- of the rows: which ones, and what they ask
  intended_at REAL NOT NULL,        -- before anything was sent
  input_file TEXT,                  -- the uploaded file, at the provider
  job TEXT,                         -- the provider's name for the batch
  opened_at REAL,
  ended_at REAL,                    -- when all its results were in this file
  files TEXT,                       -- JSON: the files of results, at the provider
  reason TEXT,                      -- why it was dropped
  cleared_at REAL                   -- when the files at the provider were deleted
);

CREATE TABLE batch_rows (
  item_index INTEGER PRIMARY KEY,
  batch INTEGER NOT NULL,           -- the latest one that it stood in
  state TEXT NOT NULL CHECK (
    state IN ('sent', 'answered', 'expired', 'cancelled', 'missing', 'back', 'kept')
  ),
  tries INTEGER NOT NULL,           -- how many batches it stood in
  most INTEGER,                     -- the most rows of its next batch; NULL: as many as fit
  fingerprint BLOB NOT NULL,        -- of the call that was sent, as in items
  earlier BLOB,                     -- MessagePack: the results before this one, to which the model was asked again
  status INTEGER,                   -- the result: the HTTP status of the live endpoint
  body BLOB                         -- the result: what the live endpoint would have answered
);

CREATE INDEX batch_rows_of_batch ON batch_rows (batch, state);

CREATE TRIGGER item_settles_batch_row AFTER INSERT ON items BEGIN
  UPDATE batch_rows SET state = 'kept', earlier = NULL, status = NULL, body = NULL
  WHERE item_index = NEW.item_index AND state <> 'sent';
END;

CREATE TRIGGER replaced_item_settles_batch_row AFTER UPDATE OF state ON items BEGIN
  UPDATE batch_rows SET state = 'kept', earlier = NULL, status = NULL, body = NULL
  WHERE item_index = NEW.item_index AND state <> 'sent';
END;

PRAGMA user_version = 6;
