"""The place of a run: beside its output, or in the user's cache folder.

The cache folder serves runs whose answers go to standard output, a pipe or a device, or to a place elsewhere. A run
there is removed 30 days after its last write.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from flatout.config.folders import cache_folder
from flatout.errors import ConfigError, StoreError
from flatout.runs.input.names import is_elsewhere, shown
from flatout.store import RunReader, remove

from .claim import SOURCE, where
from .formats import is_stream

SUFFIX = ".flatout"

KEPT = 30 * 86_400.0
"""Seconds that a run stays in the cache folder after its last write."""

_STDIN = "stdin"
_RUN = re.compile(rf"(.+)-[0-9a-f]{{12}}{re.escape(SUFFIX)}(\.\d+)?")
_SHOWN = 60  # bytes of the input's name in the name of a file in the cache folder


def run_file_of(source: str, output: str | None, named: str | None, job: Mapping[str, Any]) -> Path:
    """The run file that the user named, or the one beside the output, or one in the user's cache folder.

    In the cache folder, an output elsewhere has one file. Without an output, the same job on the same input gets the
    same file, and any other gets another. Standard input counts as a new input each time.

    Raises:
        ConfigError: the cache folder cannot be made.
    """
    if named is not None:
        return Path(named)
    if output is not None and is_elsewhere(output):
        return _made(run_elsewhere(output))
    if output is not None and not is_stream(output):
        return Path(f"{output}{SUFFIX}")
    return _in_cache(source, job)


def run_elsewhere(output: str) -> Path:
    """The run file of an output elsewhere, from any working directory; it need not exist."""
    return _cached(output, hashlib.sha256(shown(output).encode()).hexdigest())


def kept_runs(source: str) -> list[Path]:
    """The runs of an input in the cache folder, the latest first; ``-`` is standard input."""
    try:
        found = [path for path in _folder().glob(f"{glob.escape(_shown(source))}-*") if _RUN.fullmatch(path.name)]
        return sorted((path for path in found if _is_of(path, source)), key=_written_at, reverse=True)
    except (ConfigError, OSError, ValueError):
        return []


def prune(now: float) -> None:
    """Remove runs from the cache folder that nobody has written for 30 days.

    Args:
        now: Unix time.
    """
    with suppress(ConfigError, OSError):
        for path in _folder().iterdir():
            if _RUN.fullmatch(path.name) and now - _written_at(path) > KEPT:
                remove(path)


def _folder() -> Path:
    return cache_folder() / "runs"


def _shown(source: str) -> str:
    return _STDIN if source == "-" else os.fsencode(Path(shown(source)).name)[:_SHOWN].decode(errors="ignore")


def _is_of(path: Path, source: str) -> bool:
    with suppress(StoreError), RunReader.open(path) as reader:
        return bool(reader.fact(SOURCE) == where(source))
    return False


def _written_at(path: Path) -> float:
    """When a run was last written: its file, or the log beside it."""
    log = path.with_name(f"{path.name}-wal")
    return max(each.stat().st_mtime for each in (path, log) if each == path or each.exists())


def _in_cache(source: str, job: Mapping[str, Any]) -> Path:
    place = source if is_elsewhere(source) else where(source) or source  # a query may tell one file from another
    made = json.dumps([place, job], sort_keys=True, default=str)
    mark = secrets.token_hex(6) if source == "-" else hashlib.sha256(made.encode()).hexdigest()
    return _made(_cached(source, mark))


def _cached(name: str, mark: str) -> Path:
    """A run file in the cache folder; in the working directory if there is no home folder."""
    file = f"{_shown(name)}-{mark[:12]}{SUFFIX}"
    try:
        return _folder() / file
    except ConfigError:
        return Path(file)


def _made(run_file: Path) -> Path:
    """The run file, once its folder exists."""
    folder = run_file.parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}; name a place with --run-file") from None
    return run_file
