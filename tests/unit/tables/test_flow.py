"""Batches on their way: their order, and the window across them."""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout import Client, Limits
from flatout.tables._flow import answered
from flatout.tables._question import Question
from flatout.testing import digest_of, run_virtual
from tests.support.batch_wire import BatchWire
from tests.support.scripted_wire import Wire, client, refusal

pa = pytest.importorskip("pyarrow")

QUESTION = Question("{{ text }}")


def batches(sizes):
    start = 0
    for size in sizes:
        yield pa.record_batch({"text": [f"row {n}" for n in range(start, start + size)]})
        start += size


def parts(sizes, wire=None, *, limits=None, **more):
    async def main():
        async with client(wire or Wire(), limits=limits) as made:
            return [(part.batch, part.whole()) async for part in answered(made, batches(sizes), QUESTION, **more)]

    return run_virtual(main())


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 20), st.randoms(use_true_random=False))
def test_every_row_has_its_own_answer_in_its_place(sizes, ahead, drawn):
    """An answer would stand beside another row, or a row be missing."""
    found = parts(sizes, Wire(lambda _: drawn.random() * 10), ahead=ahead)
    assert [batch.num_rows for batch, _ in found] == sizes
    for batch, cells in found:
        assert [cell.value for cell in cells] == [digest_of(text) for text in batch.column("text").to_pylist()]


@pytest.mark.parametrize(("ahead", "least", "most"), [(400, 38, 40), (1, 0, 10)])
def test_a_slow_row_does_not_empty_the_window(ahead, least, most):
    """Each batch's slowest row would leave the limit of 40 unused until the next batch begins."""
    wire = Wire(lambda prompt: 50.0 if int(prompt.split()[1]) % 10 == 9 else 1.0)
    seen = []

    async def main():
        async with client(wire, limits=Limits(concurrency=40)) as made:
            asked = asyncio.ensure_future(look())
            async for _ in answered(made, batches([10] * 60), QUESTION, ahead=ahead):
                pass
            asked.cancel()

    async def look():
        while True:
            await asyncio.sleep(1)
            seen.append(wire.active)

    run_virtual(main())
    busy = seen[5 : len(seen) // 2]
    assert least <= sum(busy) / len(busy) <= most


def test_no_more_is_read_than_the_window_ahead():
    """A table larger than memory would be read as a whole."""
    read = []

    def counted():
        for batch in batches([10] * 100):
            read.append(batch)
            yield batch

    async def main():
        async with client(Wire(lambda _: 1.0)) as made:
            most = done = 0
            async for _ in answered(made, counted(), QUESTION, ahead=50):
                most = max(most, len(read) - done)
                done += 1
            return most

    assert run_virtual(main()) <= 6


def test_a_row_that_makes_no_call_has_an_error_and_the_others_an_answer():
    """A null in one row would end the run, or move all later answers by one."""

    def rows():
        yield pa.record_batch({"text": ["a", None, "bad", "d"]})

    async def main():
        async with client(Wire(lambda prompt: refusal(400) if prompt == "bad" else prompt.upper())) as made:
            [part] = [part async for part in answered(made, rows(), QUESTION)]
            return part.whole()

    first, null, bad, last = run_virtual(main())
    assert (first.value, last.value) == ("A", "D")
    assert null.error.startswith("ConfigError: the column text is null; nulls='empty'")
    assert bad.error.startswith("InvalidRequest")


def test_leaving_early_ends_the_calls_in_progress():
    """A loop that is left would go on paying."""
    wire = Wire(lambda prompt: 1.0 if prompt == "row 0" else 60.0)

    async def main():
        async with client(wire) as made:
            async with aclosing(answered(made, batches([1] * 20), QUESTION)) as found:
                async for _ in found:
                    break
            return wire.active

    assert run_virtual(main()) == 0


def test_a_source_that_fails_ends_the_stream_with_its_error():
    """A table would end in the middle, as if that were all of it."""

    def failing():
        yield from batches([2])
        raise OSError("the disk is gone")

    found = []

    async def main():
        async with client(Wire()) as made:
            async for part in answered(made, failing(), QUESTION):
                found.append(part.whole())

    with pytest.raises(OSError, match="the disk is gone"):
        run_virtual(main())
    assert [len(cells) for cells in found] == [2]


def test_the_batch_lane_answers_tables_too(tmp_path):
    """Half the price would be for lists and files alone: the lane wants all rows before the first answer comes."""

    async def main():
        async with Client("openai/gpt-5-mini", api_key="k", transport=BatchWire(), config={}, seed=1) as made:
            lane = {"lane": "batch", "store": tmp_path / "run.flatout", "ahead": math.inf}
            return [part.whole() async for part in answered(made, batches([5] * 4), QUESTION, **lane)]

    found = run_virtual(main(), limit=100 * 86_400)
    assert [cell.value for part in found for cell in part] == [digest_of(f"row {n}") for n in range(20)]
