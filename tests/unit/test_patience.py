"""A loop that was blocked hears what has arrived before it gives anything up."""

from __future__ import annotations

import asyncio

import pytest

from flatout import AttemptTimeout, Call, DeadlineExceeded, Limits
from flatout.journey import Journey, current_journey, set_journey
from flatout.layer import Request, Response
from flatout.layers.deadline import Deadline
from flatout.tasks.patience import TURNS, Patience
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport, run_virtual
from tests.support.scripted_wire import client


def block(seconds: float) -> None:
    """What a computation does that never awaits: time passes, and nothing is heard."""
    asyncio.get_running_loop()._move(seconds)


class Blocked(SimulatedTransport):
    """The program blocks the event loop while answers arrive, and what has arrived takes some turns to be read."""

    async def send(self, request: Request) -> Response:
        answer = await super().send(request)
        for _ in range(TURNS // 2):
            await asyncio.sleep(0)
        return answer


@pytest.mark.parametrize("bound", [{"timeout": 10.0}, {"deadline": 10.0}, {"timeout": 5.0}])
def test_a_blocked_loop_times_out_no_call_that_was_answered(bound):
    """Calls that were answered, and paid for, would be thrown away and sent once more."""
    model = ProviderModel(ProviderSettings(latency=2.0, latency_p99=2.1))

    async def main() -> None:
        async with client(Blocked(model), retries=0, limits=Limits(concurrency=50), **bound) as made:
            await made.call("the first call to a target goes alone")
            asyncio.get_running_loop().call_later(1.0, block, 60.0)
            results = await made.gather([f"{n}" for n in range(50)])
            assert [result.error for result in results if not result.ok] == []

    run_virtual(main())
    assert model.stats()["received"] == 51


def test_a_blocked_loop_ends_no_answer_in_pieces_that_has_come():
    """With a bound on the silence between pieces, every pause of the program would cut off all answers."""
    heard: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        piece = asyncio.Event()
        loop.call_later(1.0, block, 60.0)
        loop.call_later(2.0, piece.set)
        with Patience(loop.time() + 5.0) as silence:
            await piece.wait()
            heard.append(loop.time())
            silence.reschedule(loop.time() + 5.0)
            await asyncio.sleep(4.0)
            heard.append(loop.time())

    run_virtual(main())
    assert heard == pytest.approx([61.0, 65.0], abs=0.01)


def test_a_call_that_is_not_answered_ends_at_its_time_and_after_a_pause_at_once():
    """A call would outlive its timeout, for as long as the loop was blocked or for ever."""

    async def main() -> None:
        model = ProviderModel(ProviderSettings(latency=1_000.0))
        for blocked, ends in ((0.0, 10.0), (60.0, 61.0)):
            loop = asyncio.get_running_loop()
            loop.call_later(1.0, block, blocked)
            async with client(Blocked(model), retries=0, timeout=10.0) as made:
                began = loop.time()
                result = await made.result("x")
                assert isinstance(result.error, AttemptTimeout)
                assert loop.time() - began == pytest.approx(ends, abs=0.01)

    run_virtual(main())


def test_a_call_that_only_waits_is_not_sent_any_more_when_its_deadline_has_passed():
    """After a pause of the program, calls would be sent and paid for, and their answers thrown away."""

    async def main() -> None:
        async def service(_call):
            for _ in range(5):
                await asyncio.sleep(3.0)
            journey.attempt.in_flight = True

        journey = Journey(0.0)
        set_journey(journey)
        asyncio.get_running_loop().call_later(13.0, block, 10.0)
        with pytest.raises(DeadlineExceeded):
            await Deadline(14.0)(Call("x"), service)
        assert not current_journey().attempt.in_flight

    run_virtual(main())


def test_it_ends_nothing_after_it_was_left():
    """The task's next await would be cancelled, out of the blue."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with Patience(loop.time() + 1.0) as scope:
            await asyncio.sleep(0.5)
        await asyncio.sleep(2.0)
        with pytest.raises(TimeoutError), Patience(loop.time()) as scope:
            await asyncio.sleep(2.0)
        assert scope.expired()
        with Patience(None):
            await asyncio.sleep(1_000.0)

    run_virtual(main())


@pytest.mark.parametrize("first", ["cancelled", "due"])
def test_who_cancels_the_task_wins_over_its_timeout(first):
    """Ctrl-C would end as one call's timeout, and the program go on."""

    async def main() -> None:
        async def work() -> None:
            with Patience(asyncio.get_running_loop().time() + 1.0):
                await asyncio.sleep(10.0)

        task = asyncio.create_task(work())
        loop = asyncio.get_running_loop()
        loop.call_at(loop.time() + (1.0 if first == "cancelled" else 1.0 + TURNS * 1e-6), task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    run_virtual(main())


def test_an_error_of_the_code_inside_passes_and_the_task_goes_on():
    """A refusal that comes with the timeout would be lost, or the next await be cancelled."""

    async def main() -> None:
        async def refused(scope: Patience) -> None:
            with scope:
                try:
                    await asyncio.sleep(10.0)
                except asyncio.CancelledError:
                    raise KeyError("mine") from None

        scope = Patience(asyncio.get_running_loop().time() + 1.0)
        with pytest.raises(KeyError):
            await refused(scope)
        assert scope.expired()
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(10.0)

    run_virtual(main())
