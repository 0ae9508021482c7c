"""What a provider charges for a call on each limit, when the call is sent and when it is answered.

Behind a gateway another rule may apply than the provider's name suggests. Headers say how much is left: `Charge`
compares how much that falls with what each rule would have charged in the same time.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from flatout.values import Usage

from .tokens import Need

Reserve = Literal["usage", "max_tokens", "input"]
"""What a provider charges against tokens per minute: tokens used; ``max(max_tokens, input)`` on admission; input."""

RULES: tuple[Reserve, ...] = ("usage", "max_tokens", "input")
"""All of them."""

SPAN = 5
"""Least calls between two readings of what is left that are compared."""

PART = 0.02
"""Least share of a minute's limit that those calls cost."""

STEADY = 3
"""Comparisons in a row that must agree."""

AGREES = 1.1
"""The factor by which such comparisons may differ."""

NEAR = 1.2
"""A rule applies if it comes within this factor of what was charged."""

REFUSED = 2
"""Calls refused although more was left than they need, after which another rule must apply."""

UNSURE = 100
"""Readings after which a rule is trusted even if no comparison was possible."""


def cost_of(limit: str, need: Need, reserve: Reserve) -> float:
    """What to reserve for a call on one limit, a field of `flatout.Limits`."""
    if limit in ("rpm", "rpd"):
        return 1.0
    if limit == "itpm" or (limit == "tpm" and reserve == "input"):
        return need.input
    if limit == "otpm":
        return need.output
    if reserve == "max_tokens" and need.max_tokens is not None:
        return max(need.input, float(need.max_tokens))
    return need.input + need.output


def used_of(limit: str, need: Need, usage: Usage, reserve: Reserve) -> float | None:
    """What the provider charged for a call on a limit of tokens; None when that is not known."""
    given, taken = usage.input_tokens, usage.output_tokens
    if limit == "otpm":
        return float(taken) if taken is not None else None
    if given is None:
        return None
    if limit == "itpm":
        return float(given - (usage.cached_tokens or 0))
    if reserve == "input":
        return float(given)
    if reserve == "max_tokens" and need.max_tokens is not None:
        return float(max(given, need.max_tokens))  # charged on admission, and never given back
    return float(given + taken) if taken is not None else None


class _Reading(NamedTuple):
    """What each rule had charged when a call was sent, and what the call's answer said was left."""

    calls: int
    totals: tuple[float, float, float]  # by each of RULES
    sent: float
    left: float


class Charge:
    """How a provider charges tokens per minute.

    Args:
        rule: the rule to begin with.

    Attributes:
        rule: the rule that seems to apply.
    """

    __slots__ = (
        "_calls",
        "_fullest",
        "_last",
        "_most",
        "_output",
        "_reckoned",
        "_refusals",
        "_seen",
        "_sent",
        "_unsure",
        "rule",
    )

    def __init__(self, rule: Reserve) -> None:
        self.rule = rule
        self._calls = 0
        self._sent = (0.0, 0.0)  # tokens by ``max_tokens`` and by ``input``, charged when a call is sent
        self._output = 0.0  # tokens of answers, charged when a call is answered
        self._fullest = 0.0  # the most that was left so far
        self._unsure = UNSURE
        self._most = self._reckoned = 0.0  # the cost of calls with ``max_tokens``: by that, and by the rule
        self._refusals = 0  # those that another rule explains
        self._last: _Reading | None = None
        self._seen: dict[tuple[Reserve, bool], tuple[float, int]] = {}  # a factor, and how often in a row it was seen

    def __repr__(self) -> str:
        return f"Charge({self.rule})"

    def cost(self, limit: str, need: Need) -> float:
        """What to reserve for a call on one limit."""
        return cost_of(limit, need, self.rule)

    def used(self, limit: str, need: Need, usage: Usage) -> float | None:
        """What the provider charged for a call on a limit of tokens; None when that is not known."""
        return used_of(limit, need, usage, self.rule)

    @property
    def caution(self) -> float:
        """The provider may charge this many times our own count: while no comparison was made, by ``max_tokens``."""
        return self._most / self._reckoned if self._unsure > 0 and self._most > self._reckoned else 1.0

    def sent(self, need: Need) -> None:
        """A call was admitted."""
        most, given = self._sent
        self._calls += 1
        self._sent = (most + cost_of("tpm", need, "max_tokens"), given + need.input)
        if self._unsure > 0 and need.max_tokens is not None:
            self._most += cost_of("tpm", need, "max_tokens")
            self._reckoned += cost_of("tpm", need, self.rule)
        need.charged = (self._calls, (self._sent[1] + self._output, *self._sent))

    def answered(self, need: Need, usage: Usage) -> None:
        """A call was answered."""
        self._output += usage.output_tokens if usage.output_tokens is not None else need.output

    def told(self, need: Need, left: float, limit: float, sent: float, *, refills: bool) -> None:
        """An answer tells how much was left when its call was admitted.

        Args:
            need: the call's need, as it was admitted.
            left: tokens.
            limit: tokens per minute.
            sent: when the call was sent.
            refills: whether the limit may refill all the time, as a bucket does and a window does not.
        """
        if need.charged is None:
            return
        self._unsure -= 1
        new, last = _Reading(*need.charged, sent, left), self._last
        self._fullest = max(self._fullest, left)
        if last is None:
            self._last = new
        elif new.calls >= last.calls + SPAN and new.totals[0] - last.totals[0] >= PART * limit:
            self._last = new
            refilled = max(0.0, sent - last.sent) * limit / 60.0
            self._compare(last, new, 0.0, refills=False)
            if refills and refilled <= self._fullest - last.left:
                self._compare(last, new, refilled, refills=True)
            else:  # the bucket may have been full, so part of the refill was lost
                self._seen = {key: seen for key, seen in self._seen.items() if not key[1]}
            self._decide()

    def refused(self, need: Need, left: float) -> None:
        """A call was refused with this much left. If it needs less, the provider charges more than the rule says."""
        if cost_of("tpm", need, self.rule) * NEAR >= left:
            return
        dearer = [rule for rule in RULES if cost_of("tpm", need, rule) > left]
        if dearer:
            self._refusals += 1
            if self._refusals >= REFUSED:
                self.rule, self._refusals = dearer[0], 0

    def _compare(self, last: _Reading, new: _Reading, refilled: float, *, refills: bool) -> None:
        """Compare what was charged, given this refill, with what each rule says."""
        charged = last.left - new.left + refilled
        for rule, before, after in zip(RULES, last.totals, new.totals, strict=True):
            factor = charged / (after - before) if after > before else 0.0
            seen, times = self._seen.get((rule, refills), (factor, 0))
            agrees = factor > 0.0 and seen / AGREES < factor < seen * AGREES
            self._seen[rule, refills] = (factor, times + 1 if agrees else 1)

    def _decide(self) -> None:
        """Choose the rule that steadily comes nearest to what was charged, unless the present one is near enough."""
        near = {
            rule: (abs(math.log(factor)), times)
            for (rule, _), (factor, times) in self._seen.items()
            if 1.0 / NEAR < factor < NEAR
        }
        steady = [rule for rule, (_, times) in near.items() if times >= STEADY]
        if steady and self.rule not in near:
            self.rule = min(steady, key=near.__getitem__)
            self._seen.clear()
            self._unsure = 0
        elif self.rule in steady:
            self._unsure = 0
