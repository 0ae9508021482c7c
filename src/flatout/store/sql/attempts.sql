-- note: Record an attempt that is about to be sent.
INSERT INTO attempts (item_index, attempt, target, started_at, estimated_cost, place, after)
VALUES (?, ?, ?, ?, ?, ?, ?);

-- failed: Record that an attempt failed. If it may be paid for, it has no outcome before its item.
UPDATE attempts SET failed = 1, outcome = iif(?, NULL, 'failed')
WHERE item_index = ? AND attempt = ? AND place IS ? AND outcome IS NULL;

-- give_up: Mark the attempts that an earlier process had in flight when it died.
UPDATE attempts SET outcome = 'lost' WHERE outcome IS NULL;

-- lose: Mark an attempt that a worker had in flight when it died.
UPDATE attempts SET outcome = 'lost'
WHERE item_index = ? AND attempt = ? AND place IS NULL AND outcome IS NULL;

-- unsettled: Read attempts that may have been paid for nothing, optionally with those in flight.
SELECT item_index, attempt, target, started_at, estimated_cost FROM attempts
WHERE outcome = 'lost' OR (:in_flight AND outcome IS NULL)
ORDER BY started_at, item_index, attempt;

-- tried: Read every attempt of one item, of all processes, in the order in which they were recorded.
SELECT item_index, attempt, target, started_at, estimated_cost, place, outcome, after FROM attempts
WHERE item_index = ? ORDER BY rowid;

-- tried_among: Read every attempt of a range of items, in the order in which they were recorded.
SELECT item_index, attempt, target, started_at, estimated_cost, place, outcome, after FROM attempts
WHERE item_index BETWEEN ? AND ? ORDER BY rowid;

-- reasons: Count why attempts failed that were followed by others, among the latest attempts.
SELECT after, count(*) AS count FROM attempts
WHERE after IS NOT NULL AND rowid > (SELECT max(rowid) FROM attempts) - :latest
GROUP BY after ORDER BY count DESC, after LIMIT :most;
