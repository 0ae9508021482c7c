"""Refusals without a reason: borne, while those of a limit are not."""

from __future__ import annotations

from flatout.policies.strays import CONFIRMED, FORGIVEN, STRAY, Tolerance


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
