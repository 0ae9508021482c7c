-- objects: Read what the file is made of, without SQLite's own tables of statistics and its indexes of primary keys.
SELECT type, name, sql FROM sqlite_master
WHERE NOT (type = 'table' AND name IN ('sqlite_stat1', 'sqlite_stat4', 'sqlite_sequence'))
  AND NOT (type = 'index' AND sql IS NULL)
LIMIT ?;

-- columns: Read the tables' columns; computed ones bear a mark, so that they are no stored column's equal.
SELECT tables.name, columns.name || CASE columns.hidden WHEN 0 THEN '' ELSE ' (computed)' END
FROM sqlite_master AS tables, pragma_table_xinfo(tables.name) AS columns
WHERE tables.type = 'table'
LIMIT ?;
