"""One call: what it takes, how long it may take, and what is known of it afterwards."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from pathlib import Path

import pytest

from flatout import (
    AttemptTimeout,
    BudgetExceeded,
    Call,
    Client,
    ConfigError,
    ConnectError,
    DeadlineExceeded,
    Limits,
    RateLimited,
    ServerError,
)
from flatout.events import CallFinished
from flatout.layer import Response
from flatout.policies.pacing.tokens import ASSUMED_OUTPUT
from flatout.testing import digest_of, run_virtual
from flatout.values import Endpoint
from tests.support.scripted_wire import Wire, client, completion, refusal


def call(wire, /, *given, options=None, **fields):
    async def main():
        async with client(wire, **(options or {})) as made:
            return await made.call(*(given or ("hello",)), **fields)

    return run_virtual(main())


def result_of(wire, /, given="hello", **options):
    async def main():
        async with client(wire, **options) as made:
            return await made.result(given)

    return run_virtual(main())


def sent(wire: Wire) -> dict:
    return json.loads(wire.requests[-1].body)


def test_a_call_is_answered():
    """Nothing would work."""
    reply = call(Wire())
    assert reply.text == digest_of("hello")
    assert reply.usage.total_tokens == 2


def test_options_of_a_call_are_sent():
    """Parameters given by name would be lost, and the defaults paid for."""
    wire = Wire()
    call(wire, temperature=0, max_tokens=5, top_k=3)
    assert sent(wire) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "temperature": 0,
        "max_tokens": 5,
        "top_k": 3,
    }


def test_options_win_over_the_call_they_are_given_with():
    """A prepared call could not be varied."""
    wire = Wire()
    prepared = Call("hello", temperature=1, extra={"top_k": 1, "min_p": 1}, model="a")
    call(wire, prepared, temperature=0, top_k=2, model="b")
    assert {name: sent(wire)[name] for name in ("temperature", "top_k", "min_p", "model")} == {
        "temperature": 0,
        "top_k": 2,
        "min_p": 1,
        "model": "b",
    }
    assert prepared.extra == {"top_k": 1, "min_p": 1}


def test_a_wrong_option_is_a_config_error():
    """It would be sent as a parameter, or fail in the middle of the stack."""
    for wrong in ({"timeout": -1}, {"messages": []}, {"max_tokens": "5"}, {"extra": 5}):
        with pytest.raises(ConfigError):
            call(Wire(), **wrong)


def test_a_call_may_name_its_own_model():
    """A batch could not mix models."""
    wire = Wire()

    async def main() -> None:
        async with client(wire) as made:
            await made.gather([Call("a", model="x"), Call("b", model="org/y"), "c"])

    run_virtual(main())
    assert sorted(json.loads(request.body)["model"] for request in wire.requests) == ["m", "org/y", "x"]


def test_no_model_at_all_is_a_config_error():
    """A request without a model would be sent."""

    async def main() -> None:
        async with Client(transport=Wire(), config={}) as made:
            with pytest.raises(ConfigError, match="no model"):
                await made.call("x")

    run_virtual(main())


def test_the_clients_options_come_from_flatout_toml_and_are_overruled_by_name():
    """A setting in the file would have no effect, or the last word."""
    config = {"model": "vllm/a", "timeout": 2.0, "retries": 0, "deadline": 50.0}

    async def main() -> None:
        async with Client(transport=Wire(lambda _: 10.0), config=config) as made:
            with pytest.raises(AttemptTimeout, match="2 s"):
                await made.call("x")
        async with Client(transport=Wire(lambda _: 10.0), config=config, timeout=20.0) as made:
            assert (await made.call("x")).text
        async with Client(transport=Wire(lambda _: 1e6), config=config, timeout=1e5, deadline=30.0) as made:
            with pytest.raises(DeadlineExceeded, match="30 s"):
                await made.call("x")

    run_virtual(main())


# -- time -------------------------------------------------------------------------------------------------------------


def test_a_timeout_bounds_one_attempt_which_is_then_tried_again():
    """One slow answer would fail the call, or hold it for five minutes."""
    delays = iter([100.0, 100.0, 1.0])
    wire = Wire(lambda _: next(delays))
    result = result_of(wire, Call("hello", timeout=5))
    assert result.ok
    assert result.attempts == len(wire.prompts) == 3
    assert 11 <= result.elapsed <= 11 + 0.5 + 1


def test_the_clients_timeout_holds_where_the_call_has_none():
    """A client's timeout would be without effect."""
    result = result_of(Wire(lambda _: 100.0), timeout=5.0, retries=1)
    assert isinstance(result.error, AttemptTimeout)
    assert result.error.attempts == result.attempts == 2
    assert 10 <= result.elapsed <= 10.5


