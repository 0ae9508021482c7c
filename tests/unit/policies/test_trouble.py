"""What an error says of the attempts before it."""

from __future__ import annotations

from flatout.errors import ConnectError, RateLimited, ServerError
from flatout.policies.failures.trouble import SHOWN, Trouble


def test_it_says_what_was_tried_when():
    """Nobody could tell whether the provider was down for a moment, or for a minute."""
    trouble = Trouble()
    trouble.note(ServerError("x", status=500), 0.04)
    trouble.note(ServerError("x", status=500), 1.26)
    trouble.note(RateLimited("x", status=429), 2.0)
    trouble.note(ConnectError("x"), 3.0)
    assert trouble.tried() == "500 at 0.0, 1.3 s; ConnectError at 3.0 s"


def test_it_stays_short():
    """The message would list every attempt of an hour's outage."""
    trouble = Trouble()
    for number in range(SHOWN):
        trouble.note(ServerError("x", status=500), float(number))
    assert trouble.tried() == "500 at 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0 s"
    for number in range(SHOWN, 200):
        trouble.note(ServerError("x", status=500), float(number))
    assert trouble.tried().endswith("(200 in all)")
    assert trouble.tried().count(".0") == SHOWN


def test_it_says_whose_fault_it_was():
    """A row that crashes the server would look like an outage, and an outage like a bad row."""
    trouble = Trouble()
    trouble.spent = 3
    assert trouble.whose() == "no other call sent meanwhile was answered: it may be the server"
    trouble.others = 1
    assert trouble.whose() == "only 1 other call sent meanwhile was answered"
    trouble.others = 50
    assert trouble.whose() == "at least 50 other calls sent meanwhile were answered, so it is this call"
