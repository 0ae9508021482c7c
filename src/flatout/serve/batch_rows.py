"""The rows of a batch: read from its input, asked through the gate, and written as lines of its results."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from flatout.edge.fan_out import as_error, outcome
from flatout.edge.relay import body_of, relayed
from flatout.errors import CallError, ConfigError, DeadlineExceeded, InvalidRequest
from flatout.events import Events
from flatout.journey import Journey
from flatout.layers.limit import TargetStatus
from flatout.providers.relay import Origin, Relayed, Wire, inbound_for
from flatout.providers.relay.inbound import refusal_of
from flatout.values import Call, Result

from .callers import Caller
from .calls import Asking, Calls
from .gate import QueueFull
from .models import Models, UnknownModel

if TYPE_CHECKING:
    from flatout.client import Client

PRIORITY = -1.0
"""The priority of rows: that of calls which nobody waits for."""

WINDOW = 200
"""Rows of a batch that are asked at once, or wait for their turn."""

MOST_ROWS = 50_000
MOST_FAULTS = 100
"""Faults of an input that are reported."""

_FULL = 1.0  # seconds until a row asks again for room in the gate


class Fault(Struct, frozen=True):
    """What is wrong with an input.

    Attributes:
        code: one of OpenAI's.
        message: in words.
        line: which line, from 1; None for all of it.
    """

    code: str
    message: str
    line: int | None = None


class _Row(Struct, gc=False):
    custom_id: str
    body: msgspec.Raw
    method: str = "POST"
    url: str = ""


_decode = msgspec.json.Decoder(_Row).decode


class Rows(Struct):
    """The rows of a batch.

    Attributes:
        ids: their names, in order.
        bodies: their requests.
    """

    ids: list[str] = []
    bodies: list[bytes] = []


def read(data: bytes, endpoint: str) -> tuple[Rows, list[Fault]]:
    """The rows of an input, and what is wrong with it. It may be large: call this in a thread."""
    rows, faults, seen = Rows(), list[Fault](), set[str]()
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        fault = _add(line, number, endpoint, rows, seen)
        if fault is not None:
            faults.append(fault)
        if len(faults) >= MOST_FAULTS or len(rows.ids) > MOST_ROWS:
            break
    if len(rows.ids) > MOST_ROWS:
        faults.append(Fault("too_many_tasks", f"a batch has at most {MOST_ROWS:,} rows"))
    elif not rows.ids and not faults:
        faults.append(Fault("empty_file", "the file has no rows"))
    return rows, faults


def _add(line: bytes, number: int, endpoint: str, rows: Rows, seen: set[str]) -> Fault | None:
    try:
        row = _decode(line)
    except (msgspec.MsgspecError, RecursionError) as error:
        return Fault("invalid_json_line", f"not a row with a custom_id and a body: {error}", number)
    if row.custom_id in seen:
        return Fault("duplicate_custom_id", f"the custom_id {row.custom_id[:80]!r} is used twice", number)
    if row.url and row.url != endpoint:
        return Fault("mismatched_url", f"the url is {row.url[:80]!r}, and the batch is for {endpoint}", number)
    seen.add(row.custom_id)
    rows.ids.append(row.custom_id)
    rows.bodies.append(bytes(row.body))
    return None


class Unasked(Struct, frozen=True):
    """A row that makes no call, and why."""

    why: Exception


def calls_of(rows: Rows, dialect: str, models: Models, until: float) -> Iterator[Relayed[Any] | Unasked]:
    """The calls of rows, made as they are pulled.

    Args:
        rows: the rows.
        dialect: the format of their requests.
        models: says which model a name means.
        until: when the batch expires, on the event loop's clock.
    """
    inbound = inbound_for(dialect)
    for body in rows.bodies:
        try:
            data = msgspec.json.decode(body)
            if not isinstance(data, dict):
                raise InvalidRequest("the body is not a JSON object")
            if data.pop("stream", None):
                body = msgspec.json.encode(data)  # nobody would read a stream
            asked = inbound.read(data)
            left = max(0.001, until - asyncio.get_running_loop().time())
            yield relayed(asked, Wire(dialect, body), models.find(asked.model), deadline=left)
        except (CallError, ConfigError, UnknownModel, ValueError) as error:
            yield Unasked(InvalidRequest(str(error)) if isinstance(error, UnknownModel) else error)


_OF_A_CALL = frozenset(Call.__struct_fields__) - {"deadline", "wire"}


def parameters(call: Relayed[Any]) -> dict[str, Any]:
    """What a row asks, without its request and its deadline: a `flatout.Call` for any lane."""
    values = {name: getattr(call, name) for name in _OF_A_CALL}
    return {name: value for name, value in values.items() if value is not None}


class RowAsker:
    """Asks the rows of a batch, as calls of their caller (a `flatout.durable.run.Asker`).

    Args:
        client: what its run is recorded of.
        calls: where calls have their turn.
        caller: whose batch it is.
        dialect: the format of the rows' requests.
    """

    def __init__(self, client: Client, calls: Calls, caller: Caller, dialect: str) -> None:
        self._client = client
        self._calls = calls
        self._caller = caller
        self._inbound = inbound_for(dialect)

    @property
    def window(self) -> int:
        """How many rows are asked at once."""
        return min(WINDOW, self._client.window)

    @property
    def events(self) -> Events:
        """What happens to the client's calls and targets."""
        return self._client.events

    def status(self) -> Sequence[TargetStatus]:
        """The present state of each target in use."""
        return self._client.status()

    def go_on(self, run: Hashable, spent: float) -> None:
        """Count the earlier spending of a batch."""
        self._client.go_on(run, spent)

    async def result(self, call: Any, /, *, index: int = 0, journey: Journey | None = None) -> Result[Any]:
        """Answer one row. The whole of the answer is kept as its text."""
        journey = journey or Journey(asyncio.get_running_loop().time())
        caller = self._caller
        caller.calls += 1
        if isinstance(call, Unasked):
            caller.failed += 1
            return outcome(index, journey, error=call.why)
        try:
            reply = await self._ask(call, journey)
        except Exception as error:
            caller.failed += 1
            return outcome(index, journey, call=call, given=call, error=as_error(error))
        body = body_of(self._client.engine, call, reply)
        return outcome(index, journey, call=call, given=call, reply=replace(reply, text=body.decode(), body=b""))

    async def _ask(self, call: Relayed[Any], journey: Journey) -> Any:
        until = asyncio.get_running_loop().time() + (call.deadline or 0.0)
        asking = Asking(call, self._inbound, PRIORITY, len(call.wire.body), until)
        engine = self._client.engine
        while True:
            try:
                async with self._calls.placed(asking, self._caller, journey):
                    return await engine.relay(call, journey)
            except QueueFull:
                await asyncio.sleep(_FULL)


