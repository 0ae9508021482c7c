"""Durable functions: the run file keeps each finished call, so a resumed item pays only for the missing ones.

How a call is found again. The calls of one item are numbered in the order in which they start; that number is the
call's place. The journal is searched by content first. Calls of the same content are interchangeable, so parallel calls
may start in another order this time.

If the journal has no call of that content, either the call is new work or the function has changed. There are two
cases:

- The function's own task made all calls of the item so far one after another, both then and now. Then the order is
  certain, so the function has changed: the journal holds another call at the same place, and the run is refused before
  the new call is sent.
- Calls ran in parallel. Then their order may be chance, and the call counts as new work. If the function ends without
  making a call that the journal has, a warning says so.

Steps that are not calls are journalled beside them; see `flatout.durable.steps`.
"""

from __future__ import annotations

import asyncio
import json
import warnings
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from flatout.errors import CallError, ConfigError, RunMismatch, SchemaMismatch, StoreError
from flatout.journey import JournalStep, Journey
from flatout.layer import CallNext
from flatout.store import Item
from flatout.text.halves import readable
from flatout.values import Call, Reply, Result, ToolCall, Usage

from .as_json import as_json, plain
from .attempts import NotedAttempts
from .opening import StorePath
from .records import content, error_of, fingerprint, may_go_again, output_of, result_of
from .run import Asker, Durable, difference, keep, run_durably
from .steps import KINDS, Steps, within

if TYPE_CHECKING:
    from flatout.store import JournalEntry, RunFile

ItemT = TypeVar("ItemT")
RunItem = Callable[[int, Any, Journey], Awaitable[Result[Any]]]
"""Runs the function for an item. Receives its index, the item, and the journey that counts its calls."""

Restore = Callable[[Any], Any]
"""Restores a function's return value from the JSON in the run file."""


_NOTHING = msgspec.Raw()  # always the same object: msgspec omits a default only if it is this very object


