"""What a worker tells its team of its calls."""

from __future__ import annotations

import asyncio

from flatout import Call
from flatout.cluster.reporter import Tally
from flatout.errors import ServerError
from flatout.events import CallFinished, Events
from flatout.journey import Account, Attempt, Journey
from flatout.values import Reply, Usage


def finished(events, *, attempts=1, cost=0.5, **end):
    account = Account(attempts=attempts)
    account.spent(cost)
    journey = Journey(0.0, account=account, attempt=Attempt("openai/gpt-5-mini"))
    events.emit(CallFinished(at=0.0, call=Call(""), journey=journey, **{"reply": None, "error": None, **end}))


def test_calls_count_as_what_they_came_to():
    """A fleet that is stopped would look like one whose calls fail, or as if it had cost nothing."""
    events = Events()
    tally = Tally(events)
    finished(events, reply=Reply(text="yes", usage=Usage(input_tokens=7, output_tokens=3)))
    finished(events, reply=Reply(text="yes"), cost=None)
    finished(events, error=ServerError("a server error"))
    finished(events, error=asyncio.CancelledError(), cost=None)
    finished(events, reply=Reply(text="from the cache"), attempts=0)
    counts = tally.of(lambda target: target == "openai/gpt-5-mini")
    assert (counts.answered, counts.failed, counts.sent) == (2, 1, 3)
    assert (counts.input_tokens, counts.output_tokens, counts.uncounted) == (7, 3, 2)
    assert (counts.cost, counts.unpriced) == (1.0, 2)
    assert tally.of(lambda target: False).answered == 0
