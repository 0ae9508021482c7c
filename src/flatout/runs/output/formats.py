"""The format of an output: what its name says, and what its place allows."""

from __future__ import annotations

import stat
from pathlib import Path

from flatout.errors import ConfigError

OUTPUT_FORMATS = ("jsonl", "csv", "tsv", "parquet")
"""The formats that `write` makes."""

_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}


def output_format(path: str | Path, format: str | None = None) -> str:
    """The format to write: the one given, else the one that the suffix names; JSONL for ``-`` and for devices.

    Raises:
        ConfigError: the format is not one of `OUTPUT_FORMATS`, or cannot be written there.
    """
    if format is not None and format not in OUTPUT_FORMATS:
        raise ConfigError(f"the output format is one of {', '.join(OUTPUT_FORMATS)}, not {format!r}")
    suffix = Path(path).suffix.lower()
    chosen = format or ("jsonl" if is_stream(path) else _SUFFIXES.get(suffix))
    if chosen is None:
        what = f"the suffix {suffix}" if suffix else "a name without a suffix"
        raise ConfigError(f"{path}: {what} names no output format; use .jsonl, .csv, .tsv or .parquet")
    if chosen == "parquet" and is_stream(path):
        raise ConfigError(f"{path}: Parquet can only be written to a file")
    return chosen


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
