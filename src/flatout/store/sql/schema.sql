-- objects: Read the file's objects, without SQLite's own statistics tables and primary-key indexes.
SELECT type, name, sql FROM sqlite_master
WHERE NOT (type = 'table' AND name IN ('sqlite_stat1', 'sqlite_stat4', 'sqlite_sequence'))
  AND NOT (type = 'index' AND sql IS NULL)
LIMIT ?;

-- columns: Read the tables' columns. Computed ones are marked, so that they never equal a stored column.
SELECT tables.name, columns.name || CASE columns.hidden WHEN 0 THEN '' ELSE ' (computed)' END
FROM sqlite_master AS tables, pragma_table_xinfo(tables.name) AS columns
WHERE tables.type = 'table'
LIMIT ?;
