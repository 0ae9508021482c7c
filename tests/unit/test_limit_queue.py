"""The queue's order under tokens: small calls may pass a large one, but not for ever."""

from __future__ import annotations

import asyncio
import itertools

from hypothesis import example, given, settings
from hypothesis import strategies as st

from flatout import InvalidRequest, Limits
from flatout.admission import BYPASS, BYPASS_AGE
from flatout.layer import Response
from flatout.testing import run_virtual
from tests.support.scripted_wire import Wire, client, completion

LARGE, SMALL = "word " * 4_000, "hello"


def served(prompts: list[str], limits: Limits) -> list[tuple[float, str]]:
    """When each prompt reached the provider."""
    wire = Wire(lambda prompt: completion("x", tokens=max(1, len(prompt) // 4)))

    async def main() -> None:
        async with client(wire, limits=limits) as made:
            results = await made.gather(prompts)
            assert all(result.ok for result in results)
            assert (made.status()[0].in_flight, made.status()[0].waiting) == (0, 0)

    run_virtual(main())
    return list(zip(wire.times, wire.prompts, strict=True))


def test_a_small_call_passes_a_large_one_that_waits_for_tokens_but_not_for_ever():
    """Short questions would wait for one long document, or the document for all of them."""
    larges, smalls = [f"{n} {LARGE}" for n in range(8)], [f"{n}" for n in range(400)]

    async def main() -> list[str]:
        wire = Wire(lambda prompt: completion("x", tokens=max(1, len(prompt) // 4)))
        async with client(wire, limits=Limits(tpm=3_000_000)) as made:
            tasks = [asyncio.create_task(made.result(prompt)) for prompt in larges]
            for prompt in smalls:
                tasks.append(asyncio.create_task(made.result(prompt)))
                await asyncio.sleep(0.002)
            assert all(result.ok for result in await asyncio.gather(*tasks))
        return wire.prompts

    order = run_virtual(main())
    passed = [sum(len(other) < 9 for other in order[: order.index(prompt)]) for prompt in larges]
    assert passed[-1] > 0
    assert all(after - before <= BYPASS for before, after in itertools.pairwise([0, *passed]))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=60), st.integers(10_000, 5_000_000))
@example([False, True, True, *[False] * 17], 285_463)  # the second large one is passed with the first
def test_nothing_is_passed_more_than_so_often(sizes, tpm):
    """A long document would wait until the last short question is answered."""
    prompts = [f"{place} {LARGE if large else SMALL}" for place, large in enumerate(sizes)]
    order = [prompt for _, prompt in served(prompts, Limits(tpm=tpm))]
    for place, prompt in enumerate(prompts):
        passed = sum(prompts.index(other) > place for other in order[: order.index(prompt)])
        assert passed <= BYPASS


def test_after_a_while_nothing_passes_it_any_more():
    """A steady stream of short questions would starve a long document."""

    async def main() -> None:
        wire = Wire(lambda prompt: completion("x", tokens=max(1, len(prompt) // 4)))
        async with client(wire, limits=Limits(tpm=60_000)) as made:
            loop = asyncio.get_running_loop()
            await made.gather([f"{n} {LARGE}" for n in range(2)])
            began = loop.time()
            large = asyncio.create_task(made.result(LARGE))
            small = []
            while not large.done():
                small.append(asyncio.create_task(made.result(f"{len(small)}")))
                await asyncio.sleep(0.05)
            assert loop.time() - began < 20
            await asyncio.gather(*small)
            start = wire.times[wire.prompts.index(LARGE)]
            late = [at for at, prompt in zip(wire.times, wire.prompts, strict=True) if len(prompt) < 9]
            assert not [at for at in late if began + BYPASS_AGE + 0.1 < at < start]

    run_virtual(main())


def test_what_can_never_fit_fails_at_once_and_blocks_nobody():
    """One endless prompt would hold up the whole file."""
    wire = Wire()

    async def main() -> None:
        async with client(wire, limits=Limits(tpm=2_000)) as made:
            results = await made.gather([SMALL, "word " * 100_000, "after"])
            assert [result.ok for result in results] == [True, False, True]
            assert isinstance(results[1].error, InvalidRequest)
            assert "tokens" in str(results[1].error)
            assert "2,000" in str(results[1].error)
            assert results[1].elapsed < 0.01

    run_virtual(main())


def test_what_turns_out_never_to_fit_fails_too_and_blocks_nobody():
    """The limit is often told by the first answer only: calls that wait by then would hold up the line for ever."""
    told = {
        "x-ratelimit-limit-tokens": "2000",
        "x-ratelimit-remaining-tokens": "1990",
        "x-ratelimit-reset-tokens": "1s",
    }

    async def answer(_: str) -> Response:
        await asyncio.sleep(0.1)
        return completion("x", headers=told)

    wire = Wire(answer)

    async def main() -> None:
        async with client(wire) as made:
            results = await made.gather([*[SMALL] * 30, "before", "word " * 100_000, "after"])
            assert [result.index for result in results if not result.ok] == [31]
            assert isinstance(results[31].error, InvalidRequest)
            assert "2,000" in str(results[31].error)
            assert not any(len(prompt) > 2_000 for prompt in wire.prompts)

    run_virtual(main())
