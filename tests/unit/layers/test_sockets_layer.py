"""No more requests than there can be connections."""

from __future__ import annotations

import asyncio
import logging

import pytest

from flatout import AttemptTimeout, Call, Limits, Reply
from flatout.events import Events, InFlightCapped
from flatout.journey import Journey, set_journey
from flatout.layers.sockets import Sockets
from flatout.testing import run_virtual
from tests.support.scripted_wire import Wire, client


class Narrow(Wire):
    """A transport that can carry three requests at once."""

    def __init__(self, *answer) -> None:
        super().__init__(*answer)
        self.asked = 0

    def capacity(self) -> int:
        self.asked += 1
        return 3


def test_calls_wait_for_a_connection_unsent_and_their_time_has_not_begun():
    """Beyond the limit on open files every call would fail, or time out while it waits."""
    wire = Narrow(lambda prompt: 4.0)

    async def main() -> None:
        async with client(wire, limits=Limits(concurrency=100), retries=0, timeout=5.0) as made:
            results = await made.gather([Call(f"{n}", model=f"m{n % 2}") for n in range(30)])
            assert all(result.ok for result in results)
            assert max(result.waits.get("sockets", 0.0) for result in results) == pytest.approx(36.0, abs=0.1)

    run_virtual(main())
    assert wire.most == 3
    assert wire.asked == 1


def test_a_cap_is_said_once_and_only_where_it_holds_calls_up(caplog):
    """Nobody would know why 500 in flight were asked for and 200 are; or every run be warned of nothing."""
    heard: list[InFlightCapped] = []

    async def main(calls: int) -> None:
        async with client(Narrow(lambda prompt: 1.0), limits=Limits(concurrency=100)) as made:
            made._engine.events.subscribe(lambda event: heard.append(event) if type(event) is InFlightCapped else None)
            await made.gather([f"{n}" for n in range(calls)])

    with caplog.at_level(logging.WARNING):
        run_virtual(main(3))
        assert heard == []
        assert caplog.records == []
        run_virtual(main(30))
    assert [event.most for event in heard] == [3]
    assert [record.message for record in caplog.records] == [
        "at most 3 requests at once: this process may not open more files (ulimit -n)"
    ]


def test_a_connection_is_given_back_on_any_exit():
    """After some timeouts and cancelled calls, nothing would be sent any more."""
    wire = Narrow(lambda prompt: 100.0 if prompt == "slow" else 1.0)

    async def main() -> None:
        async with client(wire, limits=Limits(concurrency=100), retries=0) as made:
            results = await made.gather([Call("slow", timeout=2.0)] * 7)
            assert all(isinstance(result.error, AttemptTimeout) for result in results)
            tasks = [asyncio.create_task(made.call("slow")) for _ in range(7)]
            await asyncio.sleep(1.0)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert all(result.ok for result in await made.gather(["fine"] * 7))

    run_virtual(main())
    assert wire.most == 3


@pytest.mark.parametrize("given", [False, True])
def test_a_call_that_is_cancelled_while_it_waits_keeps_no_connection(given):
    """One connection fewer would be used from then on, and with the last of them nothing more be sent."""

    async def main() -> None:
        layer, sent = Sockets(1, Events()), []
        answers = {name: asyncio.get_running_loop().create_future() for name in ("first", "second", "third")}

        async def send(call: Call) -> Reply:
            sent.append(call.prompt)
            await answers[call.prompt]
            return Reply(text="x")

        async def ask(name: str) -> None:
            set_journey(Journey(0.0))
            await layer(Call(name), send)
            if given and name == "first":  # the second has been told that it may go, and has not run since
                tasks[1].cancel()

        tasks = [asyncio.create_task(ask(name)) for name in answers]
        await asyncio.sleep(0)
        if not given:
            tasks[1].cancel()
            await asyncio.sleep(0)
        answers["first"].set_result(None)
        answers["third"].set_result(None)
        await asyncio.wait(tasks)
        assert (sent, tasks[1].cancelled()) == (["first", "third"], True)
        assert layer._free == 1

    run_virtual(main())
