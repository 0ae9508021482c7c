"""What a run with several workers counts of a worker that has died."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from flatout.money.purse import Purse
from flatout.runs.input.rows import InputSource, Row
from flatout.runs.work import Work
from flatout.runs.workers.books import Books
from flatout.runs.workers.given import Given
from flatout.runs.workers.member import Member
from flatout.values import Call


class Store:
    """A run file that remembers which attempts were lost."""

    def __init__(self) -> None:
        self.lost: list[tuple[int, int]] = []

    async def lose(self, attempts: Iterable[tuple[int, int]]) -> None:
        self.lost += attempts


def test_what_a_dead_worker_had_in_flight_counts_by_its_estimate() -> None:
    """Money would be spent that the budget does not know of; or calls to a free model would count as unknown costs."""

    async def main() -> tuple[Store, Purse, Member]:
        store, purse = Store(), Purse(1.0)
        books: Any = Books(store, purse, keep_prompts=True, heard=None, changed=lambda: None)  # type: ignore[arg-type]
        member = Member(0, 5, lambda *_: None, lambda _: None)
        member.open[7] = await purse.reserve("", 0.5)
        given = Given(Work(3, Row(3, 4, {}, InputSource("in", "jsonl")), b"", Call("x"), b"", b""))
        given.tries = {1: 0.0, 2: 0.25, 3: None}
        await books.write_off(member, {3: given})
        assert given.deaths == 1
        assert not given.tries
        return store, purse, member

    store, purse, member = asyncio.run(main())
    assert store.lost == [(3, 1), (3, 2), (3, 3)]
    assert (purse.unknown, purse.reckoned) == (2, 0.25)
    standing = purse.standing()
    assert standing is not None
    assert standing.left == pytest.approx(0.75)
    assert not member.open
