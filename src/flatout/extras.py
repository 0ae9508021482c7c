"""Packages that come with an extra, such as ``flatout[parquet]``: imported when they are needed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from .errors import ConfigError

_alone = False


def alone() -> None:
    """Note that this process runs the command, and nobody else's code."""
    global _alone
    _alone = True


@contextmanager
def spared(*modules: str) -> Iterator[None]:
    """A block in which a package is imported without modules that it can do without, if this process runs the command
    alone. Afterwards they can be imported, but that package does not know them.
    """
    hidden = [name for name in modules if _alone and name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: it is not found
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def package(module: str, *, needs: str, extra: str, name: str = "") -> Any:
    """A package's module.

    Args:
        module: the module.
        needs: what needs it, with the verb, for the message: "a workbook needs".
        extra: the extra that it comes with.
        name: the package's name, if the module has another one.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        missing = name or (error.name or module).partition(".")[0]
        raise ConfigError(f"{needs} {missing}, which is not installed: pip install 'flatout[{extra}]'") from None
