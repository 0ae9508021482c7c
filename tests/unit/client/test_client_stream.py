"""``as_completed`` and ``map``: lazy in, completion order out."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from itertools import count

import pytest

from flatout import Call, Client, ConfigError, InvalidRequest, Limits
from flatout.testing import digest_of, run_virtual
from tests.support.scripted_wire import Wire, client, refusal


def others() -> set[asyncio.Task]:
    return asyncio.all_tasks() - {asyncio.current_task()}


def test_results_come_in_completion_order():
    """The first answer would wait for the slowest call."""

    async def main() -> list[int]:
        async with client(Wire(float), limits=Limits(concurrency=9)) as made:
            return [result.index async for result in made.as_completed(["3", "1", "2"])]

    assert run_virtual(main()) == [1, 2, 0]


@pytest.mark.parametrize("limits", [None, Limits(concurrency=4), Limits(rpm=600)])
def test_an_endless_generator_works_and_is_read_a_bounded_way_ahead(limits):
    """A stream of prompts would be read to its end, which it does not have, before the first answer."""
    pulled = 0

    def prompts():
        nonlocal pulled
        for pulled in count(1):
            yield f"{pulled}"

    async def main() -> None:
        async with client(Wire(lambda _: 0.1), limits=limits) as made:
            taken = 0
            async with aclosing(made.as_completed(prompts())) as results:
                async for result in results:
                    assert result.ok
                    taken += 1
                    assert pulled <= taken + made.window
                    if taken == 50:
                        break
            assert not others()

    run_virtual(main())


def test_a_slow_reader_slows_the_calls():
    """Answers that nobody reads yet would fill the memory, and be paid for."""
    wire = Wire(lambda _: 0.1)

    async def main() -> None:
        async with client(wire, limits=Limits(concurrency=4)) as made:
            taken = 0
            async with aclosing(made.as_completed(f"{n}" for n in count())) as results:
                async for _ in results:
                    taken += 1
                    await asyncio.sleep(100)
                    assert len(wire.prompts) <= taken + made.window
                    if taken == 30:
                        break

    run_virtual(main())


@pytest.mark.parametrize("careful", [True, False])
def test_leaving_the_loop_cancels_what_is_in_flight(careful):
    """Calls would go on and be paid after the loop that wanted them was left."""
    wire = Wire(lambda prompt: 1.0 if prompt == "0" else 1_000.0)

    async def main() -> None:
        async with client(wire, limits=Limits(concurrency=8)) as made:
            results = made.as_completed(f"{n}" for n in range(8))
            if careful:
                async with aclosing(results):
                    async for _ in results:
                        break
                assert wire.active == 0
            else:
                async for _ in results:
                    break
                del results
            await asyncio.sleep(0.01)
            assert (wire.active, wire.cancelled) == (0, 7)
            assert not others()
            assert made.status()[0].in_flight == 0

    run_virtual(main())
    gc.collect()


def test_streams_of_calls_may_be_of_many_kinds():
    """A list of dicts would work in gather, and not here."""

    async def main() -> None:
        async with client(Wire()) as made:
            calls = ["a", Call("b", id="x"), {"prompt": "c"}, 5]
            found = {result.index: result async for result in made.as_completed(calls)}
            assert [found[place].text for place in range(3)] == [digest_of(prompt) for prompt in "abc"]
            assert found[1].id == "x"
            assert not found[3].ok

    run_virtual(main())


# -- map --------------------------------------------------------------------------------------------------------------


def mapped(function, items, wire=None, **options):
    async def main():
        async with client(wire or Wire(), **options) as made:
            found = [result async for result in made.map(function, items)]
            assert not others()
            return sorted(found, key=lambda result: result.index)

    return run_virtual(main())


def test_map_gives_what_the_function_returns():
    """A pipeline of several steps would have to be written as one call."""

    async def extract(item, made):
        return item, (await made.call(f"about {item}")).text

    results = mapped(extract, ["a", "b"])
    assert [result.output for result in results] == [(item, digest_of(f"about {item}")) for item in "ab"]
    assert [result.item for result in results] == ["a", "b"]
    assert all(result.ok and result.attempts == 1 for result in results)


def test_what_the_function_raises_is_its_items_error():
    """One document that cannot be read would end the run."""

    async def extract(item, made):
        if item == "bug":
            raise ZeroDivisionError("oh")
        return (await made.call(item)).text

    wire = Wire(lambda prompt: refusal(400) if prompt == "bad" else "fine")
    results = mapped(extract, ["good", "bug", "bad", "good"], wire)
    assert [type(result.error) for result in results] == [type(None), ZeroDivisionError, InvalidRequest, type(None)]
    assert [result.output for result in results] == ["fine", None, None, "fine"]
    assert results[2].attempts == 1


def test_map_adds_up_attempts_cost_and_waits():
    """A pipeline's bill would show the last of its calls, or nothing."""
    prices = {"prices": {"sim/m": {"input": 1.0, "output": 3.0}}}
    failed = set()

    def answer(prompt: str):
        if prompt == "b" and prompt not in failed:
            failed.add(prompt)
            return refusal(500)
        return "fine"

    async def three(item, made):
        await made.call("a")
        await made.gather(["b", "c"])
        return "done"

    (result,) = mapped(three, ["item"], Wire(answer), config=prices, retries=1)
    assert result.attempts == 4
    assert result.cost is None  # the provider may have billed the attempt that it failed
    assert result.waits["backoff"] > 0
    (result,) = mapped(three, ["item"], Wire(answer), config=prices)
    assert result.attempts == 3
    assert result.cost == pytest.approx(3 * 4e-6)
    (result,) = mapped(three, ["item"], Wire())
    assert result.cost is None


