"""Functions of the user's, plain or async."""

from __future__ import annotations

import inspect
from typing import Any

from flatout.edge.fan_out import cancelled_alone


async def called(function: Any, *arguments: Any) -> Any:
    """What a function returns. Another task's cancellation that it waited for is a failure of its own."""
    with cancelled_alone():
        returned = function(*arguments)
        return await returned if inspect.isawaitable(returned) else returned


def name_of(function: Any) -> str:
    """A function's name, for people."""
    return str(getattr(function, "__name__", None) or getattr(function, "name", None) or type(function).__name__)
