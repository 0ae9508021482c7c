"""Sends each attempt to a target: the only one, or the one of several that can take it first.

The targets of a route have no common queue. A call that no target can take at once stands in the queues of all of them,
and leaves the others when one lets it go. So each queue stays first in, first out; a target that is paused holds up no
call that another can take; and a call that only one target can take waits behind no other target's calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from flatout.errors import CallError, CircuitOpen, DeadlineExceeded, InvalidRequest
from flatout.journey import Journey, Passage, current_journey
from flatout.layer import Away, CallNext, Elsewhere, Permit, Place, Queue
from flatout.policies.failures.decision import Decision, decide, may_have_billed
from flatout.policies.routing import DOWN_FOR, PAUSED_FOR, Lane, cause, is_worth, long_away
from flatout.values import Call, Reply, Route

if TYPE_CHECKING:
    from flatout.policies.failures.service import Service

LOOK = 5.0
"""Seconds between two looks whether waiting has become pointless, or whether a stopped target is due for a call."""

Attempt = Callable[[Call, Lane, Sequence[Lane]], Awaitable[Reply]]
"""Sends an attempt to a lane, or also to one of the others: a `flatout.layers.hedge.Hedge`."""


class Router:
    """Sends attempts by their calls' models.

    What sends a model's attempts is looked for once. The calls that wait for it go on in order of arrival, all in one
    turn of the event loop, and a call that arrives meanwhile goes behind them.

    Args:
        find: what sends the attempts of a call's model; awaited for the first call of each model.
    """

    def __init__(self, find: Callable[[Call], Awaitable[CallNext]]) -> None:
        self._find = find
        self._found: dict[str | None, CallNext] = {}  # by the model's name in the call, once no call waits for it
        self._firsts: dict[str | None, _Firsts] = {}

    def __call__(self, call: Call) -> Awaitable[Reply]:
        send = self._found.get(call.model)
        return send(call) if send is not None else self._first(call)

    async def _first(self, call: Call) -> Reply:
        firsts = self._firsts.setdefault(call.model, _Firsts())
        firsts.behind += 1
        try:
            send = await self._sought(call, firsts)
        finally:
            firsts.behind -= 1
            if not firsts.behind:
                del self._firsts[call.model]
                if firsts.send is not None:
                    self._found[call.model] = firsts.send
        return await send(call)

    async def _sought(self, call: Call, firsts: _Firsts) -> CallNext:
        """What sends a call's attempts. If the call that looks for it fails or is cancelled, the next one looks."""
        if firsts.send is not None:  # those that waited for it are awake, and have their turn first
            await asyncio.sleep(0)
        while firsts.send is None:
            if firsts.looking is not None:
                await firsts.looking.wait()
                continue
            firsts.looking = asyncio.Event()
            try:
                firsts.send = await self._find(call)
            finally:
                firsts.looking.set()
                firsts.looking = None
        return firsts.send


class _Firsts:
    """The first calls of a model, until what sends them is found and all of them have it.

    Attributes:
        behind: how many.
        send: what sends their attempts, once it is found.
        looking: set when the call that looks for it has found it, or failed to.
    """

    __slots__ = ("behind", "looking", "send")

    def __init__(self) -> None:
        self.behind = 0
        self.send: CallNext | None = None
        self.looking: asyncio.Event | None = None


