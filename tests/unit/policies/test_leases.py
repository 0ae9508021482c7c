"""Limits that workers on several machines share by leases: the keeper's end and the workers', without any wire."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.msgpack import encode

from flatout.cluster.limits import PATIENCE
from flatout.policies.pacing.axis import USE
from flatout.policies.pacing.gcra import BURST
from flatout.policies.pacing.leased import ALONE
from flatout.policies.pacing.leased_slots import POLL
from flatout.policies.pacing.leases import ACTIVE, GRACE, RETURN, SILENT, Keeper
from flatout.policies.pacing.leases_log import SharedJournal
from flatout.policies.pacing.team import LOOK, Team
from flatout.policies.pacing.tokens import Estimator
from flatout.policies.pacing.turns import FAR, PATIENT
from flatout.values import Call, Usage

RATE = 50.0


class Member:
    """One worker, whose clock is off by any amount."""

    def __init__(self, world, name, skew):
        self.world, self.skew = world, skew
        self.asked = False
        self.team = Team(name, self.now, self.ask)
        self.waiting = 100
        self.team.waiting = lambda: self.waiting
        self.team.costs = lambda anew: [{}] * self.waiting
        if world.rate:
            self.gcra = self.team.gcra("rpm", world.rate, BURST, self.now())
        self.every, self.turns, self.sent, self.ends = 1, 0, 0, []
        self.wakes_at = world.now

    def now(self):
        return self.world.now + self.skew

    def ask(self):
        self.asked = True

    def talk(self, *, heard=True, answered=True, late=False):
        """One exchange, of which the request or the answer may be lost, or the request arrive after later ones."""
        ask, news = self.team.ask(self.now())
        if late:
            self.world.late.append((ask, news))
        answer = self.world.hear(ask, news) if heard else None
        if answer is None or not answered:
            self.team.failed(ask, self.now())
        else:
            self.team.granted(ask, *answer, self.now())

    def send(self, most=10):
        """Send what may go now. Returns how many went."""
        for count in range(most):
            if max(self.gcra.ready_at(1.0), self.team.paused_until) > self.now():
                return count
            self.gcra.take(1.0, self.now())
            self.world.sent.append(self.world.now)
            self.sent += 1
        return most


class World:
    """Some workers and their keeper."""

    def __init__(self, count, rate=RATE):
        self.now, self.clock, self.rate, self.up = 1_000.0, 0.0, rate, True
        self.keeper, self.journal = Keeper(), SharedJournal()
        self.sent, self.born, self.asked, self.late = [], 0, 0, []
        self.members = []
        for _ in range(count):
            self.join()

    def join(self):
        self.born += 1
        self.members.append(Member(self, self.born, 977.0 * self.born))
        return self.members[-1]

    def hear(self, ask, news):
        self.asked += 1
        return (self.keeper.exchange(self.now + self.clock, ask), self.journal.exchange(news)) if self.up else None

    def fairness(self):
        """Jain's index of what the workers sent."""
        each = [member.sent for member in self.members]
        return sum(each) ** 2 / len(each) / sum(count * count for count in each)

    def most_within(self, seconds):
        return max((sum(at < begin + seconds for at in self.sent[n:]) for n, begin in enumerate(self.sent)), default=0)

    def happens(self, what, member, step):
        """One event."""
        if what == "arrive":
            while self.late:
                self.hear(*self.late.pop())
        elif what == "forget":
            self.keeper = Keeper()
        elif what == "step":
            self._step(step)
        elif what in ("down", "up"):
            self.up = what == "up"
        elif what == "die":
            self.members.remove(member)
            self.join()
        elif member.wakes_at <= self.now:
            self._happens_to(member, what, abs(step) / 100.0)

    def _happens_to(self, member, what, seconds):
        """One event of a worker that is awake."""
        if what == "talk":
            member.talk()
        elif what == "lose the request":
            member.talk(heard=False)
        elif what == "lose the answer":
            member.talk(answered=False)
        elif what == "be late":
            member.talk(heard=False, late=True)
        elif what == "pause":
            member.team.paused_until = member.now() + seconds
        elif what == "go on":
            member.team.paused_until = member.now()
        else:
            member.wakes_at = self.now + seconds
            member.skew -= seconds if what == "suspend" else 0.0  # then its clock stands still, too

    def _step(self, step):
        """The keeper's clock is set. Workers that knew it notice."""
        self.clock += step
        for member in self.members:
            if member.team.active and member.wakes_at <= self.now:
                member.talk()

    def run(self, seconds, step=0.01):
        """Let all workers talk and send when they want to, in turns."""
        ends = self.now + seconds
        while self.now < ends:
            self.now += step
            for member in self.members:
                now = member.now()
                member.turns += 1
                if member.turns % member.every or member.wakes_at > self.now:
                    continue
                if (member.asked or member.team.due_at(now) <= now) and member.team.needs(now):
                    member.talk()
                member.asked = False
                member.send()


