"""What to do about failures. The table of wire facts is tested with `flatout.providers.failures`."""

from __future__ import annotations

import inspect

import pytest

from flatout import errors
from flatout.errors import CallError
from flatout.policies.failures.decision import Decision, Repeats, Sign, advice, advice_on, decide, may_have_billed, sign
from flatout.values import Reply

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, CallError)]


@pytest.mark.parametrize(
    ("kind", "todo"),
    [
        (errors.ConnectError, Decision.RETRY),
        (errors.AttemptTimeout, Decision.RETRY),
        (errors.ProtocolError, Decision.RETRY),
        (errors.RateLimited, Decision.THROTTLE),
        (errors.QuotaExhausted, Decision.STOP_TARGET),
        (errors.Overloaded, Decision.OVERLOADED),
        (errors.ServerError, Decision.RETRY),
        (errors.AuthenticationError, Decision.STOP_TARGET),
        (errors.InvalidRequest, Decision.FAIL),
        (errors.ContextTooLong, Decision.FAIL),
        (errors.ContentFiltered, Decision.FAIL),
        (errors.Refused, Decision.FAIL),
        (errors.Truncated, Decision.FAIL),
        (errors.EmptyAnswer, Decision.RETRY),
        (errors.SchemaMismatch, Decision.FAIL),
        (errors.GuardrailTripped, Decision.FAIL),
        (errors.BudgetExceeded, Decision.FAIL),
        (errors.CircuitOpen, Decision.FAIL),
        (errors.DeadlineExceeded, Decision.FAIL),
    ],
)
def test_each_class_has_its_verdict(kind: type[CallError], todo: Decision) -> None:
    """A class of failures would be retried without hope, or given up too early."""
    assert decide(kind("x")) is todo


@pytest.mark.parametrize("kind", CLASSES)
def test_each_class_has_a_verdict_and_advice(kind: type[CallError]) -> None:
    """A class added later would crash the retry, or leave the summary without a hint."""
    assert isinstance(decide(kind("x")), Decision)
    assert advice(kind) == advice(kind("x"))
    assert 0 < len(advice(kind)) < 120
    assert "\n" not in advice(kind)


def test_an_unknown_model_stops_the_target() -> None:
    """Ten thousand calls would each be told that the model does not exist."""
    error = errors.InvalidRequest("x", code="Model_Not_Found")
    assert decide(error) is Decision.STOP_TARGET
    assert "model's name" in advice(error)


def test_a_path_that_does_not_exist_stops_the_target() -> None:
    """With a wrong base URL, each row would be told to be corrected."""
    error = errors.InvalidRequest("x", code="path_not_found")
    assert decide(error) is Decision.STOP_TARGET
    assert "base_url" in advice(error)


def test_a_few_cut_off_answers_are_no_wrong_address() -> None:
    """``flatout status`` knows the class alone, and would send people to an address that answers all other calls."""
    told = advice_on("ProtocolError")
    assert told.startswith("run again")
    assert "base_url" in told


@pytest.mark.parametrize("name", ["first_byte", "between_bytes"])
def test_the_advice_on_a_silence_names_its_own_bound(name: str) -> None:
    """Whoever bounds the silences would raise the timeout, in vain."""
    told = advice(errors.AttemptTimeout("x", code=name))
    assert f"{name}=" in told
    assert f"--{name.replace('_', '-')}" in told


@pytest.mark.parametrize(
    ("error", "billed"),
    [
        (errors.ConnectError("x"), False),
        (errors.AttemptTimeout("x"), True),
        (errors.ProtocolError("x", status=200), True),
        (errors.ProtocolError("x", status=307), False),
        (errors.RateLimited("x", status=429), False),
        (errors.ServerError("x", status=504), True),
        (errors.InvalidRequest("x", status=400), False),
        (errors.ContentFiltered("x", status=400), False),
        (errors.ContentFiltered("x", status=200, reply=Reply(text="half")), True),
        (errors.Refused("x", reply=Reply(text="")), True),
        (errors.EmptyAnswer("x"), True),
        (errors.BudgetExceeded("x"), False),
        (errors.CircuitOpen("x"), False),
        (errors.DeadlineExceeded("x"), False),
        (errors.DeadlineExceeded("x", attempts=1), True),
    ],
)
def test_what_may_have_been_billed(error: CallError, billed: bool) -> None:
    """A paid attempt would be reported as free, or a free one as unknown."""
    assert may_have_billed(error) is billed


def server_error(body: str) -> CallError:
    return errors.ServerError("x", status=500, body=body)


def test_a_failure_of_the_server_is_never_final_for_being_the_same() -> None:
    """A short outage of the provider would fail every call for good."""
    for error in (
        server_error('{"e": "down"}'),
        server_error("<html>502</html>"),
        errors.RateLimited("x", status=429, body='{"e": 1}'),
        errors.ConnectError("refused"),
    ):
        repeats = Repeats()
        assert not any(repeats.final(error) for _ in range(5))


def test_a_model_that_always_answers_the_same_rubbish_is_final() -> None:
    """Each retry of a deterministic empty answer would be paid for nothing."""
    repeats = Repeats()
    same = errors.Truncated("x", reply=Reply(text="{", finish_reason="length"))
    other = errors.Truncated("x", reply=Reply(text="[", finish_reason="length"))
    assert [repeats.final(e) for e in (same, other, same, same, same)] == [False, False, False, False, True]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errors.ConnectError("refused"), Sign.DOWN),
        (errors.ConnectError("the client is closed", should_retry=False), Sign.NOTHING),
        (errors.Overloaded("x", status=503), Sign.DOWN),
        (errors.Overloaded("x", status=529), Sign.DOWN),
        (errors.ServerError("x", status=502), Sign.DOWN),
        (errors.ServerError("x", status=504), Sign.DOWN),
        (errors.ServerError("x", status=500), Sign.DOUBTFUL),
        (errors.ProtocolError("reset"), Sign.DOUBTFUL),
        (errors.ProtocolError("a redirect", status=307), Sign.ALIVE),
        (errors.AttemptTimeout("slow"), Sign.DOUBTFUL),
        (errors.RateLimited("x", status=429), Sign.NOTHING),
        (errors.InvalidRequest("x", status=400), Sign.ALIVE),
        (errors.InvalidRequest("not sent"), Sign.NOTHING),
        (errors.Truncated("x", reply=Reply(text="{")), Sign.ALIVE),
        (errors.AuthenticationError("x", status=401), Sign.CLOSED),
        (errors.QuotaExhausted("x", status=429), Sign.CLOSED),
        (errors.QuotaExhausted("x", status=402, retry_after=1.0), Sign.NOTHING),
        (errors.InvalidRequest("x", status=404, code="path_not_found"), Sign.CLOSED),
    ],
)
def test_what_a_failure_says_of_its_target(error: CallError, said: Sign) -> None:
    """A row's own fault would be held against the provider, and stop the others; or an outage against the rows."""
    assert sign(error) is said


@pytest.mark.parametrize("kind", CLASSES)
def test_each_class_says_something_of_its_target(kind: type[CallError]) -> None:
    """A class added later would crash the limiter."""
    assert isinstance(sign(kind("x")), Sign)
