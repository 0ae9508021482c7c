"""What may be sent within a budget, and by how much that may exceed it."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout.policies.spending import ENOUGH, GROWS, OVERTAKEN, SHAPES, Funds, Reservation, Shape, Shapes
from flatout.values.budget import OVER

MOST = 1.0


class Job:
    """Sends attempts as long as they fit, so many at once. Dearer attempts take longer, as long answers do."""

    def __init__(self, amount: float, at_once: int, share: Callable[[int], float]) -> None:
        self.funds = Funds(amount, OVER * amount)
        self.shape = Shape()
        self.most_at_once = 0
        self.blocked_at: float | None = None
        now, flying, numbers = 0.0, [], count()
        while True:
            while len(flying) < at_once:
                held = self.funds.take(self.shape, MOST)
                if held is None:
                    self.blocked_at = self.funds.spent if self.blocked_at is None else self.blocked_at
                    break
                number = next(numbers)
                cost = share(number) * MOST
                heapq.heappush(flying, (now + 0.02 + cost, number, cost, held))
            if not flying:
                return
            self.most_at_once = max(self.most_at_once, len(flying))
            now, _, cost, held = heapq.heappop(flying)
            self.funds.spent += cost
            self.funds.release(held, cost)


KINDS: dict[str, Callable[[Random], float]] = {
    "equal": lambda _: 0.02,
    "lognormal": lambda chance: min(1.0, 0.02 * chance.lognormvariate(0, 1)),
    "heavy": lambda chance: min(1.0, 0.005 * chance.paretovariate(1.2)),
    "two kinds": lambda chance: 0.01 if chance.random() < 0.97 else 0.5,
    "rarely endless": lambda chance: 0.01 if chance.random() < 0.995 else 1.0,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("amount", "at_once"), [(100.0, 200), (500.0, 500)])
def test_a_budget_is_kept_and_used_while_many_are_in_flight(kind: str, amount: float, at_once: int):
    """A run would cost more than was allowed, or go a few calls at a time although most of the money is left."""
    for seed in range(3):
        chance = Random(seed)
        job = Job(amount, at_once, lambda _, chance=chance: KINDS[kind](chance))
        assert amount - MOST <= job.funds.spent <= amount * (1 + OVER)
        if kind == "equal":
            assert job.most_at_once == at_once  # all their worst cases together are more than the budget


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.001, 1.0), st.floats(0.01, 1.0)), min_size=1, max_size=6),
    st.floats(5.0, 300.0),
    st.integers(1, 150),
    st.integers(0, 1_000),
)
def test_whatever_the_lengths_a_budget_is_kept(kinds, amount, at_once, seed):
    """A mixture of answers that nobody thought of would cost more than was allowed."""
    chance = Random(seed)
    shares, weights = zip(*kinds, strict=True)
    job = Job(amount, at_once, lambda _: chance.choices(shares, weights)[0])
    assert job.funds.spent <= amount * (1 + OVER) + 1e-9


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30), st.floats(0.5, 100.0), st.integers(1, 60), st.integers(1, 9)
)
def test_the_worst_is_told_truly(shares, amount, at_once, seldom):
    """Lengths that turn against the forecast could cost more than was ever said to be possible."""

    def share(number: int) -> float:  # short for long, then as long as can be
        return shares[number % len(shares)] if number < seldom * 50 else 1.0

    job = Job(amount, at_once, share)
    assert job.funds.spent - amount <= max(0.0, job.funds.exposed) + 1e-9


def test_nothing_is_exceeded_before_enough_is_known():
    """The first calls of a run would be sent on a guess."""
    job = Job(5.0, 100, lambda number: 0.01 if number < ENOUGH - 1 else 1.0)
    assert job.funds.spent <= 5.0 * (1 + OVER)


def test_longer_answers_are_noticed():
    """A run whose rows become harder would overspend by what it had learnt from the easy ones."""
    job = Job(500.0, 100, lambda number: min(1.0, 0.01 + number / 20_000))
    assert 499.0 <= job.funds.spent <= 500.0 * (1 + OVER)


@settings(max_examples=40, deadline=None)
@given(
    st.floats(0.0, 1.0),
    st.floats(0.002, 0.1),
    st.floats(0.0, 0.5),
    st.sampled_from([(100.0, 30), (100.0, 200), (500.0, 500)]),
    st.integers(0, 1_000),
)
def test_answers_that_are_ten_times_as_long_all_at_once_are_within_the_stated_bound(when, before, spread, job, seed):
    """A run whose rows suddenly become hard would exceed its budget by what is in flight then, a seventh of it."""
    (amount, at_once), chance = job, Random(seed)
    change = when * amount / before

    def share(number: int) -> float:
        usual = before if number < change else 10 * before
        return min(1.0, usual * chance.lognormvariate(-spread * spread / 2, spread))

    assert Job(amount, at_once, share).funds.spent <= amount * (1 + OVER)


def test_early_in_a_budget_as_many_are_in_flight_as_may_be():
    """Calls would wait for money while most of it is left."""
    job = Job(500.0, 200, lambda _: 0.02)
    assert job.most_at_once == 200
    assert job.blocked_at is not None
    assert job.blocked_at >= 500.0 - 1.5 * 200 * 0.02 * GROWS


def test_one_that_was_never_answered_frees_all_it_held():
    """Timeouts would block a budget that is hardly used."""
    funds, shape = Funds(10.0), Shape()
    for _ in range(1_000):
        held = funds.take(shape, MOST)
        assert held is not None
        funds.release(held, None)
    assert (funds.reserved, funds.left, funds.open) == (0.0, 10.0, 0)


def test_shapes_are_bounded():
    """A million different calls would each be kept in memory."""
    shapes = Shapes()
    found = {id(shapes.of(str(number))) for number in range(10 * SHAPES)}
    assert len(found) == SHAPES + 1
    assert shapes.of("3") is shapes.of("3")


def test_its_repr_shows_the_sums():
    """A blocked budget could not be looked into."""
    assert repr(Funds(5.0)) == "Funds(spent=$0.0000, reserved=$0.0000, amount=$5)"
    assert repr(Shape()) == "Shape(mean=1.0000, seen=0)"


def test_an_attempt_that_many_others_overtook_holds_up_no_learning():
    """One call that hangs for an hour would have the worst case reserved for all others meanwhile."""
    shape = Shape()
    hangs = Reservation(shape, 1.0)
    shape.begin(hangs)
    for _ in range(2 * OVERTAKEN + ENOUGH):
        held = Reservation(shape, 1.0)
        shape.begin(held)
        shape.end(held, 0.01)
    assert hangs.late
    assert shape.seen >= ENOUGH
