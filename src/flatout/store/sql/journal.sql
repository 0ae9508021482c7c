-- enter: Note what one step of a durable function came to; a step that came out anew replaces the old.
INSERT INTO journal (item_index, place, fingerprint, kind, value, cost, at)
VALUES (?, ?, ?, ?, CAST(? AS TEXT), ?, ?)
ON CONFLICT (item_index, place) DO UPDATE SET
  fingerprint = excluded.fingerprint, kind = excluded.kind, value = excluded.value, cost = excluded.cost,
  at = excluded.at;

-- journal: Read the steps of one item, in the order in which they were first noted.
SELECT place, fingerprint, kind, CAST(value AS BLOB) AS value FROM journal WHERE item_index = ? ORDER BY rowid;

-- noted: Read the steps of one item with their places and times, in the order in which they were first noted.
SELECT fingerprint, kind, CAST(value AS BLOB) AS value, place, at FROM journal WHERE item_index = ? ORDER BY rowid;

-- any: Tell whether there is a step of any item.
SELECT EXISTS (SELECT 1 FROM journal);
