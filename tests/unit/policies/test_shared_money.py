"""A budget that workers on several machines share: whatever happens to them and their messages, it holds."""

from __future__ import annotations

from calendar import timegm
from dataclasses import dataclass
from random import Random
from time import gmtime
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from flatout.policies.shared_money import FORGOTTEN, PORTION, SILENT, SPARE, Borrowing, Pot, period_of

NOON = 1_795_176_000.0  # 2026-11-20, in UTC
USD = 10.0


@dataclass
class Worker:
    own: Borrowing
    used: float = 0.0
    linked: bool = True
    ended: bool = False
    heard_at: float | None = None


class World:
    """Workers that speak each second, and use no more than is spared between two words; unless their link is cut."""

    def __init__(self) -> None:
        self.pot, self.now = Pot(), NOON
        self.ahead = 0.0  # seconds by which the pot's clock has stepped
        self.workers = [Worker(worker(name)) for name in "abc"]

    def speak(self, one: Worker, need: float = 0.0, *, heard: bool = True, leaves: bool = False) -> None:
        ask = one.own.ask(one.used, need=need, leaves=leaves)
        if one.heard_at is not None:
            ask = structs.replace(ask, since=self.now - one.heard_at)
        granted = self.pot.exchange(self.now + self.ahead, ask) if one.linked else None
        if granted is not None and heard:
            one.heard_at = self.now
            one.own.hear(ask, granted)
        else:
            one.own.cut()

    def spend(self, one: Worker, usd: float) -> None:
        """Spend up to an amount, of what is borrowed."""
        usd = max(0.0, min(usd, one.own.lent - one.used))
        while one.linked and usd > SPARE * USD:
            one.used += SPARE * USD
            self.speak(one)
            usd = max(0.0, min(usd - SPARE * USD, one.own.lent - one.used))
        one.used += usd

    def wait(self, seconds: float) -> None:
        """Let time pass, in which whoever lives speaks."""
        self.now += seconds
        for one in self.workers:
            if not one.ended and seconds:
                self.speak(one)

    def play(self, turn: Turn) -> None:
        one = self.workers[turn.who]
        self.wait(turn.after)
        if one.ended:
            return
        if turn.what == "lend":
            self.speak(one, turn.usd)
        elif turn.what == "its answer is lost":
            self.speak(one, turn.usd, heard=False)
        elif turn.what == "spend":
            self.spend(one, turn.usd)
        elif turn.what == "its link is cut or mended":
            one.linked = not one.linked
            self.speak(one)
        else:
            if turn.what == "leaves":
                self.speak(one, leaves=True)
            one.ended = True


class Turn(NamedTuple):
    who: int
    what: str
    usd: float
    after: float


DOES = {
    "lend": 6.0,
    "spend": 6.0,
    "its link is cut or mended": 2.0,
    "its answer is lost": 1.0,
    "dies": 0.3,
    "leaves": 0.3,
}
PASSES = {0.0: 6.0, 1.0: 3.0, SILENT: 3.0, FORGOTTEN: 0.3}


def test_no_more_is_spent_than_there_is():
    """A team would spend more than its budget, because a worker died, was cut off, or a message was lost."""
    for seed in range(700):
        chance, world = Random(seed), World()
        for _ in range(40):
            (what,) = chance.choices(list(DOES), list(DOES.values()))
            (after,) = chance.choices(list(PASSES), list(PASSES.values()))
            world.ahead += chance.choice([0.0] * 19 + [60.0])
            world.play(Turn(chance.randrange(3), what, chance.choice([0.5, 4.0, 9.0]), after))
            assert sum(one.used for one in world.workers) <= USD + 1e-9, seed
            assert world.pot.held() <= USD + 1e-9, seed


def borrow(pot: Pot, worker: Borrowing, need: float, used: float = 0.0, at: float = NOON) -> float:
    ask = worker.ask(used, need=need)
    granted = pot.exchange(at, ask)
    worker.hear(ask, granted)
    return granted.usd


def worker(name: str = "a", per: str = "run", usd: float = USD) -> Borrowing:
    return Borrowing(name, "host:1", per, usd)


