"""Durable functions: the run file keeps each finished call, so a resumed item pays only for the missing ones.

See `flatout.durable.journal` for how a call is found again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from flatout.errors import ConfigError
from flatout.journey import Journey
from flatout.store import Item
from flatout.values import Result

from .as_json import as_json
from .journal import AskAgain, ItemJournal
from .kept_call import KeptCall
from .opening import StorePath
from .records import result_of
from .run import Asker, Durable, keep, run_durably

if TYPE_CHECKING:
    from flatout.store import RunFile

ItemT = TypeVar("ItemT")
RunItem = Callable[[int, Any, Journey], Awaitable[Result[Any]]]
"""Runs the function for an item. Receives its index, the item, and the journey that counts its calls."""

Restore = Callable[[Any], Any]
"""Restores a function's return value from the JSON in the run file."""


class _ItemStep(Struct, frozen=True):
    """One item to run the function for."""

    value: Any
    row: bytes
    item: Item | None


class _DurableItems(Durable[Any, _ItemStep]):
    """Finished items come back from the file; the function runs for the others."""

    def __init__(
        self,
        store: RunFile,
        name: str,
        retry_failed: bool,
        *,
        client: object,
        run: RunItem,
        restore: Restore | None,
        partly: AskAgain | None,
    ) -> None:
        super().__init__(store, name, retry_failed or partly is not None)
        self._restore = restore
        self._client = client
        self._run = run
        self._ask_again = (partly or _always) if retry_failed else _never

    def step(self, index: int, value: Any) -> _ItemStep:
        what = f"item {index + 1} (a {type(value).__name__})"
        row = as_json(value, f"{what} cannot be written as JSON, which is how a run file tells items apart")
        columns = row if row.startswith(b"{") else b'{"item":' + row + b"}"
        return _ItemStep(value, columns, self.found(index, columns, json.loads(columns)))

    async def answer(self, index: int, step: _ItemStep) -> Result[Any]:
        if step.item is not None:
            return self._restored(replace(result_of(step.item), reply=None, item=step.value))
        entries = await self.store.journalled(index)
        journal = ItemJournal(self.store, self.name, index, entries, self._client, self._ask_again)
        journey = Journey(asyncio.get_running_loop().time())
        journey.journal = journal
        result = await self._run(index, step.value, journey)
        if journal.fault is not None:
            raise journal.fault
        if result.error is None:
            journal.check_all_made()
            try:
                what = f"the function returned a {type(result.output).__name__}"
                kept = as_json(
                    result.output, f"{what}, which cannot be kept as JSON: return lists, dicts, text, numbers"
                )
            except ConfigError as error:
                # Not kept: its calls are in the journal, so a corrected function gets them for free.
                return replace(result, output=None, error=error)
            result = replace(result, output=json.loads(kept))
        await keep(self.store, result, made=step.row, row=step.row)
        return self._restored(result)

    def _restored(self, result: Result[Any]) -> Result[Any]:
        if self._restore is None or result.error is not None:
            return result
        return replace(result, output=self._restore(result.output))


def durable_map(
    items: Iterable[ItemT] | AsyncIterable[ItemT],
    place: StorePath,
    *,
    asker: Asker,
    engine: object,
    run: RunItem,
    job: dict[str, Any],
    retry_failed: bool,
    restore: Restore | None = None,
    partly: AskAgain | None = None,
    known: set[int] | None = None,
) -> AsyncGenerator[Result[Any], None]:
    """`Client.map` with a run file.

    Args:
        items: the function's arguments.
        place: the run file.
        asker: asks the calls.
        engine: the client's; other clients' calls are not journalled.
        run: runs the function.
        job: what makes two runs comparable.
        retry_failed: run failed items again, and ask their failed calls again.
        restore: makes a return value of its JSON.
        partly: of a function whose failed items have results too; None for others. A resumed run then runs it again for
            a failed item, and what was answered, or has failed, comes from the journal. With ``retry_failed``, it
            chooses the calls to ask again.
        known: see `Durable`.
    """

    def begin(store: RunFile, name: str) -> _DurableItems:
        return _DurableItems(store, name, retry_failed, client=engine, run=run, restore=restore, partly=partly)

    return run_durably(begin, items, place, job=job, asker=asker, known=known, functions=True)


def _always(kept: KeptCall) -> bool:
    return True


def _never(kept: KeptCall) -> bool:
    return False
