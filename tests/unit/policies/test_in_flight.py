"""How many requests may be in flight at once."""

from __future__ import annotations

import pytest

from flatout.policies.pacing.backlog import START, Backlog
from flatout.policies.pacing.discovery import IN_FLIGHT, Discovery
from flatout.policies.pacing.in_flight import InFlight
from flatout.policies.pacing.probe import ALONE, Probe
from flatout.policies.pacing.tokens import Need


def fill(in_flight):
    """Send while there is room. Returns the needs of all that went."""
    needs = []
    while in_flight.has_room(0.0) and len(needs) < 2 * IN_FLIGHT:
        needs.append(Need())
        in_flight.sent(needs[-1], 0.0)
    return needs


def nothing_found():
    return Discovery(by_rate=True, together=None)


@pytest.mark.parametrize(
    ("concurrency", "bounded", "backlog", "most"),
    [
        (7, False, None, 7),
        (7, True, None, 7),
        (None, False, None, IN_FLIGHT),
        (None, True, None, 2 * IN_FLIGHT),
        (None, False, Backlog(IN_FLIGHT), START),
    ],
)
def test_each_bound_holds(concurrency, bounded, backlog, most):
    """More calls than the user or the server bears would be sent at once."""
    in_flight = InFlight(concurrency, nothing_found(), bounded=bounded, backlog=backlog)
    assert len(fill(in_flight)) == most
    assert in_flight.own == most


def test_what_has_ended_leaves_room_for_as_many():
    """Permits would leak, and a run would come to a stand."""
    in_flight = InFlight(3, nothing_found(), bounded=True)
    first, second, _ = fill(in_flight)
    in_flight.answered(first, 1.0, 1.0)
    in_flight.ended(second)
    assert (in_flight.own, in_flight.most) == (1, 3)
    assert len(fill(in_flight)) == 2


def test_a_limit_that_becomes_known_takes_the_place_of_what_was_assumed():
    """A provider's 10,000 a minute would be held back by the thousand in flight of a search that is over."""
    in_flight = InFlight(None, nothing_found(), bounded=False, backlog=Backlog(IN_FLIGHT))
    needs = fill(in_flight)
    in_flight.unbind()
    assert in_flight.most is None
    needs += fill(in_flight)
    assert in_flight.own == len(needs) > IN_FLIGHT
    for need in needs:
        in_flight.ended(need)  # those from before, too
    assert in_flight.own == 0


def test_one_call_goes_first_and_the_others_follow_its_answer():
    """A wrong key would cost a storm of refusals, or a slow first answer would hold up the whole run."""
    probe = Probe(on=True)
    assert probe.on
    probe.sent(1.0)
    probe.sent(1.1)
    assert probe.until == 1.0 + ALONE
    probe.end()
    assert not probe.on
    probe.begin()
    probe.sent(5.0)
    assert (probe.on, probe.until) == (True, 5.0 + ALONE)