def test_a_worker_that_dies_gives_back_what_it_has_not_used():
    """Workers that an engine kills and starts again would use up a budget without spending it."""
    pot, dead, other = Pot(), worker("dead"), worker("other")
    borrow(pot, dead, 9.0)
    borrow(pot, dead, 0.0, used=1.0)
    assert borrow(pot, other, 8.0, at=NOON + SILENT - 1.0) == 0.0
    assert borrow(pot, other, 8.0, at=NOON + SILENT) == 8.0
    assert pot.held() == pytest.approx(1.0 + SPARE * USD + 8.0)


def test_what_a_server_forgot_of_the_last_minutes_is_told_by_those_who_live():
    """A server that restarts with an old copy, as Redis does by default, would lend once more what is spent."""
    pot, early, late = Pot(), worker("early"), worker("late")
    borrow(pot, early, 1.0)
    copy = msgspec.msgpack.decode(msgspec.msgpack.encode(pot), type=Pot)
    borrow(pot, late, 5.0)
    borrow(pot, late, 0.0, used=4.0, at=NOON + 1.0)
    borrow(copy, late, 0.0, used=4.0, at=NOON + 2.0)
    assert late.lent == pytest.approx(5.0)
    assert copy.held() == pytest.approx(6.0)
    assert borrow(copy, early, 0.5, used=1.0, at=NOON + 2.0) == 0.5
    assert copy.held() == pytest.approx(6.5)
    assert copy.made > pot.made  # so that all say that something may be forgotten


def test_a_worker_that_was_only_cut_off_knows_what_was_taken_back():
    """It would go on spending what others were lent meanwhile."""
    pot, cut, other = Pot(), worker("cut off"), worker("other")
    borrow(pot, cut, 9.0)
    borrow(pot, cut, 0.0, used=1.0)
    assert cut.cut() == pytest.approx(9.0 - 1.0 - SPARE * USD)
    borrow(pot, other, 8.0, at=NOON + SILENT)
    assert borrow(pot, cut, 0.5, used=1.0, at=NOON + 20.0) == 0.5
    assert pot.held() <= USD


def test_a_step_of_the_server_s_clock_makes_nobody_silent():
    """The first that asks would get what all others have borrowed, and their calls would be refused."""
    pot, one, other = Pot(), worker("one"), worker("other")
    borrow(pot, one, 6.0)
    borrow(pot, other, 3.0)
    stepped = NOON + 1.0 + 3_600.0
    granted = pot.exchange(stepped, structs.replace(other.ask(0.0, need=5.0), since=1.0))
    assert (granted.usd, granted.lent) == (0.0, 3.0)
    assert pot.held() == pytest.approx(9.0)
    ask = structs.replace(other.ask(0.0, need=5.0), since=SILENT)  # one was silent all that time
    assert pot.exchange(stepped + SILENT, ask).usd == 5.0


def test_one_that_slept_too_long_to_notice_is_told():
    """A laptop that wakes up would spend what others were lent meanwhile."""
    pot, slept = Pot(), worker()
    borrow(pot, slept, 9.0)
    ask = slept.ask(1.0)
    assert slept.hear(ask, pot.exchange(NOON + 60.0, ask)) == pytest.approx(9.0 - SPARE * USD)


@pytest.mark.parametrize("per", ["day", "month"])
def test_the_period_turns_at_midnight_by_utc(per):
    """A new day would have no money, or the old one that of two."""
    pot, one, gone = Pot(), worker("a", per), worker("gone", per)
    midnight = timegm((2026, 12, 1, 0, 0, 0)) if per == "month" else NOON + 43_200.0
    borrow(pot, gone, 3.0, at=midnight - 100.0)
    assert borrow(pot, one, 6.0, at=midnight - 2.0) == 6.0
    borrow(pot, one, 0.0, used=5.0, at=midnight - 1.0)
    borrow(pot, one, 0.0, used=5.5, at=midnight)
    assert pot.held() == pytest.approx(1.0)  # 5 of the 6 were used before midnight
    assert borrow(pot, one, 8.5, used=6.0, at=midnight + 1.0) == 8.5
    ask = one.ask(12.0, leaves=True)
    one.hear(ask, pot.exchange(midnight + 2.0, ask))
    assert pot.spent == pot.held() == pytest.approx(7.0)


def test_a_run_s_budget_never_turns():
    """What a job spent last year would be spent again."""
    pot, one = Pot(), worker()
    borrow(pot, one, 4.0)
    ask = one.ask(4.0, leaves=True)
    pot.exchange(NOON, ask)
    assert borrow(pot, worker("b"), 7.0, at=NOON + 4e7) == 0.0


