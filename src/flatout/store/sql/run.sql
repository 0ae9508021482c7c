-- run: Read everything about the run itself.
SELECT job, command, state, total, keep_prompts, created_at, opened_at, ended_at FROM run;

-- create: Describe a new run.
INSERT INTO run (id, job, command, keep_prompts, created_at, opened_at, state)
VALUES (1, CAST(? AS TEXT), ?, ?, ?, ?, 'running');

-- describe: Replace the job's description by one with the keys that may change.
UPDATE run SET job = CAST(? AS TEXT);

-- holds_nothing: Check that no row was answered, and that no call was paid for or may have been.
SELECT spent = 0
  AND NOT EXISTS (SELECT 1 FROM items WHERE state = 'answered' OR answer IS NOT NULL OR output IS NOT NULL)
  AND NOT EXISTS (SELECT 1 FROM items WHERE attempts > 0 AND cost IS NOT 0)
  AND NOT EXISTS (SELECT 1 FROM attempts WHERE outcome IS NULL OR outcome = 'lost')
  AND NOT EXISTS (SELECT 1 FROM journal)
  AND NOT EXISTS (SELECT 1 FROM batches)
FROM run;

-- take_up: Record that a process continues the run. The last process may have paid for what it had in flight.
UPDATE run SET
  state = 'running', opened_at = ?, keep_prompts = ?, ended_at = NULL,
  spent = spent + (SELECT total(estimated_cost) FROM attempts WHERE outcome IS NULL);

-- owe: Count what an attempt may have cost that a worker had in flight when it died.
UPDATE run SET spent = spent + (
  SELECT total(estimated_cost) FROM attempts
  WHERE item_index = ? AND attempt = ? AND place IS NULL AND outcome IS NULL
);

-- whole: Count the results in the file, and those that were ever written.
SELECT (SELECT count(*) FROM items), (SELECT items FROM run);

-- items: Read how many results were ever written.
SELECT items FROM run;

-- created_at: Read when the run began; no two runs share that time.
SELECT created_at FROM run;

-- spent: Read what all processes have spent, in US dollars; unknown costs count by their estimates.
SELECT spent FROM run;

-- set_total: Store how many items the input has.
UPDATE run SET total = ?;

-- set_command: Store the command that continues the run.
UPDATE run SET command = ?;

-- mark: Store the run's state, and when it ended.
UPDATE run SET state = ?, ended_at = ?;

-- set_fact: Store one fact about the whole run; the same name again replaces it.
INSERT INTO facts (name, value) VALUES (?, CAST(? AS TEXT))
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- fact: Read the fact with a name.
SELECT CAST(value AS BLOB) AS value FROM facts WHERE name = ?;
