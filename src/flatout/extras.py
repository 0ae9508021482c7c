"""Packages that come with an extra, such as ``flatout[parquet]``: imported when they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .errors import ConfigError


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