@pytest.mark.parametrize("options", [{"deadline": 7.0}, {}])
def test_a_deadline_bounds_hangs_and_retries(options):
    """A provider that never answers would hold a call for an hour."""
    given = Call("hello", timeout=3, deadline=None if options else 7)
    result = result_of(Wire(lambda _: 1e9), given, **options)
    assert isinstance(result.error, DeadlineExceeded | AttemptTimeout)
    assert result.elapsed <= 7.001
    assert result.error.attempts == result.attempts >= 2


def test_a_deadline_bounds_the_wait_in_the_queue():
    """A call behind a long queue would come when nobody wants it any more."""
    wire = Wire(lambda _: 10.0)

    async def main() -> None:
        async with client(wire, limits=Limits(concurrency=1)) as made:
            results = await made.gather(["first", Call("second", deadline=4), "third"])
            assert [result.ok for result in results] == [True, False, True]
            late = results[1]
            assert isinstance(late.error, DeadlineExceeded)
            assert (late.attempts, late.error.attempts) == (0, 0)
            assert late.elapsed == pytest.approx(4, abs=0.01)
            assert late.waits["concurrency"] == pytest.approx(4, abs=0.01)
            assert late.cost == 0  # it was never sent
            assert made.unpriced == 2

    run_virtual(main())
    assert wire.prompts == ["first", "third"]


def test_a_provider_that_hangs_cannot_hang_a_gather():
    """The whole batch would wait for ever."""

    async def main() -> None:
        async with client(Wire(lambda prompt: 1e12 if prompt == "hang" else 1.0)) as made:
            results = await made.gather(["a", "hang", "b"])
            assert [result.ok for result in results] == [True, False, True]
            assert asyncio.get_running_loop().time() <= 3_600.1

    run_virtual(main())


def test_a_deadline_says_what_failed_last():
    """The user would hear that time is up, and not why."""
    wire = Wire(lambda _: refusal(500))
    result = result_of(wire, Call("hello", deadline=2.0, timeout=1.0))
    assert isinstance(result.error, ServerError | DeadlineExceeded)
    result = result_of(Wire(lambda _: refusal(429)), Call("hello", deadline=20.0))
    last = result.error if isinstance(result.error, RateLimited) else result.error.__cause__
    assert isinstance(last, RateLimited)
    assert result.elapsed <= 20.001


def test_a_deadline_counts_its_attempts_in_english():
    """ "After 1 attempts" reads as if nobody had read it."""
    for attempts, told in ((1, "after 1 attempt;"), (2, "after 2 attempts;")):
        options = {"retries": attempts - 1, "timeout": 5.0}
        result = result_of(Wire(lambda _: 100.0), Call("hello", deadline=5.0 * attempts - 1), **options)
        assert isinstance(result.error, DeadlineExceeded)
        assert told.rstrip(";") in str(result.error)


# -- retries ----------------------------------------------------------------------------------------------------------


def test_what_may_succeed_is_tried_again_and_counted():
    """One hiccup would fail a call; or the report hide what it took."""
    answers = iter([refusal(500), ConnectError("refused"), refusal(503), "fine"])
    result = result_of(Wire(lambda _: next(answers)))
    assert (result.text, result.attempts) == ("fine", 4)


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_retries_are_as_many_as_asked_for(retries):
    """``retries=0`` would try again, or ``retries=3`` give up early."""
    bodies = iter(range(100))

    def answer(_: str) -> Response:
        return Response(500, {}, b'{"error": {"message": "failure %d"}}' % next(bodies))

    wire = Wire(answer)
    result = result_of(wire, retries=retries)
    assert isinstance(result.error, ServerError)
    assert len(wire.prompts) == result.attempts == result.error.attempts == retries + 1


