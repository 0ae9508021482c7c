"""Who goes next, where several callers wait."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flatout.policies.fairness import PASSES, Ahead, FairQueue


def drained(queue: FairQueue[str], weights: dict[str, int] | None = None) -> list[str]:
    taken = []
    while (item := queue.take(lambda _: True, lambda caller: (weights or {}).get(caller, 1))) is not None:
        taken.append(item)
    return taken


def filled(*items: tuple[str, str, float]) -> FairQueue[str]:
    queue: FairQueue[str] = FairQueue()
    for item, caller, priority in items:
        queue.add(item, caller, priority)
    return queue


def test_callers_take_turns():
    """Somebody with many calls would hold up everybody else."""
    queue = filled(*((f"a{n}", "a", 0) for n in range(4)), ("b0", "b", 0), ("c0", "c", 0))
    assert drained(queue) == ["a0", "b0", "c0", "a1", "a2", "a3"]


def test_a_weight_is_that_many_items_a_turn():
    """A key that was given a larger share would not get it."""
    queue = filled(*((f"a{n}", "a", 0) for n in range(4)), *((f"b{n}", "b", 0) for n in range(4)))
    assert drained(queue, {"a": 3}) == ["a0", "a1", "a2", "b0", "a3", "b1", "b2", "b3"]


def test_a_lower_priority_has_a_turn_now_and_then():
    """Calls of low priority would wait for ever while others come."""
    queue = filled(("low", "a", -1), *((f"h{n}", "b", 1) for n in range(40)))
    assert drained(queue).index("low") == PASSES


def test_those_that_are_not_ready_are_passed_over_and_keep_their_place():
    """A caller that has used up its own limit would hold up the others."""
    queue = filled(("a0", "a", 0), ("b0", "b", 0), ("b1", "b", 0))
    assert queue.take(lambda caller: caller == "b", lambda _: 1) == "b0"
    assert queue.take(lambda caller: False, lambda _: 1) is None
    assert drained(queue) == ["a0", "b1"]


def test_a_turn_that_ends_early_takes_nothing_from_the_next_caller():
    """A caller would get less than its share whenever the one before had fewer calls than its own."""
    queue = filled(("a0", "a", 0), ("b0", "b", 0), ("b1", "b", 0), ("c0", "c", 0))
    assert drained(queue, {"a": 2, "b": 2, "c": 2}) == ["a0", "b0", "b1", "c0"]


def test_a_turn_ends_also_while_the_first_caller_is_not_ready():
    """Behind a caller that has used up its own limit, the next one would keep its turn, and the others get none."""
    queue = filled(("a0", "a", 0), *((f"b{n}", "b", 0) for n in range(3)), ("c0", "c", 0))
    assert [queue.take(lambda caller: caller != "a", lambda _: 2) for _ in range(4)] == ["b0", "b1", "c0", "b2"]
    assert drained(queue) == ["a0"]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([-1.0, 0.0, 1.0]), st.booleans())),
    st.dictionaries(st.sampled_from("abc"), st.integers(1, 3)),
)
def test_every_item_goes_once_and_each_callers_in_order(
    entries: list[tuple[str, float, bool]], weights: dict[str, int]
):
    """A call would be lost, or asked twice."""
    queue: FairQueue[str] = FairQueue()
    kept: dict[tuple[str, float], list[str]] = {}
    for number, (caller, priority, stays) in enumerate(entries):
        queue.add(f"{number}", caller, priority)
        if stays:
            kept.setdefault((caller, priority), []).append(f"{number}")
    for number, (caller, priority, stays) in enumerate(entries):
        if not stays:
            assert queue.remove(f"{number}", caller, priority)
            assert not queue.remove(f"{number}", caller, priority)
    taken = drained(queue, weights)
    assert sorted(taken) == sorted(item for items in kept.values() for item in items)
    for items in kept.values():
        assert [item for item in taken if item in items] == items
    assert not queue


@given(st.lists(st.floats(0, 10), max_size=200), st.integers(1, 8))
def test_at_least_one_may_go_ahead_and_never_too_many(waits: list[float], most: int):
    """Nobody would go any more, or a slow target's queue would be full of one caller's calls."""
    ahead = Ahead(most)
    for seconds in waits:
        ahead.waited(seconds)
        assert 1 <= ahead.allowed <= most


def test_fewer_go_ahead_where_they_wait():
    """Others would wait behind calls that came before them to a slow target; a fast one would run dry."""
    ahead = Ahead(8)
    for _ in range(20):
        ahead.waited(0.001)
    assert ahead.allowed == 8
    for _ in range(20):
        ahead.waited(10.0)
    assert ahead.allowed == 1
