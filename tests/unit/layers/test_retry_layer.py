"""What is tried again, how often, and after how long."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout import (
    AuthenticationError,
    Call,
    CallError,
    CircuitOpen,
    ConnectError,
    ContentFiltered,
    EmptyAnswer,
    GuardrailTripped,
    InvalidRequest,
    Overloaded,
    ProtocolError,
    QuotaExhausted,
    RateLimited,
    Refused,
    Reply,
    ServerError,
    Truncated,
)
from flatout.events import AttemptFailed, Events
from flatout.journey import Journey, current_journey, set_journey
from flatout.layers.retry import Retry
from flatout.policies.failures.trouble import Trouble
from flatout.testing import run_virtual

ONCE = [
    InvalidRequest, AuthenticationError, QuotaExhausted, ContentFiltered, Refused, GuardrailTripped, CircuitOpen,
    Truncated,
]  # fmt: skip
AGAIN = [ServerError, Overloaded, ConnectError, ProtocolError, EmptyAnswer]


class Draw(Random):
    """Draws what it is told."""

    def __init__(self, draw: float) -> None:
        super().__init__()
        self.draw = draw

    def random(self) -> float:
        return self.draw


class Service:
    """Fails in turn with what it is given, then answers."""

    def __init__(self, *errors: CallError | None) -> None:
        self.errors = iter(errors)
        self.times: list[float] = []

    async def __call__(self, call: Call) -> Reply:
        current_journey().account.attempts += 1
        self.times.append(asyncio.get_running_loop().time())
        error = next(self.errors, None)
        if error is not None:
            raise error
        return Reply(text="fine")

    @property
    def waits(self) -> list[float]:
        return [later - earlier for earlier, later in pairwise(self.times)]


def tried(service, *, attempts=4, draw=1.0, deadline_at=None, events=None):
    """The outcome of one call: a reply, or the error raised."""

    async def main():
        journey = Journey(0.0)
        journey.deadline_at = deadline_at
        set_journey(journey)
        layer = Retry(attempts, Draw(draw), events or Events())
        try:
            return await layer(Call("x"), service)
        except CallError as error:
            return error

    return run_virtual(main())


def failures(kind, count=99, **fields):
    return [kind(f"failure {n}", **fields) for n in range(count)]


@pytest.mark.parametrize("kind", ONCE)
def test_what_cannot_succeed_is_not_tried_again(kind):
    """A refused prompt would be paid six times."""
    service = Service(*failures(kind))
    assert isinstance(tried(service), kind)
    assert len(service.times) == 1


@pytest.mark.parametrize("kind", AGAIN)
def test_what_may_succeed_is_tried_as_often_as_allowed(kind):
    """One hiccup would fail a call, or a dead provider be asked for ever."""
    service = Service(*failures(kind))
    error = tried(service, attempts=4)
    assert isinstance(error, kind)
    assert str(error).startswith("failure 3 (not tried again: ")
    assert error.attempts == len(service.times) == 4
    assert tried(Service(*failures(kind, 3)), attempts=4).text == "fine"


def test_nothing_is_tried_twice_when_it_is_answered():
    """Every answer would be paid twice."""
    service = Service()
    assert tried(service).text == "fine"
    assert len(service.times) == 1


def test_throttles_cost_no_attempts_and_no_sleep_of_ones_own():
    """Hundreds of calls would each sleep out their own Retry-After, and come back together."""
    service = Service(*failures(RateLimited, 50, retry_after=3.0))
    assert tried(service, attempts=1).text == "fine"
    assert max(service.waits) < 0.001


def test_throttles_in_between_do_not_use_up_attempts():
    """A busy provider would eat the retries that a failure needs."""
    mixed = [error for pair in zip(failures(RateLimited, 9), failures(ServerError, 9), strict=True) for error in pair]
    service = Service(*mixed)
    assert isinstance(tried(service, attempts=3), ServerError)
    assert len(service.times) == 6


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 100))
def test_waits_are_full_jitter_over_the_providers_own_wait(draw, floor):
    """Calls that failed together would come back together; or before the time that the provider asked for."""
    for kind, base, cap in ((ServerError, 0.5, 30.0), (Overloaded, 2.0, 60.0)):
        service = Service(*failures(kind, 9, retry_after=floor))
        assert tried(service, attempts=10, draw=draw).text == "fine"
        for place, wait in enumerate(service.waits):
            assert wait == pytest.approx((floor or 0) + draw * min(cap, base * 2**place), abs=0.001)


def test_a_wait_past_the_deadline_is_not_begun():
    """A user would wait for a minute to be told that time is up."""
    service = Service(*failures(ServerError, retry_after=100.0))
    assert isinstance(tried(service, deadline_at=50.0), ServerError)
    assert service.times == [pytest.approx(0, abs=0.001)]
    service = Service(*failures(RateLimited, retry_after=100.0))
    assert isinstance(tried(service, deadline_at=50.0), RateLimited)
    assert len(service.times) == 1
    assert tried(Service(*failures(ServerError, 1, retry_after=40.0)), deadline_at=50.0).text == "fine"


def test_a_failure_of_the_target_costs_no_attempt():
    """An outage would use up the attempts of every call, and each be lost."""

    class Excuses(Service):
        async def __call__(self, call: Call) -> Reply:
            current_journey().trouble = trouble = current_journey().trouble or Trouble()
            trouble.excused = len(self.times) < 20
            return await super().__call__(call)

    service = Excuses(*failures(ServerError, 21))
    assert tried(service, attempts=2).text == "fine"
    assert max(service.waits) <= 5.01
    assert isinstance(tried(Excuses(*failures(ServerError, 22)), attempts=2), ServerError)


def test_the_error_says_what_was_tried_when_and_why_no_more():
    """A row would be lost, and nobody know after how many attempts, and whose fault it was."""
    error = tried(Service(*failures(ServerError, status=500)), attempts=3)
    assert "no other call sent meanwhile was answered" in str(error)
    assert str(error).endswith("; tried: 500 at 0.0, 0.5, 1.5 s)")
    error = tried(Service(*failures(ServerError, retry_after=100.0)), deadline_at=50.0)
    assert "past the deadline" in str(error)
    assert str(tried(Service(*failures(InvalidRequest)))) == "failure 0"
    assert str(tried(Service(*failures(ServerError)), attempts=1)) == "failure 0"


def test_a_provider_that_says_whether_to_retry_is_believed():
    """A server that knows better than its status would not be heard."""
    assert tried(Service(*failures(InvalidRequest, 2, should_retry=True))).text == "fine"
    service = Service(*failures(ServerError, should_retry=False))
    assert isinstance(tried(service), ServerError)
    assert len(service.times) == 1
    service = Service(*failures(AuthenticationError, should_retry=True))
    assert isinstance(tried(service), AuthenticationError)
    assert len(service.times) == 1


def test_the_same_answer_three_times_is_final_and_the_error_says_so():
    """A model that always leaves the answer empty would be paid six times; or a user never learn why it was not."""
    service = Service(*[EmptyAnswer("nothing", reply=Reply(text="")) for _ in range(9)])
    error = tried(service, attempts=9)
    assert len(service.times) == 3
    assert "the same answer 3 times" in str(error)


def test_the_same_failure_of_a_server_is_not_final():
    """Every row of a run would be lost that met three equal pages of an outage."""
    service = Service(*[ServerError("no", status=500, body='{"error": "same"}') for _ in range(9)])
    assert tried(service, attempts=10).text == "fine"


def test_a_call_that_was_held_back_keeps_the_attempts_that_were_made():
    """The error would say that nothing was sent, although it was, and paid."""
    error = tried(Service(ServerError("once"), CircuitOpen("not sent: x is stopped")))
    assert isinstance(error, CircuitOpen)
    assert str(error) == "not sent again: x is stopped"
    assert error.attempts == 2  # this service counts the one that a breaker would not have sent


def test_what_is_no_calls_failure_passes_through():
    """A mistake in the program would be retried, and hidden."""

    async def broken(call: Call) -> Reply:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tried(broken)


def test_each_failed_attempt_is_told():
    """Progress could not say why it is slow."""
    events = Events()
    heard: list[AttemptFailed] = []
    events.subscribe(heard.append)
    tried(Service(*failures(ServerError)), attempts=3, draw=0.5, events=events)
    assert [(event.attempt, event.retry_in) for event in heard] == [(1, 0.25), (2, 0.5), (3, None)]


def test_the_wait_is_booked():
    """A slow call could not be explained."""

    async def main() -> None:
        journey = Journey(0.0)
        set_journey(journey)
        layer = Retry(5, Draw(1.0), Events())
        await layer(Call("x"), Service(*failures(ServerError, 3)))
        assert journey.waits == {"backoff": pytest.approx(0.5 + 1 + 2)}

    run_virtual(main())


def test_a_sleeping_retry_can_be_cancelled():
    """Ctrl-C would wait for the backoff."""

    async def main() -> None:
        set_journey(Journey(0.0))
        layer = Retry(5, Draw(1.0), Events())
        service = Service(*failures(ServerError, retry_after=1_000.0))
        task = asyncio.create_task(layer(Call("x"), service))
        await asyncio.sleep(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.get_running_loop().time() < 6
        assert len(service.times) == 1

    run_virtual(main())
