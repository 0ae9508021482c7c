"""Recognises files without readable rows by their first bytes.

A workbook renamed to ``.csv``, a database, an archive: the message says what the file is and how to get rows from it.
"""

from __future__ import annotations

import re

from flatout.errors import ConfigError

HEAD = 4_096
"""Bytes at the start of a file that tell its kind."""

_UNPACK = "unpack it first"
_CONVERT = "write it as JSONL, CSV or Parquet"
_PICTURE = "--image sends pictures that a column names"

_KINDS = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Word file; save it as CSV"),
    (b"7z\xbc\xaf\x27\x1c", f"a 7z archive; {_UNPACK}"),
    (b"Rar!\x1a\x07", f"a RAR archive; {_UNPACK}"),
    (b"\x1f\x8b", f"packed with gzip twice; {_UNPACK}"),
    (b"BZh", f"packed with bzip2; {_UNPACK}"),
    (b"\xfd7zXZ\0", f"packed with xz; {_UNPACK}"),
    (b"\x28\xb5\x2f\xfd", f"packed with zstd; {_UNPACK}"),
    (b"%PDF-", "a PDF; get its text out first"),
    (b"\x89PNG\r\n", f"a picture; {_PICTURE}"),
    (b"\xff\xd8\xff", f"a picture; {_PICTURE}"),
    (b"GIF8", f"a picture; {_PICTURE}"),
    (b"ARROW1", f"an Arrow (Feather) file; {_CONVERT}"),
    (b"ORC", f"an ORC file; {_CONVERT}"),
    (b"Obj\x01", f"an Avro file; {_CONVERT}"),
    (b"\x89HDF\r\n", f"an HDF5 file; {_CONVERT}"),
    (b"\x93NUMPY", f"a NumPy file; {_CONVERT}"),
    (b"PARE", f"an encrypted Parquet file; {_CONVERT}"),
    (b"\x7fELF", "a program"),
)
_TAR = (257, b"ustar")
_SQLITE = b"SQLite format 3\0"
_RUN_FILE = (68, b"FLAT")  # the offset of SQLite's application id
_ZIP = b"PK\x03\x04"
_WORKBOOKS = (b"xl/", b"[Content_Types].xml", b"opendocument.spreadsheet")
_PAGES = (b"<!doctype html", b"<html", b"<?xml")
_PARQUET = b"PAR1"
_NO_TEXT = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")
"""Control characters that no text has. A magic number of letters alone might begin a sentence or a column's name."""


def check_kind(head: bytes, format: str, name: str) -> None:
    """Refuse a file in a format that cannot be read, whatever its name says.

    Args:
        head: the file's first bytes, unpacked if it was packed with gzip.
        format: the format it would be read as.
        name: the file as the user wrote it.

    Raises:
        ConfigError: saying what the file is and what to do.
    """
    if (what := _kind(head, format, name)) is not None:
        raise ConfigError(f"{name}: is {what}")


def is_parquet(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is Parquet."""
    return _begins(head, _PARQUET)


def _begins(head: bytes, magic: bytes) -> bool:
    """Whether a file begins with a magic number. Letters alone count only if no text follows them."""
    return head.startswith(magic) and not (magic.isalnum() and _NO_TEXT.search(head) is None)


def _kind(head: bytes, format: str, name: str) -> str | None:
    if is_parquet(head):
        return None if format == "parquet" else "a Parquet file; name it .parquet, or add --format parquet"
    if head.startswith(_SQLITE):
        return _database(head, name)
    if head.startswith(_ZIP):
        return _archive(head)
    if head[_TAR[0] :].startswith(_TAR[1]):
        return f"a tar archive; {_UNPACK}"
    if format != "text" and head.lstrip()[:20].lower().startswith(_PAGES):
        return "an HTML or XML page, not rows; was a login or error page downloaded?"
    return next((what for magic, what in _KINDS if _begins(head, magic)), None)


def _database(head: bytes, name: str) -> str:
    if head[_RUN_FILE[0] :].startswith(_RUN_FILE[1]):
        return f"a run file; get its answers out with: flatout export {name} -o answers.jsonl"
    return f"an SQLite database; write a table of it as JSON: sqlite3 -json {name} 'SELECT …' > rows.json"


def _archive(head: bytes) -> str:
    if any(part in head for part in _WORKBOOKS):
        return "a workbook (Excel or its like); save the sheet as CSV"
    return f"a ZIP archive; {_UNPACK}"
