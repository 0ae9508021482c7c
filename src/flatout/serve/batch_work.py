"""The work on one batch: its rows are asked into a run file, and at the end the files of its results are made of that.

So the files are the same however the batch ends: whole, cancelled, expired, and after any number of kills.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import ExitStack, aclosing
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from msgspec import Struct, field

from flatout.client import engine_of
from flatout.client.asker import ClientAsker
from flatout.durable.calls import durable_calls
from flatout.durable.records import result_of
from flatout.errors import ConfigError, TransportError
from flatout.tasks.loop import wall
from flatout.values import Result

from .batch_input import Fault, Rows
from .batch_lane import Asked, Lane, form_of
from .batch_rows import EXPIRED, RowAsker, RowCalls, Unasked, line_of
from .callers import Caller
from .calls import Calls
from .files import Files
from .models import Models
from .site import CALLS

if TYPE_CHECKING:
    from flatout.client import Client
    from flatout.store import Item

WINDOW = 86_400.0  # seconds in which a batch is done, or expires

AGAIN = 60.0  # seconds until a provider that is not reached is asked again about its batches

State = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]

OVER = frozenset({"failed", "completed", "expired", "cancelled"})

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
        lane: how its rows are asked; "" before that is known.
    """

    id: str
    owner: str
    endpoint: str
    input: str
    metadata: dict[str, Any] | None
    state: State = "validating"
    at: dict[str, float] = field(default_factory=dict)
    total: int = 0
    completed: int = 0
    failed: int = 0
    output: str | None = None
    errors: str | None = None
    faults: list[Fault] = field(default_factory=list)
    lane: Lane | Literal[""] = ""

    def becomes(self, state: State) -> None:
        """Begin a state."""
        self.state = state
        self.at.setdefault(state, wall())

    def take_over(self, written: Batch) -> None:
        """Become as another gateway has written it. That it is being cancelled, which is yet to be written, stays."""
        since = self.at.get("cancelling") if self.state == "cancelling" else None
        for name in self.__struct_fields__:
            setattr(self, name, getattr(written, name))
        if since is not None and self.state not in OVER:
            self.state = "cancelling"
            self.at.setdefault("cancelling", since)

    @property
    def dialect(self) -> str:
        """The format of its rows."""
        return CALLS[self.endpoint.removeprefix("/v1")]

    @property
    def expires_at(self) -> float:
        """When it ends, done or not; Unix time."""
        return self.at["validating"] + WINDOW

    @property
    def is_late(self) -> bool:
        """Whether it has expired."""
        return wall() >= self.expires_at


