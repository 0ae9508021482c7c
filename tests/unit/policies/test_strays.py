"""Refusals without a reason are ignored; those of a limit are not."""

from __future__ import annotations

from flatout.policies.pacing.strays import CONFIRMED, FORGIVEN, Tolerance


def test_one_refusal_among_many_answers_is_its_calls_own():
    """One hiccup of a gateway would slow down all calls of a run."""
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
    for _ in range(int(CONFIRMED / FORGIVEN)):
        tolerance.answered()
    assert tolerance.alone(1.0) == 1.0


def test_how_long_it_is_to_wait_does_not_make_a_refusal_everybodys():
    """One 429 that names half a minute would stop a run of thousands for half a minute."""
    assert Tolerance(FORGIVEN).alone(30.0) == 30.0
