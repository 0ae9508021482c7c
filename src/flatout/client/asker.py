"""A client as the one who asks the calls of a run file."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

from flatout.events import Events
from flatout.layers.limit import TargetStatus

from .overview import engine_of

if TYPE_CHECKING:
    from flatout.journey import Journey
    from flatout.values import CallLike, Result

    from .one_call import OneCall


class ClientAsker:
    """Asks calls, and goes on with earlier runs of them (a `flatout.durable.run.Asker`).

    Args:
        client: answers the calls.
    """

    def __init__(self, client: OneCall) -> None:
        self._client = client

    @property
    def window(self) -> int:
        """How many calls are asked at once."""
        return self._client.window

    @property
    def events(self) -> Events:
        """What happens to the client's calls and targets."""
        return self._client.events

    def status(self) -> Sequence[TargetStatus]:
        """The present state of each target in use."""
        return self._client.status()

    def go_on(self, run: Hashable, spent: float, *, answered: bool = False) -> None:
        """Go on with a run: count its earlier spending, in US dollars, and know whether it has answers."""
        engine_of(self._client).go_on(run, spent, answered=answered)

    async def result(self, call: CallLike, /, *, index: int = 0, journey: Journey | None = None) -> Result[Any]:
        """Answer one call. A failure is part of the result."""
        return await self._client.result(call, index=index, journey=journey)