def test_throttles_cost_time_but_no_attempts():
    """Ten 429s in a row would fail the call although the provider would answer the eleventh."""
    answers = iter([*[refusal(429, retry_after="1")] * 10, "fine"])
    wire = Wire(lambda _: next(answers))
    result = result_of(wire, retries=0, limits=Limits(rpm=6_000))
    assert (result.text, result.attempts) == ("fine", 11)
    assert sum(result.waits.values()) == pytest.approx(result.elapsed, abs=0.01)
    assert all(later - earlier >= 1 for earlier, later in pairwise(wire.times))


def test_a_sleeping_retry_holds_no_permit():
    """A failing call would keep a healthy one from being sent."""
    answers = {"bad": iter([refusal(500), "fine"])}
    wire = Wire(lambda prompt: next(answers[prompt]) if prompt in answers else 0.01)

    async def main() -> None:
        async with client(wire, limits=Limits(concurrency=1)) as made:
            results = await made.gather(["bad", "b", "c"])
            assert all(result.ok for result in results)
            assert results[0].waits["backoff"] > 0.02

    run_virtual(main())
    assert wire.prompts == ["bad", "b", "c", "bad"]


# -- money ------------------------------------------------------------------------------------------------------------

PRICES = {"prices": {"sim/m": {"input": 1_000.0, "output": 2_000.0}}}
"""A tenth of a cent for a token of input, two for one of output."""


def test_the_cost_is_what_the_usage_says():
    """A bill would be wrong."""

    async def main() -> None:
        async with client(Wire(lambda _: completion("x", tokens=100)), config=PRICES) as made:
            result = await made.result("hello")
            assert result.cost == pytest.approx(0.3)
            assert made.spent == pytest.approx(0.3)
            assert made.unpriced == 0

    run_virtual(main())


def test_an_unknown_cost_is_unknown_and_not_zero():
    """A run would look free."""

    async def main() -> None:
        async with client(Wire()) as made:
            result = await made.result("hello")
            assert result.cost is None
            assert (made.spent, made.unpriced) == (0, 1)
        silent = Response(200, {}, b'{"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}')
        async with client(Wire(lambda _: silent), config=PRICES) as made:
            assert (await made.result("hello")).cost is None

    run_virtual(main())


def test_what_was_not_billed_costs_nothing():
    """A refused request would make the whole bill unknown."""
    for failure in (refusal(400), refusal(401), ConnectError("refused")):
        result = result_of(Wire(lambda _, failure=failure: failure), config=PRICES, retries=0)
        assert not result.ok
        assert result.cost == 0


def test_what_may_have_been_billed_is_unknown():
    """A timeout would be shown as free, and the provider's bill say otherwise."""
    result = result_of(Wire(lambda _: 100.0), timeout=1.0, retries=0, config=PRICES)
    assert isinstance(result.error, AttemptTimeout)
    assert result.cost is None


@pytest.mark.parametrize("budget", [0.5, 5.0, 37.0])
@pytest.mark.parametrize("latency", [0.01, 5.0])
def test_a_budget_is_never_exceeded_and_nearly_used(budget, latency):
    """A run would cost more than its owner allowed; or be refused what would have fitted."""

    async def answer(prompt: str) -> Response:
        await asyncio.sleep(latency)
        return completion("x", tokens=30)

    async def main() -> None:
        wire = Wire(answer)
        async with client(wire, budget=budget, config=PRICES, limits=Limits(concurrency=50)) as made:
            results = await made.gather([Call(f"p{n}", max_tokens=60) for n in range(600)])
            done = [result for result in results if result.ok]
            assert made.spent == pytest.approx(0.09 * len(done))
            assert made.spent <= budget
            worst = 0.12 + 0.1  # of one call: its longest answer, and a prompt that no tokenizer can make longer
            assert made.spent > budget - worst
            assert len(wire.prompts) == len(done)
            refused = next(result.error for result in results if not result.ok)
            assert isinstance(refused, BudgetExceeded)
            assert f"${budget:g}" in str(refused)
            assert refused.attempts == 0
            assert all(result.cost == 0 for result in results if not result.ok)

    run_virtual(main())


