from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from flatout.errors import ConfigError
from flatout.runs.input import arrivals
from flatout.runs.input.arrivals import Arrivals


async def taken(rows: Arrivals[int]) -> list[int]:
    return [row async for row in rows]


def test_rows_come_whole_and_in_order() -> None:
    """Rows of a pipe would be lost or asked in another order."""
    assert asyncio.run(taken(Arrivals(iter(range(5_000))))) == list(range(5_000))


def test_an_error_comes_after_the_rows_before_it() -> None:
    """A broken row would take the good ones with it, or the run hang for ever."""
    seen: list[int] = []

    def rows() -> Iterator[int]:
        yield from (1, 2)
        raise ConfigError("stdin, line 3: not JSON")

    async def take() -> None:
        async for row in Arrivals(rows()):
            seen.append(row)

    with pytest.raises(ConfigError, match="line 3"):
        asyncio.run(take())
    assert seen == [1, 2]


def test_whatever_the_reading_raises_ends_it() -> None:
    """An error of another kind would leave the run waiting for a row that never comes."""

    def rows() -> Iterator[int]:
        raise RecursionError
        yield 0

    with pytest.raises(RecursionError):
        asyncio.run(taken(Arrivals(rows())))


def test_other_things_go_on_while_nothing_arrives() -> None:
    """One slow writer would hold up every call in flight, and Ctrl-C."""
    gate = threading.Event()

    def rows() -> Iterator[int]:
        yield 1
        gate.wait(10)
        yield 2

    async def both() -> list[int]:
        came: asyncio.Queue[int] = asyncio.Queue()

        async def read() -> None:
            async for row in Arrivals(rows()):
                came.put_nowait(row)

        reading = asyncio.create_task(read())
        first = await came.get()
        gate.set()  # by the loop, which therefore runs
        await reading
        return [first, await came.get()]

    assert asyncio.run(both()) == [1, 2]


def test_closing_ends_the_wait_for_a_row() -> None:
    """A stopped run would end only when somebody writes another row."""
    gate = threading.Event()

    def rows() -> Iterator[int]:
        yield 1
        gate.wait(10)

    async def closed() -> list[int]:
        source = Arrivals(rows())
        seen: list[int] = []
        async for row in source:
            seen.append(row)
            source.close()
        return seen

    assert asyncio.run(closed()) == [1]
    gate.set()


def test_only_so_many_rows_are_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endless pipe would fill the memory."""
    monkeypatch.setattr(arrivals, "AHEAD", 10)
    read: list[int] = []

    def rows() -> Iterator[int]:
        for number in range(100):
            read.append(number)
            yield number

    async def half() -> int:
        most = 0
        taken = 0
        async for _ in Arrivals(rows()):
            taken += 1
            most = max(most, len(read) - taken)
        return most

    assert asyncio.run(half()) <= 11
    assert len(read) == 100
