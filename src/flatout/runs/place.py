"""Where a run is kept: beside its output, or in the user's cache folder when its answers go to standard output, a pipe
or a device.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flatout.errors import ConfigError
from flatout.folders import cache_folder

from .claim import where
from .write import is_stream

SUFFIX = ".flatout"

_SHOWN = 60  # bytes of the input's name in that of a file in the cache folder


def run_file_of(source: str, output: str | None, named: str | None, job: Mapping[str, Any]) -> Path:
    """The run file that a user has named, or the one beside the output, or one in the user's cache folder.

    In the cache folder it is the same for the same job on the same input, and for any other another one. For what comes
    from standard input it is only a name: no file is known to belong to it.

    Raises:
        ConfigError: the cache folder cannot be made.
    """
    if named is not None:
        return Path(named)
    if output is not None and not is_stream(output):
        return Path(f"{output}{SUFFIX}")
    return Path(f"stdin{SUFFIX}") if source == "-" else _in_cache(source, job)


def _in_cache(source: str, job: Mapping[str, Any]) -> Path:
    made = json.dumps([where(source) or source, job], sort_keys=True, default=str)
    shown = os.fsencode(Path(source).name)[:_SHOWN].decode(errors="ignore")
    name = f"{shown}-{hashlib.sha256(made.encode()).hexdigest()[:12]}{SUFFIX}"
    try:
        folder = cache_folder() / "runs"
    except ConfigError:
        return Path(name)  # without a home folder, here
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}; name a place with --run-file") from None
    return folder / name
