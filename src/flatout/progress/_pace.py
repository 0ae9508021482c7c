"""The speed of calls, and the time that the rest takes: one figure at a steady pace, a range at a changing one."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import pairwise
from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

from flatout.text import figures

if TYPE_CHECKING:
    from ._counters import Progress

RECENT = 10.0  # seconds; the shown rate covers them, because the average since the start would hide a slowdown
_STRETCHES = 6  # stretches of RECENT seconds from which the remaining time is estimated
_STEADY = 1.5  # times the slowest stretch; up to that the pace is steady
_OVERDUE = 3.0  # times the mean time between two finished calls; after that the rate tells nothing
_CHANCE = 3.0  # standard deviations by which stretches may differ by chance
_FEW = 2  # failures of late up to which they may be chance


_MINUTE = 60.0  # seconds


def allowed(
    limits: Mapping[str, float], calls: int, input_tokens: int, output_tokens: int, ends: float = 1.0
) -> float | None:
    """Calls per second that limits per minute allow; None if none of them is known, or nothing of the calls' tokens.

    Args:
        limits: by their names in `flatout.Limits`.
        calls: how many took the tokens.
        input_tokens: of their prompts.
        output_tokens: of their answers.
        ends: the share of the attempts that end a call: see `ending`.
    """
    takes = {"tpm": input_tokens + output_tokens, "itpm": input_tokens, "otpm": output_tokens}
    found = [limits["rpm"] / _MINUTE * ends] if "rpm" in limits else []
    found += [limits[name] / _MINUTE * calls / tokens for name, tokens in takes.items() if name in limits and tokens]
    return min(found, default=None)


def ending(ended: float, others: float) -> float:
    """The share of the attempts that end a call; 1 if none has ended. The others count against ``rpm``, too.

    Args:
        ended: attempts that ended a call.
        others: attempts after which the call was tried again: failures, and refusals for the rate.
    """
    return ended / (ended + others) if ended > 0 else 1.0


def affordable(left: float, spent: float, rows: int) -> int:
    """How many rows the rest of a budget lasts for, at the mean cost of those before.

    Args:
        left: US dollars.
        spent: US dollars; above 0.
        rows: how many that was for; above 0.
    """
    return max(0, int(left / (spent / rows)))


class Speed(NamedTuple):
    """Calls finished per second: recently, and in the slowest and the fastest stretch if the pace changes.

    ``quiet`` is the time without any finished call, if it is so long that the rate tells nothing; otherwise 0.
    ``failing`` is the share of the late attempts that failed, if most did; otherwise 0. ``settled`` is whether a
    stretch has passed since the last outage: the calls that come first after it tell nothing. ``ends`` is the share of
    the late attempts that ended a call; the others are tried again.
    """

    rate: float | None
    smooth: float | None = None
    slowest: float | None = None
    fastest: float | None = None
    quiet: float = 0.0
    failing: float = 0.0
    settled: bool = True
    ends: float = 1.0

    def left(self, calls: int, allowed: float | None = None) -> str:
        """The time that the calls take: ``4 min 05 s left``, ``3 min to 8 min 20 s left``; "" if unknown.

        Args:
            calls: how many.
            allowed: calls per second that a limit allows which binds now: it tells more than what went before it did.
        """
        if not self.rate or self.failing:
            return ""
        if allowed:
            return f"{figures.duration(max(1.0, calls / allowed))} left"
        if not self.settled:
            return ""
        if not self.fastest:
            return f"{figures.duration(max(1.0, calls / (self.smooth or self.rate)))} left"
        soonest = figures.duration(calls / self.fastest)
        if not self.slowest:
            return f"at least {soonest} left"
        return f"{soonest} to {figures.duration(calls / self.slowest)} left"


class _Look(NamedTuple):
    """What was seen at a time: the calls that had finished, and the attempts after which one was tried again.

    Those are ``lost`` if they failed, and ``refused`` if they came too fast.
    """

    at: float = 0.0
    done: int = 0
    lost: int = 0
    refused: int = 0


class Pace:
    """Watches a run's progress; call `look` each time it is shown."""

    def __init__(self, window: float = RECENT) -> None:
        self._window = window
        self._since = self._last = _Look()
        self._seen: deque[_Look] = deque([_Look()])
        self._marks: deque[_Look] = deque([_Look()], maxlen=_STRETCHES + 1)

    def look(self, progress: Progress) -> Speed:
        """The speed now. If no call finished recently, the rate is that since the start or since the last outage."""
        refused = progress.throttled
        now = _Look(progress.elapsed, progress.answered + progress.failed, progress.retries - refused, refused)
        batches = progress.batches
        if batches.open or (batches.ended and not progress.in_flight):  # their rows come many at a time, after hours
            self._last = now
            self._begin_anew(now)
            return Speed(None)
        if now.done > self._last.done:
            self._last = now
        if (progress.down or progress.stopped) and not progress.others_go:
            self._begin_anew(now)
            return Speed(None, quiet=self._quiet(now.at))
        self._seen.append(now)
        while now.at - self._seen[0].at > self._window and len(self._seen) > 2:
            self._seen.popleft()
        failing = _failing(self._seen[0], now)
        if failing:
            self._forget(now)
        elif now.at - self._marks[-1].at >= self._window:
            self._marks.append(now)
        rate = _rate(self._seen[0], now) or _rate(self._since, now)
        slowest, fastest = self._swing()
        settled = not self._marks[0].at or now.at - self._marks[0].at >= self._window
        smooth = _rate(self._marks[0], now)
        ends = _ends(self._seen[0], now)
        return Speed(rate, smooth, slowest, fastest, self._quiet(now.at), failing, settled, ends)

    def _begin_anew(self, now: _Look) -> None:
        """Forget everything before."""
        self._seen.clear()
        self._since = now
        self._seen.append(now)
        self._forget(now)

    def _forget(self, now: _Look) -> None:
        """Let nothing before tell how long the rest takes. The rate of an outage predicts nothing."""
        self._marks.clear()
        self._marks.append(now)

    def _quiet(self, now: float) -> float:
        last = self._last
        quiet = now - last.at
        return quiet if quiet > max(self._window, _OVERDUE * last.at / max(last.done, 1)) else 0.0

    def _swing(self) -> tuple[float, float] | tuple[None, None]:
        """The slowest and the fastest stretch, if they differ by more than chance explains."""
        counts = [after.done - before.done for before, after in pairwise(self._marks)]
        rates = [(after.done - before.done) / (after.at - before.at) for before, after in pairwise(self._marks)]
        if len(rates) < 2 or max(rates) <= _STEADY * min(rates):
            return None, None
        by_chance = _CHANCE * sqrt(2.0 * sum(counts) / len(counts))
        return (min(rates), max(rates)) if max(counts) - min(counts) > by_chance else (None, None)


def _rate(before: _Look, now: _Look) -> float | None:
    """Calls a second between two looks; None if none finished."""
    return (now.done - before.done) / (now.at - before.at) if now.done > before.done and now.at > before.at else None


def _ends(before: _Look, now: _Look) -> float:
    """The share of the attempts between two looks that ended a call."""
    return ending(now.done - before.done, now.lost - before.lost + now.refused - before.refused)


def _failing(before: _Look, now: _Look) -> float:
    """The share of the attempts between two looks that failed, if most did; otherwise 0."""
    done, lost = now.done - before.done, now.lost - before.lost
    return lost / (lost + done) if lost > max(done, _FEW) else 0.0
