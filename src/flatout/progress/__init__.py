"""The progress of many calls: counted, put into words, and shown.

`Progress` is what a function receives that was given as ``progress=``; see https://flatout.github.io/flatout/progress/.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flatout._lazy import lazy

if TYPE_CHECKING:
    from ._counters import Progress
else:  # not for type checkers: with a __getattr__ they accept misspelt names
    __getattr__ = lazy(__name__, {"_counters": ("Progress",)})

__all__ = ["Progress"]


def __dir__() -> list[str]:
    return __all__
