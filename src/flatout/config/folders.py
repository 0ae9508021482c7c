"""The user's folders for flatout's files, by the platform's convention. The folders need not exist yet."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from flatout.errors import ConfigError


def cache_folder() -> Path:
    """The folder for data that can be fetched or learnt again.

    Raises:
        ConfigError: the user has no home folder.
    """
    return _folder("XDG_CACHE_HOME", "Library/Caches" if sys.platform == "darwin" else ".cache")


def state_folder() -> Path:
    """The folder for data that should outlive the cache: the user's decisions.

    Raises:
        ConfigError: the user has no home folder.
    """
    return _folder("XDG_STATE_HOME", "Library/Application Support" if sys.platform == "darwin" else ".local/state")


def _folder(variable: str, custom: str) -> Path:
    configured = os.environ.get(variable, "")
    if Path(configured).is_absolute():  # the XDG specification says to ignore relative paths
        return Path(configured) / "flatout"
    try:
        home = Path.home()
    except RuntimeError:
        raise ConfigError(f"no home folder for flatout's files; set {variable} to a folder") from None
    return home / custom / "flatout"
