-- enter: Write the result of a step of a durable function; a new result replaces the old one.
INSERT INTO journal (item_index, place, fingerprint, kind, value, cost, at)
VALUES (?, ?, ?, ?, CAST(? AS TEXT), ?, ?)
ON CONFLICT (item_index, place) DO UPDATE SET
  fingerprint = excluded.fingerprint, kind = excluded.kind, value = excluded.value, cost = excluded.cost,
  at = excluded.at;

-- journal: Read the steps of one item, in the order in which they were first written.
SELECT place, fingerprint, kind, CAST(value AS BLOB) AS value FROM journal WHERE item_index = ? ORDER BY rowid;

-- noted: Read the steps of one item with their places and times, in the order in which they were first written.
SELECT fingerprint, kind, CAST(value AS BLOB) AS value, place, at FROM journal WHERE item_index = ? ORDER BY rowid;

-- any: Check whether any item has a step.
SELECT EXISTS (SELECT 1 FROM journal);
