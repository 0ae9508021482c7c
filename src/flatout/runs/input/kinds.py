"""Recognises kinds of files by their first bytes, and refuses those without readable rows.

A workbook renamed to ``.csv``, a picture, an archive: the message says what the file is and how to get rows from it.
"""

from __future__ import annotations

import re

from flatout.errors import ConfigError

from .packing import packing_of

HEAD = 4_096
"""Bytes at the start of a file that tell its kind."""

_UNPACK = "unpack it first"
_CONVERT = "write it as JSONL, CSV or Parquet"
_PICTURE = "--image sends pictures that a column names"

_KINDS = (
    (b"7z\xbc\xaf\x27\x1c", f"a 7z archive; {_UNPACK}"),
    (b"Rar!\x1a\x07", f"a RAR archive; {_UNPACK}"),
    (b"LZIP", f"packed with lzip; {_UNPACK}"),
    (b"\x04\x22\x4d\x18", f"packed with lz4; {_UNPACK}"),
    (b"\x1f\x9d", f"packed with compress; {_UNPACK}"),
    (b"%PDF-", "a PDF; get its text out first"),
    (b"\x89PNG\r\n", f"a picture; {_PICTURE}"),
    (b"\xff\xd8\xff", f"a picture; {_PICTURE}"),
    (b"GIF8", f"a picture; {_PICTURE}"),
    (b"RIFF", f"sound, a film or a picture; {_PICTURE}"),
    (b"ID3", "sound; write it down as text first"),
    (b"OggS", "sound; write it down as text first"),
    (b"{\\rtf", "a text with layout (RTF); save it as plain text"),
    (b"\x80\x04\x95", f"a Python pickle, which would run code; {_CONVERT}"),
    (b"\x80\x05\x95", f"a Python pickle, which would run code; {_CONVERT}"),
    (b"\0\1\0\0Standard ", f"an Access database; {_CONVERT}"),
    (b"<stata_dta>", f"a Stata file; {_CONVERT}"),
    (b"$FL2", f"an SPSS file; {_CONVERT}"),
    (b"RDX", f"an R file; {_CONVERT}"),
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
_DUCKDB = (8, b"DUCK")
_ZIP = b"PK\x03\x04"
_OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_WORKBOOKS = (b"xl/", b"[Content_Types].xml", b"opendocument.spreadsheet")
_DOCUMENTS = (
    (b"word/", "a Word document; get its text out first"),
    (b"ppt/", "a presentation; get its text out first"),
    (b"opendocument.text", "a document (OpenDocument); get its text out first"),
)
_PAGES = (b"<!doctype html", b"<html", b"<?xml")
_PARQUET = b"PAR1"
_NO_TEXT = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")
"""Control characters that no text has. A magic number of letters alone might begin a sentence or a column's name."""


def check_kind(head: bytes, format: str, name: str, *, guessed: bool = False) -> None:
    """Refuse a file in a format that cannot be read, whatever its name says.

    Args:
        head: the file's first bytes, unpacked if it was packed.
        format: the format it would be read as.
        name: the file as the user wrote it.
        guessed: whether neither the user nor the name tells the format.

    Raises:
        ConfigError: saying what the file is and what to do.
    """
    what = _kind(head, format, name)
    if what is None and (format != "text" or guessed) and head.lstrip()[:20].lower().startswith(_PAGES):
        what = "an HTML or XML page, not rows; was a login or error page downloaded?"
    if what is not None:
        raise ConfigError(f"{name}: is {what}")


def sniffed_kind(head: bytes) -> str | None:
    """The format of a file that is no text; None if it is text, or cannot be read."""
    if _begins(head, _PARQUET):
        return "parquet"
    if head.startswith(_SQLITE):
        return "sqlite"
    if head[_DUCKDB[0] :].startswith(_DUCKDB[1]) and _NO_TEXT.search(head):
        return "duckdb"
    return "excel" if _is_workbook(head) else None


def is_run_file(head: bytes) -> bool:
    """Whether a file holds a run."""
    return head[_RUN_FILE[0] :].startswith(_RUN_FILE[1]) and head.startswith(_SQLITE)


def _begins(head: bytes, magic: bytes) -> bool:
    """Whether a file begins with a magic number. Letters alone count only if no text follows them."""
    return head.startswith(magic) and not (magic.isalnum() and _NO_TEXT.search(head) is None)


def _kind(head: bytes, format: str, name: str) -> str | None:
    """What a file is that cannot be read in this format."""
    if is_run_file(head):
        return f"a run file; get its answers out with: flatout export {name} -o answers.jsonl"
    if (kind := sniffed_kind(head)) is not None:
        return None if kind == format else f"{_NAMED[kind][0]}; name it {_NAMED[kind][1]}, or add --format {kind}"
    if head.startswith(_OLD_OFFICE):
        return None if format == "excel" else "an old Excel or Word file; add --format excel, or save it as CSV"
    if (packing := packing_of(head)) is not None:
        return f"packed twice, with {packing.name} inside; {_UNPACK}"
    if head.startswith(_ZIP):
        return next((what for part, what in _DOCUMENTS if part in head), f"a ZIP archive; {_UNPACK}")
    if head[_TAR[0] :].startswith(_TAR[1]):
        return f"a tar archive; {_UNPACK}"
    return next((what for magic, what in _KINDS if _begins(head, magic)), None)


_NAMED = {
    "parquet": ("a Parquet file", ".parquet"),
    "sqlite": ("an SQLite database", ".sqlite"),
    "duckdb": ("a DuckDB database", ".duckdb"),
    "excel": ("a workbook (Excel or its like)", ".xlsx"),
}


def _is_workbook(head: bytes) -> bool:
    if not head.startswith(_ZIP) or any(part in head for part, _ in _DOCUMENTS):
        return False
    return any(part in head for part in _WORKBOOKS)
