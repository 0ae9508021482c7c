"""What is assumed of answers that nobody has asked for: a wide range, because nobody knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flatout.policies.forecast.totals import Draw, Observed, Rest
from flatout.policies.pacing.tokens import MARGIN, USUAL_OUTPUT
from flatout.values import Call

WIDE = 4.0
"""All answers of a job may be this many times as long as usual, or as short, and as slow."""

FIRST = 1.0
"""Seconds until an answer begins,"""

TOKEN = 0.02
"""and for each token of it."""

FLEX = (60.0, 900.0)
"""Seconds that an answer of a flex lane takes: Gemini names 1 to 15 minutes, and OpenAI says to allow 15."""


def assumed(
    rests: Sequence[Rest], cost: Callable[[float, float], float], example: Call, draw: Draw, draws: int
) -> list[list[Rest]]:
    """Copies of the strata, each with other answers.

    Args:
        rests: the strata, in which nothing was observed.
        cost: the US dollars of tokens in and out.
        example: one of the calls.
        draw: gives random numbers.
        draws: how many copies.
    """
    return [
        _assumed(rests, cost, example, WIDE ** (2.0 * draw() - 1.0), WIDE ** (2.0 * draw() - 1.0)) for _ in range(draws)
    ]


def in_flex(draws: Sequence[Sequence[Rest]], draw: Draw) -> list[list[Rest]]:
    """The same strata, with answers that take as long as those of a flex lane: all of a job at about the same pace."""
    least, most = FLEX
    return [
        [rest._replace(observed=[one._replace(seconds=seconds) for one in rest.observed]) for rest in rests]
        for rests, seconds in ((rests, least * (most / least) ** draw()) for rests in draws)
    ]


def _assumed(
    rests: Sequence[Rest], cost: Callable[[float, float], float], example: Call, longer: float, slower: float
) -> list[Rest]:
    output = USUAL_OUTPUT * longer
    if example.max_tokens is not None:
        output = min(output, float(example.max_tokens))
    seconds = (FIRST + TOKEN * output) * slower
    found = []
    for rest in rests:
        size = sum(rest.sizes) / max(1, len(rest.sizes))
        given = size / MARGIN
        cost_in = cost(given, 0.0)
        one = Observed(size, given, output, 0.0, cost_in, cost(given, output) - cost_in, seconds, example.max_tokens)
        found.append(rest._replace(observed=[one]))
    return found
