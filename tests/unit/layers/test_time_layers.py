"""Deadline and timeout: the two bounds of a call, and the order in which they hold."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout import AttemptTimeout, Call, DeadlineExceeded, Reply, ServerError
from flatout.journey import Journey, current_journey, set_journey
from flatout.layers.deadline import Deadline
from flatout.layers.timeout import Timeout
from flatout.stack import compose
from flatout.tasks.patience import FAR
from flatout.tasks.wheel import SLOT
from flatout.testing import run_virtual
from tests.support.scripted_wire import Wire, client

FINE = Reply(text="fine")


def after(seconds: float):
    async def service(call: Call) -> Reply:
        await asyncio.sleep(seconds)
        return FINE

    return service


def ended(layer, service, call=Call("x"), started=0.0):  # noqa: B008 - a frozen value
    """The reply or the error, and when it came."""

    async def main():
        set_journey(Journey(started))
        try:
            outcome = await layer(call, service)
        except Exception as error:
            outcome = error
        return outcome, asyncio.get_running_loop().time()

    return run_virtual(main())


@settings(max_examples=50, deadline=None)
@given(st.floats(0.1, 100), st.none() | st.floats(0.1, 100), st.floats(0, 300))
def test_each_bound_holds_to_the_second_and_the_calls_own_wins(usual, own, takes):
    """A call would hang, or be cut short."""
    bound = own or usual
    for layer, call, kind in (
        (Deadline(usual), Call("x", deadline=own), DeadlineExceeded),
        (Timeout(usual), Call("x", timeout=own), AttemptTimeout),
    ):
        late = SLOT if bound > FAR else 0.001
        outcome, at = ended(layer, after(takes), call)
        assert min(bound, takes) - 0.001 <= at <= min(bound + late, takes) + 0.001
        if takes < bound - 0.001:
            assert outcome is FINE
        elif takes > bound + late + 0.001:
            assert isinstance(outcome, kind)


def test_a_deadline_counts_from_the_calls_start():
    """Time spent before the stack, in a runner's queue, would not count."""
    outcome, at = ended(Deadline(10.0), after(50), started=-6.0)
    assert isinstance(outcome, DeadlineExceeded)
    assert at == pytest.approx(4, abs=0.001)


def test_a_deadline_names_the_last_failure():
    """The user would hear that time is up, and not why."""
    last = ServerError("the server failed", status=500)

    async def service(call: Call) -> Reply:
        current_journey().last_error = last
        current_journey().account.attempts = 3
        await asyncio.sleep(100)
        return FINE

    outcome, _ = ended(Deadline(5.0), service)
    assert outcome.__cause__ is last
    assert outcome.attempts == 3
    assert "the server failed" in str(outcome)


@pytest.mark.parametrize("layer", [Deadline(5.0), Timeout(5.0)])
def test_somebody_elses_timeout_is_not_taken_for_its_own(layer):
    """A TimeoutError from a tool would be reported as the provider's slowness."""
    mine = TimeoutError("mine")

    async def service(call: Call) -> Reply:
        raise mine

    assert ended(layer, service)[0] is mine


@pytest.mark.parametrize("layer", [Deadline(5.0), Timeout(5.0)])
def test_cancellation_is_not_swallowed(layer):
    """Ctrl-C would end as one call's failure."""

    async def main() -> None:
        set_journey(Journey(0.0))
        task = asyncio.create_task(layer(Call("x"), after(100)))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_virtual(main())


def test_the_attempts_bound_ends_the_attempt_and_the_calls_bound_the_call():
    """A timeout would end the whole call, or a deadline only one attempt."""

    async def main() -> None:
        for deadline, timeout, kind, when in ((9.0, 4.0, AttemptTimeout, 4.0), (3.0, 4.0, DeadlineExceeded, 3.0)):
            began = asyncio.get_running_loop().time()
            set_journey(Journey(began))
            with pytest.raises(kind):
                await compose([Deadline(deadline), Timeout(timeout)], after(100))(Call("x"))
            assert asyncio.get_running_loop().time() - began == pytest.approx(when, abs=0.001)

    run_virtual(main())


def test_an_attempt_that_timed_out_is_in_flight_no_more(tmp_path: Path) -> None:
    """A row that waits for its next attempt would be shown as on the wire for longer than its timeout."""
    left = iter([100.0, "yes"])

    async def main() -> None:
        async with client(Wire(lambda _: next(left)), timeout=5.0) as made:
            await made.gather(["Who?"], store=tmp_path / "a.flatout")

    run_virtual(main())
    with closing(sqlite3.connect(tmp_path / "a.flatout")) as connection:
        assert connection.execute("SELECT attempt, failed FROM attempts").fetchall() == [(1, 1), (2, 0)]
