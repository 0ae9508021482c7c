"""Whether a target is in trouble, from the outcomes of all its calls in the order in which they were sent."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout.errors import (
    AuthenticationError,
    CallError,
    ConnectError,
    InvalidRequest,
    Overloaded,
    ProtocolError,
    ServerError,
)
from flatout.policies.failures.decision import UNKNOWN_HOST
from flatout.policies.failures.gate import FIRST_LOOK, RAMP
from flatout.policies.failures.health import GIVE_UP, NO_HOPE, RUN, WORD, TargetHealth
from flatout.policies.failures.service import ENOUGH, LOOK_AGAIN, SAME, Service

FAILED = ServerError("it failed", status=500)
FULL = Overloaded("no capacity", status=503)
GATEWAY = ServerError("bad gateway", status=502)
REFUSED = ConnectError("no connection to 127.0.0.1:8000: connection refused")
KEY = AuthenticationError("wrong key", status=401)


class Target:
    """A target's health, and a clock."""

    def __init__(self) -> None:
        self.health = TargetHealth()
        self.chat = self.health.service("chat")
        self.now = 0.0

    def send(self, count: int = 1) -> list[int]:
        return [self.health.sent(self.now) for _ in range(count)]

    def answer(self, *numbers: int) -> None:
        for number in numbers:
            self.health.answered(self.chat, number, self.now)

    def fail(self, *numbers: int, error: CallError = FAILED, who: object = None) -> list[bool]:
        """Each the failure of a call of its own, unless ``who`` is given. Which of them are excused."""
        return [self.health.failed(who or object(), error, number, self.now) for number in numbers]

    def call(self, error: CallError | None = None, **more) -> bool | None:
        """Send a call when it may go, and end it at once. Whether its failure is excused."""
        if self.health.troubled:
            self.now = max(self.now, self.health.ready_at())
        (number,) = self.send()
        if error is None:
            return self.answer(number)
        return self.fail(number, error=error, **more)[0]

    def told(self) -> list[str]:
        news, self.health.news = self.health.news, []
        return [each.what for each in news]

    def go_down(self, error: CallError = FAILED) -> None:
        for _ in range(40):
            if self.health.down:
                return
            self.call(error)
        raise AssertionError("it is not down")


# -- down -------------------------------------------------------------------------------------------------------------


def test_failures_one_after_the_other_are_the_targets():
    """Every call of an outage would spend its attempts, and be lost."""
    target = Target()
    target.answer(*target.send(20))
    assert [target.call(FAILED) for _ in range(RUN - 1)] == [False] * (RUN - 1)
    assert target.call(FAILED) is True
    assert target.health.state == "down"
    assert target.call(FAILED) is True


def test_answers_to_what_was_sent_before_an_outage_do_not_hide_it():
    """Answers are slower than failures: for twenty seconds the target would seem to answer most."""
    target = Target()
    before = target.send(300)
    for number in before[:RUN]:
        target.answer(number)
        target.call(FAILED)
    assert target.health.down
    target.answer(*before[RUN:])
    assert target.health.down


def test_quick_failures_among_slow_answers_are_no_outage():
    """A tenth of the calls fails at once, and nothing is answered for seconds: all calls would wait needlessly."""
    target = Target()
    numbers = target.send(500)
    target.fail(*numbers[::10])
    assert not target.health.down
    target.answer(*(number for number in numbers if number not in numbers[::10]))
    assert not target.health.down
    assert target.health.state == "degraded"


def test_failures_in_any_order_are_put_in_the_order_of_sending():
    """Servers that fail after a while, each request after another, would never be found to be down."""
    target = Target()
    target.call(FAILED)
    late = target.send(RUN + 20)[: RUN - 1]
    random.Random(1).shuffle(late)
    assert target.fail(*late) == [False] * (RUN - 2) + [True]


def test_what_fails_in_one_moment_is_one_failure():
    """When a server closes all its connections at once, every call would wait for a look at it."""
    target = Target()
    target.fail(*target.send(50))
    assert not target.health.down
    target.answer(*target.send(3))
    target.fail(*target.send(50))
    assert not target.health.down


def test_one_call_that_fails_again_and_again_is_not_taken_for_the_target():
    """A row that crashes its server would stop all the others, and wait for its deadline."""
    target, row = Target(), object()
    for _ in range(RUN * 3):
        assert target.call(FAILED, who=row) is False
    assert not target.health.down


@pytest.mark.parametrize("error", [GATEWAY, FULL, REFUSED])
def test_one_call_is_enough_where_no_call_can_be_at_fault(error):
    """An agent that makes one call at a time would lose it in an outage of a minute."""
    target, row = Target(), object()
    for _ in range(RUN):
        target.call(error, who=row)
    assert target.health.down


