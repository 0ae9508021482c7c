-- What else is known of the whole run, by name: the types of the input's columns, which file is its output.

CREATE TABLE facts (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL               -- JSON
);

PRAGMA user_version = 3;
