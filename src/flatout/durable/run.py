"""Calls whose results a run file keeps. Finished calls come from the file; new ones are reported once they are in it.

This module holds everything that the command's and the library's durable runs share. The input streams past, and each
row is compared with its record in the file.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import aclosing
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from flatout.edge.fan_out import Flow, fan_out
from flatout.errors import ConfigError, RunMismatch, StoreError
from flatout.journey import Journey
from flatout.store import Finished, Item, RunState
from flatout.tasks.closing import close_all, reading
from flatout.values import CallLike, Result

from .course import Recorded, recorded
from .mismatch import mismatch
from .opening import StorePath, left_in, opened
from .records import NO_CALL, fingerprint, item_of, makes_no_call

if TYPE_CHECKING:
    from flatout.store import RunFile

FoundT = TypeVar("FoundT", Finished, Item)
ValueT = TypeVar("ValueT")
StepT = TypeVar("StepT")

AHEAD = 5_000
"""Rows of a run file that are read at once, without their prompts and answers."""

AHEAD_WHOLE = 200
"""Rows of a run file that are read at once, with their prompts and answers."""


class Asker(Recorded, Protocol):
    """Asks the calls of a durable run; a Client."""

    @property
    def window(self) -> int:
        """How many calls are taken from the input ahead of their answers."""
        ...

    async def result(self, call: CallLike, /, *, index: int = 0, journey: Journey | None = None) -> Result[Any]:
        """Answer one call. A failure is part of the result."""
        ...

    def go_on(self, run: Hashable, spent: float, *, answered: bool = False) -> None:
        """Go on with a run: count its earlier spending, in US dollars, and know whether it has answers."""
        ...


class Stored(Generic[FoundT]):
    """The records of a run file, taken row by row as the input streams past.

    Records are read in batches. In an event loop, await `read_ahead` whenever `must_read` is true, so that a thread
    reads.

    Args:
        found: the records, in index order; reading them may wait for the disk.
        ahead: how many are read at once.
    """

    def __init__(self, found: Iterator[FoundT], ahead: int = AHEAD) -> None:
        self._found: Iterator[FoundT] = found
        self._ahead = ahead
        self._batch: deque[FoundT] = deque()
        self._at_end = False

    @property
    def must_read(self) -> bool:
        """Whether the next `take` must read from the disk."""
        return not self._batch and not self._at_end

    async def read_ahead(self) -> None:
        """Read the next batch, in a thread."""
        if self.must_read:
            await asyncio.to_thread(self._read)

    def take(self, index: int) -> FoundT | None:
        """The record of a row; None for a row without one. Ask for every row, in order."""
        coming = self._next()
        return self._batch.popleft() if coming is not None and coming.index == index else None

    def check_nothing_left(self, name: str, rows: int, source: str) -> None:
        """Refuse an input that has become shorter.

        Raises:
            RunMismatch: there are results for rows that the input no longer has.
        """
        if (coming := self._next()) is not None:
            raise RunMismatch(
                f"{name} has a result for row {coming.index + 1}, but {source} "
                f"{'1 row' if rows == 1 else f'{rows} rows'} now"
            )

    def _next(self) -> FoundT | None:
        if self.must_read:
            self._read()
        return self._batch[0] if self._batch else None

    def _read(self) -> None:
        self._batch.extend(islice(self._found, self._ahead))
        self._at_end = len(self._batch) < self._ahead


async def keep(
    store: RunFile,
    result: Result[Any],
    *,
    made: bytes,
    row: bytes | None = None,
    keep_prompts: bool = True,
    mark: bytes | None = None,
) -> None:
    """Put a result into the run file and return after its commit. See `item_of` for the arguments.

    Raises:
        StoreError: the result could not be kept, or the call itself failed because the run file did.
    """
    if isinstance(result.error, StoreError):
        raise result.error
    await store.finish(item_of(result, made=made, row=row, keep_prompts=keep_prompts, mark=mark))


class Durable(Generic[ValueT, StepT]):
    """A durable run in the library. It makes a step of each value of the input, and a result of each step.

    Attributes:
        store: the run file.
        name: its name.
        again: the states of items that are asked again.
        known: receives the indexes of the results that the file had already; None if nobody wants them.
        part: whether the input is only the first part of the run's, so that more results than rows are no mismatch.
    """

    def __init__(self, store: RunFile, name: str, retry_failed: bool) -> None:
        self.store = store
        self.name = name
        self._stored = Stored(store.items(), AHEAD_WHOLE)
        self.again = {"unsent", "failed"} if retry_failed else {"unsent"}
        self.known: set[int] | None = None
        self.part = False

    def step(self, index: int, value: ValueT) -> StepT:
        """The step for a value, compared with its record in the file.

        Raises:
            RunMismatch: they differ.
        """
        raise NotImplementedError

    async def answer(self, index: int, step: StepT) -> Result[Any]:
        """The step's result, from the file or new. A new one is in the file."""
        raise NotImplementedError

    def found(self, index: int, made: bytes, columns: Mapping[str, Any] | None = None) -> Item | None:
        """The record of a row, unless it will be tried again.

        Raises:
            RunMismatch: the row has changed since.
        """
        item = self._stored.take(index)
        if item is None or (makes_no_call(item) and made != NO_CALL):
            return None
        if item.fingerprint != fingerprint(made):
            raise mismatch(self.name, f"row {index + 1}", item, made, columns)
        if item.state in self.again:
            return None
        if self.known is not None:
            self.known.add(index)
        return item

    async def steps(self, values: Iterable[ValueT] | AsyncIterable[ValueT]) -> AsyncIterator[StepT]:
        """The steps of all values, made as they are pulled."""
        rows = 0
        async with reading(values) as source:
            async for value in source:
                if self._stored.must_read:
                    await self._stored.read_ahead()
                yield self.step(rows, value)
                rows += 1
        if self.part:
            return
        await self._stored.read_ahead()
        self._stored.check_nothing_left(self.name, rows, "the input has only")
        self.store.set_total(rows)


