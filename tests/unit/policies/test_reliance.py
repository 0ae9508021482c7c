"""Whether the known limits can be relied on."""

from __future__ import annotations

import pytest

from flatout.policies.pacing.axis import Axis
from flatout.policies.pacing.reliance import LEAST_SHARE, MOST_SHARE, OVERRULED, SOON_AGAIN, Reliance
from flatout.policies.pacing.strays import Tolerance


def axis():
    return Axis("requests", 60.0, 60.0, 0.0, known=True)


def test_limits_count_as_wrong_after_pauses_in_quick_succession_only():
    """A refusal once an hour would end in a search far below the limits; or a wrong limit would be kept for ever."""
    reliance = Reliance(None, {}, 0.0)
    for _ in range(10):
        for _ in range(SOON_AGAIN + 1):
            reliance.answered()
        assert not reliance.refused(news=True)
    assert [reliance.refused(news=True) for _ in range(OVERRULED - 1)] == [False] * (OVERRULED - 2) + [True]


def test_what_a_pause_answers_already_is_no_second_pause():
    """A hundred calls that were in flight at one refusal would count as a hundred."""
    reliance = Reliance(None, {}, 0.0)
    assert not any([reliance.refused(news=True), *(reliance.refused(news=False) for _ in range(100))])


@pytest.mark.parametrize(("answers", "refusals", "share"), [(10, 30, 0.25), (0, 30, LEAST_SHARE), (90, 1, MOST_SHARE)])
def test_the_search_begins_at_the_share_that_was_accepted(answers, refusals, share):
    """Two programs on one limit would begin at all of it, or crawl up from nothing."""
    reliance = Reliance(None, {}, 0.0)
    for _ in range(answers):
        reliance.answered()
    for _ in range(refusals):
        reliance.refused(news=False)
    assert reliance.share == share


def test_a_limit_that_is_refused_before_it_is_used_up_is_used_by_others_too():
    """Users would never hear that another program uses their limits."""
    axes, now = {"rpm": axis()}, 0.0
    reliance = Reliance(None, axes, now)
    for _ in range(OVERRULED):
        assert not reliance.others_use_them
        now += 10.0
        axes["rpm"].take(5.0, now)  # half of what ten seconds allow
        reliance.note_use(axes, now)
    assert reliance.others_use_them


def test_a_limit_that_is_used_up_is_nobody_else_s():
    """Users would be told of other programs that do not exist."""
    axes, now = {"rpm": axis()}, 0.0
    reliance = Reliance(None, axes, now)
    for _ in range(2 * OVERRULED):
        now += 10.0
        axes["rpm"].take(10.0, now)
        reliance.note_use(axes, now)
    assert not reliance.others_use_them


def test_a_stray_refusal_concerns_its_call_alone_until_there_are_several():
    """Each stray 429 would pause all calls, or none ever would."""
    reliance = Reliance(Tolerance(0.0), {}, 0.0)
    assert [reliance.alone(2.0) for _ in range(3)] == [2.0, 2.0, None]
    assert Reliance(None, {}, 0.0).alone(2.0) is None


def test_two_refusals_in_one_moment_are_borne():
    """A run would end with a division by zero when a clock hardly moves between two refusals."""
    axes, now = {"rpm": axis()}, 5e-324
    reliance = Reliance(None, axes, 0.0)
    reliance.note_use(axes, now)
    assert not reliance.others_use_them
