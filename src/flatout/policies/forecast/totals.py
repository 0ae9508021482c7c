"""Forecasts sums, such as the tokens and the cost of all calls that are left, from a stratified sample.

The sample is drawn again from itself, many times (the bootstrap; for strata with few rows in the form of Rao and Wu
1988, which draws one fewer than there are). Each time it gives other sums; the spread of these is the forecast's. So no
shape of the distribution is assumed.

What grows with a prompt's length is forecast by its ratio to that, since the lengths of all prompts are known. The rest
is forecast by its mean. The rows that are left vary around both, too: a part for that is added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

WIDER = 1.2
"""The power to which a draw's distance from the middle is raised, as a factor. A sample of skewed numbers, such as the
lengths of answers, seldom has the longest, and so shows too little of the spread: of 217 simulated jobs, 71 % cost
between the p10 and the p90 of the plain draws, and not 80 %."""

WIDER_IN_TIME = 1.1
"""The power for times. Refusals and failures of the provider change them, too: of 120 jobs, 73 % took between the p10
and the p90 of the plain draws."""

Draw = Callable[[], float]
"""Gives a random number from 0 to below 1."""


class Observed(NamedTuple):
    """What one call of the sample took.

    Attributes:
        size: the length of its prompt, as it could be told before it was asked.
        input: input tokens.
        output: output tokens.
        reasoning: output tokens that were reasoning.
        cost_in: US dollars for its input; 0 if the price is not known.
        cost_out: US dollars for the rest.
        seconds: the time from its sending to its answer, retries included.
        max_tokens: the most tokens that the call allowed.
    """

    size: float
    input: float
    output: float
    reasoning: float
    cost_in: float
    cost_out: float
    seconds: float
    max_tokens: int | None = None


class Rest(NamedTuple):
    """The rows of a stratum that are left to ask, and what is known of such rows.

    Attributes:
        rows: how many there are.
        size: the sum of their sizes.
        sizes: the sizes of some of them.
        observed: what calls of this stratum took.
    """

    rows: int
    size: float
    sizes: Sequence[float]
    observed: Sequence[Observed]


class Sums(NamedTuple):
    """The sums over rows that are left."""

    input: float = 0.0
    output: float = 0.0
    reasoning: float = 0.0
    cost: float = 0.0

    def plus(self, other: Sums) -> Sums:
        """Both together."""
        return Sums(*map(float.__add__, self, other))


def drawn_again(rests: Sequence[Rest], draw: Draw) -> list[Rest]:
    """The same strata, each with a sample that is drawn from its own."""
    return [rest._replace(observed=_again(rest.observed, draw)) for rest in rests]


def sums(rests: Sequence[Rest], draw: Draw) -> Sums:
    """What the rows of all strata take together, if their calls are as those that were observed."""
    whole = Sums()
    for rest in rests:
        if rest.rows:
            whole = whole.plus(_sums(rest, rest.observed[int(draw() * len(rest.observed))]))
    return whole


def per_call(rests: Sequence[Rest]) -> tuple[float, float]:
    """What a call costs on average: US dollars for each unit of its size, and beside that."""
    size, rows = sum(rest.size for rest in rests) or 1.0, sum(rest.rows for rest in rests) or 1
    cost_in = cost_out = 0.0
    for rest in rests:
        observed = rest.observed
        cost_in += rest.size * sum(each.cost_in for each in observed) / (sum(each.size for each in observed) or 1.0)
        cost_out += rest.rows * sum(each.cost_out for each in observed) / len(observed)
    return cost_in / size, cost_out / rows


def widened(values: Sequence[float], power: float = WIDER) -> list[float]:
    """Draws of one number, spread further around their middle; see `WIDER`."""
    middle = sorted(values)[len(values) // 2]
    return [middle * (value / middle) ** power for value in values] if middle > 0.0 else list(values)


def joined(rests: Sequence[Rest], least: int = 2) -> list[Rest]:
    """The strata, each with at least ``least`` observed calls: smaller ones are joined to their neighbours."""
    found: list[Rest] = []
    for rest in rests:
        if found and (len(rest.observed) < least or len(found[-1].observed) < least):
            before = found.pop()
            rest = Rest(
                before.rows + rest.rows,
                before.size + rest.size,
                [*before.sizes, *rest.sizes],
                [*before.observed, *rest.observed],
            )
        found.append(rest)
    return found


def _again(observed: Sequence[Observed], draw: Draw) -> list[Observed]:
    count = len(observed)
    return [observed[int(draw() * count)] for _ in range(max(1, count - 1))]


def _sums(rest: Rest, one: Observed) -> Sums:
    """The sums of one stratum, whose rows vary around their means as ``one`` does."""
    observed, spread = rest.observed, math.sqrt(rest.rows)
    count = len(observed)
    size = sum(each.size for each in observed) or 1.0
    input_ = sum(each.input for each in observed) / size
    output = sum(each.output for each in observed) / count
    reasoning = sum(each.reasoning for each in observed) / count
    cost_in = sum(each.cost_in for each in observed) / size
    cost_out = sum(each.cost_out for each in observed) / count
    return Sums(
        max(0.0, input_ * rest.size + spread * (one.input - input_ * one.size)),
        max(0.0, output * rest.rows + spread * (one.output - output)),
        max(0.0, reasoning * rest.rows + spread * (one.reasoning - reasoning)),
        max(
            0.0,
            cost_in * rest.size
            + cost_out * rest.rows
            + spread * (one.cost_in - cost_in * one.size + one.cost_out - cost_out),
        ),
    )