TALK = ["talk", "lose the request", "lose the answer", "be late", "arrive"]
TROUBLE = ["die", "pause", "go on", "step", "forget", "down", "up", "stop", "suspend"]
DO = st.tuples(
    st.sampled_from([*TALK, *TROUBLE]),
    st.integers(0, 3),
    st.sampled_from([0.0, 0.1, 0.3, 1.0]),
    st.integers(-300, 300).filter(bool),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(DO, min_size=5, max_size=40))
def test_no_course_of_events_admits_more_than_the_limit(events):
    """The provider would refuse what workers send, after a crash, a pause or a clock that was set."""
    world = World(4)
    for what, who, gap, step in events:
        world.run(gap, 0.02)  # flat out
        world.happens(what, world.members[who], step)
    for seconds in (0.1, 1.0, 5.0, 20.0):
        assert world.most_within(seconds) <= RATE * (seconds + BURST) + 8


@pytest.mark.parametrize("step", [5.0, 100.0, -100.0])
def test_a_clock_that_is_set_again_and_again_neither_admits_more_nor_stops_anybody(step):
    """Each step of a server's clock would let everything go once more, or stop all workers until it is made up for."""
    world = World(4)
    world.run(1.0)
    for _ in range(10):
        world.happens("step", world.members[0], step)
        world.run(0.2)
    assert 0.9 * RATE * 3.0 <= len(world.sent) <= RATE * (3.0 + BURST) + 8


@pytest.mark.parametrize("count", [2, 4, 16, 64])
def test_workers_use_the_whole_limit_in_equal_parts(count):
    """A part of the limit would lie idle, or some workers get little of it, or the keeper be asked for each call."""
    world = World(count, 100.0)
    world.run(20.0)
    assert len(world.sent) >= 0.99 * 100.0 * 20.0
    assert world.most_within(1.0) <= 100.0 * (1.0 + BURST)
    assert world.asked <= 0.5 * len(world.sent)
    assert world.fairness() >= 0.9


def test_a_worker_that_asks_late_starves_nobody_and_is_not_starved():
    """One slow machine would hold back all others, or get nothing beside them."""
    world = World(4, 100.0)
    slow = world.members[0]
    slow.every = 10  # of the turns
    world.run(20.0)
    assert len(world.sent) >= 0.98 * 100.0 * 20.0
    assert slow.sent >= 0.4 * len(world.sent) / 4


def test_a_worker_that_stood_still_sends_nothing_of_what_it_was_granted_long_ago():
    """A machine that wakes up, or a process that goes on, would send at once what others have sent meanwhile."""
    world = World(4, 100.0)
    world.run(5.0)
    stopped = world.members.pop(0)
    for seconds in (0.5, 3.0, ACTIVE + 2.0):
        world.run(seconds)
        world.members.append(stopped)
        world.run(3.0)
        world.members.remove(stopped)
    assert world.most_within(1.0) <= 100.0 * (1.0 + BURST) + 3
    assert len(world.sent) >= 0.97 * 100.0 * (world.now - 1_000.0)


def test_the_share_of_a_worker_that_dies_is_the_others_within_a_second():
    """A fleet on spot machines would lose a part of its limit with each that is taken away."""
    world = World(4, 100.0)
    world.run(5.0)
    del world.members[:2]
    world.run(1.0)
    before = len(world.sent)
    world.run(5.0)
    assert len(world.sent) - before >= 0.99 * 500.0


def test_where_few_calls_go_workers_take_turns_and_none_dies_with_much_of_the_limit():
    """A low limit would lie idle for a minute after some machines were taken away, or be used by the first alone."""
    world = World(16, 1.0)
    world.run(100.0, step=0.05)
    assert len(world.sent) >= 0.95 * 100.0
    assert world.fairness() >= 0.9
    del world.members[1:]
    world.run(2.0 * FAR, step=0.05)
    before = len(world.sent)
    world.run(20.0, step=0.05)
    assert len(world.sent) - before >= 19


