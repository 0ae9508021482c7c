"""``df.flatout.answer(…)``: the functions of this package as methods of frames, where that is customary.

Registering needs the library, and nobody should wait for pandas who uses Polars. So a library that is not loaded yet is
registered with when it is: ``import flatout.tables`` usually stands above ``import pandas``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from threading import get_ident
from types import ModuleType
from typing import Any

from ._api import answer, embed

NAME = "flatout"


class Frame:
    """A frame's questions: ``df.flatout``.

    Args:
        frame: a DataFrame of pandas or Polars, or a LazyFrame.
    """

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    def answer(self, prompt: Any, **options: Any) -> Any:
        """As `flatout.tables.answer`, of this frame."""
        return answer(self._frame, prompt, **options)

    def embed(self, column: str, **options: Any) -> Any:
        """As `flatout.tables.embed`, of this frame."""
        return embed(self._frame, column, **options)


def _in_pandas() -> None:
    import_module("pandas.api.extensions").register_dataframe_accessor(NAME)(Frame)


def _in_polars() -> None:
    api = import_module("polars.api")
    api.register_dataframe_namespace(NAME)(Frame)
    api.register_lazyframe_namespace(NAME)(Frame)


class _WhenLoaded:
    """Waits for libraries to be imported: a finder that finds nothing itself, and calls a function after the import.

    Args:
        waiting: the functions, by the libraries' names.
    """

    def __init__(self, waiting: dict[str, Callable[[], None]]) -> None:
        self._waiting = waiting
        self._asks: set[tuple[str, int]] = set()  # names that this finder is asking the others for, in which thread

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec that the other finders have, with the call added."""
        asks = name, get_ident()
        if name not in self._waiting or asks in self._asks:
            return None
        self._asks.add(asks)
        try:
            spec = find_spec(name)  # asks this finder again
        finally:
            self._asks.discard(asks)
        if spec is not None and spec.loader is not None:
            loads = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                loads(module)
                if (then := self._waiting.pop(name, None)) is not None:  # whoever looks for a spec need not load it
                    then()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]  # each spec has a loader of its own
        return spec


def register() -> None:
    """Register with the libraries that are loaded, and with the others when they are."""
    waiting = {}
    for library, then in (("pandas", _in_pandas), ("polars", _in_polars)):
        if library in sys.modules:
            then()
        else:
            waiting[library] = then
    if waiting:
        sys.meta_path.insert(0, _WhenLoaded(waiting))
