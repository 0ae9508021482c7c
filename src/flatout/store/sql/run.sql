-- run: Everything about the run itself.
SELECT job, command, state, total, keep_prompts, created_at, opened_at, ended_at FROM run;

-- create: Note down what a new run is.
INSERT INTO run (id, job, command, keep_prompts, created_at, opened_at, state)
VALUES (1, CAST(? AS TEXT), ?, ?, ?, ?, 'running');

-- describe: Note what the job is, in the words of a later version.
UPDATE run SET job = CAST(? AS TEXT);

-- take_up: Note that a process goes on with the run. What the last one had in flight may have been paid for.
UPDATE run SET
  state = 'running', opened_at = ?, keep_prompts = ?, ended_at = NULL,
  spent = spent + (SELECT total(estimated_cost) FROM attempts WHERE outcome IS NULL);

-- whole: Count the results that are there, and those that were ever written.
SELECT (SELECT count(*) FROM items), (SELECT items FROM run);

-- items: Read how many results were ever written.
SELECT items FROM run;

-- created_at: Read when the run was begun, which no two runs have in common.
SELECT created_at FROM run;

-- spent: Read what all processes have spent, in US dollars; what is not known by its estimate.
SELECT spent FROM run;

-- set_total: Note how many items the input has.
UPDATE run SET total = ?;

-- mark: Note what the run does now, and when it ended.
UPDATE run SET state = ?, ended_at = ?;

-- set_fact: Note one thing about the whole run; the same name again replaces it.
INSERT INTO facts (name, value) VALUES (?, CAST(? AS TEXT))
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- fact: Read what was noted under a name.
SELECT CAST(value AS BLOB) AS value FROM facts WHERE name = ?;
