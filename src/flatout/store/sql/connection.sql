-- identity: Tell whose file this is, of which version, how many tables it has, and the size of its pages.
SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master), page_size
FROM pragma_application_id, pragma_user_version, pragma_page_size;

-- distrust: Take no function or view of the file's own on trust: it may come from anyone.
PRAGMA trusted_schema = OFF;

-- check_cells: Notice a damaged page when it is read, before what it says is believed.
PRAGMA cell_size_check = ON;

-- no_mmap: Read by system calls, so that a failing disk is an error and not a signal.
PRAGMA mmap_size = 0;

-- whole_flush: Make fsync mean it where the system offers a weaker one (macOS).
PRAGMA fullfsync = ON;

-- whole_flush_at_checkpoints: The same, when the log is copied into the file.
PRAGMA checkpoint_fullfsync = ON;

-- write_ahead: Let readers read while the file is written.
PRAGMA journal_mode = WAL;

-- bound_log: Give back what one long reader made the log grow to.
PRAGMA journal_size_limit = 67108864;

-- durable: From here on, a commit returns when the disk has it.
PRAGMA synchronous = FULL;

-- handed_over: From here on, a commit returns when the system has it.
PRAGMA synchronous = NORMAL;

-- be_brief: Wait for readers 200 ms at most.
PRAGMA busy_timeout = 200;

-- checkpoint: Copy the log into the file and empty it.
PRAGMA wal_checkpoint(TRUNCATE);

-- one_file: Do without the log, so that the file stands alone, in a read-only folder too.
PRAGMA journal_mode = DELETE;

-- data_version: Read a number that changes when another connection has written.
PRAGMA data_version;

-- copy: Write everything into another file.
VACUUM INTO ?;

-- begin: Begin to write.
BEGIN IMMEDIATE;

-- commit: Make it so.
COMMIT;

-- rollback: Take it back.
ROLLBACK;
