"""Records the course of a run while it goes: what each target does in each stretch of time, and what happens.

A stretch is a second long at first. After ten minutes the stretches are ten seconds long, after three hours a minute,
so that the course of a run of days takes a few megabytes. The length changes at a full minute: every length has a
stretch that begins there, so none begins inside the one before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import replace

from flatout.edge.fan_out import Flow
from flatout.errors import NotSent, RateLimited
from flatout.events import (
    AttemptFailed,
    CallFinished,
    Event,
    Events,
    InFlightCapped,
    LimitCrowded,
    NoRoom,
    Steered,
    TargetDown,
    TargetPaused,
    TargetResumed,
)
from flatout.layers.limit import TargetStatus
from flatout.store.course import SHARED, TOLD, TRIED, Happening, Kind, Stretch
from flatout.tasks.loop import wall_clock
from flatout.values.quantiles import quantile

LENGTHS = ((600.0, 1.0), (10_800.0, 10.0), (float("inf"), 60.0))
"""Pairs of seconds: until when, from the start, and how long a stretch is until then."""

SHORTEST_PAUSE = 1.0
"""Seconds: a shorter pause, or a shorter extension of one, is not recorded."""

EARLY = 0.1
"""The share of a stretch by which a timer may wake early. Its clock is another than the calendar's."""


class Recorded(Protocol):
    """A client whose course is recorded."""

    @property
    def events(self) -> Events:
        """What happens to its calls and targets."""
        ...

    def status(self) -> Sequence[TargetStatus]:
        """The present state of each target in use."""
        ...


class CourseFile(Protocol):
    """Where the course is written: a `flatout.store.RunFile`, or a worker's way to it."""

    def note_stretch(self, stretch: Stretch, /) -> None:
        """Record what a target did in a stretch of time."""
        ...

    def note_happening(self, happening: Happening, /) -> None:
        """Record what happened."""
        ...


class _Counts(Struct):
    """What a target has done since the last stretch ended."""

    answered: int = 0
    refused: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    latencies: list[float] = []