def test_workers_that_wait_are_silent_until_their_turn():
    """Sixty-four machines would ask the keeper sixteen times a second for a limit of one call a second."""
    world = World(64, 1.0)
    world.run(40.0, step=0.05)
    assert len(world.sent) >= 0.95 * 40.0
    assert world.asked <= 64 * (1 + 40.0 / PATIENT) + 2 * len(world.sent)


def test_what_one_worker_has_learnt_about_calls_is_the_others_at_their_next_word():
    """Each of many workers would guess too much until it has seen its own answers, and leave a low limit unused."""
    world = World(2)
    for member in world.members:
        member.team.estimator = Estimator()
    told, other = (member.team.estimator for member in world.members)
    for _ in range(20):
        told.learn(told.need(Call(prompt="one two")), Usage(input_tokens=4, output_tokens=10))
    for member in world.members:
        member.talk()
    assert other.need(Call(prompt="three")).output == told.usual.output < 25.0


def test_one_that_has_calls_gets_the_whole_limit_beside_many_that_have_none():
    """A fleet's last machine with work would go at a fraction of the limit, and ask the keeper for every few calls."""
    world = World(64, 1_000.0)
    for idle in world.members[1:]:
        idle.waiting = 0
        idle.send = lambda: 0
        idle.talk()
    world.run(2.0)
    asked, sent = world.asked, len(world.sent)
    world.run(3.0)
    assert len(world.sent) - sent >= 0.99 * 3_000.0
    assert world.asked - asked <= 0.1 * 3_000.0


def test_leases_end_with_the_memory_of_the_keeper_that_granted_them():
    """The new keeper would grant again what workers hold for the next seconds: twice the limit, for as long."""
    rate = 10.0
    world = World(64, rate)
    world.run(10.0, step=0.05)
    world.keeper = Keeper()  # which nobody notices as long as it is not asked
    world.run(20.0, step=0.05)
    assert world.most_within(20.0) <= 1.1 * rate * 20.0
    assert len(world.sent) >= 0.9 * rate * 30.0


def test_a_days_limit_is_kept_though_the_keeper_loses_its_memory():
    """A server that restarts empty would let the team spend the whole day's requests once more."""
    world = World(4, rate=0.05)
    for _ in range(10):
        world.run(100.0, step=0.5)
        world.keeper = Keeper()
    assert len(world.sent) == pytest.approx(0.05 * 1_000.0, abs=2)


def test_one_workers_pause_is_all_workers_and_its_end_too():
    """Each would be refused by itself before it waits, or wait for a pause that was called off."""
    world = World(4)
    world.run(2.0)
    world.members[0].team.paused_until = world.members[0].now() + 5.0
    world.run(0.5)
    before = len(world.sent)
    world.run(3.0)
    assert len(world.sent) == before
    world.members[1].team.paused_until = world.members[1].now()
    world.run(1.0)
    assert len(world.sent) - before >= 0.9 * RATE * (1.0 - BURST)


def test_while_the_keeper_is_away_all_go_on_with_their_shares_and_return():
    """A restart of Redis would stop the whole fleet, or let it run past the limit."""
    world = World(4, 100.0)
    world.run(5.0)
    world.up = False
    before = len(world.sent)
    world.run(5.0)
    alone = len(world.sent) - before
    assert 0.85 * ALONE * 500.0 <= alone <= 500.0
    world.keeper, world.up = Keeper(), True  # it kept nothing
    world.run(RETURN + LOOK + 0.1)
    before = len(world.sent)
    world.run(5.0)
    assert len(world.sent) - before >= 0.97 * 500.0
    assert world.most_within(1.0) <= 100.0 * (1.0 + BURST + GRACE)


def test_an_answer_that_one_worker_does_not_get_in_time_holds_up_nobody_else():
    """With a server far away, each answer that comes late would stop the whole fleet for most of a second."""
    world = World(4, 100.0)
    world.run(5.0)
    before = len(world.sent)
    for _ in range(5):
        world.members[0].talk(answered=False)
        world.run(1.0)
    assert len(world.sent) - before >= 0.97 * 500.0
    assert world.most_within(5.0) <= 100.0 * (5.0 + BURST)