def test_where_half_of_the_calls_fail_more_must_fail_in_a_row():
    """A provider that fails every other call would be taken for dead several times a minute."""
    target, chance = Target(), random.Random(3)
    went = 0
    for _ in range(4_000):
        target.call(FAILED if chance.random() < 0.5 else None)
        went += target.health.down
        target.now += 0.01
    assert went <= 20
    assert target.health.state == "degraded"


def test_calls_that_were_throttled_or_cancelled_do_not_hide_an_outage():
    """Between two failures somebody presses Ctrl-C: the outage would begin anew each time."""
    target = Target()
    for _ in range(RUN):
        target.call(FAILED)
        (other,) = target.send()
        target.health.passed(other, target.now)
    assert target.health.down


def test_a_look_that_is_answered_ends_an_outage_and_what_failed_in_it_is_excused():
    """A run would stand still although the provider is back; or its calls pay for the outage after it."""
    target = Target()
    target.answer(*target.send(10))
    target.go_down()
    under_way = target.send(1)
    target.now += 30.0
    target.call()
    assert not target.health.down
    assert target.fail(*under_way) == [True]
    assert target.call(FAILED) is True  # few are sent still
    target.call()
    target.now += RAMP
    target.call()
    assert target.health.state != "down"
    assert target.call(FAILED) is False


def test_an_answer_to_what_was_sent_before_it_went_down_does_not_end_an_outage():
    """Each late answer would send a burst at a server that is down."""
    target = Target()
    before = target.send(5)
    target.go_down()
    target.answer(*before)
    assert target.health.down


def test_an_outage_is_told_after_a_second_and_its_end_too():
    """Users would wonder what a run waits for, or hear of every hiccup."""
    target = Target()
    target.answer(*target.send())
    target.go_down()
    assert target.told() == []
    while target.now < WORD + 2 * FIRST_LOOK:
        target.call(FAILED)
    assert target.told() == ["down"]
    target.call()
    assert target.told() == ["up"]


def test_an_outage_of_a_moment_is_not_told():
    """The live line would flicker."""
    target = Target()
    target.go_down()
    target.call()
    assert target.told() == []


def test_no_connection_costs_no_attempt_nor_does_a_server_that_is_full():
    """Calls would lose their attempts although nothing was sent."""
    target = Target()
    target.answer(*target.send(50))
    assert target.call(REFUSED) is True
    target.answer(*target.send())
    row = object()
    assert target.call(FULL, who=row) is False  # it may be this call
    target.answer(*target.send())
    assert target.call(FULL, who=row) is False
    target.answer(*target.send())
    assert target.call(FULL) is True
    target.answer(*target.send())
    assert target.call(FULL, who=row) is True


@settings(max_examples=60, deadline=None)
@given(st.floats(0.0, 0.45), st.integers(0, 10_000))
def test_whoever_answers_some_calls_is_soon_believed_again(share, seed):
    """A false alarm would hold a run up for minutes."""
    target, chance = Target(), random.Random(seed)
    for _ in range(300):
        target.call(FAILED if chance.random() < share else None)
        target.now += 0.02
    target.call()
    target.now += RAMP
    target.call()
    target.call()
    assert target.health.ready_at() <= target.now


# -- never reached ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "seconds"), [(REFUSED, GIVE_UP), (ConnectError("no such host", code=UNKNOWN_HOST), NO_HOPE)]
)
def test_a_target_that_was_never_reached_is_given_up(error, seconds):
    """A typo in the address would hold a run until its deadline."""
    target = Target()
    while target.chat.stop is None:
        target.call(error)
    assert seconds <= target.now < seconds * 1.2
    assert target.told() == ["down", "stopped"]
    assert "is stopped: no " in str(target.chat.refusal())


@pytest.mark.parametrize("first", [None, FAILED, InvalidRequest("no", status=400)])
def test_a_target_that_was_reached_once_is_not_given_up(first):
    """A restart that takes ten minutes would end a run over night."""
    target = Target()
    if isinstance(first, InvalidRequest):
        target.health.rejected(target.chat, first, target.send()[0], target.now)
    else:
        target.call(first)
    while target.now < 600:
        target.call(REFUSED)
    assert target.chat.stop is None


# -- stopped ----------------------------------------------------------------------------------------------------------


def refuse(target: Target, call: object, *, again: bool = False) -> str:
    target.now = max(target.now, target.health.ready_at())
    (number,) = target.send()
    whose = target.health.refused(target.chat, call, number, target.now, again=again)
    if whose == "all":
        target.health.stop(target.chat, KEY, target.now)
    return whose


def test_a_wrong_key_is_known_by_the_first_refusal():
    """Ten thousand calls would each be sent, only to hear that the key is wrong."""
    target = Target()
    assert refuse(target, object()) == "all"
    assert target.told() == ["stopped"]


def test_where_calls_were_answered_another_call_confirms_it_a_little_later():
    """One stray 401 of a gateway would fail hundreds of calls."""
    target, first = Target(), object()
    target.answer(*target.send(100))
    assert refuse(target, first) == "doubted"
    assert target.health.ready_at() > target.now
    assert refuse(target, object()) == "all"


