"""Tells an input's format by its name, and by its first bytes if the name does not tell."""

from __future__ import annotations

from pathlib import PurePath

from flatout.errors import ConfigError

from .decode import first_letter
from .kinds import check_kind, sniffed_kind
from .packing import without_packing
from .rows import JSON_FORMATS, InputSource
from .tables import check_text, json_in

SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".txt": "text",
    ".text": "text",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".sqlite": "sqlite",
    ".sqlite3": "sqlite",
    ".db3": "sqlite",
    ".duckdb": "duckdb",
    ".xlsx": "excel",
    ".xlsm": "excel",
    ".xlsb": "excel",
    ".xls": "excel",
    ".ods": "excel",
}
"""The formats that endings name. Others, such as ``.db``, leave it to the first bytes."""

FORMATS = ("jsonl", "json", "csv", "tsv", "text", "parquet", "sqlite", "duckdb", "excel")
"""The formats that can be read; ``json`` is one list of rows."""

FILE_FORMATS = frozenset({"parquet", "sqlite", "duckdb", "excel"})
"""The formats that are read here and there in a file, and not from its start to its end."""

DATABASES = frozenset({"sqlite", "duckdb"})
"""The formats that only their own engines read, which want a file on this machine."""

PARTED_FORMATS = DATABASES | {"excel"}
"""The formats of which ``::`` names a part."""

_TITLES = {"parquet": "Parquet", "sqlite": "an SQLite database", "duckdb": "a DuckDB database", "excel": "a workbook"}


def by_suffix(path: str | PurePath) -> str | None:
    """The format that a file's name tells."""
    return SUFFIXES.get(PurePath(without_packing(PurePath(path).name)).suffix)


def source_of(name: str, format: str | None, head: bytes, delimiter: str | None = None) -> InputSource:
    """The source, with the format that was given or that the first bytes tell.

    Args:
        name: the input as the user wrote it.
        format: the format that the user or the name tells.
        head: the first bytes, unpacked.
        delimiter: the delimiter that the user gave.

    Raises:
        ConfigError: they are those of another kind of file.
    """
    chosen = format or sniffed_kind(head) or _sniffed(head)
    if chosen in JSON_FORMATS:  # no name tells lines from a list
        chosen = "json" if first_letter(head) == b"[" else "jsonl"
    check_kind(head, chosen, name, guessed=format is None)
    check_text(head, chosen, name, guessed=format is None, delimiter=delimiter)
    return InputSource(name, chosen)


def check_place(source: InputSource, part: str | None, *, whole: bool, packed: bool, here: bool = True) -> None:
    """Check that a format can be read from where it is.

    Args:
        source: the source.
        part: what ``::`` names.
        whole: whether it is a file, and not a pipe.
        packed: whether it is packed.
        here: whether the file is on this machine.

    Raises:
        ConfigError: it cannot.
    """
    if part is not None and source.format not in PARTED_FORMATS:
        raise ConfigError(
            f"{source.name}: :: names a table or a query of a database, or a sheet of a workbook; "
            f"the format here is {source.format}"
        )
    if source.format not in FILE_FORMATS:
        return
    title = _TITLES[source.format]
    if not whole:
        raise ConfigError(f"{source.name}: {title} cannot be read from a pipe; give the file's name")
    if not here and source.format in DATABASES:
        raise ConfigError(f"{source.name}: {title} is read on this machine alone; copy it here first")
    if packed:
        raise ConfigError(f"{source.name}: {title} cannot be read while it is packed; unpack it first")


def _sniffed(head: bytes) -> str:
    letter = first_letter(head)
    if letter == b"[":  # but a text may begin so too
        return "text" if json_in(head) is None else "json"
    return "jsonl" if letter in (b"{", b'"') else "text"
