"""Sends an attempt of a route, and a second one if the first is slow."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from flatout.errors import CallError
from flatout.journey import Journey, Passage, current_journey, set_journey
from flatout.layer import Permit
from flatout.policies.routing import Hedging, Lane
from flatout.values import Call, Reply

SLOWER = "Hedged"
"""Why a target was left whose answer came second; see `flatout.values.route.Leg`."""


async def send(call: Call, lane: Lane, others: Sequence[Lane] = ()) -> Reply:
    """Send an attempt to a lane, and note it in the call's passage."""
    journey = current_journey()
    passage, before = journey.passage, journey.account.so_far()
    if passage is None:
        return await lane.send(call)
    try:
        reply = await lane.send(call)
    except BaseException as error:
        answer = error.reply if isinstance(error, CallError) else None
        left = SLOWER if isinstance(error, asyncio.CancelledError) else type(error).__name__
        passage.note(lane.target, journey.account, before, None if answer is None else answer.usage, left)
        raise
    passage.note(lane.target, journey.account, before, reply.usage)
    return reply


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
            return await send(call, lane)
        self._hedging.sent()
        began = loop.time()
        tasks = [loop.create_task(send(call, lane))]
        try:
            await asyncio.wait(tasks, timeout=self._hedging.after())
            if (
                not tasks[0].done()
                and journey.attempt.in_flight
                and (second := self._second(call, [*others, lane], lane, journey)) is not None
            ):
                tasks.append(second)
            return await _first_of(tasks)
        finally:
            self._hedging.observe(loop.time() - began)
            await _end(tasks)

    def _second(self, call: Call, lanes: Sequence[Lane], first: Lane, journey: Journey) -> asyncio.Task[Reply] | None:
        """Begin a second attempt, if one may go at once."""
        for lane in sorted(lanes, key=lambda each: each is first):
            permit = lane.queue.take(call) if lane.service.stop is None else None
            if permit is None:
                continue
            if self._hedging.take():
                return asyncio.get_running_loop().create_task(_beside(call, lane, journey, permit))
            lane.queue.give_back(permit)
            return None
        return None


async def _beside(call: Call, lane: Lane, journey: Journey, permit: Permit) -> Reply:
    """Send an attempt of a call while another one is in flight. What it collects is added to the call's journey."""
    own = Journey(journey.started, tells_cost=journey.tells_cost)
    own.deadline_at, own.notes, own.permit = journey.deadline_at, journey.notes, permit
    own.passage, before = Passage(), journey.attempts
    own.account.attempts = before  # so it is noted under the next number
    set_journey(own)
    try:
        return await send(call, lane)
    finally:
        own.give_back()
        own.account.attempts -= before
        journey.account.add(own.account)
        if journey.passage is not None:
            journey.passage.extend(own.passage)


async def _first_of(tasks: Sequence[asyncio.Task[Reply]]) -> Reply:
    """The first answer; the first attempt's error if there is none."""
    running = set(tasks)
    while running:
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled() and task.exception() is None:
                return task.result()
    return await tasks[0]


async def _end(tasks: Sequence[asyncio.Task[Reply]]) -> None:
    """Cancel what is still in flight, and wait for its end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
