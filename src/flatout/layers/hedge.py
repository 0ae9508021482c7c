"""Sends a second attempt of a call if the first one is slow."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from flatout.journey import Journey, current_journey, set_journey
from flatout.layer import Permit
from flatout.policies.routing import Hedging, Lane
from flatout.values import Call, Reply


class Hedge:
    """Sends a second attempt if the first is slower than most were lately. The answer that comes first counts.

    The second attempt goes to another target if one has a permit now, else to the same one, else nowhere. It never
    waits. The slower attempt is cancelled; what it cost is unknown.

    Args:
        share: the share of requests that may be second attempts.
    """

    def __init__(self, share: float) -> None:
        self._hedging = Hedging(share)

    async def __call__(self, call: Call, lane: Lane, others: Sequence[Lane]) -> Reply:
        journey, loop = current_journey(), asyncio.get_running_loop()
        if journey.sink is not None or journey.attempts:
            return await lane.send(call)
        self._hedging.sent()
        began = loop.time()
        tasks = [loop.create_task(_sent(call, lane, journey))]
        beside: Journey | None = None
        try:
            await asyncio.wait(tasks, timeout=self._hedging.after())
            if not tasks[0].done() and journey.attempt.in_flight:
                second = self._second(call, [*others, lane], lane, loop)
                if second is not None:
                    beside = journey.beside(second.permit)
                    tasks.append(loop.create_task(_sent(call, second.lane, beside)))
            reply = await _first_of(tasks, journey)
            self._hedging.observe(loop.time() - began)
            return reply
        finally:
            try:
                await _end(tasks)
            finally:
                journey.attempt.undecided = False
                if beside is not None:
                    beside.give_back()  # if it was cancelled before it began
                    journey.join(beside)

    def _second(
        self, call: Call, lanes: Sequence[Lane], first: Lane, loop: asyncio.AbstractEventLoop
    ) -> _Second | None:
        """Where a second attempt may go at once, with its permit."""
        for lane in sorted(lanes, key=lambda each: each is first):
            permit = lane.queue.take(call, loop) if lane.service.stop is None else None
            if permit is None:
                continue
            if self._hedging.take():
                return _Second(lane, permit)
            lane.queue.give_back(permit)
            return None
        return None


class _Second(NamedTuple):
    """Where a second attempt goes."""

    lane: Lane
    permit: Permit


async def _sent(call: Call, lane: Lane, journey: Journey) -> Reply:
    """Send an attempt, with a journey that may be its own."""
    set_journey(journey)
    try:
        return await lane.send(call)
    finally:
        journey.attempt.undecided = True  # else a deadline that comes now would take its answer


async def _first_of(tasks: Sequence[asyncio.Task[Reply]], journey: Journey) -> Reply:
    """The first answer; the first attempt's error if there is none."""
    running = set(tasks)
    while running:
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled() and task.exception() is None:
                return task.result()
        journey.attempt.undecided = bool(running)
    return await tasks[0]


async def _end(tasks: Sequence[asyncio.Task[Reply]]) -> None:
    """Cancel what is still in flight, and wait for its end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
