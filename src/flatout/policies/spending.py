"""Decides whether an attempt fits into what is left of a budget.

The worst case of an attempt is far above what it costs: a tokenizer makes one token of four bytes, and few answers
reach `max_tokens`. If the worst case of everything in flight is reserved, few calls are in flight at a time, long
before the budget is used. So each kind of call (a *shape*) is watched: what *share* of its worst case does an attempt
really cost? An attempt fits in one of two ways:

- The worst cases of everything in flight together exceed what is left by no more than ``over``. This is certain,
  whatever the answers are. It decides at the end of a budget, where few attempts are in flight.
- What is left holds two sums. One is an upper quantile of what everything in flight will cost together: the mean plus
  `DEVIATIONS` standard deviations, and `LONG` attempts that reach their worst case. The other is `GROWS` times the
  mean, and as many times one standard deviation: answers may become longer from one call to the next, and what is in
  flight then cannot be called back. It binds late in a budget: early, much more than that is left.

What is in flight is no fair sample: short answers are over soon, long ones remain (the inspection paradox). So the
quantile is that of a *cohort*: all attempts since the oldest one in flight, those that are over included. Their costs
are as the shape's costs are, whichever of them are over; what is already paid is subtracted. An attempt that is
overtaken by many others leaves the cohort, and counts its worst case from then on. Shares are learnt in the order
of the cohort, and beside that as they come, so that a change of the lengths is noticed soon: the higher mean counts.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable
from typing import NamedTuple

ENOUGH = 30
"""Answers of a shape after which its shares are used."""

UNSEEN = 3.0
"""Worst cases that are assumed to be among the answers seen: of what happens to 3 in n calls, n calls show at least one
in 95 % of cases (the rule of three; Hanley and Lippman-Hand 1983)."""

DEVIATIONS = 4.0
"""Standard deviations to reserve beyond the mean."""

LONG = 4
"""Attempts in flight that may reach their worst case beyond that."""

GROWS = 10.0
"""The factor by which all answers in flight may become longer at once. When those of the benchmark became 10 times as
long, 10 exceeded a budget of $5 by 0.2 % at most; 6 by 1.4 %; 1, which is no reserve, by 14 %."""

OVERTAKEN = 8
"""A cohort has at most this many times as many attempts as are in flight."""

SHAPES = 256
"""Shapes that are learnt apart; calls of further shapes reserve their worst case."""

_FORGET = 1.0 - 1.0 / 1_000
"""The weight that an answer keeps when the next one comes."""

_LATELY = 1.0 / 50
"""The weight of the newest answer in the mean of late."""


class Sums(NamedTuple):
    """What some attempts in flight will cost together, in US dollars.

    Attributes:
        likely: on average.
        variance: of that.
        grown: on average, if all answers are `GROWS` times as long as before.
    """

    likely: float
    variance: float
    grown: float


NOTHING = Sums(0.0, 0.0, 0.0)


class Shape:
    """The attempts of one shape: what they cost, and what those in flight will cost.

    Attributes:
        seen: the answers whose costs are known.
        sums: the shape's part of the sums of its `Funds`, as it was last added up.
    """

    __slots__ = (
        *("_cohort", "_flying", "_late", "_lately", "_open", "_paid", "_shares", "_squares", "_weight", "_whole"),
        *("_whole_squares", "seen", "sums"),
    )

    def __init__(self) -> None:
        self.seen: int = 0
        self.sums = NOTHING
        self._weight = self._shares = self._squares = 0.0  # of the answers seen: weights, shares, squares of shares
        self._lately = 0.0
        self._cohort: deque[Reservation] = deque()
        self._whole = self._whole_squares = 0.0  # worst cases of the cohort, and their squares
        self._paid = 0.0  # by the cohort
        self._open = 0.0  # worst cases of its attempts in flight
        self._flying = 0  # and their number
        self._late = 0.0  # worst cases of attempts that left the cohort in flight

    def __repr__(self) -> str:
        return f"Shape(mean={self._share()[0]:.4f}, seen={self.seen})"

    def expects(self, more: float = 0.0) -> Sums:
        """What the attempts in flight cost, together with one more of this worst case."""
        most = self._open + more
        if self.seen < ENOUGH:
            return Sums(most + self._late, 0.0, most + self._late)
        mean, variance = self._share()
        share = max(mean, self._lately)
        likely = max(most * share, (self._whole + more) * share - self._paid)
        grown = min(most, likely * GROWS)
        return Sums(likely + self._late, (self._whole_squares + more * more) * variance, grown + self._late)

    def begin(self, held: Reservation) -> None:
        """Hear that an attempt is reserved."""
        most = held.most
        self._cohort.append(held)
        self._whole += most
        self._whole_squares += most * most
        self._flying += 1
        self._open += most
        if len(self._cohort) > OVERTAKEN * (self._flying + 1):
            first = self._leave()
            first.late = True
            self._flying -= 1
            self._open -= first.most
            self._late += first.most
            self._shrink()

    def end(self, held: Reservation, cost: float | None) -> None:
        """Hear that an attempt is over, and what it cost."""
        held.cost = cost
        held.ended = True
        most = held.most
        if cost is not None and most > 0.0:
            self._lately += (cost / most - self._lately) * _LATELY
        if held.late:
            self._late -= most
            self._learn(held)
            return
        self._flying -= 1
        self._open -= most
        if cost is None:  # it was not answered, so nothing is to be expected in its place
            self._whole -= most
            self._whole_squares -= most * most
            held.most = 0.0
        else:
            self._paid += cost
        if self._cohort[0].ended:
            self._shrink()

    def _share(self) -> tuple[float, float]:
        """The mean and the variance of the shares."""
        if self.seen < ENOUGH:
            return 1.0, 0.0
        weight = self._weight + UNSEEN
        mean = (self._shares + UNSEEN) / weight
        return mean, max(0.0, (self._squares + UNSEEN) / weight - mean * mean)

    def _shrink(self) -> None:
        cohort = self._cohort
        while cohort and cohort[0].ended:
            self._learn(self._leave())
        if not cohort:
            self._whole = self._whole_squares = self._open = self._paid = 0.0

    def _leave(self) -> Reservation:
        first = self._cohort.popleft()
        self._whole -= first.most
        self._whole_squares -= first.most * first.most
        self._paid -= first.cost or 0.0
        return first

    def _learn(self, held: Reservation) -> None:
        if held.cost is None or held.most <= 0.0:
            return
        share = held.cost / held.most
        self._weight = self._weight * _FORGET + 1.0
        self._shares = self._shares * _FORGET + share
        self._squares = self._squares * _FORGET + share * share
        self.seen += 1


class Reservation:
    """The money reserved for one attempt.

    Attributes:
        shape: the shape of its call; None if that is not learnt.
        most: its worst case, in US dollars.
        cost: what it cost; None if unknown.
        ended: whether it is over.
        late: whether it was overtaken by many others.
    """

    __slots__ = ("cost", "ended", "late", "most", "shape")

    def __init__(self, shape: Shape, most: float) -> None:
        self.shape: Shape = shape
        self.most: float = most
        self.cost: float | None = None
        self.ended: bool = False
        self.late: bool = False


class Loan(NamedTuple):
    """The answer to a request for money.

    Attributes:
        usd: how much was granted; 0 for none.
        left: how much nobody holds after that.
    """

    usd: float
    left: float


class Funds:
    """What is spent and reserved of an amount of money, in US dollars.

    Attributes:
        amount: what may be spent.
        over: by how much the amount may be exceeded.
        spent: what was spent; unknown costs count by their estimates.
        open: the number of attempts in flight.
        exposed: the most by which the amount could ever have been exceeded, had all answers in flight been the longest
            possible at once.
    """

    __slots__ = (
        *("_changed", "_grown", "_largest", "_likely", "_most", "_variance"),
        *("amount", "exposed", "open", "over", "spent"),
    )

    def __init__(self, amount: float, over: float = 0.0) -> None:
        self.amount = amount
        self.over = over
        self.spent = 0.0
        self.open = 0
        self.exposed = 0.0
        self._most = self._largest = 0.0
        self._likely = self._variance = self._grown = 0.0
        self._changed: set[Shape] = set()  # shapes whose sums are to be added up anew

    def __repr__(self) -> str:
        return f"Funds(spent=${self.spent:.4f}, reserved=${self.reserved:.4f}, amount=${self.amount:g})"

    @property
    def reserved(self) -> float:
        """What the attempts in flight are likely to cost."""
        self._add_up()
        return self._likely

    @property
    def left(self) -> float:
        """What is neither spent nor likely to be spent by what is in flight."""
        return self.amount - self.spent - self.reserved

    @property
    def spare(self) -> float:
        """What is left even if all attempts in flight cost the most that they may; 0 or more."""
        return max(0.0, self.amount - self.spent - self._most)

    def lacks(self, shape: Shape, most: float) -> float:
        """How much too little is left for an attempt with this worst case; 0 or less if it fits."""
        self._add_up()
        free = self.amount - self.spent
        now, then = shape.sums, shape.expects(most)
        likely = self._likely - now.likely + then.likely - free
        certain = max(likely, self._most + most - free - self.over)
        if certain <= 0.0:
            return certain
        deviation = math.sqrt(max(0.0, self._variance - now.variance + then.variance))
        usual = likely + DEVIATIONS * deviation + LONG * max(self._largest, most)
        grown = self._grown - now.grown + then.grown + GROWS * deviation - free
        return min(certain, max(usual, grown))

    def take(self, shape: Shape, most: float) -> Reservation | None:
        """Reserve an attempt's money; None if it does not fit."""
        worst = self._most + most
        over = worst + self.spent - self.amount
        if over > 0.0:  # otherwise even the worst fits, and nothing needs to be added up
            if self.lacks(shape, most) > 0.0:
                return None
            self.exposed = max(self.exposed, over)
        held = Reservation(shape, most)
        self.open += 1
        self._most = worst
        self._largest = max(most, self._largest * 0.999)  # a large call that is over is forgotten slowly
        shape.begin(held)
        self._changed.add(shape)
        return held

    def release(self, held: Reservation, cost: float | None) -> None:
        """Give a reservation back. What the attempt has cost is in ``spent`` by now."""
        shape = held.shape
        self.open -= 1
        self._most -= held.most
        shape.end(held, cost)
        self._changed.add(shape)
        if not self.open:
            self._begin_anew()

    def _add_up(self) -> None:
        """Renew the sums. Most attempts need none of them: see `take`."""
        for shape in self._changed:
            now, then = shape.sums, shape.expects()
            self._likely += then.likely - now.likely
            self._variance += then.variance - now.variance
            self._grown += then.grown - now.grown
            shape.sums = then
        self._changed.clear()

    def _begin_anew(self) -> None:
        """Nothing is in flight: drop what rounding has left in the sums."""
        for shape in self._changed:
            shape.sums = NOTHING
        self._changed.clear()
        self._likely = self._variance = self._grown = self._most = self._largest = 0.0


class Shapes:
    """The shapes of one target's calls."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[Hashable, Shape] = {}

    def of(self, key: Hashable) -> Shape:
        """The shape with a key. All keys beyond the first `SHAPES` share one."""
        shape = self._known.get(key)
        if shape is None:
            if len(self._known) >= SHAPES:
                key = None
            shape = self._known.setdefault(key, Shape())
        return shape
