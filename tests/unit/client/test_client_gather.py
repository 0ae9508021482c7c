"""Many calls, one result each, in input order."""

from __future__ import annotations

import asyncio
import gc
import random
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout import Call, CallError, Client, ConfigError, InvalidRequest, Limits, ProtocolError
from flatout.testing import digest_of, run_virtual
from tests.support.scripted_wire import Wire, client, refusal


def others() -> set[asyncio.Task]:
    return asyncio.all_tasks() - {asyncio.current_task()}


def gather(calls, wire=None, strict=False, **options):
    async def main():
        async with client(wire or Wire(), **options) as made:
            results = await made.gather(calls, strict=strict)
            assert not others()
            return results

    return run_virtual(main())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 100), max_size=40))
def test_results_stand_in_input_order_whatever_the_latencies(delays):
    """An answer would stand beside another call's question."""
    prompts = [f"prompt {place}" for place in range(len(delays))]
    results = gather(prompts, Wire(lambda prompt: delays[int(prompt.split()[1])]))
    assert [result.text for result in results] == [digest_of(prompt) for prompt in prompts]
    assert [result.index for result in results] == list(range(len(delays)))
    assert [result.call.prompt for result in results] == prompts


def test_a_failure_touches_no_other_call():
    """One bad row would cost the whole batch."""
    results = gather(["a", "bad", "c"], Wire(lambda prompt: refusal(400) if prompt == "bad" else "fine"))
    assert [result.ok for result in results] == [True, False, True]
    assert isinstance(results[1].error, InvalidRequest)
    assert (results[1].text, results[1].reply) == (None, None)


def test_a_wrong_item_fails_by_itself():
    """A number or an unknown model among ten thousand rows would end the run."""
    calls = [
        "good", 5, {"prompt": 1}, {"no": "prompt"}, None, Call("good", id="mine"), {"prompt": "good", "top_k": 1},
        {"prompt": "good", "model": ["x"]}, {"prompt": "good", "max_tokens": "many"}, b"bytes",
    ]  # fmt: skip
    for limits in (None, Limits(tpm=1_000_000)):
        wire = Wire()
        results = gather(calls, wire, limits=limits)
        good = [result.index for result in results if result.ok]
        assert good == [0, 5, 6]
        assert len(wire.prompts) == 3
        assert all(isinstance(result.error, ConfigError) for result in results if not result.ok)
        assert all((result.attempts, result.cost) == (0, 0.0) for result in results if not result.ok)
        assert [result.id for result in results if result.id] == ["mine"]


def test_an_unknown_model_fails_by_itself():
    """One misspelt model would end the calls to all others."""

    async def main() -> None:
        async with Client("vllm/llama", transport=Wire(), config={}) as made:
            results = await made.gather(["a", Call("b", model="opnai/x"), Call("c", model="nonsense"), "d"])
            assert [result.ok for result in results] == [True, False, False, True]
            assert "did you mean openai" in str(results[1].error)
            assert all(isinstance(result.error, ConfigError) for result in results[1:3])

    run_virtual(main())


@pytest.mark.parametrize("single", ["a prompt", b"bytes", {"prompt": "a"}, Call("a")])
def test_a_single_call_is_not_taken_for_a_list_of_calls(single):
    """``gather("Explain CAP.")`` would send, and pay, one call for each letter."""
    wire = Wire()
    with pytest.raises(ConfigError, match="list of calls"):
        gather(single, wire)
    assert not wire.prompts


def test_any_source_of_calls_will_do():
    """Calls would have to be put into a list first."""

    async def stream():
        for prompt in "ab":
            await asyncio.sleep(1)
            yield prompt

    for calls in (["a", "b"], ("a", "b"), iter("ab"), (c for c in "ab"), stream(), {"a": 1, "b": 2}.keys()):
        assert [result.text for result in gather(calls)] == [digest_of("a"), digest_of("b")]


def test_no_calls_are_no_results():
    """An empty list would hang or fail."""

    async def nothing():
        return
        yield

    for calls in ([], (), iter(()), nothing()):
        assert gather(calls) == []


def test_strict_raises_the_first_failure_and_ends_the_siblings():
    """The siblings would go on, and cost, as they do with asyncio.gather."""
    wire = Wire(lambda prompt: refusal(400) if prompt == "bad" else 1_000.0)

    async def main() -> None:
        async with client(wire) as made:
            with pytest.raises(InvalidRequest) as caught:
                await made.gather(["a", "b", "bad", "c"], strict=True)
            assert caught.value.attempts == 1
            assert asyncio.get_running_loop().time() < 10
            assert not others()
            assert (wire.active, wire.cancelled) == (0, len(wire.prompts) - 1)
            assert wire.cancelled >= 2

    run_virtual(main())


def test_strict_returns_the_results_when_all_is_well():
    """``strict`` would be of use only for failures."""
    assert [result.ok for result in gather(["a", "b"], strict=True)] == [True, True]