def test_a_gather_inside_map_counts_for_its_own_item_alone():
    """One item's bill would hold another's calls."""

    async def nested(item, made):
        inner = await made.gather([f"{item} {n}" for n in range(item)])
        assert all(result.ok and result.attempts == 1 for result in inner)
        return len(inner)

    results = mapped(nested, [0, 1, 5, 2], Wire(lambda _: 1.0), limits=Limits(concurrency=2))
    assert [result.attempts for result in results] == [0, 1, 5, 2]
    assert [result.output for result in results] == [0, 1, 5, 2]
    assert results[0].cost == 0


def test_map_inside_map_adds_up():
    """An agent that maps over its findings would be shown as free."""

    async def leaf(item, made):
        return (await made.call(f"{item}")).text

    async def branch(item, made):
        return [result.output async for result in made.map(leaf, range(item))]

    (result,) = mapped(branch, [3])
    assert result.attempts == 3
    assert len(result.output) == 3


def test_map_is_lazy_too():
    """A million documents would be opened at once."""
    opened = 0

    def documents():
        nonlocal opened
        for number in count(1):
            opened = number
            yield number

    async def read(item, made):
        return (await made.call(f"{item}")).text

    async def main() -> None:
        async with client(Wire(lambda _: 1.0), limits=Limits(concurrency=3)) as made:
            taken = 0
            async with aclosing(made.map(read, documents())) as results:
                async for _ in results:
                    taken += 1
                    assert opened <= taken + made.window
                    if taken == 20:
                        break
            assert not others()

    run_virtual(main())


def test_cancelling_a_map_is_not_swallowed():
    """Ctrl-C would be taken for an item's failure."""

    async def forever(item, made):
        await made.call("x")

    async def main() -> None:
        async with client(Wire(lambda _: 1_000.0)) as made:

            async def read() -> None:
                async for _ in made.map(forever, range(5)):
                    raise AssertionError

            task = asyncio.create_task(read())
            await asyncio.sleep(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not others()

    run_virtual(main())


def plain(item: str, made: Client) -> str:
    return item


async def with_one(item: str) -> str:
    return item


async def yielding(item: str, made: Client) -> AsyncIterator[str]:
    yield item


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize(
    ("function", "why"),
    [
        (plain, "plain is no async function: write it as `async def plain"),
        (with_one, "with_one does not take an item and a client"),
        (yielding, "yielding yields"),
        ("a prompt", "map takes `async def function"),
    ],
)
def test_a_function_that_can_run_for_no_item_is_refused_once(function, why, stored, tmp_path):
    """A slip in one line would come back as a million failed items."""

    async def main() -> None:
        async with client(Wire()) as made:
            with pytest.raises(ConfigError, match=why):
                async for _ in made.map(function, ["a", "b"], store=tmp_path / "a.flatout" if stored else None):
                    pass

    asyncio.run(main())


def test_any_callable_that_gives_an_awaitable_will_do():
    """A lambda, a partial or an object that is no function by its type would be refused."""

    class Asks:
        async def __call__(self, item: str, made: Client) -> str:
            return item

    async def three(item: str, made: Client, more: str) -> str:
        return item + more

    async def main() -> None:
        async with client(Wire()) as made:
            for function in (Asks(), partial(three, more="b"), lambda item, made: three(item, made, "b")):
                assert [result.ok async for result in made.map(function, ["a"])] == [True]

    run_virtual(main())


def test_a_client_that_does_not_know_its_spending_says_so():
    """ "$0.0000" would be taken for nothing spent."""

    async def main() -> None:
        async with client(Wire()) as made:
            assert "spent=$0.0000" in repr(made)
            await made.gather(["a"])
            assert "spent=unknown" in repr(made)
        async with client(Wire(), config={"prices": {"sim/m": {"input": 1e6, "output": 0.0}}}) as made:
            await made.gather(["a"])
            assert "spent=$1.0000" in repr(made)

    run_virtual(main())
