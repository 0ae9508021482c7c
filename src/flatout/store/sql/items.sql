-- finish: Write a finished item. A failed or unsent item is replaced, an answered one never.
INSERT INTO items (
  item_index, id, fingerprint, input, prompt, state, answer, output, error, error_message, finish_reason, model,
  input_tokens, output_tokens, cost, attempts, seconds, provider_seconds, waits, tool_calls, repaired, trail, finished_at
)
VALUES (
  ?, ?, ?, CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, CAST(? AS TEXT), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT),
  CAST(? AS TEXT), ?, CAST(? AS TEXT), ?
)
ON CONFLICT (item_index) DO UPDATE SET
  id = excluded.id, fingerprint = excluded.fingerprint, input = excluded.input, prompt = excluded.prompt,
  state = excluded.state, answer = excluded.answer, output = excluded.output, error = excluded.error,
  error_message = excluded.error_message, finish_reason = excluded.finish_reason, model = excluded.model,
  input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens, cost = excluded.cost,
  attempts = excluded.attempts, seconds = excluded.seconds, provider_seconds = excluded.provider_seconds,
  waits = excluded.waits,
  tool_calls = excluded.tool_calls, repaired = excluded.repaired, trail = excluded.trail,
  finished_at = excluded.finished_at
WHERE items.state <> 'answered';

-- items: Read items in order: all, only the answered, or only the failed (including the unsent).
SELECT
  item_index, id, fingerprint, CAST(input AS BLOB) AS input, CAST(prompt AS BLOB) AS prompt, state, answer,
  CAST(output AS BLOB) AS output, error, error_message, finish_reason, model, input_tokens, output_tokens, cost,
  attempts, seconds, provider_seconds, CAST(waits AS BLOB) AS waits, CAST(tool_calls AS BLOB) AS tool_calls, repaired,
  CAST(trail AS BLOB) AS trail, finished_at
FROM items
WHERE item_index BETWEEN :first AND :last
  AND (:choice = 'all' OR (state = 'answered') = (:choice = 'answered'))
ORDER BY item_index LIMIT :most;

-- indices: Read the indices of the existing items.
SELECT item_index FROM items WHERE item_index BETWEEN ? AND ? ORDER BY item_index LIMIT ?;

-- finished: Read the existing items in order, without the long columns.
SELECT item_index, fingerprint, state FROM items WHERE item_index >= ? ORDER BY item_index LIMIT ?;

-- finished_rows: The same with the input's own rows.
SELECT item_index, fingerprint, state, CAST(input AS BLOB) AS input FROM items
WHERE item_index >= ? ORDER BY item_index LIMIT ?;

-- revise: Replace the input's row by the current one; question and answer stay.
UPDATE items SET id = ?, input = CAST(? AS TEXT) WHERE item_index = ?;

-- summary: Sum up items, tokens and money, and count the unknown ones. Tokens of cached answers were used earlier. Items that ended before a time are asked again.
SELECT
  count(*) FILTER (WHERE items.state = 'answered') AS answered,
  count(*) FILTER (WHERE items.state = 'failed' AND finished_at >= :failed) AS failed,
  count(*) FILTER (WHERE items.state = 'unsent' AND finished_at >= :unsent) AS unsent,
  sum(iif(attempts = 0 AND cost = 0, min(input_tokens, 0), input_tokens)) AS input_tokens,
  sum(iif(attempts = 0 AND cost = 0, min(output_tokens, 0), output_tokens)) AS output_tokens,
  sum(cost) AS cost,
  count(*) FILTER (WHERE input_tokens IS NULL AND items.state = 'answered') AS unknown_tokens,
  count(*) FILTER (WHERE cost IS NULL AND items.state <> 'unsent') AS unknown_costs,
  count(*) FILTER (WHERE finish_reason = 'length' AND items.state = 'answered') AS cut_off,
  count(*) FILTER (WHERE items.state = 'answered' AND attempts = 0 AND cost = 0 AND answer IS NOT NULL) AS cached,
  max(finished_at) AS last_finished_at,
  count(*) FILTER (WHERE finished_at >= run.opened_at) / (max(finished_at) - max(run.opened_at)) AS rate
FROM run LEFT JOIN items;

