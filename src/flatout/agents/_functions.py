"""Calls the user's functions, plain or async."""

from __future__ import annotations

import inspect
from typing import Any

from flatout.edge.fan_out import cancelled_alone


async def called(function: Any, *arguments: Any) -> Any:
    """Call a function, and return its result. If it awaited a task that was cancelled, that is an ordinary failure."""
    with cancelled_alone():
        returned = function(*arguments)
        return await returned if inspect.isawaitable(returned) else returned


def name_of(function: Any) -> str:
    """A function's name, for people."""
    return str(getattr(function, "__name__", None) or getattr(function, "name", None) or type(function).__name__)