class BatchWork:
    """Works on one batch.

    Args:
        batch: the batch.
        rows: its rows.
        client: whose run is recorded.
        calls: where rows have their turn.
        models: says which model a name means.
        files: where its results are left.
        folder: where its run file is.
    """

    def __init__(
        self,
        batch: Batch,
        rows: Rows,
        *,
        client: Client,
        calls: Calls,
        models: Models,
        files: Files,
        folder: Path,
    ) -> None:
        self._batch = batch
        self._rows = rows
        self._client = client
        self._calls = calls
        self._files = files
        self._place = folder / f"{batch.id}.flatout"
        self._asked = Asked(models, engine_of(client))
        model = models.find if batch.lane == "live" else self._asked
        self._row_calls = RowCalls(rows, batch.dialect, model, lambda: batch.expires_at - wall())

    async def ask(self, caller: Caller) -> None:
        """Ask the rows that have no answer yet, until the batch expires.

        Args:
            caller: whose batch it is.

        Raises:
            ConfigError: they cannot be asked in the lane.
            FlatoutError: the provider refuses all of them, or the run file cannot be used.
        """
        if self._batch.lane == "live":
            await self._count(self._live(caller))
        elif caller.purse is not None:
            raise ConfigError("the provider's own batches are not held to a key's budget: leave the lane out")
        else:
            await self._patiently(self._batch.expires_at)

    async def ask_no_more(self) -> None:
        """Cancel what is open in the provider's batches, and collect what they have answered.

        Raises:
            FlatoutError: the provider refuses that, or the run file cannot be used.
        """
        if self._batch.lane == "batch" and await asyncio.to_thread(self._place.exists):
            await self._patiently(0.0)

    def _live(self, caller: Caller) -> AsyncGenerator[Result[Any], None]:
        asker = RowAsker(engine_of(self._client), self._calls, caller, self._batch.dialect)
        asked: Any = self._row_calls
        return durable_calls(asked, self._place, asker=asker, job=self._job, retry_failed=False)

    async def _patiently(self, ends_at: float) -> None:
        """Ask in the provider's batches; again after a while if the provider is not reached."""
        while True:
            try:
                await self._count(self._in_batches(ends_at))
            except TransportError as error:
                _log.warning("the batch %s waits for its provider: %s", self._batch.id, error)
                await asyncio.sleep(AGAIN)
            else:
                return

    def _in_batches(self, ends_at: float) -> AsyncGenerator[Result[Any], None]:
        """Ask the rows in batches of their provider, which are cancelled in the end.

        Raises:
            ConfigError: it has none.
        """
        from flatout.lanes.calls import calls_in_lane
        from flatout.lanes.wish import Source, Wish, check_wish

        engine, wish = engine_of(self._client), Wish("batch")
        check_wish(wish, engine, stored=True, models=self._asked.all(self._rows.models))
        return calls_in_lane(
            Source(self._row_calls, lambda same: same, again=True),
            wish,
            asker=ClientAsker(engine, self._client.result),
            engine=engine,
            place=self._place,
            job=self._job,
            retry_failed=False,
            form=form_of(self._batch.dialect),
            ends_at=ends_at,
        )

    @property
    def _job(self) -> dict[str, str]:
        return {"batch": self._batch.id}

    async def _count(self, results: AsyncGenerator[Result[Any], None]) -> None:
        self._batch.completed = self._batch.failed = 0
        async with aclosing(results) as outcomes:
            async for result in outcomes:
                self._batch.completed += result.ok
                self._batch.failed += not result.ok

    async def leave(self) -> None:
        """Write the output files of the batch, from its run file."""
        await asyncio.to_thread(self._leave, late=self._batch.is_late)

    def _leave(self, *, late: bool) -> None:
        batch = self._batch
        parts = [self._files.path(f".{batch.id}-{secrets.token_hex(4)}") for _ in range(2)]
        try:
            with ExitStack() as stack:
                outs = [stack.enter_context(self._files.begin(part)) for part in parts]
                counts = self._write(outs, late=late)
        except BaseException:
            for part in parts:
                part.unlink(missing_ok=True)
            raise
        batch.completed, batch.failed = counts
        batch.output = self._adopt(parts[0], counts[0], "output")
        batch.errors = self._adopt(parts[1], counts[1], "error")

    def _write(self, outs: Sequence[BinaryIO], *, late: bool) -> list[int]:
        """Write the lines of answers, and of errors. Returns how many of each there are."""
        counts = [0, 0]
        for index, name, answer in self._answers(late=late):
            failed = not isinstance(answer, str)
            outs[failed].write(line_of(index, name, self._batch.dialect, answer))
            counts[failed] += 1
        return counts

    def _answers(self, *, late: bool) -> Iterator[tuple[int, str, str | Exception]]:
        """What became of each row of which something is known: its index, its name, and its answer."""
        items = self._items()
        item = next(items, None)
        for index, row in enumerate(self._rows):
            if item is not None and item.index == index:
                result = result_of(item)
                yield index, row.id, result.text if result.error is None else result.error
                item = next(items, None)
            elif isinstance(call := self._row_calls.of(row.body, left=WINDOW), Unasked):
                yield index, row.id, call.why
            elif late:
                yield index, row.id, EXPIRED

    def _items(self) -> Iterator[Item]:
        from flatout.store import RunReader  # loads SQLite

        if not self._place.exists():
            return
        with RunReader.open(self._place) as reader:
            yield from reader.items()

    def _adopt(self, part: Path, lines: int, what: str) -> str | None:
        if not lines:
            part.unlink()
            return None
        name = f"file-{sha256(f'{self._batch.id} {what}'.encode()).hexdigest()[:24]}"  # after a kill the same again
        return self._files.adopt(name, self._batch.owner, f"{self._batch.id}_{what}.jsonl", part).id