def test_a_call_waits_for_money_that_is_only_set_aside():
    """A run well within its budget would fail, for all its calls' worst cases together do not fit."""

    async def main() -> None:
        async with client(Wire(lambda _: 1.0), budget=1.0, config=PRICES) as made:
            results = await made.gather([Call(f"{n}", max_tokens=100) for n in range(50)])
            assert all(result.ok for result in results)
            assert made.spent == pytest.approx(50 * 0.003)

    run_virtual(main())


def test_a_cancelled_call_gives_back_what_was_set_aside():
    """A few timeouts would use up the budget: they count for what they are likely to cost, not for the worst case."""

    async def main() -> None:
        async with client(Wire(lambda _: 10.0), budget=8.5, config=PRICES) as made:
            for _ in range(20):
                task = asyncio.create_task(made.call("x", max_tokens=100))
                other = asyncio.create_task(made.call("y", max_tokens=100))
                await asyncio.sleep(0.5)
                other.cancel()
                task.cancel()
                await asyncio.wait([task, other])
            assert (await made.result(Call("x", max_tokens=100))).ok

    run_virtual(main())


def test_attempts_of_unknown_cost_count_by_their_estimates():
    """A server that bills what it never answers would be paid without end, whatever the budget."""

    async def main() -> None:
        wire = Wire(lambda _: 10.0)
        async with client(wire, budget=1.0, config=PRICES, timeout=1.0, retries=0) as made:
            results = await made.gather([Call(f"p{n}", max_tokens=50) for n in range(1_000)])
            assert isinstance(results[-1].error, BudgetExceeded)
            assert 0 < len(wire.prompts) < 500
            assert made.spent == 0
            assert made.unpriced == len(wire.prompts)

    run_virtual(main())


def test_a_budget_without_a_price_is_a_config_error():
    """The budget could not be kept, and nobody would say so."""
    wire = Wire()
    result = result_of(wire, Call("x", max_tokens=5), budget=1.0)
    assert isinstance(result.error, ConfigError)
    assert "price" in str(result.error)
    assert not wire.prompts


def test_a_budget_holds_without_max_tokens_by_an_assumption_that_is_told(caplog):
    """A budget would be refused to all who do not bound their answers, or be kept by a bound that nobody knows."""
    worst = ASSUMED_OUTPUT * 0.002 + 0.1  # of one call, with what no tokenizer makes more of

    async def main() -> None:
        async with client(Wire(lambda _: completion("x", tokens=30)), budget=worst + 1, config=PRICES) as made:
            results = await made.gather(["hi"] * 100)
            assert worst + 1 >= made.spent >= 1 - 0.1  # of which what one more call might have cost is left
            assert {type(result.error) for result in results} == {type(None), BudgetExceeded}

    run_virtual(main())
    assert [record.message for record in caplog.records] == [
        "without max_tokens, the budget assumes that an answer has at most 16,384 tokens, until 30 answers have "
        "shown how long they are; set it with max_tokens (--param max_tokens=…)"
    ]


def test_the_longest_answer_corrects_the_assumption():
    """Calls to a model that writes books would each be let go for the price of a page."""

    async def main() -> None:
        wire = Wire(lambda _: completion("x", tokens=4 * ASSUMED_OUTPUT))
        async with client(wire, budget=500.0, config=PRICES, limits=Limits(concurrency=1)) as made:
            results = await made.gather(["hi"] * 10)
            assert [result.ok for result in results] == [True, True] + [False] * 8  # each is $196
            assert made.spent <= 500

    run_virtual(main())


