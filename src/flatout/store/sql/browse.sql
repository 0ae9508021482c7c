-- shorts: Read the rows of a page in short: figures, and the beginnings of question and answer.
SELECT
  item_index, id, state, attempts, seconds, provider_seconds, cost, error, finish_reason,
  substr(coalesce(
    CASE WHEN json_valid(prompt) THEN json_extract(prompt, '$.prompt') END,
    CASE WHEN json_valid(prompt) THEN json_extract(prompt, '$.messages[#-1].content') END,
    prompt, input, ''
  ), 1, :length),
  substr(coalesce(error_message, answer, output, ''), 1, :length)
FROM items WHERE item_index BETWEEN :first AND :last ORDER BY item_index LIMIT :most;

-- chunk_end: Find the last index of the next rows.
SELECT max(item_index) FROM (SELECT item_index FROM items WHERE item_index >= ? ORDER BY item_index LIMIT ?);

-- matching: Find the rows that match, in order or by a figure times :turn, the highest first; those whose figure is unknown are left out. A row that was held back has no answer that could be slow.
SELECT
  item_index,
  CASE :by
    WHEN 'provider' THEN iif(state = 'unsent', NULL, provider_seconds)
    WHEN 'seconds' THEN seconds WHEN 'cost' THEN cost WHEN 'attempts' THEN attempts
  END AS figure
FROM items
WHERE item_index BETWEEN :first AND :last AND (:by IS NULL OR figure IS NOT NULL)
  AND CASE :kind
    WHEN 'failed' THEN state <> 'answered'
    WHEN 'truncated' THEN finish_reason = 'length' OR error = 'Truncated'
    WHEN 'mismatch' THEN error = 'SchemaMismatch'
    WHEN 'retried' THEN attempts > 1
    ELSE 1
  END
  AND (:error IS NULL OR error = :error)
  AND (:column IS NULL
    OR EXISTS (
      SELECT 1 FROM json_each(CASE WHEN json_valid(input) THEN input ELSE '{}' END)
      WHERE key = :column AND (CAST(atom AS TEXT) = :value OR type = :value)
    )
    OR EXISTS (
      SELECT 1 FROM json_each(CASE WHEN json_valid(output) THEN output ELSE '{}' END)
      WHERE key = :column AND (CAST(atom AS TEXT) = :value OR type = :value)
    ))
  AND (:text IS NULL
    OR instr(lower(coalesce(id, '')), lower(:text))
    OR instr(lower(coalesce(answer, '')), lower(:text))
    OR instr(lower(coalesce(error_message, '')), lower(:text))
    OR instr(lower(coalesce(prompt, '')), lower(:escaped))
    OR instr(lower(coalesce(input, '')), lower(:escaped))
    OR instr(lower(coalesce(output, '')), lower(:escaped)))
ORDER BY :turn * figure DESC, item_index LIMIT :most;

-- in_flight: Read the attempts in flight, the oldest first; after a crash, all that are in doubt.
SELECT item_index, max(attempt), target, started_at, estimated_cost FROM attempts
WHERE outcome IS NULL AND (:dead OR NOT failed)
GROUP BY item_index, place ORDER BY started_at, item_index LIMIT :most;

-- retries: Read when attempts began that followed a failed one, and the class of its error, after a row.
SELECT rowid, started_at, substr(after, 1, instr(after || ':', ':') - 1) FROM attempts
WHERE after IS NOT NULL AND rowid > ? ORDER BY rowid LIMIT ?;
