-- identity: Read which program made the file, and its version.
SELECT application_id, user_version FROM pragma_application_id, pragma_user_version;

-- create: Make the table of what each process holds of the budget. Process '' holds what is spent for good.
CREATE TABLE IF NOT EXISTS leases (
  period TEXT NOT NULL,
  process TEXT NOT NULL,
  usd REAL NOT NULL,
  PRIMARY KEY (period, process)
) WITHOUT ROWID;

-- create_about: Make the table that says what the budget is: its names are not in that of the file.
CREATE TABLE IF NOT EXISTS about (
  per TEXT NOT NULL,
  scope TEXT NOT NULL,
  usd REAL NOT NULL,
  PRIMARY KEY (per, scope)
) WITHOUT ROWID;

-- create_borrowers: Make the table of the processes that have borrowed.
CREATE TABLE IF NOT EXISTS borrowers (
  process TEXT PRIMARY KEY,
  pid INTEGER NOT NULL,
  since REAL NOT NULL
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

-- tell: Say what the budget is.
INSERT INTO about (per, scope, usd) VALUES (?, ?, ?) ON CONFLICT (per, scope) DO UPDATE SET usd = excluded.usd;

-- about: Read what the budget is.
SELECT per, scope, usd FROM about;

-- borrow: Say who borrows.
INSERT INTO borrowers (process, pid, since) VALUES (?, ?, ?) ON CONFLICT (process) DO NOTHING;

-- forget: Say that a process borrows no more.
DELETE FROM borrowers WHERE process = ?;

-- loans_of: Read what one process holds, by period.
SELECT period, usd FROM leases WHERE process = ?;

-- loans: Read what each process holds in a period.
SELECT leases.process, leases.usd, borrowers.pid, borrowers.since FROM leases
LEFT JOIN borrowers ON borrowers.process = leases.process
WHERE period = ? AND leases.process <> '' ORDER BY since, leases.process;

-- spend: Set what is spent for good in a period.
INSERT INTO leases (period, process, usd) VALUES (?, '', ?) ON CONFLICT (period, process) DO UPDATE SET usd = excluded.usd;
