"""How many calls a server of one's own takes at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flatout.policies.pacing.aimd import CUT, START, Aimd


def serve(aimd: Aimd, slots: int, answers: int, now: float = 0.0, *, queue: int | None = None) -> float:
    """Calls by as many workers as are allowed, against a server with this many slots. Returns when they are done."""
    while answers > 0:
        busy = int(aimd.limit)
        refused = 0 if queue is None else max(0, busy - slots - queue)
        sent, busy = now, busy - refused
        now += max(1.0, busy / slots)
        for _ in range(refused):
            aimd.pushed_back(sent, sent + 0.01)
        for _ in range(busy):
            aimd.answered(busy, now - sent, now)
        answers -= busy
    return now


def test_it_doubles_while_that_brings_more():
    """A large server would be used by four calls at a time for minutes."""
    aimd = Aimd(0.0, 1_000)
    serve(aimd, slots=256, answers=5_000)
    assert aimd.limit >= 256


def test_it_settles_near_the_slots_of_a_server_that_queues():
    """A server would be sent a thousand calls to keep in its memory, and time them out."""
    aimd = Aimd(0.0, 1_000)
    now = serve(aimd, slots=32, answers=20_000)
    assert 30 <= aimd.limit <= 64
    serve(aimd, slots=32, answers=200_000, now=now)
    assert 18 <= aimd.limit <= 64


def test_it_settles_below_a_full_queue():
    """Every tenth call would be refused, as long as the run lasts."""
    aimd = Aimd(0.0, 1_000)
    serve(aimd, slots=32, answers=20_000, queue=8)
    assert 32 <= aimd.limit <= 48


def test_one_cut_answers_all_that_was_sent_before_it():
    """A hundred refusals at once would bring the run to a standstill."""
    aimd = Aimd(0.0, 1_000)
    serve(aimd, slots=64, answers=1_000)
    before = aimd.limit
    for _ in range(100):
        aimd.pushed_back(sent=999.0, now=1_000.0)
    assert aimd.limit == before * CUT


def test_it_does_not_grow_when_it_is_not_used():
    """After a quiet hour the first burst would overrun the server."""
    aimd = Aimd(0.0, 1_000)
    for second in range(1_000):
        aimd.answered(1, 0.5, float(second))
    assert aimd.limit == START


def test_what_was_in_flight_at_the_first_refusal_says_what_a_server_holds():
    """Five hundred sent at once to 64 places would be cut to 400, and refused again and again."""
    aimd = Aimd(0.0, 1_000, limit=1_000)
    assert aimd.pushed_back(1.0, 1.01, 300)
    assert not any(aimd.pushed_back(1.0, 1.01, at) for at in (200, 65, 400))
    assert aimd.limit == 65 * CUT


def test_cuts_that_were_for_nothing_are_taken_back():
    """After an outage that said 503 a run would go on with a handful in flight."""
    aimd = Aimd(0.0, 1_000, limit=1_000)
    for second in range(3):
        aimd.pushed_back(float(second), second + 0.1, 400)
    aimd.take_back(4.0)
    assert aimd.limit == 1_000
    aimd.pushed_back(0.5, 4.1, 14)  # one that was under way when it began
    assert aimd.limit == 1_000


def test_it_is_soon_back_where_it_was_refused_and_beyond_when_nothing_is_refused():
    """One full minute of a shared server would cost a run half an hour."""
    aimd = Aimd(0.0, 1_000, limit=1_000)
    aimd.pushed_back(0.0, 0.01, 100)
    rounds, now = 0, 1.0
    while aimd.limit < 400:
        rounds += 1
        for _ in range(int(2 * aimd.limit) + 1):
            aimd.answered(int(aimd.limit), 1.0, now := now + 0.01)
    assert rounds < 15


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 100), st.floats(0, 10), st.floats(0, 20)), max_size=200))
def test_it_stays_between_one_and_the_most(steps):
    """A server that was overrun once would never be asked again."""
    aimd, now = Aimd(0.0, 50), 0.0
    for answered, in_flight, gap, ago in steps:
        now += gap
        if answered:
            aimd.answered(in_flight, ago, now)
        else:
            aimd.pushed_back(now - ago, now)
        assert 1.0 <= aimd.limit <= 50


@given(st.lists(st.floats(0, 5), min_size=1, max_size=200))
def test_it_comes_back_up_after_any_pushing_back(gaps):
    """One bad minute of the server would make the rest of the run ten times as long."""
    aimd, now = Aimd(0.0, 1_000), 0.0
    for gap in gaps:
        now += gap
        aimd.pushed_back(now, now)
    serve(aimd, slots=32, answers=20_000, now=now)
    assert aimd.limit >= 30
