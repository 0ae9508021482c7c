-- intend: Record a batch before anything of it is sent.
INSERT INTO batches (number, target, key, stamp, state, rows, size, digest, intended_at)
VALUES (?, ?, ?, ?, 'intended', ?, ?, ?, ?);

-- place: Record that a row stands in a batch. No provider may have it from an earlier one.
INSERT INTO batch_rows (item_index, batch, state, tries, most, fingerprint) VALUES (?, ?, 'sent', ?, ?, ?)
ON CONFLICT (item_index) DO UPDATE SET
  batch = excluded.batch, state = 'sent', tries = excluded.tries, most = excluded.most,
  fingerprint = excluded.fingerprint
WHERE batch_rows.state <> 'sent'
  OR EXISTS (SELECT 1 FROM batch_answers WHERE item_index = excluded.item_index AND status IS NOT NULL);

-- tell: Record the results to which the model is asked again; the latest one joins the earlier ones.
INSERT INTO batch_answers (item_index, earlier) VALUES (?, ?)
ON CONFLICT (item_index) DO UPDATE SET earlier = excluded.earlier, status = NULL, body = NULL;

-- reopen: Forget that rows have failed which are asked once more: whatever command comes next, they are under way.
UPDATE items SET state = 'unsent'
WHERE item_index IN (SELECT item_index FROM batch_rows WHERE batch = ?) AND state = 'failed';

-- uploaded: Record the name of a batch's input file.
UPDATE batches SET input_file = ? WHERE number = ?;

-- open: Record the provider's name for a batch.
UPDATE batches SET state = 'open', job = ?, opened_at = ? WHERE number = ? AND state = 'intended';

-- result: Record the result of a row. One that is there already stays, but an answer wins over none.
INSERT INTO batch_answers (item_index, status, body)
SELECT item_index, ?, ? FROM batch_rows
WHERE item_index = ? AND batch = ? AND state NOT IN ('back', 'kept')
  AND NOT EXISTS (SELECT 1 FROM items WHERE item_index = batch_rows.item_index AND state = 'answered')
ON CONFLICT (item_index) DO UPDATE SET status = excluded.status, body = excluded.body
WHERE batch_answers.status IS NULL;

-- unrun: Record that a row was not run, and why. Its result stays, if it has one.
UPDATE batch_rows SET state = ? WHERE item_index = ? AND batch = ? AND state IN ('sent', 'missing')
  AND NOT EXISTS (SELECT 1 FROM batch_answers WHERE item_index = batch_rows.item_index AND status IS NOT NULL)
  AND NOT EXISTS (SELECT 1 FROM items WHERE item_index = batch_rows.item_index AND state = 'answered');

-- miss: Record that the rows of a batch without a result have none.
UPDATE batch_rows SET state = 'missing' WHERE batch = ? AND state = 'sent'
  AND NOT EXISTS (SELECT 1 FROM batch_answers WHERE item_index = batch_rows.item_index AND status IS NOT NULL)
  AND NOT EXISTS (SELECT 1 FROM items WHERE item_index = batch_rows.item_index AND state = 'answered');

-- back: Take rows that were not run out of their batch.
UPDATE batch_rows SET state = 'back', most = ?, tries = tries - 1 WHERE batch = ? AND state = 'sent'
  AND NOT EXISTS (SELECT 1 FROM batch_answers WHERE item_index = batch_rows.item_index AND status IS NOT NULL)
  AND NOT EXISTS (SELECT 1 FROM items WHERE item_index = batch_rows.item_index AND state = 'answered');

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
SELECT
  item_index, batch,
  CASE WHEN items.state = 'answered' THEN 'kept' WHEN status IS NOT NULL THEN 'answered' ELSE batch_rows.state END,
  tries, most, batch_rows.fingerprint, earlier, status, body
FROM batch_rows LEFT JOIN batch_answers USING (item_index) LEFT JOIN items USING (item_index)
WHERE item_index >= ? ORDER BY item_index LIMIT ?;

-- row: Read one row, without its results.
SELECT
  item_index, batch,
  CASE WHEN items.state = 'answered' THEN 'kept' WHEN status IS NOT NULL THEN 'answered' ELSE batch_rows.state END,
  tries, most, batch_rows.fingerprint, NULL, status, NULL
FROM batch_rows LEFT JOIN batch_answers USING (item_index) LEFT JOIN items USING (item_index)
WHERE item_index = ?;

-- former_row: The same, of a file before there was a table of answers.
SELECT item_index, batch, state, tries, most, fingerprint FROM batch_rows WHERE item_index = ?;

-- has_results: Check whether a row has a result that is not among the items yet.
SELECT EXISTS (SELECT 1 FROM batch_answers WHERE status IS NOT NULL);

-- members: Read the indices of a batch's rows.
SELECT item_index FROM batch_rows WHERE batch = ? ORDER BY item_index;

-- counts: Count the rows of each batch by state.
SELECT
  batch,
  CASE WHEN items.state = 'answered' THEN 'kept' WHEN status IS NOT NULL THEN 'answered' ELSE batch_rows.state END,
  count(*)
FROM batch_rows LEFT JOIN batch_answers USING (item_index) LEFT JOIN items USING (item_index)
GROUP BY 1, 2;

-- former_counts: The same, of a file before there was a table of answers.
SELECT batch, state, count(*) FROM batch_rows GROUP BY batch, state;

-- unread: List the batches with results that are not among the items yet.
SELECT DISTINCT batch FROM batch_answers JOIN batch_rows USING (item_index) WHERE status IS NOT NULL;

-- forget_asked: Drop the list of calls that are being asked.
DROP TABLE IF EXISTS temp.asked;

-- list_asked: Make a list of calls that are being asked, beside the file, which may be read-only.
CREATE TEMP TABLE asked (fingerprint BLOB PRIMARY KEY) WITHOUT ROWID;

-- add_asked: Fill it with the calls of all batches without a result among the items.
INSERT OR IGNORE INTO temp.asked
SELECT batch_rows.fingerprint
FROM batch_rows LEFT JOIN batch_answers USING (item_index) LEFT JOIN items USING (item_index)
WHERE (batch_rows.state = 'sent' OR status IS NOT NULL) AND items.state IS NOT 'answered';

-- note_asked: Add a call to it.
INSERT OR IGNORE INTO temp.asked VALUES (?);

-- is_asked: Check whether a call is in it.
SELECT 1 FROM temp.asked WHERE fingerprint = ?;

-- forget_kept: Drop the list of calls whose results are among the items.
DROP TABLE IF EXISTS temp.kept;

-- list_kept: Make a list of calls whose results are among the items.
CREATE TEMP TABLE kept (fingerprint BLOB, item_index INTEGER, PRIMARY KEY (fingerprint, item_index)) WITHOUT ROWID;

-- add_kept: Fill it.
INSERT INTO temp.kept
SELECT batch_rows.fingerprint, item_index FROM batch_rows JOIN items USING (item_index) WHERE items.state = 'answered';

-- answered: Find an answered call in it.
SELECT item_index FROM temp.kept JOIN items USING (item_index)
WHERE temp.kept.fingerprint = ? AND items.state = 'answered' ORDER BY item_index LIMIT 1;