def test_a_server_of_ones_own_costs_nothing_and_a_budget_holds():
    """A trial on the own machine would end with a bill of unknown height, or be refused for want of a price."""

    async def main() -> None:
        config = {"endpoints": {"mine": {"base_url": "http://127.0.0.1:1/v1", "provider": "vllm"}}}
        wire = Wire(lambda _: 0.1 if len(wire.prompts) == 1 else 1.0)
        made = Client("mine/m", transport=wire, config=config, budget=0.01, retries=0)
        async with made:
            results = [await made.result("hi"), await made.result(Call("hi", timeout=0.5))]
            assert [(result.ok, result.cost) for result in results] == [(True, 0.0), (False, 0.0)]
            assert (made.spent, made.unpriced) == (0, 0)

    run_virtual(main())


@pytest.mark.parametrize("budget", [0, -1, float("nan"), "5", True])
def test_a_wrong_budget_is_refused(budget):
    """It would be taken for none."""
    with pytest.raises(ConfigError, match="budget"):
        client(Wire(), budget=budget)


# -- what subscribers hear --------------------------------------------------------------------------------------------


def test_every_end_of_a_call_is_told_once():
    """Progress would stand still, or count twice."""
    heard = []

    async def main() -> None:
        async with client(Wire(lambda prompt: refusal(400) if prompt == "bad" else 5.0)) as made:
            leave = made.events.subscribe(
                lambda event: heard.append(event) if isinstance(event, CallFinished) else None
            )
            await made.gather(["good", "bad"])
            task = asyncio.create_task(made.call("cancelled"))
            await asyncio.sleep(1)
            task.cancel()
            await asyncio.wait([task])
            leave()
            await made.call("unheard")

    run_virtual(main())
    ends = {event.call.prompt: event for event in heard}
    assert len(heard) == len(ends) == 3
    assert ends["good"].reply.text == digest_of("good")
    assert ends["bad"].error.status == 400
    assert isinstance(ends["cancelled"].error, asyncio.CancelledError)
    assert ends["good"].journey.attempts == 1


def test_a_clients_repr_shows_no_key():
    """Printing the client would print the key."""
    made = client(Wire(), api_key="sk-" + "secret")
    assert "sk-" not in repr(made) + repr(vars(made))


def test_a_limit_that_nobody_gave_is_searched_for() -> None:
    """Waiting for it would be explained by requests per minute that nobody set."""

    async def searched(**limits: float) -> frozenset[str]:
        async with client(Wire(), limits=Limits(**limits)) as made:
            await made.gather(["hi"])
            return made._engine.stack.limiters.searched()

    assert run_virtual(searched()) == {"requests", "concurrency"}
    assert run_virtual(searched(rpm=600)) == {"concurrency"}
    assert run_virtual(searched(concurrency=5)) == {"requests"}


def test_a_client_may_be_made_in_a_thread(tmp_path: Path) -> None:
    """A program whose loop runs already could not keep the reading of a flatout.toml out of it."""
    path = tmp_path / "flatout.toml"
    path.write_text('model = "openai/gpt-5-mini"')

    async def main() -> str | None:
        async with await asyncio.to_thread(client, Wire(), config=path) as made:
            return (await made.call("hi")).text

    assert asyncio.run(main()) == digest_of("hi")


def test_the_embedded_model_is_known_to_go_on_for_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A first trial would seem to hang: so small a model may fill its whole context before it stops."""
    from flatout import engine, local

    async def server(self: engine.Engine) -> Endpoint:
        return local.endpoint("http://sim/v1")

    monkeypatch.setattr(local, "check", lambda: None)
    monkeypatch.setattr(engine.Engine, "_local_server", server)

    async def main(max_tokens: int | None) -> None:
        async with Client("local", transport=Wire(), config={}) as made:
            await made.gather(Call(prompt, max_tokens=max_tokens) for prompt in ("hi", "ho"))

    run_virtual(main(max_tokens=9))
    assert not caplog.records
    run_virtual(main(max_tokens=None))
    (record,) = caplog.records
    assert "limit its answers with max_tokens (--param max_tokens=200)" in record.getMessage()
