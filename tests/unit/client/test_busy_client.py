"""A computer that is busy, or far from its server, still hears of a refusal before it has sent hundreds more."""

from __future__ import annotations

import asyncio
import math

from flatout import Limits
from flatout.admission import AT_A_TIME
from flatout.journey import current_journey
from flatout.layer import Request, Response
from flatout.policies.pacing.way import OPENING
from flatout.testing import VirtualLoop, run_virtual
from flatout.testing._limits import Bucket
from tests.support.scripted_wire import client, completion, refusal


class Distant:
    """A bucket of 600 requests a minute behind a wire on which things take their time.

    Args:
        work: seconds of the event loop that each request costs, and half as many each answer.
        connect: seconds that a connection takes; 64 are opened at a time.
    """

    def __init__(self, *, work: float = 0.0, connect: float = 0.0) -> None:
        self._work = work
        self._connect = connect
        self._bucket = Bucket(600, burst=60.0, full=True)
        self._gate = asyncio.Semaphore(64)
        self.idle = 0
        self.refused = 0
        self.longest = 0.0  # seconds that a request waited for its connection

    async def send(self, request: Request) -> Response:
        spend(self._work)
        if self.idle:
            self.idle -= 1
        elif self._connect:
            await self._open()
        try:
            return await self._exchange()
        finally:
            self.idle += 1

    async def close(self) -> None:
        pass

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        began, opens = loop.time(), current_journey().attempt.opens
        opens(1)
        try:
            async with self._gate:
                await asyncio.sleep(self._connect)
        finally:
            opens(-1)
        self.longest = max(self.longest, loop.time() - began)

    async def _exchange(self) -> Response:
        now = asyncio.get_running_loop().time()
        if (wait := self._bucket.wait(now, 1)) > 0:
            self.refused += 1
            await asyncio.sleep(0.03)
            answer = refusal(429, retry_after=f"{math.ceil(wait)}")
        else:
            self._bucket.take(now, 1)
            await asyncio.sleep(5.0)
            answer = completion("x")
        for _ in range(2):  # what has arrived is read, and then somebody is told
            await asyncio.sleep(0)
        spend(self._work / 2)
        return answer


def spend(seconds: float) -> None:
    """Keep the event loop busy."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop._virtual_now += seconds


def refused(wire: Distant) -> int:
    """How many of 800 calls a server refuses whose limit is not known."""

    async def main() -> None:
        async with client(wire) as made:
            assert all(result.ok for result in await made.gather([f"{n}" for n in range(800)]))

    run_virtual(main())
    return wire.refused


def test_a_busy_computer_hears_of_a_refusal_soon():
    """A thousand calls at once would be on the wire before the first refusal is read, and most would be refused."""
    assert refused(Distant(work=0.004)) <= 2 * refused(Distant())


def test_what_waits_for_a_connection_does_not_count_as_sent():
    """Hundreds of calls would wait for connections to a distant server, and be sent after its first refusal."""
    wire = Distant(connect=0.4)
    assert refused(wire) <= 5 * refused(Distant())  # 36 times as many where they count
    assert wire.longest < 1.0


def test_a_connection_that_is_there_is_used_while_others_are_opened():
    """A server that takes no more connections for a while would get nothing over those that it has."""
    answered = []

    class Stuck(Distant):
        async def _open(self) -> None:
            if self.opened < 10:
                self.opened += 1
                return
            current_journey().attempt.opens(1)
            await asyncio.Event().wait()

        async def _exchange(self) -> Response:
            await asyncio.sleep(0.1)
            answered.append(1)
            return completion("x")

    wire = Stuck(connect=1.0)
    wire.opened = 0

    async def main() -> None:
        async with client(wire, limits=Limits(concurrency=2_000)) as made:
            calls = asyncio.gather(*(made.result(f"{n}") for n in range(1_000)))
            await asyncio.sleep(60.0)
            calls.cancel()
            await asyncio.gather(calls, return_exceptions=True)

    run_virtual(main())
    assert len(answered) > 1_000 - 10 - 2 * OPENING


def test_the_loop_has_a_turn_between_a_few_attempts():
    """Whatever else the program does would stand still until all calls are sent."""
    turns: list[int] = []

    async def main() -> None:
        loop, turn = asyncio.get_running_loop(), 0

        def count() -> None:
            nonlocal turn
            turn += 1
            loop.call_soon(count)

        class Wire(Distant):
            async def send(self, request: Request) -> Response:
                turns.append(turn)
                await asyncio.sleep(1.0)
                return completion("x")

        async with client(Wire(), limits=Limits(concurrency=500)) as made:
            count()
            await made.gather([f"{n}" for n in range(500)])

    run_virtual(main())
    assert max(turns.count(turn) for turn in set(turns)) <= AT_A_TIME
