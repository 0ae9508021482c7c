"""What refusals prove of a bucket."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout.policies.accepted import Accepted
from flatout.policies.evidence import DEPTHS, LATELY, Bounds, Evidence


class Bucket:
    """A token bucket that answers at once, asked at a rate that changes as told."""

    def __init__(self, rate: float, depth: float) -> None:
        self.rate, self.capacity = rate, max(1.0, rate * depth)
        self.level, self.now, self.accepted = self.capacity, 0.0, 0
        self.log = Accepted(0.0)
        self.evidence = Evidence(self.log)

    def ask(self, every: float) -> list[Bounds] | None:
        """One request; what its refusal proves, if it is refused."""
        self.now += every
        self.level = min(self.capacity, self.level + every * self.rate)
        if self.level < 1.0:
            return self.evidence.refused(self.accepted, self.now)
        self.level -= 1.0
        self.accepted += 1
        self.log.note(self.now, self.accepted)
        return None

    def empty(self, every: float) -> list[Bounds]:
        """Ask until it refuses."""
        for _ in range(100_000):
            if (found := self.ask(every)) is not None:
                return found
        raise AssertionError("it never refused")


paces = st.lists(st.tuples(st.floats(0.3, 3.0), st.integers(1, 200)), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.floats(0.5, 100.0), st.sampled_from(DEPTHS), paces)
def test_the_true_rate_is_never_excluded(rate, depth, paces):
    """The search would settle beside the limit, and be refused for ever, or leave a part of it unused for ever."""
    bucket = Bucket(rate, max(depth, 1.0 / rate))
    for factor, count in paces:
        for _ in range(count):
            found = bucket.ask(1.0 / (rate * factor))
            if found is None or rate * depth < 1.0:  # a bucket always holds one
                continue
            assert min(bounds.least for bounds in found) <= rate * 1.05
            # What is logged are tenths of seconds, of a minute: when it was full last is a guess beyond that.
            assert max(bounds.most for bounds in found) >= rate * 0.7


@pytest.mark.parametrize("depth", [1.0, 6.0, 30.0, 60.0])
def test_two_refusals_tell_the_rate_whatever_the_depth(depth):
    """A limit would be looked for by being refused again and again."""
    bucket = Bucket(10.0, depth)
    bucket.empty(1.0 / 30.0)
    for _ in range(200):
        bucket.ask(1.0 / 9.5)
    found = bucket.empty(1.0 / 12.0)
    assert found[0].most <= 10.0 * 1.05
    assert found[-1].least >= 10.0 * 0.9


def test_a_shallow_bucket_is_told_from_a_deep_one():
    """A bucket of a minute, taken for one of a second, would be refused at once."""
    deep, shallow = Bucket(1.0, 60.0), Bucket(10.0, 1.0)
    for bucket in (deep, shallow):
        bucket.empty(1.0 / 20.0)
        bucket.ask(3.0)
    assert deep.empty(1.0 / 20.0)[0].depth > 20.0
    assert shallow.empty(1.0 / 20.0)[0].depth == 1.0


def test_a_limit_that_fell_takes_its_proofs_along_in_time():
    """What was true of the old limit would exclude the new one."""
    bucket = Bucket(10.0, 1.0)
    bucket.empty(1.0 / 20.0)
    bucket.rate, bucket.capacity = 5.0, 5.0
    bucket.empty(1.0 / 20.0)
    for _ in range(int(LATELY * 4.5)):
        bucket.ask(1.0 / 4.5)
    shallowest = bucket.empty(1.0 / 8.0)[0]
    assert shallowest.depth == 1.0
    assert shallowest.least <= 5.0 * 1.03
    assert shallowest.most >= 5.0 * 0.95


def test_what_was_proved_long_ago_proves_nothing():
    """A limit that was raised would be held to be the old one."""
    bucket = Bucket(10.0, 60.0)
    bucket.empty(1.0 / 20.0)
    bucket.empty(1.0 / 12.0)
    bucket.rate, bucket.capacity = 20.0, 1_200.0
    for _ in range(int(2 * LATELY * 18)):
        assert bucket.ask(1.0 / 18.0) is None
    assert bucket.empty(1.0 / 40.0)[0].most >= 18.0


def test_a_refusal_is_disproved_by_what_is_accepted_after_it():
    """A 429 that has nothing to do with a limit would be believed for good."""
    bucket = Bucket(100.0, 1.0)
    for _ in range(100):
        bucket.ask(1.0 / 10.0)
    bucket.evidence.refused(bucket.accepted, bucket.now)  # at a tenth of the limit
    assert not bucket.evidence.disproved
    for _ in range(100):
        bucket.ask(1.0 / 30.0)
    bucket.evidence.refused(bucket.accepted, bucket.now)
    assert bucket.evidence.disproved


def test_real_refusals_are_not_disproved():
    """A real limit would be taken for strays, and stormed."""
    bucket = Bucket(10.0, 5.0)
    for _ in range(20):
        bucket.empty(1.0 / 11.0)
        assert not bucket.evidence.disproved
