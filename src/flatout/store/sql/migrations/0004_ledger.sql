-- What a run has spent over all its processes, so that a budget holds when it goes on; and how many items it has, so
-- that a file which another program changed is noticed. Money whose amount is not known counts by its estimate.

ALTER TABLE run ADD COLUMN spent REAL NOT NULL DEFAULT 0;
ALTER TABLE run ADD COLUMN items INTEGER NOT NULL DEFAULT 0;

-- US dollars that the step's own calls cost; NULL is "not known". An item's cost has those of its steps in it.
ALTER TABLE journal ADD COLUMN cost REAL;

UPDATE journal SET cost = json_extract(value, '$.cost') WHERE kind IN ('answered', 'failed') AND json_valid(value);

-- What is in flight counts when the next process gives it up.
UPDATE run SET
  items = (SELECT count(*) FROM items),
  spent = (SELECT total(cost) FROM items)
    + (SELECT total(cost) FROM journal WHERE item_index NOT IN (SELECT item_index FROM items))
    + (
      SELECT total(estimated_cost) FROM attempts LEFT JOIN items USING (item_index)
      WHERE outcome = 'lost' OR (outcome IS NOT NULL AND items.state IS NOT NULL AND items.cost IS NULL)
    );

DROP TRIGGER item_settles_attempts;
DROP TRIGGER replaced_item_settles_attempts;
DROP TRIGGER entry_settles_attempts;
DROP TRIGGER replaced_entry_settles_attempts;

CREATE TRIGGER item_settles_attempts AFTER INSERT ON items BEGIN
  UPDATE run SET items = items + 1, spent = spent + CASE
    WHEN NEW.cost IS NULL
    THEN (SELECT total(estimated_cost) FROM attempts WHERE item_index = NEW.item_index AND outcome IS NULL)
    ELSE max(0, NEW.cost - (SELECT total(cost) FROM journal WHERE item_index = NEW.item_index))
  END;
  UPDATE attempts SET outcome = CASE WHEN attempt < NEW.attempts THEN 'retried' ELSE NEW.state END
  WHERE item_index = NEW.item_index AND outcome IS NULL;
END;

CREATE TRIGGER replaced_item_settles_attempts AFTER UPDATE OF state ON items BEGIN
  UPDATE run SET spent = spent + CASE
    WHEN NEW.cost IS NULL
    THEN (SELECT total(estimated_cost) FROM attempts WHERE item_index = NEW.item_index AND outcome IS NULL)
    ELSE max(0, NEW.cost - (SELECT total(cost) FROM journal WHERE item_index = NEW.item_index))
  END;
  UPDATE attempts SET outcome = CASE WHEN attempt < NEW.attempts THEN 'retried' ELSE NEW.state END
  WHERE item_index = NEW.item_index AND outcome IS NULL;
END;

CREATE TRIGGER entry_settles_attempts AFTER INSERT ON journal BEGIN
  UPDATE run SET spent = spent + coalesce(NEW.cost, (
    SELECT total(estimated_cost) FROM attempts
    WHERE item_index = NEW.item_index AND place = NEW.place AND outcome IS NULL
  ));
  UPDATE attempts SET outcome = NEW.kind
  WHERE item_index = NEW.item_index AND place = NEW.place AND outcome IS NULL;
END;

CREATE TRIGGER replaced_entry_settles_attempts AFTER UPDATE ON journal BEGIN
  UPDATE run SET spent = spent + coalesce(NEW.cost, (
    SELECT total(estimated_cost) FROM attempts
    WHERE item_index = NEW.item_index AND place = NEW.place AND outcome IS NULL
  ));
  UPDATE attempts SET outcome = NEW.kind
  WHERE item_index = NEW.item_index AND place = NEW.place AND outcome IS NULL;
END;

PRAGMA user_version = 4;
