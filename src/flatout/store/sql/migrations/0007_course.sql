-- The course of a run: what its targets did in each stretch of time, and what happened, so that it can be looked at
-- while it goes and afterwards.

ALTER TABLE items ADD COLUMN provider_seconds REAL; -- of the last attempt, from its permit to its end

CREATE TABLE stretches (
  began_at REAL NOT NULL,           -- Unix time, a multiple of the stretch's length; each worker has its own rows
  seconds REAL NOT NULL,
  target TEXT NOT NULL,
  sent INTEGER NOT NULL,            -- attempts that began
  answered INTEGER NOT NULL,        -- attempts that ended with an answer
  refused INTEGER NOT NULL,         -- attempts that were refused for their rate (429)
  failed INTEGER NOT NULL,          -- attempts that failed otherwise
  in_flight INTEGER NOT NULL,       -- attempts on the wire at its end
  waiting INTEGER NOT NULL,         -- calls that wait for this target at its end
  held TEXT NOT NULL,               -- JSON: the seconds for which the queue was held, by cause
  allows TEXT NOT NULL,             -- JSON: the limits in force at its end, by name, per minute; those that are known
  pace REAL,                        -- requests per second of the search for an unknown limit
  input_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  cost REAL NOT NULL,               -- US dollars, as far as they are known
  latency_p50 REAL,                 -- seconds that the answered attempts took
  latency_p95 REAL
);

CREATE TABLE happenings (
  at REAL NOT NULL,                 -- Unix time
  until REAL,                       -- NULL: not known, or a moment
  kind TEXT NOT NULL,               -- pause, stop, down, back, crowded, capped, begin, end; change for one by a person
  target TEXT,                      -- NULL: the whole run
  what TEXT NOT NULL,               -- for people
  by TEXT                           -- who made a change
);

PRAGMA user_version = 7;
