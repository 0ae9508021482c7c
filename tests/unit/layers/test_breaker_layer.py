"""Targets that cannot answer are left alone."""

from __future__ import annotations

import asyncio

import pytest

from flatout import (
    AuthenticationError,
    Call,
    CircuitOpen,
    ConnectError,
    InvalidRequest,
    QuotaExhausted,
    RateLimited,
    Reply,
    ServerError,
)
from flatout.events import Events, TargetPaused
from flatout.layers.breaker import RETRY_EVERY, UNREACHABLE, Breaker
from flatout.testing import run_virtual

FINE = Reply(text="fine")


class Target:
    """A breaker in front of a service that gives what it is handed."""

    def __init__(self) -> None:
        self.flushed: list[BaseException] = []
        self.events = Events()
        self.heard: list[TargetPaused] = []
        self.events.subscribe(self.heard.append)
        self.breaker = Breaker("t", self.events, self.flushed.append)
        self.sent = 0

    async def ask(self, outcome, after: float = 0.0):
        async def service(call: Call) -> Reply:
            self.sent += 1
            await asyncio.sleep(after)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        try:
            return await self.breaker(Call("x"), service)
        except Exception as error:
            return error


@pytest.mark.parametrize(
    "cause",
    [
        AuthenticationError("wrong key", status=401),
        QuotaExhausted("empty", status=429),
        InvalidRequest("no such model", status=404, code="model_not_found"),
    ],
)
def test_a_failure_that_every_call_would_share_stops_the_target(cause):
    """Ten thousand calls would each be refused for the same wrong key."""

    async def main() -> None:
        target = Target()
        assert await target.ask(cause) is cause
        for _ in range(3):
            error = await target.ask(FINE)
            assert isinstance(error, CircuitOpen)
            assert str(cause) in str(error)
            assert error.__cause__ is cause
        await asyncio.sleep(100_000)
        assert isinstance(await target.ask(FINE), CircuitOpen)
        assert target.sent == 1
        assert isinstance(target.flushed[0], CircuitOpen)
        assert [(event.until, event.reason) for event in target.heard] == [(None, str(cause))]

    run_virtual(main(), limit=200_000)


@pytest.mark.parametrize("error", [ServerError("500", status=500), RateLimited("429", status=429), InvalidRequest("x")])
def test_other_failures_stop_nothing(error):
    """One bad row would end the calls to a healthy provider."""

    async def main() -> None:
        target = Target()
        for _ in range(20):
            assert await target.ask(error) is error
        assert await target.ask(FINE) is FINE
        assert not target.flushed
        assert not target.heard

    run_virtual(main())


def test_an_answer_that_was_under_way_does_not_undo_the_stop():
    """An empty account would be asked again for every answer that was still coming in."""

    async def main() -> None:
        target = Target()
        slow = asyncio.create_task(target.ask(FINE, after=5))
        await asyncio.sleep(1)
        await target.ask(QuotaExhausted("empty", status=429))
        assert await slow is FINE
        assert isinstance(await target.ask(FINE), CircuitOpen)
        assert target.sent == 2

    run_virtual(main())


def test_a_host_that_was_never_reached_is_given_up():
    """A typo in the address would cost every call all its attempts."""

    async def main() -> None:
        target = Target()
        for _ in range(UNREACHABLE):
            assert isinstance(await target.ask(ConnectError("refused")), ConnectError)
        assert isinstance(await target.ask(FINE), CircuitOpen)
        assert len(target.flushed) == 1
        assert target.sent == UNREACHABLE

    run_virtual(main())


def test_a_host_that_was_given_up_is_tried_by_one_call_now_and_then():
    """A server that is started late would never be found; or all calls rush at one that is still down."""

    async def main() -> None:
        target = Target()
        for _ in range(UNREACHABLE):
            await target.ask(ConnectError("refused"))
        await asyncio.sleep(RETRY_EVERY)
        errors = await asyncio.gather(*(target.ask(ConnectError("refused"), after=1) for _ in range(50)))
        assert sum(isinstance(error, ConnectError) for error in errors) == 1
        assert isinstance(await target.ask(FINE), CircuitOpen)
        await asyncio.sleep(RETRY_EVERY)
        assert await target.ask(FINE) is FINE
        assert await target.ask(FINE) is FINE

    run_virtual(main())


@pytest.mark.parametrize("answer", [FINE, ServerError("500", status=500)])
def test_a_host_that_has_answered_is_never_given_up_for_refused_connections(answer):
    """A provider's restart would fail every call that a retry would have saved."""

    async def main() -> None:
        target = Target()
        await target.ask(answer)
        for _ in range(50):
            assert isinstance(await target.ask(ConnectError("refused")), ConnectError)
        assert await target.ask(FINE) is FINE

    run_virtual(main())


def test_cancellation_says_nothing_of_the_target():
    """Ctrl-C on one call would stop the others' target."""

    async def main() -> None:
        target = Target()
        for _ in range(UNREACHABLE * 2):
            task = asyncio.create_task(target.ask(FINE, after=10))
            await asyncio.sleep(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await target.ask(FINE) is FINE

    run_virtual(main())


def test_its_repr_shows_its_state():
    """A stuck program could not be looked into."""

    async def main() -> None:
        target = Target()
        assert repr(target.breaker) == "Breaker(t, closed)"
        await target.ask(AuthenticationError("no", status=401))
        assert repr(target.breaker) == "Breaker(t, stopped)"

    run_virtual(main())
