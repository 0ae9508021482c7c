"""Refusals without a reason: borne, while those of a limit are not."""

from __future__ import annotations

from flatout.policies.strays import CONFIRMED, CUTS, FORGIVEN, LATELY, STRAY, Tolerance, Uninvited


def test_one_refusal_among_many_answers_is_its_calls_own():
    """A run would be slowed down for everybody by a gateway's hiccup."""
    tolerance = Tolerance(FORGIVEN)
    for _ in range(50):
        assert tolerance.alone(1.0) == 1.0
        for _ in range(13):
            tolerance.answered()


def test_several_at_once_are_everybodys():
    """A limit would be stormed, each refusal taken for an exception."""
    tolerance = Tolerance(FORGIVEN)
    told = [tolerance.alone(1.0) for _ in range(int(CONFIRMED))]
    assert told[-1] is None
    tolerance.answer_all()
    assert tolerance.alone(1.0) == 1.0


def test_a_long_wait_is_everybodys():
    """A provider that asks for a minute's silence would be talked to by all the others."""
    assert Tolerance(FORGIVEN).alone(STRAY + 1) is None


def test_cut_upon_cut_without_effect_is_no_limits_doing():
    """A provider that refuses one in fifty, whatever the rate, would bring a run to a standstill."""
    uninvited = Uninvited()
    told = [uninvited.are_strays(sent=50 * n, refused=n) for n in range(1, CUTS + 3)]
    assert told[:CUTS] == [False] * CUTS
    assert told[-1]


def test_where_much_is_refused_it_is_a_limit():
    """A limit that was halved would go on being stormed."""
    uninvited = Uninvited()
    assert not any(uninvited.are_strays(sent=3 * n, refused=n) for n in range(1, 20))


def test_refusals_far_apart_are_not_held_together():
    """The few that any search meets in an hour would be taken for strays, and the limit be overlooked."""
    uninvited = Uninvited()
    assert not any(uninvited.are_strays(sent=(LATELY // 2 + 1) * n, refused=n) for n in range(1, 50))