-- shares: Add up what each target of a route did; the last one of a trail answered, if the item has an answer.
SELECT
  coalesce(json_extract(leg.value, '$.target'), '') AS target,
  count(*) FILTER (
    WHERE items.state = 'answered' AND leg.key = json_array_length(trail) - 1
  ) AS answered,
  CAST(total(json_extract(leg.value, '$.attempts')) AS INTEGER) AS attempts,
  total(json_extract(leg.value, '$.cost')) AS cost,
  count(*) FILTER (WHERE json_extract(leg.value, '$.cost') IS NULL) AS unknown_costs,
  CAST(total(json_extract(leg.value, '$.input_tokens')) AS INTEGER) AS input_tokens,
  CAST(total(json_extract(leg.value, '$.output_tokens')) AS INTEGER) AS output_tokens
FROM items, json_each(CASE WHEN json_valid(trail) THEN trail ELSE '[]' END) AS leg
WHERE trail IS NOT NULL AND leg.type = 'object'
GROUP BY 1 ORDER BY answered DESC, target;

-- counts: Count items by state.
SELECT
  count(*) FILTER (WHERE state = 'answered'),
  count(*) FILTER (WHERE state = 'failed'),
  count(*) FILTER (WHERE state = 'unsent')
FROM items;

-- ended_from: Count the items from an index on that were answered or failed.
SELECT count(*) FROM items WHERE item_index >= ? AND state <> 'unsent';

-- has_answers: Check whether an item has an answer.
SELECT EXISTS (SELECT 1 FROM items WHERE state = 'answered');

-- unusable: Check whether a model said something in an item that has no answer.
SELECT EXISTS (SELECT 1 FROM items WHERE state <> 'answered' AND answer IS NOT NULL);

-- has_cached: Check whether an answer took no attempt, because it came from a cache.
SELECT EXISTS (SELECT 1 FROM items WHERE state = 'answered' AND attempts = 0 AND cost = 0 AND answer IS NOT NULL);

-- has_trails: Check whether an item had a choice of targets.
SELECT EXISTS (SELECT 1 FROM items WHERE trail IS NOT NULL);

-- ended: Count items by state, reading only those without an answer. Items that ended before a time are asked again.
SELECT
  (SELECT items FROM run) - count(*),
  count(*) FILTER (WHERE state = 'failed' AND finished_at >= :failed),
  count(*) FILTER (WHERE state = 'unsent' AND finished_at >= :unsent)
FROM items WHERE state <> 'answered';

-- errors: Count failures by class, each with its first example. Items that ended before a time are asked again.
SELECT error, count, first_index, (SELECT error_message FROM items WHERE item_index = first_index), held
FROM (
  SELECT
    error, count(*) AS count, min(item_index) AS first_index, count(*) FILTER (WHERE state = 'unsent') AS held
  FROM items
  WHERE state <> 'answered' AND error IS NOT NULL AND finished_at >= iif(state = 'unsent', :unsent, :failed)
  GROUP BY error
)
ORDER BY count DESC, first_index;

-- last_index: Read the highest index of an item.
SELECT max(item_index) FROM items;

-- ranked: Read the items that took the provider or the run longest, the failed or the costliest ones; unknown ones last.
SELECT item_index, id, state, seconds, attempts, cost, error, error_message, provider_seconds FROM items
WHERE :by <> 'failed' OR state <> 'answered'
ORDER BY
  CASE :by
    WHEN 'slowest' THEN iif(state = 'unsent', NULL, provider_seconds) WHEN 'costliest' THEN cost
  END DESC NULLS LAST,
  CASE WHEN :by IN ('slowest', 'longest') THEN seconds END DESC NULLS LAST,
  item_index
LIMIT :most;

-- named: Find the items with an id.
SELECT item_index FROM items WHERE id = ? ORDER BY item_index LIMIT ?;

-- list_answers: List the answered items beside the file, which may be read-only.
CREATE TEMP TABLE answered AS SELECT fingerprint, item_index FROM items WHERE state = 'answered';

-- index_answers: Make the list quick to search.
CREATE INDEX temp.by_fingerprint ON answered (fingerprint, item_index);

-- answered: Find the first answered item with a fingerprint.
SELECT item_index FROM temp.answered WHERE fingerprint = ? ORDER BY item_index LIMIT 1;
