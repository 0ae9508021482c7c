"""A rate that nobody tells, found by trying."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from flatout.policies.search import SLOWEST, START, RateSearch


class Server:
    """A token bucket that answers at once."""

    def __init__(self, rate: float, burst: float = 1.0) -> None:
        self.rate, self.capacity = rate, max(1.0, rate * burst)
        self.level, self.at = self.capacity, 0.0
        self.refused = self.admitted = 0

    def admits(self, now: float) -> bool:
        self.level = min(self.capacity, self.level + (now - self.at) * self.rate)
        self.at = now
        if self.level < 1:
            self.refused += 1
            return False
        self.level -= 1
        self.admitted += 1
        return True


def use(search: RateSearch, server: Server, now: float, until: float) -> float:
    """Requests as fast as the search lets them, each answered within the instant."""
    while (at := max(now, search.ready_at())) < until:
        now = at
        search.take(now)
        mark = search.mark
        if server.admits(now):
            search.accepted(now, now)
        else:
            wait = (1 - server.level) / server.rate
            search.resume(now + max(wait, search.refused(mark, now, None, now)))
    return until


def test_it_finds_a_limit_in_seconds():
    """A job of a minute would be over before its limit is known."""
    search, server = RateSearch(0.0), Server(40.0)
    use(search, server, 0.0, 10.0)
    assert 0.7 * 40 <= search.rate <= 1.1 * 40


def test_it_stays_close_below_and_is_seldom_refused():
    """One call in a hundred would be refused for ever, or a tenth of the limit never be used."""
    search, server = RateSearch(0.0), Server(100.0)
    use(search, server, 0.0, 60.0)
    before = server.admitted
    use(search, server, 60.0, 600.0)
    assert server.admitted - before >= 0.97 * 54_000
    assert server.refused <= 0.003 * server.admitted


def test_a_limit_that_doubles_is_found_within_five_minutes():
    """A raised limit would be of no use until the next run."""
    search, server = RateSearch(0.0), Server(20.0)
    now = use(search, server, 0.0, 120.0)
    server.rate, server.capacity = 40.0, 40.0
    use(search, server, now, now + 300)
    assert search.rate >= 0.9 * 40


def test_one_cut_answers_a_whole_episode():
    """Sixty refusals at once would bring the rate down to nothing."""
    search = RateSearch(0.0)
    now = 0.0
    for _ in range(200):
        now = max(now, search.ready_at())
        search.take(now)
    marks = range(search.mark - 59, search.mark + 1)
    search.refused(marks[0], now - 0.5, 1.0, now)
    rate = search.rate
    for mark in marks[1:]:
        search.refused(mark, now - 0.4, 1.0, now + 0.01)
    assert search.rate == rate


def test_refusals_that_overtake_each_other_prove_no_nonsense():
    """The rate would jump to thousands, or fall to one a minute for the rest of the run."""
    search, now, sent = RateSearch(0.0), 0.0, []
    for _ in range(300):
        now = max(now, search.ready_at())
        search.take(now)
        sent.append(now)
    before = search.rate
    assert search.alone(300, sent[299], None, now + 0.1) is not None
    assert search.alone(293, sent[292], None, now + 0.11) is None
    search.refused(293, sent[292], None, now + 0.11)
    assert 0.1 * before < search.rate < before


def test_it_begins_where_an_earlier_run_ended():
    """Every run would pay for the search anew."""
    search, server = RateSearch(0.0, 36.0, found=True), Server(40.0)
    use(search, server, 0.0, 20.0)
    assert server.admitted >= 0.85 * 20 * 40
    assert server.refused <= 5


steps = st.lists(
    st.tuples(st.floats(0, 20), st.floats(0, 5), st.none() | st.floats(0, 100), st.integers(1, 30)), max_size=60
)


def test_a_refusal_of_the_very_first_request_says_little():
    """Another program had used up the minute: the whole run would go on at a request a minute."""
    search = RateSearch(0.0)
    search.take(0.0)
    search.resume(max(30.0, search.refused(search.mark, 0.0, 30.0, 0.1)))
    server = Server(40.0)
    use(search, server, 30.0, 90.0)
    assert search.rate > 0.8 * 40


def test_a_stray_refusal_after_a_quiet_hour_says_little():
    """What was found would be forgotten for want of traffic."""
    search, server = RateSearch(0.0), Server(40.0)
    now = use(search, server, 0.0, 300.0)
    found = search.rate
    for _ in range(60):
        now += 60.0
        search.take(now)
        search.accepted(now, now)
    search.take(now)
    search.refused(search.mark, now, 1.0, now)
    assert search.rate > 0.4 * found


@settings(max_examples=60, deadline=None)
@given(steps)
@example([(0.0, 0.0, None, 1), (0.0, 2.0, None, 3), (0.0, 0.0, None, 9), (0.0, 0.0, 3.0, 1)])
def test_it_climbs_back_after_any_refusals(refusals):
    """One bad minute would leave the run at a request a minute for hours."""
    search, now = RateSearch(0.0), 0.0
    for gap, ago, retry_after, count in refusals:
        now += gap
        for _ in range(count):
            now = max(now, search.ready_at())
            search.take(now)
        wait = search.refused(search.mark, max(0.0, now - ago), retry_after, now)
        assert (retry_after or 0) <= wait <= (retry_after or 0) + 3 * len(refusals) + 70
        search.resume(now + wait)
        assert search.rate >= SLOWEST * 0.999
    began = now
    while search.rate < START:
        assert now - began < 3 * 3_600
        now = max(now, search.ready_at())
        search.take(now)
        search.accepted(now, now)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["take", "accepted", "refused", "resume", "begin"]), st.floats(-5, 50))))
def test_nothing_that_happens_in_any_order_breaks_it(events):
    """An answer that comes late, or a clock that steps, would end the run with a traceback."""
    search, now = RateSearch(0.0), 100.0
    for what, step in events:
        now += step
        match what:
            case "take":
                search.take(now)
            case "accepted":
                search.accepted(now - abs(step), now)
            case "refused":
                assert search.refused(search.mark, now - abs(step), abs(step) or None, now) >= 0
            case "resume":
                search.resume(now + abs(step))
            case "begin":
                search.begin(now)
        assert search.rate >= SLOWEST * 0.999
        assert search.ready_at() < now + 1e5