def test_an_error_in_the_source_is_raised_and_nothing_is_left():
    """A broken file would look like a short one, or leave tasks behind."""

    def source():
        yield "a"
        raise OSError("disk")

    async def main() -> None:
        async with client(Wire(lambda _: 5.0)) as made:
            with pytest.raises(OSError, match="disk"):
                await made.gather(source())
            assert not others()

    run_virtual(main())


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 12), st.integers(1, 5))
def test_cancelling_is_clean_at_any_instant(when, concurrency):
    """A timeout around a gather would be swallowed, or leave requests and permits behind."""
    wire = Wire(lambda _: 2.0)

    async def main() -> None:
        async with client(wire, limits=Limits(concurrency=concurrency)) as made:
            task = asyncio.create_task(made.gather([f"{n}" for n in range(30)]))
            await asyncio.sleep(when)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not others()
            assert wire.active == 0
            assert [(s.in_flight, s.waiting) for s in made.status()] in ([(0, 0)], [])
            assert len(await made.gather(["still", "works"])) == 2

    run_virtual(main())


def test_nothing_is_left_to_complain_about(caplog):
    """'Task exception was never retrieved' and its like would be printed at some later time, and belong to nothing."""

    def source(count: int):
        yield from (f"{n}" for n in range(count))
        raise OSError("disk")

    async def refused(prompt: str):
        await asyncio.sleep(1)
        return refusal(401 if prompt == "0" else 500)

    async def main() -> None:
        for limits in (None, Limits(concurrency=2), Limits(concurrency=100), Limits(rpm=600)):
            async with client(Wire(refused), limits=limits, retries=1) as made:
                for when in (0, 0.5, 1, 1.0001, 1.5, 2.5):
                    task = asyncio.create_task(made.gather(f"{n}" for n in range(20)))
                    await asyncio.sleep(when)
                    task.cancel()
                    await asyncio.wait([task])
                for calls in (["1"] * 9, ["0"] * 9, source(0), source(9)):
                    with suppress(OSError, CallError):
                        await made.gather(calls, strict=True)
                async for _ in made.as_completed(["1"] * 9):
                    break

    gc.collect()  # what other tests have left complains now
    caplog.clear()
    run_virtual(main())
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


def test_a_timeout_around_a_gather_is_the_callers_timeout():
    """``asyncio.timeout`` would not work around flatout."""

    async def main() -> None:
        async with client(Wire(lambda _: 50.0)) as made:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(3):
                    await made.gather(["a"] * 10)
            assert asyncio.get_running_loop().time() == pytest.approx(3, abs=0.1)
            assert not others()

    run_virtual(main())


def test_a_keyboard_interrupt_passes_through():
    """Ctrl-C would be counted as one call's failure, and the batch go on."""

    def answer(prompt: str) -> float:
        if prompt == "7":
            raise KeyboardInterrupt
        return 5.0

    wire = Wire(answer)
    with pytest.raises(KeyboardInterrupt):
        gather([f"{n}" for n in range(20)], wire)
    gc.collect()
    assert wire.active == 0


def test_two_gathers_share_the_limits_of_one_client():
    """Calls made side by side would run past the limit together."""
    wire = Wire(lambda _: 1.0)

    async def main() -> None:
        async with client(wire, limits=Limits(concurrency=3)) as made:
            await asyncio.gather(*(made.gather(["x"] * 10) for _ in range(4)))

    run_virtual(main())
    assert wire.most == 3


def test_the_default_model_by_its_name_is_the_same_target():
    """Calls that name the model and calls that leave it out would each get the whole limit, and both together two."""
    wire = Wire(lambda _: 1.0)
    calls = [Call(f"{n}", model=random.Random(n).choice(["m", None])) for n in range(40)]

    async def main() -> None:
        async with client(wire, limits=Limits(concurrency=2)) as made:
            assert all(result.ok for result in await made.gather(calls))
            assert len(made.status()) == 1

    run_virtual(main())
    assert wire.most == 2


def test_a_request_is_never_sent_after_the_client_is_closed():
    """A retry would go on after the ``async with`` that it belonged to."""
    wire = Wire(lambda _: ProtocolError("reset"))

    async def main() -> None:
        async with client(wire) as made:
            pass
        assert wire.closed
        for use in (made.call("x"), made.gather(["x"]), made.result("x")):
            with pytest.raises(ConfigError, match="closed"):
                await use
        with pytest.raises(ConfigError, match="closed"):
            made.as_completed(["x"])

    run_virtual(main())
    assert not wire.prompts


def test_a_client_belongs_to_one_loop():
    """A client kept for a second asyncio.run would hang on locks of the first."""
    made = client(Wire())
    assert run_virtual(made.gather(["a"]))[0].ok
    with pytest.raises(ConfigError, match="one event loop"):
        run_virtual(made.gather(["a"]))
    made._engine.closed = True  # its loop is gone, so it cannot be closed any more


def test_a_client_that_is_not_closed_says_so():
    """Leaked connections would go unnoticed."""
    made = client(Wire())
    run_virtual(made.gather(["a"]))
    with pytest.warns(ResourceWarning, match="was not closed"):
        made.__del__()
    made._engine.closed = True


def test_a_client_that_could_not_be_made_says_one_thing():
    """Beside the ConfigError, a puzzling AttributeError would be printed."""
    for wrong in ({"base_url": "nonsense"}, {"retries": -1}, {"timeout": 0}, {"budget": -1}, {"deadline": "x"}):
        with pytest.raises(ConfigError):
            client(Wire(), **wrong)
        gc.collect()  # an error in __del__ would be a warning, and so fail here
