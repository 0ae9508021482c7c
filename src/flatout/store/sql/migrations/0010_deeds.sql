-- What a person's change does to the whole run has a column of its own: the words beside it are for people.

ALTER TABLE happenings ADD COLUMN does TEXT; -- pause, resume, stop, drain; NULL: something else

UPDATE happenings SET does = CASE
    WHEN what = 'paused' OR what LIKE 'paused, %' THEN 'pause'
    WHEN what = 'resumed' OR what LIKE 'resumed, %' THEN 'resume'
    WHEN what IN ('stop', 'drain') THEN what
  END
WHERE kind = 'change';

PRAGMA user_version = 10;