class Routed:
    """Sends attempts to the targets of one route. It belongs to the event loop in which it is made.

    Args:
        lanes: the ways to its targets, in the order of preference.
        route: the route.
        hedge: sends an attempt, and perhaps a second one; None to send just one.
    """

    def __init__(self, lanes: Sequence[Lane], route: Route, hedge: Attempt | None = None) -> None:
        self._lanes = lanes
        self._loop = asyncio.get_running_loop()
        self._route = route
        self._spreads = route.order == "spread"
        self._sends = _Timed(hedge) if self._spreads else hedge
        self._waiting: dict[_Turn, Journey] = {}  # in order of arrival
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"Routed({self._route})"

    async def __call__(self, call: Call) -> Reply:
        journey = current_journey()
        passage = journey.passage
        if passage is None:
            passage = journey.passage = Passage()
        lanes = self._lanes
        while True:
            open_ = self._open(lanes, passage)
            lane = self._taken(call, open_, journey)
            if lane is None and (lane := await self._waited(call, open_, journey)) is None:
                continue
            try:
                return await (lane.send(call) if self._sends is None else self._sends(call, lane, lanes))
            except CallError as error:
                passage.stay = lane.target if self._stays(error, journey) else ""
                if len(lanes) == 1 or journey.delivered or not _others_may(error, lane):
                    raise
                lanes = [other for other in lanes if other is not lane]
            finally:
                if journey.permit is not None:  # a layer above the limiter refused the attempt
                    journey.give_back()

    def _stays(self, error: CallError, journey: Journey) -> bool:
        """Whether the next attempt goes to the same target.

        It does if this one may have been executed, so that no work is done at two places. It does not if the target is
        at fault, or if the route names a fallback for the failure.
        """
        excused = journey.trouble is not None and journey.trouble.excused
        return may_have_billed(error) and not excused and cause(error) not in self._route.fallback

    def _open(self, lanes: Sequence[Lane], passage: Passage) -> Sequence[Lane]:
        """The lanes that the next attempt may take, in the order in which they are tried; see `_chosen`."""
        if self._spreads or passage.stay or passage.resting:
            return self._chosen(lanes, passage)
        for lane in lanes:
            if lane.service.stop is not None:
                return self._chosen(lanes, passage)
        return lanes

    def _chosen(self, lanes: Sequence[Lane], passage: Passage) -> Sequence[Lane]:
        """The lanes that the next attempt may take, where the route's order alone does not say it.

        Raises:
            CircuitOpen: all targets are stopped.
        """
        now = self._loop.time()
        open_ = [lane for lane in lanes if lane.is_open(now)]
        if not open_:
            raise self._refusal()
        open_ = [lane for lane in open_ if passage.resting.get(lane.target, now) <= now]
        if passage.stay:
            same = [lane for lane in open_ if lane.target == passage.stay]
            away = same[0].queue.away(now) if same else None
            if same and (away is None or (not away.down_for and away.paused_for < PAUSED_FOR)):
                return same
        if self._spreads:
            open_ = [lane for lane in open_ if is_worth(lane, open_, now)]
            open_.sort(key=lambda lane: lane.load(now))
        open_.sort(key=lambda lane: lane.service.stop is None)  # first the one that it is time to look at
        return open_

    def _taken(self, call: Call, lanes: Sequence[Lane], journey: Journey) -> Lane | None:
        """The first lane that gives a permit at once. The permit is left in the journey."""
        for lane in lanes:
            if (permit := lane.queue.take(call, self._loop)) is not None:
                journey.permit = permit
                return lane
        return None

    def _refusal(self) -> CircuitOpen:
        """The error of a call for which no target is left."""
        stops = {str(lane.service.stop): lane.service.stop for lane in self._lanes if lane.service.stop is not None}
        refusal = CircuitOpen(f"not sent: the targets of {self._route} are stopped: {'; '.join(stops)}")
        refusal.__cause__ = next(iter(stops.values()), None)
        return refusal

    async def _waited(self, call: Call, lanes: Sequence[Lane], journey: Journey) -> Lane | None:
        """Wait until a lane gives a permit; None if the choice is to be made anew, because targets were stopped."""
        if not lanes:
            await self._rest(journey)
            return None
        self._check_away(lanes, journey, self._loop.time())
        if _all_stopped(lanes):
            return lanes[0]  # the look at a stopped target waits for its turn in the target's own queue
        return await self._wait(_Turn(call, lanes, journey, self._loop, chooses=self._spreads), journey)

    async def _rest(self, journey: Journey) -> None:
        """Wait until the first target may be asked again by this call, which all of them have refused."""
        resting, now = journey.passage.resting if journey.passage is not None else {}, self._loop.time()
        seconds = min((until - now for until in resting.values() if until > now), default=0.0)
        self._check([Away(0.0, False, seconds, seconds)], journey, now)
        journey.account.waited("backoff", seconds)
        await asyncio.sleep(seconds)

    def _check_away(self, lanes: Sequence[Lane], journey: Journey, now: float) -> None:
        """Check all targets that a call may go to; see `_check`."""
        away: list[Away] = []
        for lane in lanes:
            if (found := lane.queue.away(now)) is None:
                return
            away.append(found)
        self._check(away, journey, now)

    def _check(self, away: Sequence[Away], journey: Journey, now: float) -> None:
        """Refuse to wait where that is pointless, or where the route names another model for it.

        Raises:
            DeadlineExceeded: all targets are paused until after the call's deadline.
            Elsewhere: all are away for so long that the fallback takes the call.
        """
        if why := long_away(away) & self._route.fallback.keys():
            long = f"down for {DOWN_FOR:.0f} s" if "down" in why else f"paused for {PAUSED_FOR:.0f} s more"
            raise Elsewhere(f"not sent: all targets of {self._route} are {long}", min(why))
        soonest = min(each.surely_for for each in away)
        if soonest > 0.0 and journey.deadline_at is not None and now + soonest >= journey.deadline_at:
            raise DeadlineExceeded(
                f"all targets of {self._route} are paused: the first one is back in {soonest:.0f} s, past the deadline",
                attempts=journey.attempts,
            ) from journey.last_error

    async def _wait(self, turn: _Turn, journey: Journey) -> Lane | None:
        """Wait in the queues of all lanes for the first permit; None if it is time to choose anew."""
        self._waiting[turn] = journey
        if self._timer is None:
            self._timer = self._loop.call_later(LOOK, self._look)
        try:
            journey.permit = permit = await turn.admitted
            return None if permit is None else turn.lane(permit)
        except asyncio.CancelledError:
            if (permit := turn.permit()) is not None:  # admitted and cancelled in one turn of the loop
                permit.queue.give_back(permit)
            raise
        finally:
            del self._waiting[turn]
            for held, seconds in turn.end().items():
                journey.account.waited(held, seconds)

    def _look(self) -> None:
        """End waits that have become pointless, and send the first call to look at a stopped target."""
        now = self._loop.time()
        self._timer = self._loop.call_later(LOOK, self._look) if self._waiting else None
        due = any(lane.service.stop is not None and lane.service.due(now) for lane in self._lanes)
        if due and self._waiting:
            next(iter(self._waiting)).choose_anew()
        for turn, journey in list(self._waiting.items()):
            turn.join()
            running = [lane for lane in turn.lanes if lane.service.stop is None]
            try:
                if running:
                    self._check_away(running, journey, now)
            except CallError as error:
                turn.fail(error)


