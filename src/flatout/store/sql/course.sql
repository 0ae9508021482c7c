-- stretch: Write what a target did in a stretch of time.
INSERT INTO stretches (
  began_at, seconds, target, sent, answered, refused, failed, in_flight, waiting, held, allows, pace, input_tokens,
  output_tokens, cost, latency_p50, latency_p95
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, ?, ?, ?, ?);

-- sums: Add up what the calls cost, as far as it is known, and their tokens.
SELECT total(cost), CAST(total(input_tokens) AS INTEGER), CAST(total(output_tokens) AS INTEGER) FROM stretches;

-- happening: Write what happened.
INSERT INTO happenings (at, until, kind, target, what, by, does) VALUES (?, ?, ?, ?, ?, ?, ?);

-- stretches: Read stretches in the order in which they were written, after a row.
SELECT
  rowid, began_at, seconds, target, sent, answered, refused, failed, in_flight, waiting, CAST(held AS BLOB) AS held,
  CAST(allows AS BLOB) AS allows, pace, input_tokens, output_tokens, cost, latency_p50, latency_p95
FROM stretches WHERE rowid > ? ORDER BY rowid LIMIT ?;

-- happenings: Read what happened, in the order in which it was written, after a row.
SELECT rowid, at, until, kind, target, what, by, does FROM happenings WHERE rowid > ? ORDER BY rowid LIMIT ?;

-- former_happenings: The same of a file in which only the words of a change say what it does.
SELECT
  rowid, at, until, kind, target, what, by,
  CASE
    WHEN kind <> 'change' THEN NULL
    WHEN what = 'paused' OR what LIKE 'paused, %' THEN 'pause'
    WHEN what = 'resumed' OR what LIKE 'resumed, %' THEN 'resume'
    WHEN what IN ('stop', 'drain') THEN what
  END AS does
FROM happenings WHERE rowid > ? ORDER BY rowid LIMIT ?;
