"""How much of a budget is used, how soon, and by how much it is exceeded: ``python -m benchmarks.budgets``.

The prices are gpt-5-mini's, without `max_tokens`; the lengths of answers are of kinds that nothing was tuned on. Beside
the learnt bound stands the reservation of every attempt's worst case, with and without waiting: a tool that does not
wait says that the budget is used up as soon as the worst cases of what is in flight do not fit (``refuses at``).

Last figures (2 cores, Python 3.11): see ``docs/budgets.md``.
"""

from __future__ import annotations

import argparse
import heapq
import math
from collections.abc import Callable
from itertools import count
from random import Random
from typing import NamedTuple
from unittest.mock import patch

from flatout.policies import spending
from flatout.policies.pacing.tokens import ASSUMED_OUTPUT
from flatout.policies.spending import Funds, Shape
from flatout.values.budget import OVER

INPUT, OUTPUT = 0.25e-6, 2e-6
BYTES, TOKENS = 2_000, 500
SPEED = 80.0  # tokens per second

MOST = ASSUMED_OUTPUT * OUTPUT + BYTES * INPUT
NEVER = 10**9


def _lognormal(median: float, sigma: float) -> Callable[[Random, float], float]:
    return lambda chance, _: chance.lognormvariate(math.log(median), sigma)


def _suddenly(when: float, times: int) -> Callable[[Random, float], float]:
    return lambda chance, used: chance.lognormvariate(math.log(200 if used < when else 200 * times), 0.7)


KINDS: dict[str, Callable[[Random, float], float]] = {
    "labels of one word": lambda chance, _: chance.randint(2, 6),
    "summaries": _lognormal(180, 0.4),
    "chat": _lognormal(260, 1.0),
    "reasoning": _lognormal(1_100, 1.1),
    "heavy tail": lambda chance, _: 90 * chance.paretovariate(1.3),
    "code or a line": lambda chance, _: 40 if chance.random() < 0.9 else chance.uniform(2_000, 9_000),
    "1 in 300 endless": lambda chance, _: 150 if chance.random() > 1 / 300 else ASSUMED_OUTPUT,
    "twice as long at the end": lambda chance, used: chance.lognormvariate(math.log(200 * (1 + used)), 0.7),
    **{
        f"{times} times from {when:.0%} on": _suddenly(when, times)
        for when, times in ((0.5, 10), (0.7, 10), (0.8, 10), (0.9, 10), (0.95, 10), (0.99, 10), (0.8, 30))
    },
}


class End(NamedTuple):
    used: float
    seconds: float
    refuses_at: float


def spend(usd: float, at_once: int, kind: str, seed: int, *, learns: bool) -> End:
    """Send attempts until no more fit."""
    chance, numbers = Random(seed), count()
    funds, shape = Funds(usd, OVER * usd if learns else 0.0), Shape()
    now, refused_at = 0.0, None
    flying: list[tuple[float, int, float, spending.Reservation]] = []
    with patch.object(spending, "ENOUGH", spending.ENOUGH if learns else NEVER):
        while True:
            while len(flying) < at_once:
                held = funds.take(shape, MOST)
                if held is None:
                    refused_at = funds.spent if refused_at is None else refused_at
                    break
                tokens = min(ASSUMED_OUTPUT, max(1, int(KINDS[kind](chance, funds.spent / usd))))
                cost = tokens * OUTPUT + TOKENS * INPUT
                heapq.heappush(flying, (now + 0.5 + tokens / SPEED, next(numbers), cost, held))
            if not flying:
                return End(funds.spent, now, refused_at or 0.0)
            now, _, cost, held = heapq.heappop(flying)
            funds.spent += cost
            funds.release(held, cost)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    print(f"{'':24} {'learnt: used, and over':>31} {'seconds':>8}   {'worst case: used':>16} {'seconds':>8} refuses at")
    for usd, at_once in ((5.0, 200), (50.0, 1_000)):
        print(f"${usd:g}, {at_once:,} at once; may be exceeded by ${OVER * usd:g}")
        for kind in KINDS:
            learnt = [spend(usd, at_once, kind, 1_000 + seed, learns=True) for seed in range(options.seeds)]
            worst = spend(usd, at_once, kind, 1_000, learns=False)
            used = [end.used for end in learnt]
            over = max(0.0, max(used) - usd)
            seconds = sum(end.seconds for end in learnt) / len(learnt)
            told = f"{min(used) / usd:7.2%} to {max(used) / usd:7.2%}, ${over:.4f} {seconds:8.0f}"
            beside = f"{worst.used / usd:16.2%} {worst.seconds:8.0f} ${worst.refuses_at:.2f}"
            print(f"{kind:24} {told:>40}   {beside}", flush=True)


if __name__ == "__main__":
    main()
