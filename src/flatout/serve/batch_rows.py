"""The rows of a batch: asked through the gate, and written as lines of its results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from flatout.client.asker import EngineAsker
from flatout.edge.fan_out import as_error, outcome
from flatout.edge.relay import body_of, relayed
from flatout.errors import CallError, ConfigError, DeadlineExceeded, InvalidRequest
from flatout.journey import Journey
from flatout.layer import Response
from flatout.providers.relay import Relayed, Wire, inbound_for
from flatout.providers.relay.inbound import refusal_of
from flatout.values import Reply, Result

from .batch_input import Rows
from .callers import Caller
from .calls import Asking, Calls
from .gate import KeyRemoved, QueueFull
from .models import UnknownModel

if TYPE_CHECKING:
    from flatout.engine import Engine

PRIORITY = -1.0
"""The priority of rows: that of calls which nobody waits for."""

WINDOW = 200
"""Rows of a batch that are asked at once, or wait for their turn."""

_FULL = 1.0  # seconds until a row asks again for room in the gate


class Unasked(Struct, frozen=True):
    """A row that makes no call, and why."""

    why: Exception


class RowCalls:
    """The calls of rows, made whenever they are read: iterate again and again.

    Args:
        rows: the rows.
        dialect: the format of their requests.
        models: says which model a name means.
        left: the seconds until the batch expires.
    """

    def __init__(self, rows: Rows, dialect: str, models: Callable[[str], str], left: Callable[[], float]) -> None:
        self._rows = rows
        self._dialect = dialect
        self._inbound = inbound_for(dialect)
        self._models = models
        self._left = left

    async def __aiter__(self) -> AsyncIterator[Relayed[Any] | Unasked]:
        async with aclosing(self._rows.read()) as rows:
            async for row in rows:
                yield self.of(row.body, self._left())

    def of(self, body: bytes, left: float) -> Relayed[Any] | Unasked:
        """The call of a row's request, which has ``left`` seconds."""
        try:
            data = msgspec.json.decode(body)
            if not isinstance(data, dict):
                raise InvalidRequest("the body is not a JSON object")
            if data.pop("stream", None):
                body = msgspec.json.encode(data)  # nobody would read a stream
            asked = self._inbound.read(data)
            model = self._models(asked.model)
            return relayed(asked, Wire(self._dialect, body), model, deadline=max(0.001, left))
        except UnknownModel as error:
            return Unasked(InvalidRequest(str(error), code="model_not_found"))
        except (CallError, ConfigError, ValueError, RecursionError) as error:
            return Unasked(error)


class RowAsker(EngineAsker):
    """Asks the rows of a batch, as calls of their caller.

    Args:
        engine: the engine of the gateway's client.
        calls: where calls have their turn.
        caller: whose batch it is.
        dialect: the format of the rows' requests.
    """

    def __init__(self, engine: Engine, calls: Calls, caller: Caller, dialect: str) -> None:
        super().__init__(engine)
        self._calls = calls
        self._caller = caller
        self._inbound = inbound_for(dialect)

    @property
    def window(self) -> int:
        """How many rows are asked at once."""
        return min(WINDOW, super().window)

    async def result(self, call: Any, /, *, index: int = 0, journey: Journey | None = None) -> Result[Any]:
        """Answer one row. The whole of the answer is kept as its text."""
        journey = journey or Journey(asyncio.get_running_loop().time())
        caller = self._caller
        caller.calls += 1
        if isinstance(call, Unasked):
            caller.fails(call.why)
            return outcome(index, journey, error=call.why)
        try:
            reply = await self._ask(call, journey)
        except asyncio.CancelledError:  # with its batch
            caller.hung_up += 1
            raise
        except Exception as error:
            caller.fails(error)
            _keep_refusal(error, call.wire.refusal)
            return outcome(index, journey, call=call, given=call, error=as_error(error))
        body = body_of(self._engine, call, reply)
        return outcome(index, journey, call=call, given=call, reply=kept(reply, body))

    async def _ask(self, call: Relayed[Any], journey: Journey) -> Any:
        until = asyncio.get_running_loop().time() + (call.deadline or 0.0)
        asking = Asking(call, self._inbound, PRIORITY, len(call.wire.body), until)
        while True:
            try:
                async with self._calls.placed(asking, self._caller, journey):
                    return await self._engine.relay(call, journey)
            except QueueFull:
                await asyncio.sleep(_FULL)
            except KeyRemoved:
                if self._caller.removed:  # else it has another one, and its batches go on
                    await asyncio.Event().wait()  # the batch ends, and cancels this row: it was not sent, so not failed


def kept(reply: Reply[Any], body: bytes) -> Reply[Any]:
    """A reply whose text is the whole of the answer, which run files keep."""
    return replace(reply, text=body.decode("utf-8", "replace"), body=b"")


def _keep_refusal(error: Exception, refusal: Response | None) -> None:
    """Let a failure bear its provider's own words, as a line of results has them: run files keep a failed text."""
    if isinstance(error, CallError) and error.reply is None and refusal is not None and refusal.status == error.status:
        with suppress(ValueError, RecursionError):
            body = msgspec.json.decode(refusal.body)
            told = {"status_code": refusal.status, "request_id": refusal.headers.get("x-request-id", ""), "body": body}
            error.reply = Reply(text=msgspec.json.encode(told).decode())


EXPIRED = DeadlineExceeded("the batch expired before the row was answered")


def line_of(index: int, custom_id: str, dialect: str, answer: str | Exception) -> bytes:
    """A row as a line of the files that OpenAI's batches leave: of answers, or of errors.

    Args:
        index: its index.
        custom_id: its name.
        dialect: its format.
        answer: the whole answer in that format; or why there is none.
    """
    told: dict[str, Any] = {"id": f"batch_req_{index}", "custom_id": custom_id, "response": None, "error": None}
    if isinstance(answer, str):
        told["response"] = {"status_code": 200, "request_id": "", "body": msgspec.Raw((answer or "null").encode())}
    elif isinstance(answer, DeadlineExceeded):
        told["error"] = {"code": "batch_expired", "message": "the batch expired before the row was answered"}
    else:
        told["response"] = _kept_refusal(answer) or _refusal(answer, dialect)
    return msgspec.json.encode(told) + b"\n"


def _kept_refusal(error: Exception) -> dict[str, Any] | None:
    """The provider's own words that a failure bears, if it does."""
    reply = getattr(error, "reply", None)
    with suppress(ValueError, RecursionError):
        told = msgspec.json.decode(reply.text) if reply is not None else None
        if isinstance(told, dict) and "status_code" in told:
            return told
    return None


def _refusal(error: Exception, dialect: str) -> dict[str, Any]:
    failure = error if isinstance(error, CallError | ConfigError) else InvalidRequest(str(error))
    refused = refusal_of(failure, inbound_for(dialect))
    return {"status_code": refused.status, "request_id": "", "body": msgspec.Raw(refused.body)}