class _Turn:
    """A call's places in the queues of several lanes. Lanes that share their limits share a queue, and a place in it.

    Attributes:
        lanes: the lanes that it may take.
        chooses: whether it goes only where it is answered about as soon as elsewhere.
        admitted: becomes the permit of the first queue that lets the call go; None if the choice is to be made anew.
    """

    __slots__ = ("_call", "_chooses", "_journey", "_places", "_refusal", "admitted", "lanes")

    def __init__(
        self, call: Call, lanes: Sequence[Lane], journey: Journey, loop: asyncio.AbstractEventLoop, *, chooses: bool
    ) -> None:
        self.lanes = lanes
        self._chooses = chooses
        self.admitted: asyncio.Future[Permit | None] = loop.create_future()
        self._call = call
        self._journey = journey
        self._places: dict[Queue, tuple[Lane, Place]] = {}
        self._refusal: CallError | None = None
        journey.refusals += journey.sent_back
        self.join()

    def join(self) -> None:
        """Enter the queue of each lane that is not stopped, unless the call stands in it already."""
        for lane in self.lanes:
            if self.admitted.done():
                return
            queue, service = lane.queue, lane.service
            if service.stop is None and (queue not in self._places or self._places[queue][1].left):
                self._places[queue] = lane, queue.enter(self._call, service, self._journey, self)

    def permit(self) -> Permit | None:
        """The permit, if there is one."""
        done = self.admitted.done() and not self.admitted.cancelled() and self.admitted.exception() is None
        return self.admitted.result() if done else None

    def lane(self, permit: Permit) -> Lane:
        """The lane that a permit is for."""
        return self._places[permit.queue][0]

    def fail(self, error: CallError) -> None:
        """End the wait with an error."""
        if not self.admitted.done():
            self.admitted.set_exception(error)
            self.admitted.exception()  # else asyncio warns if the waiter was cancelled in this same turn

    def choose_anew(self) -> None:
        """End the wait without a permit."""
        if not self.admitted.done():
            self.admitted.set_result(None)

    def end(self) -> Mapping[str, float]:
        """Leave all queues. Returns the seconds by cause: those of the queue that let the call go, if one did."""
        places, self._places = self._places, {}  # they refer to this object
        for queue, (_, place) in places.items():
            queue.leave(place)
        permit = self.permit()
        told = permit.queue if permit is not None else next(iter(places), None)
        return {} if told is None else told.waits_of(places[told][1])

    def wants(self, service: Service) -> bool:
        """Whether the call would go to a lane, rather than wait for another one, in whose queue it stands."""
        if not self._chooses or all(place.left or lane.service is service for lane, place in self._places.values()):
            return True
        lane = next(lane for lane in self.lanes if lane.service is service)
        return is_worth(lane, self.lanes, asyncio.get_running_loop().time())

    def refused(self, service: Service, error: CallError) -> None:
        """A queue put the call out: its target is stopped, or its limits can never admit the call."""
        lane = next(lane for lane in self.lanes if lane.service is service)
        if isinstance(error, CircuitOpen):
            self._places.pop(lane.queue, None)  # it may come back; others may share the queue
            self.join()
        else:
            self._refusal = error
            self.lanes = [other for other in self.lanes if other.queue is not lane.queue]
        if not _all_stopped(self.lanes):
            return
        if self._refusal is not None and not self.lanes:
            self.fail(self._refusal)
        else:
            self.choose_anew()


class _Timed:
    """Sends attempts, and tells their lanes how long they took."""

    def __init__(self, hedge: Attempt | None) -> None:
        self._hedge = hedge

    async def __call__(self, call: Call, lane: Lane, lanes: Sequence[Lane]) -> Reply:
        time = asyncio.get_running_loop().time
        began = time()
        lane.goes(began)
        reply = await (lane.send(call) if self._hedge is None else self._hedge(call, lane, lanes))
        now = time()
        lane.latency.observe(now - began, now)
        return reply


def _all_stopped(lanes: Sequence[Lane]) -> bool:
    for lane in lanes:  # noqa: SIM110 - an all() takes longer, and each call asks
        if lane.service.stop is None:
            return False
    return True


def _others_may(error: CallError, lane: Lane) -> bool:
    """Whether other targets may take a call that one refuses: it refuses every call, or cannot encode this one."""
    unfit = isinstance(error, InvalidRequest) and error.status is None
    return unfit or lane.service.stop is not None or decide(error) is Decision.STOP_TARGET
