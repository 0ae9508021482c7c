"""Read a kept answer for a call anew: it may have been given to another program, whose types or validators differ."""

from __future__ import annotations

from flatout.errors import CallError
from flatout.values import Call, Reply

from .formats.codec import check_tools
from .schemas.fitting import fitted
from .schemas.salvage import salvage


def read_again(call: Call, reply: Reply) -> Reply | None:
    """The reply with its output, if it still fits the call; None if it must be asked again."""
    if call.output is None and not call.tools:
        return reply
    try:
        try:
            if call.tools:
                check_tools(call, reply)
            return fitted(call, reply)
        except CallError:
            found = salvage(call, reply)
            return found[0] if found is not None and found[1] else None
    except Exception:  # a user's validator may raise anything; a new answer would meet it again, and say so
        return None
