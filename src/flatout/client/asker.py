"""Asks the calls of a run file (as a `flatout.durable.run.Asker`), with a client or with its engine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

from flatout.engine import Engine
from flatout.events import Events
from flatout.layers.limit import TargetStatus

if TYPE_CHECKING:
    from flatout.journey import Journey
    from flatout.values import CallLike, Result


class EngineAsker:
    """What asks with a client's engine; its children answer the calls.

    Args:
        engine: the engine.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def window(self) -> int:
        """How many calls are asked at once."""
        return self._engine.window

    @property
    def events(self) -> Events:
        """What happens to the client's calls and targets."""
        return self._engine.events

    def status(self) -> Sequence[TargetStatus]:
        """The present state of each target in use."""
        return self._engine.stack.limiters.status()

    def go_on(self, run: Hashable, spent: float, *, answered: bool = False) -> None:
        """Go on with a run: count its earlier spending, in US dollars, and know whether it has answers."""
        self._engine.go_on(run, spent, answered=answered)


class ClientAsker(EngineAsker):
    """Asks the calls as the client itself does.

    Args:
        engine: the client's.
        answer: `flatout.Client.result`.
    """

    def __init__(self, engine: Engine, answer: Callable[..., Awaitable[Result[Any]]]) -> None:
        super().__init__(engine)
        self._answer = answer

    async def result(self, call: CallLike, /, *, index: int = 0, journey: Journey | None = None) -> Result[Any]:
        """Answer one call. A failure is part of the result."""
        return await self._answer(call, index=index, journey=journey)
