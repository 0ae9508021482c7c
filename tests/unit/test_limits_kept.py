"""The queue in front of a target, seen from outside: order, permits, and where the time went."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout import AuthenticationError, Call, CallError, CircuitOpen, InvalidRequest, Limits, ProtocolError
from flatout.testing import Faults, ProviderModel, ProviderSettings, SimulatedTransport, run_virtual
from tests.support.scripted_wire import Wire, client, completion, refusal


def test_calls_go_first_in_first_out():
    """Some calls would wait for ever behind those that came later."""
    wire = Wire(lambda _: random.random())

    async def main() -> None:
        async with client(wire, limits=Limits(concurrency=3)) as made:
            await made.gather([f"{n}" for n in range(100)])

    run_virtual(main())
    assert wire.prompts == [f"{n}" for n in range(100)]


@pytest.mark.parametrize("limits", [Limits(rpm=600), Limits(tpm=600_000), Limits(rpm=600, concurrency=2), None])
def test_calls_of_one_kind_go_in_order_under_any_limit(limits):
    """The first row of a file would be answered last."""
    wire = Wire(lambda _: 0.05)

    async def main() -> None:
        async with client(wire, limits=limits) as made:
            await made.gather([f"{n:03}" for n in range(60)])

    run_virtual(main())
    assert wire.prompts == [f"{n:03}" for n in range(60)]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.floats(0, 6), st.floats(0, 6)), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
)
def test_no_permit_leaks_whenever_calls_are_cancelled(concurrency, spans, chance):
    """After enough timeouts and Ctrl-Cs a long-lived client would stand still."""
    wire = Wire(lambda prompt: float(prompt))

    async def main() -> None:
        async with client(wire, limits=Limits(concurrency=concurrency)) as made:
            loop = asyncio.get_running_loop()
            tasks = []
            for start, length in spans:
                task = loop.create_task(made.call(f"{chance.random() * 3}"))
                tasks.append(task)
                loop.call_later(start, task.cancel)
                await asyncio.sleep(chance.choice([0, 0, length / 6]))
            await asyncio.wait(tasks)
            (status,) = made.status() or [None]
            assert status is None or (status.in_flight, status.waiting) == (0, 0)
            assert wire.active == 0
            began = loop.time()
            assert len(await made.gather(["1.0"] * concurrency, strict=True)) == concurrency
            assert loop.time() - began == pytest.approx(1, abs=0.01)

    run_virtual(main())
    assert wire.most <= concurrency


def test_a_call_cancelled_in_the_turn_in_which_it_is_admitted_gives_its_permit_back():
    """One permit would be lost each time, until none is left."""
    wire = Wire(lambda _: 1.0)

    async def main() -> None:
        async with client(wire, limits=Limits(concurrency=1)) as made:
            for _ in range(5):
                first = asyncio.create_task(made.call("first"))
                second = asyncio.create_task(made.call("second"))
                third = asyncio.create_task(made.call("third"))
                await asyncio.sleep(0.5)
                first.add_done_callback(lambda _, task=second: task.cancel())
                await asyncio.wait([first, second, third])
                assert (second.cancelled(), third.cancelled()) == (True, False)
            assert made.status()[0].in_flight == 0

    run_virtual(main())


@pytest.mark.parametrize(
    "end",
    [
        refusal(400),
        refusal(429, retry_after="0.01"),
        refusal(500),
        refusal(503),
        ProtocolError("reset"),
        RuntimeError("a bug"),
        1e6,
    ],
)
def test_a_permit_comes_back_however_an_attempt_ends(end):
    """Each failure would leave one place fewer, until the run stands still."""
    outcomes = iter([end, end])
    wire = Wire(lambda prompt: next(outcomes, "fine") if prompt == "x" else "fine")

    async def main() -> None:
        async with client(wire, limits=Limits(concurrency=2), timeout=5.0, retries=2) as made:
            await made.gather(["x", "x"])
            assert (made.status()[0].in_flight, made.status()[0].waiting) == (0, 0)
            assert (await made.result("y")).ok

    run_virtual(main())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(1, 6))
def test_never_more_in_flight_than_allowed_whatever_goes_wrong(seed, concurrency):
    """A small server would be overrun by retries."""
    faults = Faults(rate_limited=0.1, server_error=0.1, overloaded=0.1, reset=0.1, hang=0.05, truncated=0.1)
    model = ProviderModel(ProviderSettings(latency=0.5, faults=faults), seed)

    async def main() -> None:
        async with client(SimulatedTransport(model), limits=Limits(concurrency=concurrency), timeout=3.0) as made:
            await made.gather([f"{n}" for n in range(25)])
            assert made.status()[0].in_flight == 0

    run_virtual(main())
    assert model.stats()["most_in_flight"] <= concurrency
    assert model.stats()["in_flight"] == 0


def test_a_stopped_target_fails_those_that_wait():
    """With a wrong key, a thousand calls would wait for their turn to be told so."""
    wire = Wire()

    async def slow_refusal(prompt: str):
        await asyncio.sleep(1)
        return refusal(401)

    wire.answer = slow_refusal

    async def main() -> None:
        async with client(wire, limits=Limits(concurrency=1)) as made:
            results = await made.gather([f"{n}" for n in range(1_000)])
            assert isinstance(results[0].error, AuthenticationError)
            assert all(isinstance(result.error, AuthenticationError | CircuitOpen) for result in results)
            assert asyncio.get_running_loop().time() < 5
            assert made.status()[0].waiting == 0
            stopped = [result.error for result in results if isinstance(result.error, CircuitOpen)]
            assert len(set(map(id, stopped))) == len(stopped)  # one exception for each, or tracebacks pile up
            assert all(error.attempts == 0 for error in stopped)

    run_virtual(main())
    assert len(wire.prompts) <= 2


def test_waiting_calls_fail_one_by_one_and_cancelled_ones_stay_cancelled():
    """A call cancelled in the turn in which its target stops would be told of both, or of neither."""

    async def slow_refusal(prompt: str):
        await asyncio.sleep(1)
        return refusal(401)

    async def main() -> None:
        async with client(Wire(slow_refusal), limits=Limits(concurrency=1)) as made:
            tasks = [asyncio.create_task(made.call(f"{n}")) for n in range(6)]
            await asyncio.sleep(0.5)
            tasks[0].add_done_callback(lambda _: tasks[4].cancel())
            await asyncio.wait(tasks)
            assert isinstance(tasks[0].exception(), AuthenticationError)
            assert all(task.cancelled() or isinstance(task.exception(), CallError) for task in tasks)

    run_virtual(main())


def test_a_call_that_can_never_fit_is_refused_at_once():
    """It would wait for tokens that never come, and hold up the queue."""
    wire = Wire()

    async def main() -> None:
        async with client(wire, limits=Limits(tpm=1_000)) as made:
            results = await made.gather(["word " * 20_000, "short"])
            assert isinstance(results[0].error, InvalidRequest)
            assert "tokens" in str(results[0].error)
            assert results[0].attempts == 0
            assert results[1].ok

    run_virtual(main())
    assert wire.prompts == ["short"]


# -- where the time went ----------------------------------------------------------------------------------------------


def waits_of(calls, wire, **options):
    async def main():
        async with client(wire, **options) as made:
            return await made.gather(calls)

    return run_virtual(main())


def test_waiting_for_a_place_is_booked_as_concurrency():
    """A slow run could not be explained."""

    async def main():
        async with client(Wire(lambda _: 2.0), limits=Limits(concurrency=1)) as made:
            return await asyncio.gather(*(made.result(f"{n}") for n in range(4)))

    results = run_virtual(main())
    assert [result.waits.get("concurrency", 0) for result in results] == pytest.approx([0, 2, 4, 6], abs=0.01)
    assert [result.elapsed for result in results] == pytest.approx([2, 4, 6, 8], abs=0.01)


def test_waiting_for_the_rate_is_booked_as_requests():
    """A user would raise the wrong limit."""
    results = waits_of([f"{n}" for n in range(30)], Wire(lambda _: 0.01), limits=Limits(rpm=60))
    last = results[-1]
    assert last.waits["requests"] == pytest.approx(last.elapsed, abs=0.1)
    assert last.elapsed == pytest.approx(29 / 0.985, abs=2)


def test_waiting_for_tokens_is_booked_as_tokens():
    """A user would raise the wrong limit."""
    results = waits_of(
        [Call(f"{n}") for n in range(10)], Wire(lambda _: completion("x", tokens=100)), limits=Limits(tpm=6_000)
    )
    assert results[-1].waits["tokens"] == pytest.approx(results[-1].elapsed, abs=0.01)
    assert results[-1].elapsed > 10
    assert set(results[-1].waits) <= {"tokens"}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9_999))
def test_waits_never_add_up_to_more_than_the_call_took(seed):
    """The report would explain more time than there was."""
    chance = random.Random(seed)
    faults = Faults(rate_limited=0.1, server_error=0.1, overloaded=0.05)
    model = ProviderModel(ProviderSettings(latency=0.3, rpm=600, burst=1, faults=faults), seed)
    limits = chance.choice([None, Limits(rpm=300), Limits(concurrency=2), Limits(tpm=60_000, concurrency=3)])
    results = waits_of([f"{n}" for n in range(20)], SimulatedTransport(model), limits=limits)
    for result in results:
        booked = sum(result.waits.values())
        assert booked <= result.elapsed + 0.001
        if result.ok and result.attempts == 1:  # all is booked but what passed between the layers
            assert booked == pytest.approx(result.elapsed, abs=0.01)


def test_a_pause_is_shared_by_all_calls():
    """Each call would meet its own 429."""
    begun = []

    async def answer(prompt: str):
        begun.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.01)
        return refusal(429, retry_after="30") if len(begun) <= 3 else "fine"

    async def main() -> None:
        wire = Wire(answer)
        async with client(wire, limits=Limits(concurrency=1)) as made:
            results = await made.gather([f"{n}" for n in range(20)])
            assert all(result.ok for result in results)
            assert sum(result.attempts for result in results) == 23
            assert [time for time in begun if 0.04 < time < 30] == []

    run_virtual(main())


def test_a_pause_past_the_deadline_is_not_waited_for():
    """A user would wait for a minute to be told that time is up."""

    async def main() -> None:
        async with client(Wire(lambda _: refusal(429, retry_after="500")), limits=Limits(concurrency=1)) as made:
            with suppress(CallError):
                await made.call("first", deadline=10)
            began = asyncio.get_running_loop().time()
            with pytest.raises(CallError):
                await made.call("second", deadline=10)
            assert asyncio.get_running_loop().time() - began < 0.01

    run_virtual(main())