def run_durably(
    begin: Callable[[RunFile, str], Durable[ValueT, StepT]],
    values: Iterable[ValueT] | AsyncIterable[ValueT],
    place: StorePath,
    *,
    job: Mapping[str, Any],
    asker: Asker,
    leaves: RunState = "finished",
    known: set[int] | None = None,
    functions: bool = False,
    part: bool = False,
) -> AsyncGenerator[Result[Any], None]:
    """Open the run file, go through the values, and close the file however that ends.

    Args:
        begin: makes the run.
        values: its input.
        place: the run file.
        job: what makes two answers comparable.
        asker: asks the calls.
        leaves: the state of the file after all values.
        known: see `Durable`.
        functions: whether users' functions run for the values.
        part: see `Durable`.

    Raises:
        ConfigError: rows of the file stand in batches.
    """
    flow = Flow(functions=functions)

    async def results(store: RunFile, name: str) -> AsyncGenerator[Result[Any], None]:
        await asyncio.to_thread(check_no_batches, store, name)
        run = begin(store, name)
        run.known, run.part = known, part
        async with aclosing(fan_out(run.steps(values), run.answer, lambda: asker.window, flow)) as outcomes:
            async for outcome in outcomes:
                yield outcome

    ends = _after_part if part else leaves
    return kept_results(results, place, job=job, asker=asker, leaves=ends, flow=flow)


def _after_part(store: RunFile) -> RunState:
    """The state of a run after a part of its input: whether all of it is finished, as far as that is known."""
    total = store.total
    return "finished" if total is not None and store.counts().finished >= total else "interrupted"


def check_no_batches(store: RunFile, name: str) -> None:
    """Refuse to ask rows that a provider may have in a batch, or whose answers are here: they are paid for.

    Raises:
        ConfigError: there are such rows.
    """
    rows = sum(batch.rows for batch in store.ledger.batches() if batch.state in ("intended", "open"))
    if rows or store.ledger.has_results():
        raise ConfigError(
            f"{f'{rows:,} ' if rows else ''}rows of {name} stand in batches: collect them with lane='batch'"
        )


async def kept_results(
    results: Callable[[RunFile, str], AsyncGenerator[Result[Any], None]],
    place: StorePath,
    *,
    job: Mapping[str, Any],
    asker: Asker,
    leaves: RunState | Callable[[RunFile], RunState] = "finished",
    flow: Flow | None = None,
) -> AsyncGenerator[Result[Any], None]:
    """Open a run file, pass on results that it keeps, and close it however that ends.

    Args:
        results: yields the results, given the run file and its name; each is in the file by then.
        place: the run file.
        job: what makes two answers comparable.
        asker: asks the calls.
        leaves: the state of the file after all results, or what tells it; that may wait for the disk.
        flow: see `flatout.durable.course.Course`.
    """
    store = await opened(place, job)
    loop, name = asyncio.get_running_loop(), os.fspath(place)
    left, ended = left_in(loop), loop.create_future()
    state: RunState = "interrupted"
    try:
        asker.go_on(store.created_at, store.spent_before, answered=store.answered_before)
        async with recorded(asker, store, flow), aclosing(results(store, name)) as outcomes:
            async for result in outcomes:
                try:
                    yield result
                except GeneratorExit:
                    left.leave(name, ended)
                    raise
        state = leaves if isinstance(leaves, str) else await asyncio.to_thread(leaves, store)
    finally:
        try:
            await close_all(partial(store.mark, state), store.close)
        finally:
            left.end(name)
            ended.set_result(None)
