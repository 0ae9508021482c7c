"""In which lane rows are asked, so that their answers are there in time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.lanes.escalation import (
    FLEX_ANSWER,
    LIVE_ANSWER,
    SETTLE,
    Way,
    choose,
    flex_seconds,
    leaves_at,
    live_seconds,
    on_the_way,
    spoken,
    stays,
)
from flatout.lanes.offers import Lane

DAY, HOUR, MINUTE = 86_400.0, 3_600.0, 60.0

BATCH = Way("batch", 6 * HOUR, 0.5, "the last 8 batches took up to 4 h")
FLEX = Way("flex", HOUR, 0.5, "1,000 rows take so long")
LIVE = Way("live", 10 * MINUTE, 1.0, "1,000 rows take so long")
ALL = (LIVE, FLEX, BATCH)


@pytest.mark.parametrize(
    ("left", "lane"),
    [(DAY, "batch"), (6 * HOUR, "batch"), (5 * HOUR, "flex"), (HOUR, "flex"), (20 * MINUTE, "live"), (MINUTE, None)],
)
def test_the_cheapest_lane_in_time_is_taken(left: float, lane: Lane | None) -> None:
    """Users would pay twice as much as they have to, or miss their deadline."""
    assert choose(ALL, left).lane == lane


def test_the_reason_is_said() -> None:
    """ "auto" that does not say why cannot be trusted."""
    assert choose(ALL, DAY).reason == (
        "batch costs half of the live price; the last 8 batches took up to 4 h, and 1 d are left"
    )
    assert choose(ALL, MINUTE).reason == (
        "no lane is in time: live needs 10 min (1,000 rows take so long), and 1 min are left"
    )
    assert choose([LIVE], DAY).reason.startswith("live costs the live price; ")
    assert choose([Way("batch", 1.0, 0.8, "why")], DAY).reason.startswith("batch costs 80% of the live price; ")


def test_an_unknown_price_counts_as_the_live_one() -> None:
    """Together says "up to a half": rows would go live, because nobody knows what a batch costs."""
    choice = choose((LIVE, Way("batch", HOUR, None, "why")), DAY)
    assert (choice.lane, choice.reason.partition(";")[0]) == (
        "batch",
        "what batch costs is not known, and counts as the live price",
    )
    assert choose((LIVE, FLEX, Way("batch", HOUR, None, "why")), DAY).lane == "flex"


def test_at_one_price_the_slower_lane_is_taken() -> None:
    """Groq sells flex at the live price, but with ten times the limits: the live ones are left to others."""
    groq = (LIVE, Way("flex", 5 * MINUTE, 1.0, "why"), BATCH)
    assert choose(groq, HOUR).lane == "flex"
    assert choose(groq, DAY).lane == "batch"


def test_a_batch_that_saves_nothing_is_not_taken() -> None:
    """At an address of one's own, forty rows would wait for a batch that costs what live calls cost."""
    assert choose((LIVE, Way("batch", HOUR, 1.0, "why")), DAY).lane == "live"


def test_rows_leave_a_batch_while_the_next_lane_is_still_in_time() -> None:
    """A row that leaves too late has no answer at the deadline; one that leaves too early costs twice as much."""
    assert leaves_at("batch", ALL) == HOUR + SETTLE
    assert stays("batch", ALL, HOUR + SETTLE + 1)
    assert not stays("batch", ALL, HOUR + SETTLE)
    assert choose([LIVE, FLEX], HOUR + SETTLE).lane == "flex"
    assert leaves_at("flex", ALL) == 10 * MINUTE + FLEX_ANSWER  # what is on its way is not paid twice


def test_flex_takes_no_time_from_batches() -> None:
    """Rows would leave their batches for a lane at the same price hours before those could end."""
    assert on_the_way(ALL, DAY) == list(ALL)
    assert on_the_way(ALL, 6 * HOUR) == [LIVE, BATCH]
    assert leaves_at("batch", on_the_way(ALL, 6 * HOUR)) == 10 * MINUTE + SETTLE


def test_rows_stay_where_there_is_nothing_faster() -> None:
    """A row that left the last lane would be in none."""
    assert leaves_at("live", ALL) == 0.0
    assert leaves_at("batch", [BATCH]) == 0.0
    assert stays("live", ALL, 1.0)


def test_a_slower_lane_is_none_to_go_to() -> None:
    """Flex of a million rows may take longer than the batch that they are in."""
    slow = Way("flex", 2 * DAY, 0.5, "why")
    assert leaves_at("batch", (LIVE, slow, BATCH)) == 10 * MINUTE + SETTLE


_WAYS = st.lists(
    st.builds(
        Way,
        lane=st.sampled_from(["live", "flex", "batch"]),
        seconds=st.floats(1, 10 * DAY),
        share=st.sampled_from([0.5, 0.8, 1.0]),
        why=st.just("why"),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda way: way.lane,
)


@given(_WAYS, st.floats(0, 20 * DAY))
def test_a_chosen_lane_is_always_in_time(ways: list[Way], left: float) -> None:
    """The deadline is the promise; the price is only better or worse."""
    chosen = choose(ways, left).lane
    if chosen is None:
        assert all(way.seconds > left for way in ways)
    else:
        way = next(way for way in ways if way.lane == chosen)
        assert way.seconds <= left
        assert way.share == min(other.share for other in ways if other.seconds <= left)


@given(_WAYS, st.floats(0, 20 * DAY), st.floats(0, 20 * DAY))
def test_rows_that_have_left_do_not_come_back(ways: list[Way], left: float, less: float) -> None:
    """Rows that went to and fro would be paid in two lanes."""
    for lane in ("batch", "flex", "live"):
        if not stays(lane, ways, left):
            assert not stays(lane, ways, min(left, less))


@given(_WAYS)
def test_who_leaves_is_in_time_elsewhere(ways: list[Way]) -> None:
    """Rows leave for a lane that can still answer them all."""
    at = leaves_at("batch", ways)
    if at:
        assert choose([way for way in ways if way.lane != "batch"], at).lane is not None


def test_the_time_of_a_lane_grows_with_its_rows() -> None:
    """A million rows are not answered in the time of ten."""
    assert live_seconds(0, 5.0) == LIVE_ANSWER
    assert live_seconds(1_000, 10.0) == LIVE_ANSWER + 150.0
    assert flex_seconds(1_000, 10.0) == FLEX_ANSWER + 150.0 + live_seconds(1_000, 10.0)
    assert flex_seconds(1_000, 10.0) > leaves_at("flex", [Way("live", live_seconds(1_000, 10.0), 1.0, "why")])
    assert live_seconds(1_000, None) > live_seconds(1_000, 10.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (40.4, "40 s"),
        (60, "1 min"),
        (3_599, "1 h"),
        (7_200, "2 h"),
        (12_000, "3 h 20 min"),
        (86_399, "1 d"),
        (187_200, "2 d 4 h"),
    ],
)
def test_durations_in_words(seconds: float, text: str) -> None:
    """Sentences name durations."""
    assert spoken(seconds) == text
