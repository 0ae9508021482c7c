"""Where flatout keeps what is the user's own, by the platform's custom. The folders need not exist yet."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from flatout.errors import ConfigError


def cache_folder() -> Path:
    """What can be fetched or learnt anew.

    Raises:
        ConfigError: there is no home folder to have one in.
    """
    return _folder("XDG_CACHE_HOME", "Library/Caches" if sys.platform == "darwin" else ".cache")


def state_folder() -> Path:
    """What should outlive the cache: the decisions of the user.

    Raises:
        ConfigError: there is no home folder to have one in.
    """
    return _folder("XDG_STATE_HOME", "Library/Application Support" if sys.platform == "darwin" else ".local/state")


def _folder(variable: str, custom: str) -> Path:
    configured = os.environ.get(variable, "")
    if Path(configured).is_absolute():  # the XDG specification: a relative path is to be ignored
        return Path(configured) / "flatout"
    try:
        home = Path.home()
    except RuntimeError:
        raise ConfigError(f"no home folder for flatout's files; set {variable} to a folder") from None
    return home / custom / "flatout"
