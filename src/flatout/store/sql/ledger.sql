-- intend: Record a batch before anything of it is sent.
INSERT INTO batches (number, target, key, stamp, state, rows, size, digest, intended_at)
VALUES (?, ?, ?, ?, 'intended', ?, ?, ?, ?);

-- place: Record that a row stands in a batch; its result so far joins the earlier ones.
INSERT INTO batch_rows (item_index, batch, state, tries, most, fingerprint, earlier)
VALUES (?, ?, 'sent', ?, ?, ?, ?)
ON CONFLICT (item_index) DO UPDATE SET
  batch = excluded.batch, state = 'sent', tries = excluded.tries, most = excluded.most,
  fingerprint = excluded.fingerprint, earlier = excluded.earlier, status = NULL, body = NULL
WHERE batch_rows.state <> 'sent';

-- reopen: Forget that a row has failed, which is asked once more: whatever command comes next, it is under way.
UPDATE items SET state = 'unsent' WHERE item_index = ? AND state = 'failed';

-- uploaded: Record the name of a batch's input file.
UPDATE batches SET input_file = ? WHERE number = ?;

-- open: Record the provider's name for a batch.
UPDATE batches SET state = 'open', job = ?, opened_at = ? WHERE number = ? AND state = 'intended';

-- result: Record the result of a row. One that is there already stays, but an answer wins over none.
UPDATE batch_rows SET state = ?, status = ?, body = ?
WHERE item_index = ? AND batch = ?
  AND (state IN ('sent', 'missing') OR (state IN ('expired', 'cancelled') AND ? = 'answered'));

-- miss: Record that the rows of a batch without a result have none.
UPDATE batch_rows SET state = 'missing' WHERE batch = ? AND state = 'sent';

-- back: Take rows that were not run out of their batch.
UPDATE batch_rows SET state = 'back', most = ?, tries = tries - 1 WHERE batch = ? AND state = 'sent';

-- end: Record that all results of a batch are here.
UPDATE batches SET state = 'ended', ended_at = ?, files = CAST(? AS TEXT) WHERE number = ? AND state = 'open';

-- drop: Record that a batch was never run.
UPDATE batches SET state = 'dropped', ended_at = ?, reason = ? WHERE number = ? AND state IN ('intended', 'open');

-- clear: Record that the files of a batch at the provider are deleted.
UPDATE batches SET cleared_at = ? WHERE number = ?;

-- batches: Read all batches.
SELECT
  number, target, key, stamp, state, rows, size, intended_at, input_file, job, opened_at, ended_at,
  CAST(files AS BLOB) AS files, reason, cleared_at
FROM batches ORDER BY number;

-- rows: Read the rows of all batches in order, with their results.
SELECT item_index, batch, state, tries, most, fingerprint, earlier, status, body FROM batch_rows
WHERE item_index >= ? ORDER BY item_index LIMIT ?;

-- row: Read one row, without its results.
SELECT item_index, batch, state, tries, most, fingerprint, NULL, status, NULL FROM batch_rows WHERE item_index = ?;

-- has_results: Check whether a row has a result that is not among the items yet.
SELECT EXISTS (SELECT 1 FROM batch_rows WHERE state = 'answered');

-- members: Read the indices of a batch's rows.
SELECT item_index FROM batch_rows WHERE batch = ? ORDER BY item_index;

-- counts: Count the rows of each batch by state.
SELECT batch, state, count(*) FROM batch_rows GROUP BY batch, state;

-- forget_asked: Drop the list of calls that are being asked.
DROP TABLE IF EXISTS temp.asked;

-- list_asked: Make a list of calls that are being asked, beside the file, which may be read-only.
CREATE TEMP TABLE asked (fingerprint BLOB PRIMARY KEY) WITHOUT ROWID;

-- add_asked: Fill it with the calls of all batches without a result among the items.
INSERT OR IGNORE INTO temp.asked SELECT fingerprint FROM batch_rows WHERE state IN ('sent', 'answered');

-- note_asked: Add a call to it.
INSERT OR IGNORE INTO temp.asked VALUES (?);

-- is_asked: Check whether a call is in it.
SELECT 1 FROM temp.asked WHERE fingerprint = ?;

-- forget_kept: Drop the list of calls whose results are among the items.
DROP TABLE IF EXISTS temp.kept;

-- list_kept: Make a list of calls whose results are among the items.
CREATE TEMP TABLE kept (fingerprint BLOB, item_index INTEGER, PRIMARY KEY (fingerprint, item_index)) WITHOUT ROWID;

-- add_kept: Fill it.
INSERT INTO temp.kept SELECT fingerprint, item_index FROM batch_rows WHERE state = 'kept';

-- answered: Find an answered call in it.
SELECT item_index FROM temp.kept JOIN items USING (item_index)
WHERE temp.kept.fingerprint = ? AND items.state = 'answered' ORDER BY item_index LIMIT 1;
