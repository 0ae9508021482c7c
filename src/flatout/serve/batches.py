"""OpenAI's batches (``/v1/batches``), so that batch jobs run against any target: in its own batches, or live.

A batch is a run file: a row that was answered is asked and paid for once, whatever happens to the gateway. One that
starts anew goes on with the batches that were not done. Live rows have the lowest priority, so they fill what calls
leave.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Container
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from flatout.client import engine_of
from flatout.errors import ConfigError, FlatoutError, RunLocked, StoreError
from flatout.http_server.answer import Answer
from flatout.http_server.requests import Request
from flatout.tasks.loop import wall

from .batch_folder import found_at, held, keep_at, link
from .batch_input import MOST_BYTES, Fault, Rows, read
from .batch_lane import lane_of
from .batch_work import OVER, Batch, BatchWork, State
from .callers import Caller
from .calls import Calls
from .files import KEPT, NAME, Files, new_name
from .guard import Denied
from .models import Models
from .site import CALLS, send_json, send_page

if TYPE_CHECKING:
    from flatout.client import Client

FULL = 60.0
"""Seconds after which files are written anew that could not be written."""

ELSEWHERE = 60.0
"""Seconds until a batch that another gateway works on is looked at again: that one may have ended."""

_log = logging.getLogger("flatout")


class Batches:
    """Works on batches, and keeps them in a folder.

    Args:
        client: whose run is recorded.
        calls: where rows have their turn.
        models: says which model a name means.
        caller: finds a caller by its name, for batches of an earlier process.
        files: the files of inputs and results.
        folder: where batches are kept.
    """

    def __init__(
        self,
        client: Client,
        calls: Calls,
        models: Models,
        caller: Callable[[str], Awaitable[Caller]],
        files: Files,
        folder: Path,
    ) -> None:
        self._client = client
        self._calls = calls
        self._models = models
        self._caller = caller
        self._files = files
        self._folder = folder
        self._known: dict[str, Batch] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._elsewhere: set[str] = set()  # batches that another gateway works on, in the same folder
        self._keeping = asyncio.Lock()

    async def open(self) -> None:
        """Go on with the batches of an earlier process."""
        self._known = await asyncio.to_thread(self._read)
        for batch in self._known.values():
            if batch.state not in OVER:
                self._begin(batch)

    async def close(self) -> None:
        """Stop working. What is not done goes on when the gateway starts again."""
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def root(self, request: Request, answer: Answer, caller: Caller) -> None:
        """List a caller's batches, or begin one.

        Raises:
            Denied: what is asked is no batch.
        """
        if request.method == "POST":
            send_json(answer, described(await self._create(request, caller)))
            return
        own = [described(each) for each in self._known.values() if each.owner == caller.name]
        send_page(answer, request, own[::-1], usual=20, most=100)

    async def one(self, request: Request, answer: Answer, caller: Caller) -> None:
        """Describe or cancel a batch.

        Raises:
            Denied: the caller has none of that name.
        """
        name, _, act = request.path.partition("/batches/")[2].partition("/")
        batch = self._known.get(name)
        if batch is None or batch.owner != caller.name or act not in ("", "cancel"):
            raise Denied(404, f"there is no batch {name[:80]!r}")
        if name in self._elsewhere:
            await self._look(batch)
        if act:
            await self._cancel(batch)
        send_json(answer, described(batch))

    async def _create(self, request: Request, caller: Caller) -> Batch:
        try:
            asked = msgspec.json.decode(request.body, type=_Create)
        except (ValueError, RecursionError) as error:
            raise Denied(400, f"not a batch: {error}") from None
        if asked.endpoint.removeprefix("/v1") not in CALLS:
            raise Denied(400, f"batches are for {', '.join(f'/v1{path}' for path in CALLS)}")
        if asked.completion_window != "24h":
            raise Denied(400, f"the completion_window is 24h, not {asked.completion_window[:20]!r}")
        file = await asyncio.to_thread(self._files.find, caller.name, asked.input_file_id)
        if file is None:
            raise Denied(400, f"there is no file {asked.input_file_id[:80]!r}")
        if file.size > MOST_BYTES:
            raise Denied(400, f"the input of a batch has at most {MOST_BYTES:,} bytes, and this file has {file.size:,}")
        batch = Batch(new_name("batch"), caller.name, asked.endpoint, asked.input_file_id, asked.metadata)
        batch.becomes("validating")
        await self._keep(batch)
        self._known[batch.id] = batch
        self._begin(batch)
        return batch

    async def _cancel(self, batch: Batch) -> None:
        """Cancel a batch. What is done of it is left as its files.

        Raises:
            Denied: it has ended, or another gateway works on it.
        """
        if batch.state in OVER:
            raise Denied(409, f"a batch that is {batch.state} cannot be cancelled")
        if batch.id in self._elsewhere:
            raise Denied(409, "another gateway works on this batch, in the same folder: cancel it there")
        if batch.state == "cancelling":
            return
        batch.becomes("cancelling")
        self._begin_again(batch)
        await self._keep(batch)

    def look_again(self, owners: Container[str]) -> None:
        """The keys of these owners were removed: look again whether their batches may go on, as after a restart."""
        for batch in self._known.values():
            if batch.owner in owners and batch.state in ("validating", "in_progress"):
                self._begin_again(batch)

    def _begin_again(self, batch: Batch) -> None:
        before = self._tasks.get(batch.id)
        if before is not None:
            before.cancel()
        self._begin(batch, before)

    def _begin(self, batch: Batch, before: asyncio.Task[None] | None = None) -> None:
        """Work on a batch, when the work on it has ended that was under way before."""
        task = self._tasks[batch.id] = asyncio.ensure_future(self._work(batch, before))
        task.add_done_callback(partial(self._ended, batch.id))

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(name) is task:
            del self._tasks[name]

    async def _work(self, batch: Batch, before: asyncio.Task[None] | None) -> None:
        """Work on a batch until it is over."""
        if before is not None:
            await asyncio.gather(before, return_exceptions=True)
        while batch.state not in OVER:
            try:
                async with held(self._folder, batch.id):
                    self._elsewhere.discard(batch.id)
                    await self._worked_on(batch)
            except RunLocked as error:
                if batch.id not in self._elsewhere:
                    _log.warning("the batch %s waits for another gateway: %s", batch.id, error)
                self._elsewhere.add(batch.id)
                await asyncio.sleep(ELSEWHERE)
            except StoreError as error:
                await self._failed(batch, error)
        self._elsewhere.discard(batch.id)
        await asyncio.to_thread(self._clear, batch)

    async def _worked_on(self, batch: Batch) -> None:
        """Work on a batch that no other gateway works on now. One may have done so before."""
        await self._look(batch)
        if batch.state in OVER:
            return
        try:
            rows = await self._validated(batch)
            if rows is not None:
                await self._answered(batch, rows)
        except RunLocked:
            raise
        except (FlatoutError, OSError) as error:
            await self._failed(batch, error)

    async def _validated(self, batch: Batch) -> Rows | None:
        """The rows of a batch; None if it cannot be worked on."""
        rows, faults = await asyncio.to_thread(self._rows, batch)
        batch.total, batch.faults = len(rows), faults
        if not batch.lane and (owner := await self._owner(batch)) is not None:
            budgeted = owner.purse is not None
            batch.lane = lane_of(batch.metadata, rows.models, self._models, engine_of(self._client), budgeted=budgeted)
        if batch.state != "cancelling":
            batch.becomes("failed" if faults else "in_progress")
        await self._keep(batch)
        return None if batch.state in OVER else rows

    async def _answered(self, batch: Batch, rows: Rows) -> None:
        """Ask the rows, and leave the files of their results."""
        work = self._work_on(batch, rows)
        try:
            await self._asked(batch, work)
        except RunLocked:
            raise
        except FlatoutError:
            await self._left(batch, work)
            raise
        ends: State = "cancelled"
        if batch.state != "cancelling":
            ends = "expired" if batch.is_late else "completed"
            batch.becomes("finalizing")
        await self._left(batch, work)
        batch.becomes(ends)
        await self._keep(batch)

    async def _asked(self, batch: Batch, work: BatchWork) -> None:
        try:
            owner = await self._owner(batch)
        except ConfigError:
            await work.ask_no_more()
            raise
        await (work.ask_no_more() if owner is None else work.ask(owner))

    async def _owner(self, batch: Batch) -> Caller | None:
        """The caller to whom a batch belongs; None if it is cancelled or has expired, so that nothing more is asked.

        It may have expired while its owner's budget was away.

        Raises:
            ConfigError: its owner may no longer ask.
        """
        if batch.state == "cancelling":
            return None
        try:
            async with asyncio.timeout(batch.expires_at - wall()):
                return await self._caller(batch.owner)
        except TimeoutError:
            return None

    async def _left(self, batch: Batch, work: BatchWork) -> None:
        """Leave the files of a batch's results. A full disk is waited for: the results are paid for."""
        while True:
            try:
                await work.leave()
            except OSError as error:
                _log.warning("the batch %s waits to leave its results: %s", batch.id, error)
                await asyncio.sleep(FULL)
            else:
                return

    def _rows(self, batch: Batch) -> tuple[Rows, list[Fault]]:
        """The rows of a batch. They are read again and again, and its owner may remove their file meanwhile. So the
        batch has a link of its own.

        Raises:
            OSError: the file is gone, or cannot be read.
        """
        own, given = self._input(batch), self._files.path(batch.input)
        if not own.exists():
            link(own, given)
        return read(own if own.exists() else given, batch.endpoint)

    def _clear(self, batch: Batch) -> None:
        """Remove what a batch that is over needs no more: its input, and its run file, which would take as much again
        as the files that it has left. What a failed one has may be in its run file alone.
        """
        for path in self._folder.glob(f"{batch.id}.input*"):
            path.unlink(missing_ok=True)
        if batch.state != "failed":
            for path in self._folder.glob(f"{batch.id}.flatout*"):
                path.unlink(missing_ok=True)

    def size(self, owner: str) -> int:
        """The bytes of inputs that a caller has removed, and its batches still hold."""
        sizes = {}
        for batch in [*self._known.values()]:  # this is a thread: others may come
            own = batch.owner == owner and batch.state not in OVER
            if own and not self._files.path(batch.input).exists():
                with suppress(OSError):
                    sizes[batch.input] = self._input(batch).stat().st_size
        return sum(sizes.values())

    async def sweep(self) -> None:
        """Forget batches whose files have expired."""
        before = wall() - KEPT
        for batch in [each for each in self._known.values() if each.state in OVER and max(each.at.values()) < before]:
            del self._known[batch.id]
            await asyncio.to_thread(self._forget, batch)

    def _forget(self, batch: Batch) -> None:
        for path in self._folder.glob(f"{batch.id}.*"):
            path.unlink(missing_ok=True)

    def _input(self, batch: Batch) -> Path:
        return self._folder / f"{batch.id}.input"

    def _work_on(self, batch: Batch, rows: Rows) -> BatchWork:
        return BatchWork(
            batch,
            rows,
            client=self._client,
            calls=self._calls,
            models=self._models,
            files=self._files,
            folder=self._folder,
        )

    async def _failed(self, batch: Batch, error: Exception) -> None:
        _log.warning("the batch %s failed: %s", batch.id, error)
        code = "invalid_request" if isinstance(error, ConfigError) else "internal_error"
        batch.faults = [Fault(code, str(error))]
        batch.becomes("failed")
        await self._keep(batch)

    async def _keep(self, batch: Batch) -> None:
        await asyncio.shield(self._kept(batch))

    async def _kept(self, batch: Batch) -> None:
        async with self._keeping:  # else an earlier state might be written last
            found = await asyncio.to_thread(keep_at, self._place(batch), batch)
        if found is not None:
            batch.take_over(found)

    async def _look(self, batch: Batch) -> None:
        """Take over what another gateway has written of a batch."""
        found = await asyncio.to_thread(found_at, self._place(batch))
        if found is not None:
            batch.take_over(found)

    def _place(self, batch: Batch) -> Path:
        return self._folder / f"{batch.id}.json"

    def _read(self) -> dict[str, Batch]:
        found = []
        for path in self._folder.glob("batch-*.json"):
            if NAME.fullmatch(path.stem) and (batch := found_at(path)) is not None:
                found.append(batch)
                if batch.state in OVER:  # a kill may have left something
                    with suppress(OSError):
                        self._clear(batch)
        return {each.id: each for each in sorted(found, key=lambda each: each.at.get("validating", 0.0))}


class _Create(Struct):
    input_file_id: str
    endpoint: str
    completion_window: str = "24h"
    metadata: dict[str, Any] | None = None


def described(batch: Batch) -> dict[str, Any]:
    """A batch as OpenAI describes it."""
    at = {state: int(when) for state, when in batch.at.items()}
    faults = [msgspec.to_builtins(each) for each in batch.faults]
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": {"object": "list", "data": faults} if faults else None,
        "input_file_id": batch.input,
        "completion_window": "24h",
        "status": batch.state,
        "output_file_id": batch.output,
        "error_file_id": batch.errors,
        "created_at": at["validating"],
        "expires_at": int(batch.expires_at),
        **{f"{state}_at": at.get(state) for state in ("in_progress", "finalizing", "cancelling", *sorted(OVER))},
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "metadata": batch.metadata,
    }
