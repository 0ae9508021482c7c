"""Imports a package's public names when they are first used, so that importing the package costs next to nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any


def lazy(package: str, names: Mapping[str, Iterable[str]], rooms: Iterable[str] = ()) -> Callable[[str], Any]:
    """A ``__getattr__`` for a package.

    Args:
        package: its ``__name__``.
        names: its modules, and what each of them defines.
        rooms: its packages that are used by name, such as ``flatout.sdk``.
    """
    home_of = {name: module for module, defined in names.items() for name in defined}

    def __getattr__(name: str) -> Any:  # noqa: N807 - Python's own name for it
        if name in rooms:
            return import_module(f".{name}", package)
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f".{home_of[name]}", package), name)
        setattr(sys.modules[package], name, value)  # so that it is found without this from now on
        return value

    return __getattr__