class Course:
    """Records the course of one client.

    Args:
        client: the client.
        file: where it is written.
        flow: counts the items whose functions make the calls; None if no function does.
    """

    def __init__(self, client: Recorded, file: CourseFile, flow: Flow | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._client = client
        self._file = file
        self._flow = flow or Flow()
        self._loop = loop
        self._wall = wall_clock(loop)
        self._began = self._wall()
        self._since = self._began
        self._length = LENGTHS[0][1]
        self._counts: dict[str, _Counts] = {}
        self._in_flight: dict[str, int] = {}
        self._held: dict[str, Mapping[str, float]] = {}
        self._resting: dict[str, list[float]] = {}  # until when calls wait for another attempt, on the loop's clock
        self._paused: dict[str, float] = {}  # until when, on the loop's clock
        self._leave = client.events.subscribe(self._hear)

    async def record(self) -> None:
        """Write each stretch when it is over, until cancelled."""
        while True:
            length, now = self._length, self._wall()
            await asyncio.sleep(_slot(now + length / 2, length) + length - now)
            self.flush()

    def close(self) -> None:
        """Write the last stretch, and hear of no more events."""
        self._leave()
        self.flush()

    def flush(self) -> None:
        """Write what every target has done since the last time."""
        now = self._wall()
        began, seconds = self._slot_of(self._since), max(now - self._since, 1e-3)
        self._since = now
        self._length = self._length_at(self._slot_of(now))
        states = self._client.status()
        asides = [self._aside(state) for state in states]
        calls = sum(state.in_flight + state.waiting for state in states) + sum(sum(each.values()) for each in asides)
        own = max(0, self._flow.running - calls) if self._flow.functions else 0
        for state, aside in zip(states, asides, strict=True):
            stretch = self._stretch(state, began, seconds)
            held = self._held_aside(stretch, aside | ({"function": own} if own else {}))
            if held or not stretch.idle:
                self._file.note_stretch(replace(stretch, held={**stretch.held, **held}) if held else stretch)

    def _slot_of(self, at: float) -> float:
        """When a stretch began, by the calendar, that began at an instant."""
        return _slot(at + EARLY * self._length, self._length)

    def _length_at(self, at: float) -> float:
        """How long a stretch is that begins at an instant."""
        age = _slot(at, LENGTHS[-1][1]) - self._began
        return next(length for until, length in LENGTHS if age < until)

    def _stretch(self, state: TargetStatus, began: float, seconds: float) -> Stretch:
        target = state.target
        counts = self._counts.pop(target, None) or _Counts()
        before, self._in_flight[target] = self._in_flight.get(target, 0), state.in_flight
        ended = counts.answered + counts.refused + counts.failed
        latencies = sorted(counts.latencies)
        return Stretch(
            began_at=began,
            seconds=seconds,
            target=target,
            sent=max(0, state.in_flight - before + ended),
            answered=counts.answered,
            refused=counts.refused,
            failed=counts.failed,
            in_flight=state.in_flight,
            waiting=state.waiting,
            held=self._held_since(state),
            allows={**state.allows, **dict.fromkeys(_marks(state), 1.0)},
            pace=state.pace,
            input_tokens=counts.input_tokens,
            output_tokens=counts.output_tokens,
            cost=counts.cost,
            latency_p50=quantile(latencies, 0.5) if latencies else None,
            latency_p95=quantile(latencies, 0.95) if latencies else None,
        )

    def _held_since(self, state: TargetStatus) -> dict[str, float]:
        """The seconds for which a target's queue was held in this stretch, by cause."""
        held = state.held_until(self._loop.time())
        before, self._held[state.target] = self._held.get(state.target, {}), held
        found = {cause: round(seconds - before.get(cause, 0.0), 3) for cause, seconds in held.items()}
        return {cause: seconds for cause, seconds in found.items() if seconds > 0.0}

    def _aside(self, state: TargetStatus) -> dict[str, int]:
        """How many calls wait elsewhere than in a target's queue, by cause."""
        now = self._loop.time()
        resting = [until for until in self._resting.pop(state.target, ()) if until > now]
        if not resting:
            return dict(state.aside)
        self._resting[state.target] = resting
        return {**state.aside, "backoff": len(resting)}

    def _held_aside(self, stretch: Stretch, aside: Mapping[str, int]) -> dict[str, float]:
        """The seconds in which nothing held the queue, divided among the calls that wait elsewhere or are on the wire.

        If the input has no more at the moment, all of that time is the input's: another call could go at once.
        """
        free = stretch.seconds - sum(stretch.held.values())
        if free <= 0.0 or stretch.waiting:
            return {}
        if self._flow.hungry:
            return {} if stretch.idle else {"input": round(free, 3)}
        calls = stretch.in_flight + sum(aside.values())
        return {cause: round(free * count / calls, 3) for cause, count in aside.items()}

    # What happens

    def _of(self, target: str) -> _Counts:
        counts = self._counts.get(target)
        if counts is None:
            counts = self._counts[target] = _Counts()
        return counts

    def _hear(self, event: Event) -> None:
        if isinstance(event, CallFinished):
            self._count(event)
        elif isinstance(event, AttemptFailed):
            self._count_failure(event)
        else:
            self._tell(event)

    def _count(self, event: CallFinished) -> None:
        """Count the end of a call. The attempts of it that failed were counted before."""
        journey = event.journey
        attempt = journey.attempt
        if not journey.account.attempts:  # from a cache, or never sent
            return
        counts = self._of(attempt.target)
        counts.cost += journey.account.known
        reply = event.reply or getattr(event.error, "reply", None)
        if reply is not None:
            counts.input_tokens += reply.usage.input_tokens or 0
            counts.output_tokens += reply.usage.output_tokens or 0
        if event.reply is not None:
            counts.answered += 1
            if attempt.seconds is not None:
                counts.latencies.append(attempt.seconds)

    def _count_failure(self, event: AttemptFailed) -> None:
        if event.retry_in:
            resting = self._resting.setdefault(event.journey.attempt.target, [])
            resting.append(event.at + event.retry_in)
        if isinstance(event.error, NotSent) or event.found_no_room:
            return
        counts = self._of(event.journey.attempt.target)
        if isinstance(event.error, RateLimited):
            counts.refused += 1
        else:
            counts.failed += 1

    def _tell(self, event: Event) -> None:
        """Write what happens to a target."""
        if isinstance(event, TargetPaused):
            if event.until is None:
                self._note("stop", event.target, event.reason)
            elif event.until - max(event.at, self._paused.get(event.target, 0.0)) >= SHORTEST_PAUSE:
                self._paused[event.target] = event.until
                self._note("pause", event.target, event.reason, self._wall() + event.until - event.at)
        elif isinstance(event, TargetDown):
            self._note("down", event.target, event.reason)
        elif isinstance(event, NoRoom):
            self._note("full", event.target, event.reason)
        elif isinstance(event, TargetResumed):
            self._note("back", event.target, "it answers again")
        elif isinstance(event, LimitCrowded):
            self._note("crowded", event.target, event.reason)
        elif isinstance(event, InFlightCapped):
            self._note("capped", None, event.reason)
        elif isinstance(event, Steered):
            self._note("change", event.target, event.what, by=event.by, does=event.does)

    def _note(self, kind: Kind, target: str | None, what: str, until: float | None = None, **more: Any) -> None:
        happening = Happening(at=self._wall(), until=until, kind=kind, target=target, what=what, **more)
        self._file.note_happening(happening)


@asynccontextmanager
async def recorded(client: Recorded, file: CourseFile, flow: Flow | None = None) -> AsyncIterator[Course]:
    """A block in which the course of a client is recorded; see `Course`."""
    course = Course(client, file, flow)
    recording = asyncio.ensure_future(course.record())
    try:
        yield course
    finally:
        recording.cancel()
        with suppress(asyncio.CancelledError):
            await recording
        course.close()


def _marks(state: TargetStatus) -> Iterator[str]:
    """What stands among a target's limits beside them."""
    if state.tried:
        yield TRIED
    if state.shared:
        yield SHARED
    yield from (TOLD + name for name in state.told)


def _slot(at: float, length: float) -> float:
    """The last multiple of a length up to an instant."""
    return at - at % length