def test_what_a_worker_sent_while_only_it_was_cut_off_is_paid_back():
    """A worker with a poor connection would use its share twice, again and again."""
    world = World(2, 100.0)
    world.run(5.0)
    cut, there = world.members
    cut.talk(heard=False)
    world.members, hear = [there], world.hear
    world.hear = lambda *asked: None
    before = len(world.sent) + cut.gcra.held
    for _ in range(100):  # a second, in which it looks for the keeper in vain
        world.now += 0.01
        cut.send()
    alone, world.hear, world.members = len(world.sent) - before, hear, [cut, there]
    assert alone > 20
    there.talk()
    before = len(world.sent)
    world.run(2.0)
    assert len(world.sent) - before <= 200.0 - alone + 100.0 * BURST + 3


def test_a_worker_that_begins_while_the_keeper_is_away_sends_nothing():
    """How many others there are is not known to it: any share that it took might be too much."""
    world = World(0)
    world.up = False
    member = world.join()
    world.run(3.0)
    assert member.team.away
    assert world.sent == []


def test_shares_without_a_keeper_are_never_more_than_one_together():
    """Workers that began at different times would each remember another number of workers."""
    world = World(1)
    for _ in range(5):
        world.members[0].talk()
        world.join().talk()
        assert sum(member.team.share for member in world.members) <= 1.0
    world.run(5.0)
    assert [member.team.share for member in world.members] == pytest.approx([1 / 6] * 6)


@pytest.mark.parametrize(("away", "forgets"), [(1.0, True), (ACTIVE + 2.0, True), (ACTIVE + 2.0, False)])
def test_a_worker_that_begins_after_the_keeper_was_away_soon_has_a_share(away, forgets):
    """It would stop for as long as the server is away, if that goes away again within ten seconds."""
    world = World(3)
    world.run(2.0)
    world.up = False
    world.run(away, step=0.05)
    world.keeper, world.up = Keeper() if forgets else world.keeper, True
    world.run(0.3)
    new = world.join()
    for _ in range(15):
        world.run(0.1)
        assert sum(member.team.share for member in world.members) <= 1.0 + 1e-9
    assert new.team.share == pytest.approx(1 / 4)
    silent = world.members.pop(0)
    world.run(0.5)
    assert sum(member.team.share for member in (silent, *world.members)) <= 1.0 + 1e-9


def test_what_a_call_used_beyond_its_guess_is_the_next_ones_to_wait_for():
    """Calls that write more than was guessed would run past a limit of tokens."""
    world = World(2)
    world.run(2.0)
    before = len(world.sent)
    world.members[0].gcra.give(-RATE)  # a second's worth
    world.run(3.0)
    assert len(world.sent) - before == pytest.approx(2.0 * RATE, abs=12)


def test_the_smallest_limit_that_a_worker_was_given_holds_for_all():
    """Workers with different limits would use as much as the most generous one says."""
    world = World(4, 100.0)
    world.rate = 50.0
    careful = world.join()
    world.run(10.0)
    assert len(world.sent) <= 50.0 * (10.0 + BURST + 0.5)
    assert world.members[0].team.binding == {"rpm": 50.0}
    world.members.remove(careful)
    world.run(ACTIVE + 1.0)
    assert world.members[0].team.binding == {}


def test_a_limit_that_a_worker_was_given_is_followed_by_those_that_have_none():
    """They would search for it, and be refused; or hold the team to it when its giver was told another one."""
    world = World(1, 100.0)
    world.run(0.5)
    bare = Team(77, lambda: world.now, lambda: None)

    def talk():
        ask, news = bare.ask(world.now)
        bare.granted(ask, *world.hear(ask, news), world.now)
        return bare.read("rpm_limit") * USE / bare.read("rpm_window")

    assert talk() == pytest.approx(100.0)
    bare.gcra("rpm", 100.0, BURST, world.now)
    assert bare.read("told") == 1.0
    world.members.clear()  # its giver dies
    for _ in range(4):
        world.now += ACTIVE / 3.0
        assert talk() == pytest.approx(100.0)
    world.rate = 200.0
    world.join()
    world.run(0.5)
    assert talk() == pytest.approx(200.0)
    assert bare.binding == {}
    assert not world.keeper.heard  # nobody takes it for the provider's word


