"""OpenAI's batches (``/v1/batches``) over the live lane, so that batch jobs run against any target.

A batch is a run file: a row that was answered is asked and paid for once, whatever happens to the gateway. One that
starts anew goes on with the batches that were not done. Rows have the lowest priority, so they fill what calls leave.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import Struct

from flatout.durable.run import durable_calls
from flatout.edge.fan_out import outcome
from flatout.errors import ConfigError, FlatoutError, RunLocked
from flatout.journey import Journey
from flatout.serving.answer import Answer
from flatout.serving.requests import Request
from flatout.values import Call

from . import batch_rows
from .batch_rows import Fault, RowAsker, Rows
from .callers import Caller
from .calls import Calls
from .files import NAME, Files, new_name, write
from .guard import Denied
from .models import Models
from .site import CALLS, send_json

if TYPE_CHECKING:
    from flatout.client import Client

WINDOW = 86_400.0  # seconds in which a batch is done, or expires

State = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]

LANE = "lane"
"""What a batch's metadata calls the way in which its rows are asked: ``batch`` for the provider's own batches."""

OVER = frozenset({"failed", "completed", "expired", "cancelled"})

_HELD = 1024 * 1024
"""Bytes of results that are written at once."""

_log = logging.getLogger("flatout")


class Batch(Struct):
    """A batch, as it is kept.

    Attributes:
        id, endpoint, input, metadata: see OpenAI's reference.
        owner: the caller whose it is.
        state: its status.
        at: when each state began; Unix time.
        total, completed, failed: rows.
        output, errors: the names of the files that it left.
        faults: what is wrong with its input.
    """

    id: str
    owner: str
    endpoint: str
    input: str
    metadata: dict[str, Any] | None
    state: State = "validating"
    at: dict[str, float] = {}
    total: int = 0
    completed: int = 0
    failed: int = 0
    output: str | None = None
    errors: str | None = None
    faults: list[Fault] = []

    def becomes(self, state: State) -> None:
        """Begin a state."""
        self.state = state
        self.at.setdefault(state, time.time())


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
        caller: Callable[[str], Caller],
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
        ends = {"first_id": own[-1]["id"] if own else None, "last_id": own[0]["id"] if own else None}
        send_json(answer, {"object": "list", "data": own[::-1], **ends, "has_more": False})

    async def one(self, request: Request, answer: Answer, caller: Caller) -> None:
        """Describe or cancel a batch.

        Raises:
            Denied: the caller has none of that name.
        """
        name, _, act = request.path.partition("/batches/")[2].partition("/")
        batch = self._known.get(name)
        if batch is None or batch.owner != caller.name or act not in ("", "cancel"):
            raise Denied(404, f"there is no batch {name[:80]!r}")
        if act:
            await self._cancel(batch)
        send_json(answer, described(batch))

    async def _create(self, request: Request, caller: Caller) -> Batch:
        try:
            asked = msgspec.json.decode(request.body, type=_Create)
        except msgspec.MsgspecError as error:
            raise Denied(400, f"not a batch: {error}") from None
        if asked.endpoint.removeprefix("/v1") not in CALLS:
            raise Denied(400, f"batches are for {', '.join(f'/v1{path}' for path in CALLS)}")
        if await asyncio.to_thread(self._files.find, caller.name, asked.input_file_id) is None:
            raise Denied(400, f"there is no file {asked.input_file_id[:80]!r}")
        batch = Batch(new_name("batch"), caller.name, asked.endpoint, asked.input_file_id, asked.metadata)
        batch.becomes("validating")
        await self._keep(batch)
        self._known[batch.id] = batch
        self._begin(batch)
        return batch

    async def _cancel(self, batch: Batch) -> None:
        if batch.state in OVER or batch.state == "cancelling":
            return
        batch.becomes("cancelling")
        await self._keep(batch)
        if (task := self._tasks.get(batch.id)) is not None:
            task.cancel()

    def _begin(self, batch: Batch) -> None:
        task = asyncio.ensure_future(self._work(batch))
        self._tasks[batch.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(batch.id, None))

    async def _work(self, batch: Batch) -> None:
        """Work on a batch until it is over; cancelled, it is over if its caller wanted that."""
        try:
            rows = await self._validated(batch)
            if rows is not None:
                await self._answered(batch, rows)
        except asyncio.CancelledError:
            if batch.state != "cancelling":
                raise
            batch.becomes("cancelled")
            await self._keep(batch)
        except RunLocked as error:
            _log.warning("the batch %s waits for another gateway: %s", batch.id, error)
        except (FlatoutError, OSError) as error:
            _log.warning("the batch %s failed: %s", batch.id, error)
            batch.faults = [Fault("internal_error", str(error))]
            batch.becomes("failed")
            await self._keep(batch)

    async def _validated(self, batch: Batch) -> Rows | None:
        """The rows of a batch; None if it cannot be worked on."""
        data = await asyncio.to_thread(self._files.path(batch.input).read_bytes)
        rows, faults = await asyncio.to_thread(batch_rows.read, data, batch.endpoint)
        batch.total, batch.faults = len(rows.ids), faults
        if batch.state == "cancelling":
            batch.becomes("cancelled")
        else:
            batch.becomes("failed" if faults else "in_progress")
        await self._keep(batch)
        return rows if batch.state == "in_progress" else None

    async def _answered(self, batch: Batch, rows: Rows) -> None:
        """Ask the rows, and leave the files of their results, however that ends."""
        results = _Results(self._files, batch)
        try:
            await self._ask(batch, rows, results)
        except asyncio.CancelledError:
            if batch.state == "cancelling":
                await asyncio.shield(asyncio.to_thread(results.keep))
            raise
        expired = time.time() >= batch.at["validating"] + WINDOW
        batch.becomes("finalizing")
        await asyncio.to_thread(results.keep)
        batch.becomes("expired" if expired else "completed")
        await self._keep(batch)

    async def _ask(self, batch: Batch, rows: Rows, results: _Results) -> None:
        dialect = CALLS[batch.endpoint.removeprefix("/v1")]
        if (batch.metadata or {}).get(LANE) == "batch":
            await self._ask_in_batches(batch, rows, results, dialect)
            return
        until = asyncio.get_running_loop().time() + batch.at["validating"] + WINDOW - time.time()
        asker = RowAsker(self._client, self._calls, self._caller(batch.owner), dialect)
        asked: Any = batch_rows.calls_of(rows, dialect, self._models, until)
        batch.completed = batch.failed = 0
        place = self._folder / f"{batch.id}.flatout"
        answers = durable_calls(asked, place, asker=asker, job={"batch": batch.id}, retry_failed=False)
        async with aclosing(answers) as outcomes:
            async for result in outcomes:
                await results.add(result.ok, batch_rows.line_of(result, rows.ids[result.index], dialect))

    async def _ask_in_batches(self, batch: Batch, rows: Rows, results: _Results, dialect: str) -> None:
        """Ask the rows in the batch lane of their provider, whose batches are its own.

        Raises:
            ConfigError: it has none, or the caller's budget could not be kept.
        """
        if self._caller(batch.owner).purse is not None:
            raise ConfigError("the provider's own batches are not held to a key's budget: leave the lane out")
        calls, names = list[Call](), list[str]()
        until = asyncio.get_running_loop().time() + WINDOW
        batch.completed = batch.failed = 0
        for index, call in enumerate(batch_rows.calls_of(rows, dialect, self._models, until)):
            if isinstance(call, batch_rows.Unasked):
                failed = outcome(index, Journey(until), error=call.why)
                await results.add(False, batch_rows.line_of(failed, rows.ids[index], dialect))
            else:
                calls.append(Call(**batch_rows.parameters(call)))
                names.append(rows.ids[index])
        place = self._folder / f"{batch.id}.flatout"
        async with aclosing(self._client.as_completed(calls, store=place, lane="batch")) as outcomes:
            async for result in outcomes:
                body = batch_rows.written(result, dialect)
                line = batch_rows.line_of(result, names[result.index], dialect, body)
                await results.add(result.ok, line)

    async def _keep(self, batch: Batch) -> None:
        data = msgspec.json.encode(batch)
        await asyncio.shield(asyncio.to_thread(partial(self._write, f"{batch.id}.json", data)))

    def _write(self, name: str, data: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write(self._folder / name, data)

    def _read(self) -> dict[str, Batch]:
        found = []
        for path in self._folder.glob("batch-*.json"):
            with suppress(OSError, msgspec.MsgspecError):
                if NAME.fullmatch(path.stem):
                    found.append(msgspec.json.decode(path.read_bytes(), type=Batch))
        return {each.id: each for each in sorted(found, key=lambda each: each.at.get("validating", 0.0))}


class _Results:
    """The lines of a batch's results, on their way into its two files."""

    def __init__(self, files: Files, batch: Batch) -> None:
        self._files = files
        self._batch = batch
        self._lines: tuple[list[bytes], list[bytes]] = ([], [])
        self._size = 0
        self._begun = [False, False]

    async def add(self, ok: bool, line: bytes) -> None:
        """Add a line."""
        self._lines[0 if ok else 1].append(line)
        self._size += len(line)
        if ok:
            self._batch.completed += 1
        else:
            self._batch.failed += 1
        if self._size > _HELD:
            await asyncio.shield(asyncio.to_thread(self._write))

    def keep(self) -> None:
        """Leave the files. This waits for the disk."""
        self._write()
        batch, files = self._batch, self._files
        if self._begun[0]:
            batch.output = files.adopt(batch.owner, f"{batch.id}_output.jsonl", self._part(0)).id
        if self._begun[1]:
            batch.errors = files.adopt(batch.owner, f"{batch.id}_error.jsonl", self._part(1)).id

    def _write(self) -> None:
        for which, lines in enumerate(self._lines):
            if lines:
                with self._part(which).open("ab" if self._begun[which] else "wb") as part:
                    part.write(b"".join(lines))
                self._begun[which] = True
                lines.clear()
        self._size = 0

    def _part(self, which: int) -> Path:
        return self._files.path(f".{self._batch.id}-{which}")


class _Create(Struct):
    input_file_id: str
    endpoint: str
    completion_window: str = "24h"
    metadata: dict[str, Any] | None = None


def described(batch: Batch) -> dict[str, Any]:
    """A batch as OpenAI describes it."""
    at = {state: int(when) for state, when in batch.at.items()}
    faults = [{"code": each.code, "line": each.line, "message": each.message, "param": None} for each in batch.faults]
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
        "expires_at": at["validating"] + int(WINDOW),
        **{f"{state}_at": at.get(state) for state in ("in_progress", "finalizing", "cancelling", *sorted(OVER))},
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "metadata": batch.metadata,
    }
