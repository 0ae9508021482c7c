"""Limits that one program learnt from headers, and that the others keep to."""

from __future__ import annotations

from flatout.policies.pacing.advertised import Quota
from flatout.policies.pacing.told import KEPT, Told


class Cells(dict[str, float]):
    """What programs hold in common, in memory."""

    def read(self, cell: str) -> float:
        return self.get(cell, 0.0)

    def write(self, cell: str, value: float) -> None:
        self[cell] = value


def test_what_one_program_learnt_reaches_the_others_once():
    """A program would search for a limit that its neighbour knows, and be refused meanwhile."""
    shared = Cells()
    one, other = Told(shared), Told(shared)
    one.pass_on("rpm", Quota(600.0, 599.0, 0.1), 5.0)
    one.pass_on("tpm", Quota(90_000.0, None, None, 3_600.0), 5.0)
    told = [("rpm", Quota(600.0, None, None)), ("tpm", Quota(90_000.0, None, None, 3_600.0))]
    assert sorted(other.news(6.0)) == told
    assert other.news(6.0) == []
    one.pass_on("rpm", Quota(600.0, 1.0, 0.1), 7.0)
    assert other.news(8.0) == []
    one.pass_on("rpm", Quota(500.0, 1.0, 0.1), 9.0)
    assert dict(other.news(10.0))["rpm"].limit == 500.0


def test_what_was_learnt_long_ago_is_not_told():
    """A program would keep to yesterday's limit."""
    shared = Cells()
    Told(shared).pass_on("rpm", Quota(600.0, None, None), 5.0)
    assert Told(shared).news(5.0 + KEPT + 1.0) == []
    assert Told(shared).news(4.0) == []  # the clock was put back
    assert Told(shared).news(5.0 + KEPT)


def test_headers_without_a_limit_tell_nothing():
    """The others would take what is left of a limit for the limit."""
    shared = Cells()
    Told(shared).pass_on("rpm", Quota(None, 3.0, 1.0), 5.0)
    assert shared == {}