def test_a_limit_that_one_worker_is_told_is_all_workers():
    """Each worker would have to be told, or refused, by itself."""
    world = World(2)
    told, other = (member.team for member in world.members)
    for cell, value in {"rpm_limit": 600.0, "rpm_window": 60.0, "told": 1.0, "told_at": world.members[0].now()}.items():
        told.write(cell, value)
    for member in world.members:
        member.talk()
    assert other.read("rpm_limit") == 600.0
    assert other.read("told") == 1.0
    assert other.read("told_at") == pytest.approx(world.members[1].now())


# Requests in flight


def slots(world, most, seconds, lasts=0.5):
    """Let all workers keep as many in flight as they may. Returns the number in flight, turn by turn."""
    seen, ends = [], world.now + seconds
    while world.now < ends:
        world.now += 0.01
        for member in world.members:
            now, team = member.now(), member.team
            while member.ends and member.ends[0] <= world.now:
                member.ends.pop(0)
                team.members.ended()
            while team.members.fits(most, team.members.in_flight, now):
                team.members.sent(now)
                member.ends.append(world.now + lasts)
                member.sent += 1
            if (member.asked or team.due_at(now) <= now) and team.needs(now):
                member.talk()
            member.asked = False
        seen.append(sum(len(member.ends) for member in world.members))
    return seen


@pytest.mark.parametrize(("count", "most"), [(2, 8), (4, 10), (4, 2), (16, 40)])
def test_no_more_are_in_flight_than_may_be_and_all_workers_have_their_part(count, most):
    """A server of few slots would push back what is too much, or answer one worker alone."""
    world = World(count, rate=0.0)
    seen = slots(world, most, 20.0)
    assert max(seen) <= most
    assert sum(seen[200:]) / len(seen[200:]) >= 0.8 * most
    assert world.fairness() >= 0.9


def test_a_worker_that_should_give_up_a_slot_asks_again_when_a_call_has_ended():
    """Workers that take turns would ask the keeper without a pause until their calls end: a hundred times a call."""
    world = World(4, rate=0.0)
    seen = slots(world, 3, 20.0)
    ended = sum(member.sent for member in world.members)
    assert world.asked <= 4 * 20.0 / POLL + ended
    assert sum(seen[200:]) / len(seen[200:]) >= 0.8 * 3


def test_slots_of_a_worker_that_dies_are_free_within_a_second():
    """A server of eight slots would answer fewer and fewer calls after each crash."""
    world = World(2, rate=0.0)
    slots(world, 8, 5.0)
    world.members.pop()
    slots(world, 8, SILENT + 0.2)
    assert min(slots(world, 8, 2.0)) == 8


def test_a_worker_that_stood_still_uses_no_slots_that_others_have_meanwhile():
    """A process that goes on finds its last exchange timed out, and would take the server for away."""
    world = World(2, rate=0.0)
    slots(world, 8, 5.0)
    stopped = world.members.pop()
    ask, _ = stopped.team.ask(stopped.now())
    slots(world, 8, SILENT + 2.0)
    stopped.team.failed(ask, stopped.now())
    world.members.append(stopped)
    assert max(slots(world, 8, 5.0)) <= 8


def test_a_busy_worker_keeps_its_slots_while_a_keeper_that_fell_silent_is_away():
    """Its event loop is late when it finds out, and all its calls would wait until the keeper is back."""
    world = World(1, rate=0.0)
    assert max(slots(world, 8, 5.0)) == 8
    (member,) = world.members
    world.now = member.team.due_at(member.now()) - member.skew
    ask, _ = member.team.ask(member.now())
    world.now += PATIENCE + 0.6
    world.up = False
    member.team.failed(ask, member.now())
    assert min(slots(world, 8, 5.0)) == 8


def test_an_exchange_that_arrives_after_a_later_one_changes_nothing():
    """What a worker had long given up would count, and what it has since then would be lent to others."""
    world = World(2)
    slots(world, 8, 2.0)
    late = world.members[0].team.ask(world.members[0].now())
    world.members[0].talk()
    before = encode(world.keeper)
    world.now += 0.5
    world.hear(*late)
    assert encode(world.keeper) == before


def test_a_limit_that_was_told_while_the_keeper_was_away_is_told_again():
    """The others would never hear of it, and be refused."""
    world = World(2)
    told, other = (member.team for member in world.members)
    for cell, value in {"rpm_limit": 600.0, "rpm_window": 60.0, "told": 1.0, "told_at": world.members[0].now()}.items():
        told.write(cell, value)
    world.members[0].talk(heard=False)
    for member in world.members:
        member.talk()
    assert other.read("rpm_limit") == 600.0
