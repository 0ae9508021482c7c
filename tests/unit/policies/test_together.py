"""One search that several programs run: each comes to the same as all others, and as one alone would."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout.policies.pacing.sharing import LogEntry
from flatout.policies.pacing.unknown.search import RateSearch
from flatout.policies.pacing.unknown.state import from_bytes, to_bytes
from flatout.policies.pacing.unknown.together import STALE, Together
from flatout.testing._limits import Bucket


class Kept:
    """A log in memory that holds the last `most` events."""

    def __init__(self, most: int = 4_000) -> None:
        self.events: list[LogEntry] = []
        self.most = most
        self.state: tuple[int, bytes] | None = None

    @property
    def end(self) -> int:
        return len(self.events)

    def append(self, event: LogEntry, /) -> None:
        self.events.append(event)

    def since(self, place: int, /) -> list[LogEntry] | None:
        return self.events[place:] if place >= self.end - self.most else None

    def keep(self, state: bytes, /) -> None:
        self.state = self.end, state

    def kept(self) -> tuple[int, bytes]:
        if self.state is None:
            raise ValueError
        return self.state


def knowledge(search: RateSearch | None) -> bytes:
    """All that a search knows."""
    return to_bytes([search])


def drive(programs: list[Together], alone: RateSearch, seed: int, requests: int, now: float = 0.0) -> float:
    """Send requests, each by one of them, to a limit of 20 a second; and all of them by one that is alone."""
    random, limit, open_ = Random(seed), Bucket(1_200, burst=2.0, full=True, now=now), []
    for _ in range(requests):
        now += random.expovariate(40.0)
        for outcome in [each for each in open_ if each[0] <= now]:
            open_.remove(outcome)
            at, mark, ended, sent, fine = outcome
            program = random.choice(programs)
            program.catch_up(at)
            assert program.rate is not None
            for search in (program.rate, alone):
                if fine:
                    search.accepted(mark, ended, at)
                else:
                    search.refused(mark, ended, sent, None, at)
        program = random.choice(programs)
        program.catch_up(now)
        assert program.rate is not None
        ready = program.rate.ready_at(now)
        assert ready == alone.ready_at(now)
        if ready <= now:
            ended = alone.ended
            program.rate.take(now)
            alone.take(now)
            if fine := limit.wait(now, 1) <= 0:
                limit.take(now, 1)
            open_.append((now + (0.3 if fine else 0.05), alone.mark, ended, now, fine))
    for program in programs:
        program.catch_up(now)
        assert knowledge(program.rate) == knowledge(alone)
    return now


def together(log: Kept, count: int, now: float = 0.0) -> list[Together]:
    programs = [Together(log) for _ in range(count)]
    for each in programs:
        each.join(now, None)
    return programs


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5))
def test_all_come_to_what_one_would_come_to(seed, count):
    """One program would send at another rate than its siblings, and all of them miss the limit."""
    drive(together(Kept(), count), RateSearch(0.0), seed, 1_500)


def test_who_comes_late_goes_on_from_what_was_kept():
    """Each program that starts later would look for the limit anew, into what the others send."""
    log, alone = Kept(most=600), RateSearch(0.0)
    programs = together(log, 2)
    now = drive(programs, alone, 1, 3_000)
    late = Together(log)
    late.join(now, None)
    assert knowledge(late.rate) == knowledge(alone)
    drive([*programs, late], alone, 2, 500, now)


def test_requests_count_that_were_sent_before_a_program_fell_behind():
    """A program that was idle for a while would never give back the slots that its last requests took."""
    log, alone = Kept(most=600), RateSearch(0.0)
    idle, busy = together(log, 2)
    search = idle.rate
    now = drive([busy], alone, 1, 3_000)
    idle.catch_up(now)
    assert idle.rate is search
    assert knowledge(search) == knowledge(alone)


@pytest.mark.parametrize("state", [None, (0, b""), (10**6, b""), (2_990, b"\x93\x01\x02"), (2_990, b"\xff" * 90)])
def test_who_finds_nothing_to_go_on_from_begins_anew_for_all(state):
    """A file that a power cut has damaged would end every run on the machine, or let it run without any pace."""
    log = Kept(most=600)
    idle, busy = together(log, 2)
    now = drive([busy], RateSearch(0.0), 1, 3_000)
    log.state = state
    idle.catch_up(now)
    busy.catch_up(now)
    assert idle.rate is not None
    assert knowledge(idle.rate) == knowledge(busy.rate)


def test_events_that_make_no_sense_are_no_end():
    """The same, of a page that holds the log."""
    log = Kept()
    (program,) = together(log, 1)
    log.append((4.0, 1.0, float("nan"), float("inf"), 0.0, 0.0))
    program.catch_up(1.0)
    assert program.rate is not None


def test_a_search_that_was_left_long_ago_is_begun_anew():
    """Last night's pause would hold up this morning's run."""
    log = Kept()
    (program,) = together(log, 1)
    now = drive([program], RateSearch(0.0), 1, 500)
    (later,) = together(log, 1, now + STALE + 1.0)
    assert knowledge(later.rate) == knowledge(RateSearch(now + STALE + 1.0))


def test_a_number_in_flight_is_adapted_by_all_as_one():
    """Each of eight programs would grow until the server pushes back."""
    log = Kept()
    one, two = Together(log), Together(log)
    for each in (one, two):
        each.adapt(0.0, 100.0)
    for turn in range(200):
        mine = (one, two)[turn % 2].aimd
        assert mine is not None
        mine.answered(8, 0.1, turn / 10)
    one.catch_up(20.0)
    two.catch_up(20.0)
    assert one.aimd is not None
    assert two.aimd is not None
    assert one.aimd.limit == two.aimd.limit > 4.0
    assert one.aimd.pushed_back(19.9, 20.0, 8.0)
    two.catch_up(20.0)
    assert one.aimd.limit == two.aimd.limit == pytest.approx(6.4)


def test_what_is_no_state_is_refused():
    """A file of another version would be taken for a search, and fail at some call later."""
    for data in (b"", b"\xc1", to_bytes([{"": "nobody"}]), to_bytes([{"": "Shut"}])):
        with pytest.raises(ValueError, match="no state"):
            from_bytes(data)
