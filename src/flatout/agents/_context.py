"""The calls, the kept results and the account of one run. Every call and every step goes through here.

If the run is part of a durable run, its journal keeps everything that would differ the next time: calls, results of
tools, verdicts of the user's own functions. So a run that was killed continues where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from flatout.errors import ConfigError
from flatout.journey import Journey, current_journey, reset_journey, set_journey
from flatout.layer import JournalStep
from flatout.values import Call, Reply
from flatout.values.agent_step import Step

from ._json import as_json, plain
from ._outcome import UsageLimits
from ._record import Record

if TYPE_CHECKING:
    from flatout.client import Client

_key: ContextVar[str] = ContextVar("flatout_idempotency_key")


def idempotency_key() -> str:
    """Inside a tool or ``execute``: a key that is the same each time this step runs, and that no other step has.

    Pass it to the service that you call, so that it can tell a repetition from a second order.

    Raises:
        ConfigError: no step is running.
    """
    key = _key.get("")
    if not key:
        raise ConfigError("idempotency_key is available only inside a tool or execute")
    return key


@contextmanager
def _use_key(key: str) -> Iterator[None]:
    """Within the block, `idempotency_key` returns this key."""
    token = _key.set(key)
    try:
        yield
    finally:
        _key.reset(token)


class _StepResult(Struct, frozen=True, omit_defaults=True):
    """A step in the journal: its return value, and the usage of its own calls."""

    value: msgspec.Raw
    attempts: int = 0
    cost: float | None = 0.0
    waits: dict[str, float] = {}


class RunContext:
    """The calls, the kept results and the account of one run.

    Args:
        client: answers the run's calls.
        model: the model of calls that do not name one.
        limits: the most that the run may use.

    Attributes:
        record: the steps so far.
    """

    def __init__(self, client: Client, model: str | None, limits: UsageLimits) -> None:
        self.record: Record = Record(limits)
        self._client = client
        self._model = model
        outer = current_journey(None)
        self._journey = Journey(asyncio.get_running_loop().time()) if outer is None else outer
        self._id, self._steps = token_hex(8), 0

    async def ask(self, name: str, call: Call) -> Reply:
        """Ask a model.

        Raises:
            UsageLimitReached: the run may make no more calls.
            CallError: the model gave no answer.
        """
        self.record.take(calls=1)
        if call.model is None and self._model is not None:
            call = replace(call, model=self._model)
        with self.record.step("call", name) as step, _counted_on(self._journey):
            result = await self._client.result(call)
            self.record.count(step, result)
            if result.error is not None:
                raise result.error
            assert result.reply is not None
            return result.reply

    async def kept(
        self,
        name: str,
        step_input: bytes,
        function: Callable[[str], Awaitable[Any]],
        step: Step,
        *,
        into: Any = Any,
        once: bool = False,
        again: Callable[[str], Awaitable[bool]] | None = None,
    ) -> Any:
        """Return a function's result, from the journal if it has one; see `flatout.journey.Journal.step`."""
        journey = Journey(asyncio.get_running_loop().time())
        journey.journal = journal = self._journey.journal
        account = journey.account

        async def go(key: str) -> Any:
            with _counted_on(journey), _use_key(key):
                return await function(key)

        async def go_to_keep(key: str) -> bytes:
            returned = await go(key)
            # A step with side effects is done, whatever it returned. An error here would make its outcome unknown.
            value = plain(returned) if once else as_json(returned, f"{name} returned what cannot be kept as JSON")
            return plain(_StepResult(msgspec.Raw(value), account.attempts, account.cost, account.waits))

        try:
            if journal is None:
                self._steps += 1
                return await go(f"{self._id}{self._steps:08x}")
            kept = msgspec.json.decode(
                await journal.step(JournalStep(name, step_input, go_to_keep, once, again)), type=_StepResult
            )
            account.attempts, account.waits = kept.attempts, kept.waits
            account.known, account.unknown = kept.cost or 0.0, int(kept.cost is None)
            return msgspec.json.decode(kept.value, type=into)
        finally:
            self._journey.account.add(account)
            self.record.count_own(step, account)

    async def note(self, name: str, value: Any) -> None:
        """Keep a value in the journal, if there is one."""
        if self._journey.journal is None:
            return
        kept = as_json(value, f"the {name}")

        async def go(_key: str) -> bytes:
            return kept

        await self._journey.journal.step(JournalStep(name, kept, go))


@contextmanager
def _counted_on(journey: Journey) -> Iterator[None]:
    """Within the block, calls count on a journey."""
    token = set_journey(journey)
    try:
        yield
    finally:
        reset_journey(token)
