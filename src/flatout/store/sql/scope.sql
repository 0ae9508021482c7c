-- identity: Read which program made the file, and its version.
SELECT application_id, user_version FROM pragma_application_id, pragma_user_version;

-- create: Make the table of what each process holds of the budget. Process '' holds what is spent for good.
CREATE TABLE IF NOT EXISTS leases (
  period TEXT NOT NULL,
  process TEXT NOT NULL,
  usd REAL NOT NULL,
  PRIMARY KEY (period, process)
) WITHOUT ROWID;

-- name: Note which program made the file.
PRAGMA application_id = 1179402562;

-- held: Read what all processes hold in a period, in US dollars.
SELECT total(usd) FROM leases WHERE period = ?;

-- lend: Let a process hold more.
INSERT INTO leases (period, process, usd) VALUES (?, ?, ?)
ON CONFLICT (period, process) DO UPDATE SET usd = usd + excluded.usd;

-- leave: Forget a process.
DELETE FROM leases WHERE period = ? AND process = ?;

-- own: Read what one process holds in a period.
SELECT total(usd) FROM leases WHERE period = ? AND process = ?;

-- durable: A commit returns once the disk has it.
PRAGMA synchronous = FULL;