def written(result: Result[Any], dialect: str) -> bytes:
    """The answer of a call that was asked in another way, in the format of its row."""
    reply = result.reply
    return b"null" if reply is None else inbound_for(dialect).write(reply, Origin.of(reply.model or "", time.time()))


def line_of(result: Result[Any], custom_id: str, dialect: str, body: bytes | None = None) -> bytes:
    """A result as a line of the file that OpenAI's batches leave: of answers, or of errors.

    Args:
        result: the result.
        custom_id: the row's name.
        dialect: the format of the row.
        body: the answer in that format; None if it is the result's text.
    """
    head = {"id": f"batch_req_{result.index}", "custom_id": custom_id}
    error: Any = result.error
    if error is None:
        reply = result.reply
        request = (reply.request_id if reply is not None else None) or ""
        answered = {
            "status_code": 200,
            "request_id": request,
            "body": msgspec.Raw(body or (result.text or "null").encode()),
        }
        return msgspec.json.encode({**head, "response": answered, "error": None}) + b"\n"
    if isinstance(error, DeadlineExceeded):
        expired = {"code": "batch_expired", "message": "the batch expired before the row was answered"}
        return msgspec.json.encode({**head, "response": None, "error": expired}) + b"\n"
    failure = error if isinstance(error, CallError | ConfigError) else InvalidRequest(str(error))
    refused = refusal_of(failure, inbound_for(dialect))
    told = {"status_code": refused.status, "request_id": "", "body": msgspec.Raw(refused.body)}
    return msgspec.json.encode({**head, "response": told, "error": None}) + b"\n"
