"""The form of an output: what its name says, and what its place allows."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from msgspec import Struct

from flatout.errors import ConfigError
from flatout.runs.input.database import is_query
from flatout.runs.input.formats import DATABASES
from flatout.runs.input.formats import SUFFIXES as READ
from flatout.runs.input.kinds import HEAD, is_run_file, sniffed_kind
from flatout.runs.input.names import is_elsewhere, shown
from flatout.runs.input.packing import Packing, packing_named, without_packing

OUTPUT_FORMATS = ("jsonl", "csv", "tsv", "parquet")
"""The formats of a file that `flatout.runs.output.write.write` makes."""

_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}
_DATABASE_SUFFIXES = {name: kind for name, kind in READ.items() if kind in DATABASES} | {".db": "sqlite"}
_NO_TABLE = re.compile(r"\s*$|sqlite_|.*[/\0-\x1f]", re.IGNORECASE | re.DOTALL)
_USE = "use .jsonl, .csv, .tsv or .parquet"


class Form(Struct, frozen=True):
    """How an output is written.

    Attributes:
        name: the output as the user wrote it, but without a password.
        file: the file that holds it, if it is on this machine.
        format: one of `OUTPUT_FORMATS` or of `flatout.runs.input.formats.DATABASES`.
        packing: how the file is packed; None if it is not.
        table: the table that holds it; "" if it is a file of its own.
        url: where it is elsewhere; None if it is on this machine.
    """

    name: str
    file: Path
    format: str
    packing: Packing | None = None
    table: str = ""
    url: str | None = None


def form_of(path: str | Path, format: str | None = None) -> Form:
    """The form of an output: the format given, else the one that the name tells; JSONL for ``-`` and for devices.

    Args:
        path: a file whose suffix names the format, and how it is packed; ``out.db::answers`` is a table of a database,
            ``s3://bucket/out.jsonl`` a file elsewhere.
        format: one of `OUTPUT_FORMATS`; overrides the suffix.

    Raises:
        ConfigError: the format is not one of `OUTPUT_FORMATS`, or cannot be written there.
    """
    name, url = shown(str(path)), str(path) if is_elsewhere(str(path)) else None
    if format is not None and format not in OUTPUT_FORMATS:
        raise ConfigError(f"the output format is one of {', '.join(OUTPUT_FORMATS)}, not {format!r}")
    if url not in (None, name):
        raise ConfigError(f"{name}: give no password and no query in an output's URL: both may be keys")
    if url is not None and "::" in url:
        raise ConfigError(f"{name}: a table is filled on this machine only; name a file there, or a database here")
    if (form := _table_form(name)) is not None:
        if format is not None:
            raise ConfigError(f"{name}: a table has no {format} format; name a file")
        return form
    if is_stream(path):
        if format == "parquet":
            raise ConfigError(f"{path}: Parquet can only be written to a file")
        return Form(name, Path(path), format or "jsonl")
    suffix, packing = Path(without_packing(Path(name).name)).suffix, packing_named(name)
    chosen = format or _SUFFIXES.get(suffix)
    if chosen is None:
        raise ConfigError(f"{name}: {_unknown(name, suffix, packing)}")
    if chosen == "parquet" and packing is not None:
        raise ConfigError(f"{name}: Parquet is packed inside; name it .parquet")
    return Form(name, Path(path), chosen, packing, url=url)


def is_stream(path: str | Path) -> bool:
    """Whether the output is not a file to replace: stdout, a device, a pipe.

    Raises:
        OSError: the path cannot be examined. `Path.exists` raises that only before Python 3.14.
    """
    if str(path) == "-":
        return True
    try:
        mode = Path(path).stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _table_form(name: str) -> Form | None:
    """The form of a table of a database; None if the name is that of a file.

    Raises:
        ConfigError: the table has no name that it could have, or the file is no database.
    """
    file, separator, table = name.partition("::")
    kind = _DATABASE_SUFFIXES.get(Path(file).suffix.lower())
    if not separator or kind is None:
        return None
    if is_query(table):
        raise ConfigError(f"{file}: a query cannot be written to; name a table: {file}::answers")
    if _NO_TABLE.match(table):
        raise ConfigError(f"{file}: {table!r} is no name of a table; name it so: {file}::answers")
    return Form(name, Path(file), _kind_there(Path(file)) or kind, table=table)


def _kind_there(file: Path) -> str | None:
    """What kind of database a file is; None if there is none yet."""
    try:
        with file.open("rb") as stream:
            head = stream.read(HEAD)
    except FileNotFoundError:
        return None
    if not head:
        return None
    if is_run_file(head):
        raise ConfigError(f"{file}: is a run file; write to another database")
    if (kind := sniffed_kind(head)) not in DATABASES:
        raise ConfigError(f"{file}: exists, and is no database")
    return kind


def _unknown(name: str, suffix: str, packing: Packing | None) -> str:
    """Why no format is known."""
    if suffix in _DATABASE_SUFFIXES and packing is None:
        return f"a database holds tables; name one: {name}::answers"
    if READ.get(suffix) == "excel":
        return "workbooks are read, not written; write .csv, which spreadsheets open"
    if packing is not None and not suffix:
        return f"its name says how it is packed, and not its format; use .jsonl{packing.suffixes[0]}"
    return f"{f'the suffix {suffix}' if suffix else 'a name without a suffix'} names no output format; {_USE}"