def test_an_answer_ends_the_doubt():
    """Two strays an hour apart would stop a target that answers all day."""
    target = Target()
    target.answer(*target.send(100))
    for _ in range(5):
        assert refuse(target, object()) == "doubted"
        target.now += RAMP
        target.call()
    assert not target.health.troubled or target.health.ready_at() <= target.now


def test_what_was_sent_before_the_refusal_confirms_nothing():
    """A hundred calls under way meet the same moment: that is one sign, not a hundred."""
    target = Target()
    target.answer(*target.send(10))
    under_way = target.send(100)
    for number in under_way:
        assert target.health.refused(target.chat, object(), number, target.now, again=False) == "doubted"


def test_a_call_that_alone_is_refused_twice_is_refused_for_its_own_sake():
    """A row that a firewall dislikes would stop the others; or be sent again and again."""
    target, row = Target(), object()
    target.answer(*target.send(10))
    assert refuse(target, row) == "doubted"
    assert refuse(target, row, again=True) == "own"


def test_a_stopped_target_is_looked_at_now_and_then_and_comes_back():
    """A key that was renewed, or an account that was topped up, would be of no use until the program is restarted."""
    target = Target()
    refuse(target, object())
    assert not target.chat.looks(target.now + LOOK_AGAIN - 1)
    assert target.chat.looks(target.now + LOOK_AGAIN)
    assert not target.chat.looks(target.now + LOOK_AGAIN + 1)
    target.told()
    target.answer(*target.send())
    assert target.chat.stop is None
    assert target.told() == ["resumed"]


def test_an_answer_that_was_under_way_does_not_undo_a_stop():
    """An empty account would be asked again for every answer that was still coming in."""
    target = Target()
    (slow,) = target.send()
    refuse(target, object())
    target.answer(slow)
    assert target.chat.stop is not None


def test_what_stops_embeddings_does_not_stop_chat():
    """A server without embeddings would fail every chat call that waits beside one `embed`."""
    target = Target()
    embeddings = target.health.service("embeddings")
    target.health.stop(embeddings, KEY, 0.0)
    assert embeddings.stop is KEY
    assert target.chat.stop is None


# -- the same refusal for all -----------------------------------------------------------------------------------------


def reject(target: Target, words: str) -> None:
    target.health.rejected(target.chat, InvalidRequest(words, status=400), target.send()[0], target.now)


def test_after_the_same_refusal_of_the_first_calls_the_rest_go_one_at_a_time_and_at_last_not_at_all():
    """A parameter that the model does not know would be sent with each of a million rows."""
    target = Target()
    for number in range(ENOUGH):
        assert target.chat.stop is None
        assert target.health.doubtful is (number >= SAME)
        reject(target, "temperature is not supported")
    assert "temperature" in str(target.chat.refusal())
    assert not target.health.doubtful


@pytest.mark.parametrize("end", ["answer", "other words", "trust"])
def test_one_sign_that_calls_are_answered_lets_all_go(end):
    """After bad rows at the front, the good ones would go one at a time for ever."""
    target = Target()
    for _ in range(SAME):
        reject(target, "no")
    assert target.health.doubtful
    assert target.health.troubled
    if end == "answer":
        target.call()
    elif end == "trust":
        target.health.trust()
    else:
        reject(target, "row 21 is too long")
    assert not target.health.doubtful
    assert not target.health.troubled


def test_refusals_of_rows_are_doubted_by_no_target_that_answers():
    """Bad rows would slow down or end a run whose other rows are good."""
    answered, different, trusted = Target(), Target(), Target()
    answered.call()
    trusted.health.trust()
    for number in range(ENOUGH):
        reject(answered, "no")
        reject(different, f"row {number} is too long")
        reject(trusted, "no")
        assert not any(target.health.doubtful for target in (answered, different, trusted))
    assert answered.chat.stop is different.chat.stop is trusted.chat.stop is None


def test_its_repr_shows_its_state():
    """A stuck program could not be looked into."""
    target = Target()
    target.answer(*target.send(3))
    assert repr(target.health) == "TargetHealth(healthy, 3 sent, 3 answered)"
    target.go_down(ProtocolError("reset"))
    assert repr(target.health).startswith("TargetHealth(down, ")
    assert repr(target.chat) == "Service(chat, running)"


def test_a_call_that_waited_while_the_service_was_stopped_does_not_go():
    """Calls that wait for money would each meet the wrong key, hundreds of times."""
    service = Service("chat")
    waited, looking = object(), object()
    assert not service.bars(waited)
    service.close(AuthenticationError("the key is wrong", status=401), 1, 0.0)
    assert service.bars(waited)
    assert service.looks(LOOK_AGAIN, looking)
    assert not service.bars(looking)
    assert service.bars(waited)
    assert service.heard(2)
    assert not service.bars(waited)
