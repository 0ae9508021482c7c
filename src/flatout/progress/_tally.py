"""Counts the events of a run into its Progress."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flatout.durable.records import may_go_again
from flatout.errors import CallError, RateLimited
from flatout.events import (
    AttemptFailed,
    CallFinished,
    Event,
    InFlightCapped,
    LimitCrowded,
    NoRoom,
    TargetDown,
    TargetPaused,
    TargetResumed,
)
from flatout.lanes.standing import states
from flatout.layers.limit import TargetNow
from flatout.policies.failures.decision import advice
from flatout.values import Result, Usage
from flatout.values.route import Share

from ._counters import Batches, Failure, Progress, PromptCacheUse

if TYPE_CHECKING:
    from flatout.engine import Engine
    from flatout.lanes.batch.lane import BatchLane

_ON_THE_WIRE = ("connect", "first_byte", "body")
_STANDS = ("outage", "paused")  # the causes for which a target takes no call at all
_SHORTEST_PAUSE = 1.0  # seconds; a shorter pause would only flicker


class Tally:
    """Keeps one Progress up to date, from the client's events, from finished rows, and from the targets' state."""

    def __init__(self, progress: Progress, engine: Engine) -> None:
        self._progress = progress
        self._engine = engine
        self._pauses: dict[str, tuple[float, str]] = {}
        self._leave = engine.events.subscribe(self._count)

    def leave(self) -> None:
        """Hear of no more events: another tally of the same run does."""
        self._leave()

    def finished(self, result: Result[Any], index: int) -> None:
        """Count a row whose result is in the run file."""
        progress = self._progress
        for cause, seconds in result.waits.items():
            progress.waits[cause] = progress.waits.get(cause, 0.0) + seconds
            if cause in _ON_THE_WIRE:
                progress.call_seconds += seconds
        reply = result.reply if result.reply is not None else getattr(result.error, "reply", None)
        if reply is not None and reply.cached is not None:
            progress.cached += 1
            progress.saved += reply.cached.cost or 0.0
        elif reply is not None:
            progress.input_tokens += reply.usage.input_tokens or 0
            progress.output_tokens += reply.usage.output_tokens or 0
            if reply.usage.cached_tokens or reply.usage.cache_write_tokens:
                progress.prompt_cache += self._prompt_cache(result, reply.usage)
        if result.trail:
            self._share(result)
        if result.error is None:
            progress.answered += 1
            progress.cut_off += reply is not None and reply.finish_reason == "length"
            return
        held = int(self._is_held(result.error))
        progress.held += held
        progress.failed += 1 - held
        name = type(result.error).__name__
        failure = progress.failures.get(name)
        if failure is None:
            hint = advice(result.error) if isinstance(result.error, CallError) else ""
            progress.failures[name] = Failure(1, str(result.error), index + 1, hint, held)
        else:
            failure.count += 1
            failure.held += held
            if failure.row is not None and index + 1 < failure.row:  # as `flatout status` tells it
                failure.row, failure.example = index + 1, str(result.error)

    def _is_held(self, error: Exception) -> bool:
        """Whether a failed row counts as left unfinished."""
        return may_go_again(error)

    def _count_money(self) -> None:
        self._progress.cost = self._engine.stack.purse.spent
        self._progress.unpriced = self._engine.stack.purse.unknown

    def _share(self, result: Result[Any]) -> None:
        """Count what each target did for a row."""
        shares, last = self._progress.shares, len(result.trail) - 1
        for place, leg in enumerate(result.trail):
            share = Share.of(leg, answered=result.error is None and place == last)
            shares[leg.target] = shares.get(leg.target, Share()) + share

    def _prompt_cache(self, result: Result[Any], usage: Usage) -> PromptCacheUse:
        saved = self._engine.saved(result) or 0.0
        return PromptCacheUse(read=usage.cached_tokens or 0, written=usage.cache_write_tokens or 0, saved=saved)

    def refresh(self) -> None:
        """Read the clock and the state of every target."""
        progress = self._progress
        now = asyncio.get_running_loop().time()
        progress.elapsed = now - progress.started
        self._count_money()
        progress.searched = self._engine.stack.limiters.searched()
        states = self._engine.stack.limiters.status()
        admitted = sum(state.in_flight for state in states)
        progress.in_flight = admitted if progress.capped is None else min(admitted, progress.capped)
        progress.waiting = sum(state.waiting for state in states)
        progress.targets = {state.target: TargetNow.of(state) for state in states}
        progress.hosted = all(state.hosted for state in states)
        held = [state.held_until(now) for state in states]
        progress.stood = min((sum(each.get(cause, 0.0) for cause in _STANDS) for each in held), default=0.0)
        away = progress.down.keys() | progress.stopped.keys()
        go = [state for state in states if state.target not in away]
        progress.others_go = bool(away and go)
        busiest = max(go or states, key=lambda state: state.waiting, default=None)
        progress.holds = busiest.holds if busiest is not None else ""
        progress.pace = busiest.pace if busiest is not None else None
        progress.rising = busiest is not None and busiest.rising
        progress.paused = {
            target: f"{reason}, {until - now:.0f} s"
            for target, (until, reason) in self._pauses.items()
            if until - now >= _SHORTEST_PAUSE
        }

    def _count(self, event: Event) -> None:
        if isinstance(event, CallFinished):  # one of each row, and the row itself is counted
            return
        if isinstance(event, AttemptFailed):
            self._progress.throttled += isinstance(event.error, RateLimited)
            self._progress.retries += event.retry_in is not None and not event.found_no_room
        elif isinstance(event, InFlightCapped):
            self._progress.capped = event.most
        elif isinstance(event, TargetPaused):
            if event.until is None:
                self._progress.stopped[event.target] = event.reason
            else:
                self._pauses[event.target] = (event.until, event.reason)
        elif isinstance(event, LimitCrowded):
            self._progress.crowded[event.target] = event.reason
        elif isinstance(event, TargetDown):
            self._progress.down[event.target] = event.reason
        elif isinstance(event, NoRoom):
            self._progress.no_room.setdefault(event.target, time.time())
        elif isinstance(event, TargetResumed):
            self._progress.stopped.pop(event.target, None)
            self._progress.down.pop(event.target, None)
            self._progress.no_room.pop(event.target, None)


def batches_of(lanes: Sequence[BatchLane], past: str = "") -> Batches:
    """The batches that some lanes have at providers.

    Args:
        lanes: the lanes.
        past: how long batches took, in words.
    """
    batches = [batch for lane in lanes for batch in lane.open_batches]
    ended = [past for lane in lanes for past in lane.collected]
    return Batches(
        open=len(batches),
        rows=sum(lane.open_rows for lane in lanes),
        done=sum(lane.done_rows for lane in lanes),
        oldest=min((batch.intended_at for batch in batches), default=None),
        states=states([(batch, lane.seen.get(batch.number)) for lane in lanes for batch in lane.open_batches]),
        short=sum(lane.money.short for lane in lanes),
        past=past,
        saved=sum(lane.money.record.whole().saved for lane in lanes),
        ended=len(ended),
        ended_rows=sum(each.rows for each in ended),
        took=(min(each.seconds for each in ended), max(each.seconds for each in ended)) if ended else None,
    )
