"""What became of one call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic

from msgspec import Struct

from .call import Call
from .reply import OutputT, Reply


class Result(Struct, Generic[OutputT], frozen=True, kw_only=True):
    """What became of one call: an answer or a named error, never both.

    Attributes:
        index: the call's place in the input, from 0.
        id: the call's id, if it had one.
        call: the call; None for a `Client.map` item.
        item: the item, for `Client.map`; None otherwise.
        reply: the provider's answer; None when the call failed (see ``error.reply`` for one that was unusable).
        output: the validated object when ``output=`` was asked for; for `Client.map`, what the function returned.
        error: why there is no answer.
        attempts: how many times the call was tried.
        cost: US dollars for all attempts that reported usage; None when the price or the usage is not known.
        elapsed: seconds from the call's entry to its end, queueing and retries included.
        waits: where those seconds went, by cause; see `flatout.events.WAITS`.
    """

    index: int
    id: str | None = None
    call: Call[Any] | None = None
    item: Any = None
    reply: Reply[OutputT] | None = None
    output: OutputT | None = None
    error: Exception | None = None
    attempts: int = 0
    cost: float | None = None
    elapsed: float = 0.0
    waits: Mapping[str, float] = {}

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.error is None

    @property
    def text(self) -> str | None:
        """The answer's text; None when the call failed."""
        return self.reply.text if self.reply is not None else None
