-- identity: Read which program made the file, its version, its number of tables, and its page size.
SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master), page_size
FROM pragma_application_id, pragma_user_version, pragma_page_size;

-- distrust: Trust no function or view in the file: it may come from anyone.
PRAGMA trusted_schema = OFF;

-- check_cells: Notice a damaged page when it is read, before its content is used.
PRAGMA cell_size_check = ON;

-- no_mmap: Read by system calls, so that a failing disk gives an error and not a signal.
PRAGMA mmap_size = 0;

-- whole_flush: Make fsync reach the disk, on systems whose plain fsync does not (macOS).
PRAGMA fullfsync = ON;

-- whole_flush_at_checkpoints: The same, when the log is merged into the file.
PRAGMA checkpoint_fullfsync = ON;

-- write_ahead: Let readers read while the file is being written.
PRAGMA journal_mode = WAL;

-- bound_log: Shrink the log to 64 MiB after a long reader has made it grow.
PRAGMA journal_size_limit = 67108864;

-- durable: From here on, a commit returns once the disk has it.
PRAGMA synchronous = FULL;

-- handed_over: From here on, a commit returns once the operating system has it.
PRAGMA synchronous = NORMAL;

-- be_brief: Wait for readers 200 ms at most.
PRAGMA busy_timeout = 200;

-- be_patient: Wait for other programs for 30 s again, as a new connection does.
PRAGMA busy_timeout = 30000;

-- checkpoint: Merge the log into the file and empty it.
PRAGMA wal_checkpoint(TRUNCATE);

-- one_file: Remove the log, so that the file stands alone and can be read in a read-only folder.
PRAGMA journal_mode = DELETE;

-- data_version: Read a number that changes when another connection has written.
PRAGMA data_version;

-- copy: Write everything into another file.
VACUUM INTO ?;

-- begin: Begin a write transaction.
BEGIN IMMEDIATE;

-- begin_to_read: Begin a transaction that only reads.
BEGIN DEFERRED;

-- commit: Commit the transaction.
COMMIT;

-- rollback: Undo the transaction.
ROLLBACK;
