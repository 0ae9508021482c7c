-- make: Make the tables of a cache of answers.
CREATE TABLE answers (
  key BLOB PRIMARY KEY,             -- a digest of the whole question
  at REAL NOT NULL,                 -- Unix seconds
  cost REAL,                        -- US dollars, NULL if unknown
  said TEXT NOT NULL,               -- the answer, as JSON
  asked TEXT NOT NULL               -- the question for people, as JSON, its long texts shortened
);

-- claim: Mark the file as a cache of answers of this version.
PRAGMA application_id = 0x464C4143;

-- version: The version of the tables.
PRAGMA user_version = 1;

-- get: Read the answers of up to 32 questions.
SELECT key, at, cost, CAST(said AS BLOB) FROM answers
WHERE key IN (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- put: Keep an answer; a newer one replaces it.
INSERT INTO answers (key, at, cost, said, asked) VALUES (?, ?, ?, CAST(? AS TEXT), CAST(? AS TEXT))
ON CONFLICT (key) DO UPDATE SET at = excluded.at, cost = excluded.cost, said = excluded.said, asked = excluded.asked;

-- size: Count the answers, and sum up what they cost.
SELECT count(*), sum(cost), count(*) - count(cost), min(at), max(at) FROM answers;

-- all: Read every answer, the newest first.
SELECT key, at, cost, CAST(said AS BLOB), CAST(asked AS BLOB) FROM answers ORDER BY at DESC, key;

-- prune: Remove the answers from before a time.
DELETE FROM answers WHERE at < ?;

-- shrink: Give the freed space back.
VACUUM;
