"""The known limits of one target: one axis for each limit that the user gave or that headers name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import partial

from flatout.values import Limits, Usage

from .advertised import Quota, advertised
from .ahead import MINUTE, at_once
from .axis import CAUSES, DAY, Axis, MakeGcra, per_window
from .charge import Charge
from .gcra import BURST, Steady
from .sharing import Shared
from .tokens import Need
from .told import Told
from .trials import Trials

GUESSED = 1.3
"""Where its need is a guess, a call fails unsent only if it needs this many times what a limit allows."""

_TOKENS = frozenset({"tpm", "itpm", "otpm"})
"""The names of the limits that count tokens."""


class Axes:
    """All known limits of one target. The pacer asks them together.

    Args:
        limits: what the user gave.
        now: the present.
        charge: how the provider charges tokens.
        trials: what is tried ahead of the limits.
        requests_per_day: whether the provider's headers on requests count by the day.
        shared: what other programs hold in common with this one.

    Attributes:
        by_name: the axes, by the names of `flatout.Limits`. Only this class changes it.
        counts_tokens: whether any of them counts tokens.
    """

    __slots__ = (
        "_burst",
        "_charge",
        "_given_names",
        "_requests_per_day",
        "_shared",
        "_told",
        "_trials",
        "by_name",
        "counts_tokens",
    )

    def __init__(
        self,
        limits: Limits,
        now: float,
        charge: Charge,
        trials: Trials,
        *,
        requests_per_day: bool = False,
        shared: Shared | None = None,
    ) -> None:
        self._charge = charge
        self._trials = trials
        self._requests_per_day = requests_per_day
        self._shared = shared
        self._told = Told(shared) if shared is not None else None
        self._burst = limits.burst
        self.by_name: dict[str, Axis] = {}
        self.counts_tokens = False
        for name, limit, window in per_window(limits):
            self._put(name, self._given(name, limit, window, now))
        self._given_names = frozenset(self.by_name)

    def change(self, limits: Limits, now: float, in_flight: int) -> None:
        """The user gives other limits: raise, lower, add or remove axes.

        A limit that the user gave and takes back is unknown from then on, until headers name it.

        Args:
            limits: all limits that hold from now on.
            now: the present.
            in_flight: this program's requests in flight, which count on an axis that is new.
        """
        self._burst = limits.burst
        known = {name: (limit, window) for name, limit, window in per_window(limits)}
        taken_back = self._given_names - known.keys()
        # Another dict, so that an attempt in flight still settles with the axes that it was admitted by.
        self.by_name = {name: axis for name, axis in self.by_name.items() if name not in taken_back}
        for name, (limit, window) in known.items():
            if (axis := self.by_name.get(name)) is not None:
                axis.change(limit, window, self._evenly(window), now)
            else:
                axis = self.by_name[name] = self._given(name, limit, window, now, new=True)
                axis.count(in_flight)
        self._given_names = frozenset(known)
        self.counts_tokens = not _TOKENS.isdisjoint(self.by_name)

    def never(self, need: Need) -> str | None:
        """Why a call can never be admitted; None when it can."""
        for name, axis in self.by_name.items():
            cost = self._charge.cost(name, need)
            most = axis.most if cost == need.max_tokens else axis.most * GUESSED
            if name not in ("rpm", "rpd") and cost > most:
                return f"it needs about {cost:,.0f} tokens, and the limit is {axis.most:,.0f} a minute"
        return None

    def costs(self, need: Need) -> dict[str, float]:
        """What a call takes of every axis."""
        return {name: self._charge.cost(name, need) for name in self.by_name}

    def ready_at(self, need: Need, now: float, at: float, cause: str) -> tuple[float, str]:
        """When a call may go, and what holds it: ``at`` and ``cause``, or a later axis and its cause."""
        for name, axis in self.by_name.items():
            if (ready := axis.ready_at(self._charge.cost(name, need), now)) > at:
                at, cause = ready, axis.cause
        return at, cause

    def take(self, need: Need, now: float) -> None:
        """A call goes: take its share of every axis."""
        need.costs = costs = {}
        need.marks = marks = {}
        need.axes = self.by_name
        for name, axis in self.by_name.items():
            costs[name] = cost = self._charge.cost(name, need)
            axis.take(cost, now, waited=need.waited_for == axis.cause)
            marks[name] = axis.taken
        if "tpm" in costs:
            self._charge.sent(need)

    def give_back(self, need: Need, now: float) -> None:
        """A call did not go after all: give its share of every axis back."""
        for name, cost in need.costs.items():
            need.axes[name].give_back(cost, now)

    def settle(self, need: Need, usage: Usage, now: float) -> None:
        """A call was answered: correct what it took of the limits."""
        if "tpm" in need.costs:
            self._charge.answered(need, usage)
        for name in need.costs:
            if name not in ("rpm", "rpd") and (used := self._charge.used(name, need, usage)) is not None:
                need.axes[name].settle(need.costs[name], used, now)

    def refused(self, now: float) -> None:
        """A call was refused for its rate: spend every axis smoothly from now on, beginning with nothing."""
        for axis in self.by_name.values():
            axis.refused(now)

    def keep_seconds(self) -> None:
        """A call was refused within the limits: from now on no second gets more than its share of them."""
        for axis in self.by_name.values():
            axis.keep_seconds()

    def resume(self, at: float) -> None:
        """Admit nothing before an instant; then begin with nothing saved up."""
        for axis in self.by_name.values():
            axis.resume(at)

    def begin(self, now: float) -> None:
        """Go on from now with nothing saved up, even if `resume` named a later instant."""
        for axis in self.by_name.values():
            axis.begin(now)

    def requests_per_second(self, need: Need) -> float:
        """How many calls like this one the axes admit per second; `inf` when none bounds it."""
        rates = (
            axis.gcra.rate / max(1.0, need.costs[name]) for name, axis in self.by_name.items() if name in need.costs
        )
        return min(rates, default=math.inf)

    def rates(self) -> dict[str, float]:
        """The limits in force, per minute or day."""
        return {name: axis.per(DAY if name == "rpd" else MINUTE) for name, axis in self.by_name.items()}

    def scale(self, share: float) -> None:
        """Change every axis to a share of its limit."""
        for axis in self.by_name.values():
            axis.scale(share)

    def holds(self, cause: str) -> bool:
        """Whether calls may wait for an axis under this cause."""
        return any(axis.cause == cause for axis in self.by_name.values())

    # What the provider says of its limits. Each method returns whether a new limit became known.

    def hear(
        self,
        headers: Mapping[str, str],
        need: Need,
        sent: float,
        now: float,
        wall: float,
        in_flight: int,
        *,
        fits: bool = False,
        refused: bool = False,
    ) -> bool:
        """Follow an answer's headers.

        Args:
            headers: the answer's headers.
            need: the call's need, as it was admitted.
            sent: when the call was sent.
            now: the present.
            wall: the wall clock, in seconds since the epoch.
            in_flight: this program's requests in flight.
            fits: whether a true limit must allow this very call: it was answered, or asked to come back.
            refused: whether the call was refused for its speed.
        """
        then = wall - (now - sent)  # the headers describe the moment of admission, not that of the answer
        told = advertised(headers, then, requests_per_day=self._requests_per_day)
        if told is None:
            return False
        return self._follow_all(told.quotas(), need, sent, now, in_flight, fits=fits, refused=refused)

    def name(self, named: Limits, need: Need, sent: float, now: float, in_flight: int) -> bool:
        """Follow the limits that a refusal names in its text."""
        quotas = [(name, Quota(limit, None, None, window)) for name, limit, window in per_window(named)]
        return self._follow_all(quotas, need, sent, now, in_flight, fits=True, refused=True)

    def catch_up(self, now: float) -> bool:
        """Follow what headers told other programs."""
        before = len(self.by_name)
        for name, quota in self._told.news(now) if self._told is not None else ():
            assert quota.limit is not None
            axis = self.by_name.get(name) or self._add(name, quota.limit, quota.window, now)
            axis.heard(quota, axis.taken, now, now)
        return len(self.by_name) > before

    def _follow_all(
        self,
        quotas: Iterable[tuple[str, Quota]],
        need: Need,
        sent: float,
        now: float,
        in_flight: int,
        *,
        fits: bool,
        refused: bool,
    ) -> bool:
        before = len(self.by_name)
        for name, quota in quotas:
            least = self._charge.cost(name, need) if fits else 1.0
            if quota.limit is not None and quota.limit * max(1.0, MINUTE / quota.window) < least:
                continue  # such a limit is garbage
            if (axis := self.by_name.get(name)) is None:
                if quota.limit is None:
                    continue
                axis = self._add(name, quota.limit, quota.window, now)
                need.marks[name] = axis.taken
                axis.count(in_flight * self._charge.cost(name, need))  # those in flight count, too
            self._follow(name, axis, quota, need, sent, now, refused=refused)
        return len(self.by_name) > before

    def _follow(
        self, name: str, axis: Axis, quota: Quota, need: Need, sent: float, now: float, *, refused: bool
    ) -> None:
        caution = self._charge.caution if name == "tpm" else 1.0
        tried = axis.trial is not None and axis.trial.open
        mark = need.marks.get(name, axis.taken) if need.axes.get(name) in (axis, None) else axis.taken
        axis.heard(quota, mark, sent, now, caution=caution)
        if self._told is not None:
            self._told.pass_on(name, quota, now)
        if tried and axis.trial is None:
            self._trials.ended(now)
        if name == "tpm" and quota.remaining is not None and self._shared is None:
            if refused:
                self._charge.refused(need, quota.remaining)
            else:
                self._charge.told(need, quota.remaining, axis.per(MINUTE), sent, refills=axis.refills)

    def _given(self, name: str, limit: float, window: float, now: float, *, new: bool = False) -> Axis:
        """The axis of a limit that the user gave; ``new`` when calls went before it was known."""
        spends_ahead = self._burst is None and self._shared is None and window == MINUTE and not new
        axis = Axis(
            CAUSES[name],
            limit,
            window,
            now,
            known=True,
            burst=self._evenly(window),
            follows=spends_ahead,
            gcra=(self._trials.gcra(name) if spends_ahead else None) or self._gcra(name),
        )
        if new and self._shared is None:
            axis.begin(now)
        return axis

    def _evenly(self, window: float) -> float:
        """Seconds of a given rate that go at once, if nothing goes ahead of it."""
        return BURST if self._burst is None or window > MINUTE else at_once(self._burst)

    def _add(self, name: str, limit: float, window: float, now: float) -> Axis:
        """Add the axis of a limit that the user did not give."""
        axis = Axis(CAUSES[name], limit, window, now, known=False, even=self._shared is not None, gcra=self._gcra(name))
        self._put(name, axis)
        return axis

    def _put(self, name: str, axis: Axis) -> None:
        self.by_name[name] = axis
        self.counts_tokens = self.counts_tokens or name in _TOKENS

    def _gcra(self, name: str) -> MakeGcra:
        return Steady if self._shared is None else partial(self._shared.gcra, name)