class KeptCall(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A journalled call: its content, and its reply or error.

    Attributes:
        call: the call's content.
        alone: whether the function's own task had made all calls of the item so far, one after another.
        within: the step in which it was made; "" for none.
        replied: whether an error came with a reply.
        complaints: what was wrong with the arguments of the tool calls.
        seconds: the duration of the whole call, queueing and retries included.
        waits: where those seconds went, by cause.
        body: the whole answer as its provider wrote it, for calls that another program made.
    """

    call: msgspec.Raw
    alone: bool = False
    within: str = ""
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    native: msgspec.Raw = _NOTHING
    finish_reason: str | None = None
    usage: Usage = Usage()
    model: str | None = None
    request_id: str | None = None
    output: msgspec.Raw = _NOTHING
    error: str | None = None
    message: str = ""
    replied: bool = False
    complaints: dict[str, str] = {}
    attempts: int = 0
    cost: float | None = None
    seconds: float | None = None
    waits: dict[str, float] = {}
    body: msgspec.Raw = _NOTHING


AskAgain = Callable[[KeptCall], bool]
"""Whether a call that failed is asked again."""


class ItemJournal:
    """The journal of one item, while the function runs for it.

    Args:
        store: the run file.
        name: its name, for messages.
        index: the item's index.
        entries: the item's entries in the run file.
        client: the client that was passed to the function; calls of other clients are not journalled.
        again: whether a call that failed is asked again.

    Attributes:
        fault: why the run cannot go on, in case the function swallows the error.
    """

    def __init__(
        self,
        store: RunFile,
        name: str,
        index: int,
        entries: Mapping[str, JournalEntry],
        client: object,
        again: AskAgain,
    ) -> None:
        self._store = store
        self._name = name
        self._index = index
        self._client = client
        self._entries: dict[str, tuple[JournalEntry, KeptCall]] = {}
        self._unclaimed: defaultdict[bytes, deque[str]] = defaultdict(deque)
        steps: dict[str, JournalEntry] = {}
        for place, entry in entries.items():
            if entry.kind in KINDS:
                steps[place] = entry
                continue
            kept = msgspec.json.decode(entry.value, type=KeptCall)
            if entry.kind == "failed" and again(kept):
                continue
            self._entries[place] = (entry, kept)
            self._unclaimed[entry.fingerprint].append(place)
        self._steps = Steps(store, name, index, steps)
        self._taken = set(self._entries)
        self._task = asyncio.current_task()
        self._started = 0
        self._under_way = 0
        self._alone = True
        self.fault: StoreError | None = None

    async def answer(self, asker: object, call: Call, journey: Journey, ask: CallNext) -> Reply:
        """Answer a call from the journal, or ask it and journal the result."""
        if asker is not self._client:
            return await ask(call)
        # inside a step does not count, because the step may not run next time
        alone = asyncio.current_task() is self._task and not within.get()
        self._alone = self._alone and not self._under_way and alone
        self._under_way += 1
        try:
            made = content(call)
            place = self._claim(made)
            if place is not None:
                return _replayed(self._entries[place][1], call, journey)
            return await self._ask(call, made, journey, ask)
        except StoreError as error:
            self.fault = self.fault or error
            raise
        finally:
            self._under_way -= 1

    async def step(self, step: JournalStep) -> bytes:
        """The result of a step, from the journal or by running it now."""
        try:
            return await self._steps.step(step)
        except StoreError as error:
            self.fault = self.fault or error
            raise

    def check_all_made(self) -> None:
        """Warn about journalled calls, and steps with effects, that the function did not make this time."""
        for step in self._steps.not_run():
            warnings.warn(
                f"{self._name}: item {self._index + 1} did {step} before, and not this time: has the function changed?",
                RuntimeWarning,
                stacklevel=2,
            )
        places = (place for places in self._unclaimed.values() for place in places)
        left = sorted((p for p in places if not self._steps.is_replayed(self._entries[p][1].within)), key=int)
        if left:
            kept = self._entries[left[0]][1]
            warnings.warn(
                f"{self._name}: item {self._index + 1} made call {left[0]} before ({_shown(kept.call)}), and not this "
                "time: has the function changed, or do its calls depend on chance?",
                RuntimeWarning,
                stacklevel=2,
            )

    def _claim(self, made: bytes) -> str | None:
        """The place of a journalled call with this content; None if no such call is journalled.

        Raises:
            RunMismatch: the journal certainly has another call at this place.
        """
        self._started += 1
        places = self._unclaimed.get(fingerprint(made))
        if places:
            return places.popleft()
        entry, kept = self._entries.get(str(self._started), (None, None))
        if kept is not None and entry is not None and self._alone and kept.alone:
            what = difference(json.loads(bytes(kept.call)), json.loads(made)) or "it differs"
            raise RunMismatch(
                f"{self._name} belongs to another job: item {self._index + 1}, call {self._started}, parameter {what}"
            )
        return None

    async def _ask(self, call: Call, made: bytes, journey: Journey, ask: CallNext) -> Reply:
        place, alone = self._new_place(), self._alone
        journey.notes = NotedAttempts(self._store, self._index, place)
        asked = KeptCall(call=msgspec.Raw(made), alone=alone, within=within.get())
        try:
            reply = await ask(call)
        except CallError as error:
            if not may_go_again(error):
                await self._enter(place, made, "failed", _failed(asked, error, journey))
            raise
        await self._enter(place, made, "answered", _answered(asked, call, reply, journey))
        return reply

    def _new_place(self) -> str:
        number = self._started
        while str(number) in self._taken:
            number += 1
        self._taken.add(str(number))
        return str(number)

    async def _enter(self, place: str, made: bytes, kind: str, kept: KeptCall) -> None:
        await self._store.journal(self._index, place, fingerprint(made), kind, plain(kept), kept.cost)


def _failed(asked: KeptCall, error: CallError, journey: Journey) -> KeptCall:
    if error.reply is not None:
        asked = replace(_replied(asked, error.reply), replied=True, complaints=dict(getattr(error, "complaints", {})))
    return replace(asked, error=type(error).__name__, message=str(error), **_account(journey))


def _answered(asked: KeptCall, call: Call, reply: Reply, journey: Journey) -> KeptCall:
    output = msgspec.Raw(plain(reply.output)) if reply.output is not None else _NOTHING
    body = msgspec.Raw(reply.body) if _is_wanted_whole(call) and _is_object(reply.body) else _NOTHING
    return replace(_replied(asked, reply), output=output, body=body, **_account(journey))


def _is_wanted_whole(call: Call) -> bool:
    """Whether another program made the call, and takes its answer in one piece: as the provider wrote it."""
    wire = getattr(call, "wire", None)
    return wire is not None and not wire.streams


def _is_object(body: bytes) -> bool:
    return body.lstrip().startswith(b"{")  # some servers stream an answer that was asked for whole


def _account(journey: Journey) -> dict[str, Any]:
    seconds = asyncio.get_running_loop().time() - journey.started
    return {"attempts": journey.attempts, "cost": journey.cost, "seconds": seconds, "waits": journey.waits}


def _replied(asked: KeptCall, reply: Reply) -> KeptCall:
    return replace(
        asked,
        text=readable(reply.text),
        reasoning=readable(reply.reasoning),
        tool_calls=reply.tool_calls,
        native=msgspec.Raw(reply.native) if reply.native else _NOTHING,
        finish_reason=reply.finish_reason,
        usage=reply.usage,
        model=reply.model,
        request_id=reply.request_id,
    )


def _replayed(kept: KeptCall, call: Call, journey: Journey) -> Reply:
    """The reply of a journalled call, with its original cost."""
    journey.account.attempts += kept.attempts
    journey.account.spent(kept.cost)
    reply = Reply(
        text=kept.text,
        reasoning=kept.reasoning,
        tool_calls=kept.tool_calls,
        native=bytes(kept.native),
        finish_reason=kept.finish_reason,
        usage=kept.usage,
        output=output_of(bytes(kept.output) or None, call),
        model=kept.model,
        request_id=kept.request_id,
        body=bytes(kept.body) if _is_wanted_whole(call) else b"",
    )
    if kept.error is None:
        return reply
    error = error_of(kept.error, kept.message, kept.attempts)
    if isinstance(error, CallError) and kept.replied:
        error.reply = reply
    if isinstance(error, SchemaMismatch):
        error.complaints = kept.complaints
    raise error


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


def _shown(call: msgspec.Raw) -> str:
    text = bytes(call).decode(errors="replace")
    return text if len(text) <= 120 else f"{text[:119]}…"