def test_a_small_part_is_borrowed_at_a_time_and_less_toward_the_end():
    """The first worker would take all, or each call would ask the server."""
    pot = Pot()
    assert borrow(pot, worker("a"), 0.01) == PORTION * USD
    borrow(pot, worker("b"), 9.4)
    assert borrow(pot, worker("c"), 0.01) == pytest.approx(0.1)


def test_a_server_that_lost_its_memory_hears_from_the_living():
    """A restart of the server would give each worker the whole budget anew."""
    one, pot = worker(), Pot()
    borrow(pot, one, 6.0)
    pot = Pot()
    borrow(pot, one, 0.0, used=5.0, at=NOON + 1.0)
    assert pot.held() == pytest.approx(6.0)
    assert borrow(pot, worker("b"), 5.0, at=NOON + 1.0) == 0.0


def test_a_message_that_comes_late_lends_nothing():
    """Money would be lent to a worker that has given up waiting for it."""
    pot, one = Pot(), worker()
    late = one.ask(0.0, need=5.0)
    borrow(pot, one, 1.0)
    assert pot.exchange(NOON, late).usd == 0.0
    assert pot.held() == pytest.approx(1.0)


@pytest.mark.parametrize("first", [False, True])
def test_a_message_that_comes_after_the_last_one_lends_nothing(first):
    """Money would be lent to a worker that has ended, and a part of the budget would be lost with each."""
    pot, one = Pot(), worker()
    if first:
        late = one.ask(0.0, need=5.0)
    borrow(pot, one, 2.0)
    if not first:
        late = one.ask(1.0, need=5.0)
    ask = one.ask(1.0, leaves=True)
    one.hear(ask, pot.exchange(NOON, ask))
    assert pot.exchange(NOON + 1.0, late).usd == 0.0
    assert pot.held() == pot.spent == pytest.approx(1.0)
    assert borrow(pot, one, 2.0, used=1.0, at=NOON + 2.0) == 2.0
    assert pot.held() == pytest.approx(3.0)


def test_those_that_have_left_are_forgotten():
    """The server would keep, and look through, every worker that there ever was."""
    pot, one = Pot(), worker()
    borrow(pot, one, 2.0)
    pot.exchange(NOON, one.ask(1.0, leaves=True))
    pot.turn(NOON + SILENT, "run")
    assert pot.loans == []


def test_money_whose_answer_was_lost_comes_back_with_the_next_word():
    """It would be lent to a worker that does not know, and missing for all until that one ends."""
    pot, one = Pot(), worker()
    pot.exchange(NOON, one.ask(0.0, need=5.0))
    borrow(pot, one, 1.0)
    assert pot.held() == pytest.approx(1.0)


def test_what_an_ended_process_had_set_aside_is_taken_over_once():
    """A batch's money would count twice, or be lent to others while the batch is open."""
    pot, ended, heir = Pot(), worker("ended"), worker("heir")
    borrow(pot, ended, 6.0)
    pot.exchange(NOON, ended.ask(6.0, leaves=True))
    ask = heir.ask(0.0, more=5.0, more_at=NOON)
    granted = pot.exchange(NOON, ask)  # its answer is lost
    again = heir.ask(0.0, more=5.0, more_at=NOON)
    heir.hear(again, pot.exchange(NOON, again))
    assert granted.taken == again.taken
    assert pot.held() == pytest.approx(6.0)
    ask = heir.ask(2.0, leaves=True)
    pot.exchange(NOON, ask)
    assert pot.held() == pytest.approx(3.0)


def test_the_run_file_s_word_settles_a_dead_worker_s_loan():
    """A command that continues a killed run would find its money gone."""
    pot, dead = Pot(), worker("dead")
    borrow(pot, dead, 6.0, used=0.0)
    pot.take_back(NOON + 1.0, "run", "dead", 0.1)  # it may live
    assert pot.held() == pytest.approx(6.0)
    pot.take_back(NOON + SILENT, "run", "dead", 0.1)
    assert pot.held() == pot.spent == pytest.approx(0.1)


@given(st.integers(0, 4_000_000_000))
def test_the_months_are_those_of_the_calendar(at):
    """A month's budget would begin on another day."""
    date = gmtime(at)
    assert period_of("month", at) == date.tm_year * 12 + date.tm_mon - 1
    assert period_of("day", at) == at // 86_400
    assert period_of("run", at) == 0
