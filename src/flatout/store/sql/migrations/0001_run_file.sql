-- The first run file: one run, its items, their attempts, and the journal of durable functions.
-- Times are Unix seconds, money is US dollars, NULL is "not known". Small columns come first, so that a scan
-- for them need not follow a long row into its overflow pages.

CREATE TABLE run (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  job TEXT NOT NULL,                -- JSON: what makes two answers comparable (model, templates, parameters)
  command TEXT,                     -- the command line that began it
  state TEXT NOT NULL CHECK (state IN ('running', 'interrupted', 'finished')),
  total INTEGER,                    -- items of the input
  keep_prompts INTEGER NOT NULL,    -- 0: the column items.prompt is left empty
  created_at REAL NOT NULL,
  opened_at REAL NOT NULL,          -- when the latest process took it up
  ended_at REAL                     -- when it was finished or interrupted
);

CREATE TABLE items (
  item_index INTEGER PRIMARY KEY,   -- place in the input, from 0
  id TEXT,
  fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 16),
  state TEXT NOT NULL CHECK (state IN ('answered', 'failed', 'unsent')),
  error TEXT,                       -- the error's class
  finish_reason TEXT,
  model TEXT,
  input_tokens INTEGER,
  output_tokens INTEGER,
  cost REAL,
  attempts INTEGER NOT NULL,
  seconds REAL,
  finished_at REAL NOT NULL,
  answer TEXT,
  output TEXT,                      -- JSON: the parsed answer
  error_message TEXT,
  waits TEXT,                       -- JSON: seconds by cause
  tool_calls TEXT,                  -- JSON: the tools that the model asked for
  input TEXT,                       -- JSON: the input's own row
  prompt TEXT                       -- JSON: the rendered call
);

CREATE TABLE attempts (
  item_index INTEGER NOT NULL,
  attempt INTEGER NOT NULL,         -- from 1, anew in each process
  place TEXT,                       -- in a durable function: the step that it was for
  target TEXT NOT NULL,
  started_at REAL NOT NULL,
  estimated_cost REAL,
  outcome TEXT                      -- NULL: in flight; lost: its process died; retried; or the item's state
);

-- Holds only what is in flight, so it stays tiny.
CREATE INDEX attempts_in_flight ON attempts (item_index) WHERE outcome IS NULL;

CREATE TRIGGER item_settles_attempts AFTER INSERT ON items BEGIN
  UPDATE attempts SET outcome = CASE WHEN attempt < NEW.attempts THEN 'retried' ELSE NEW.state END
  WHERE item_index = NEW.item_index AND outcome IS NULL;
END;

CREATE TRIGGER replaced_item_settles_attempts AFTER UPDATE ON items BEGIN
  UPDATE attempts SET outcome = CASE WHEN attempt < NEW.attempts THEN 'retried' ELSE NEW.state END
  WHERE item_index = NEW.item_index AND outcome IS NULL;
END;

CREATE TABLE journal (
  item_index INTEGER NOT NULL,
  place TEXT NOT NULL,              -- where in the function
  fingerprint BLOB NOT NULL,
  kind TEXT NOT NULL,
  value TEXT NOT NULL,              -- JSON
  at REAL NOT NULL,
  PRIMARY KEY (item_index, place)
);

CREATE TRIGGER entry_settles_attempts AFTER INSERT ON journal BEGIN
  UPDATE attempts SET outcome = NEW.kind
  WHERE item_index = NEW.item_index AND place = NEW.place AND outcome IS NULL;
END;

CREATE TRIGGER replaced_entry_settles_attempts AFTER UPDATE ON journal BEGIN
  UPDATE attempts SET outcome = NEW.kind
  WHERE item_index = NEW.item_index AND place = NEW.place AND outcome IS NULL;
END;

PRAGMA application_id = 1179402580; -- "FLAT"
PRAGMA user_version = 1;
