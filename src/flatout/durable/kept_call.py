"""One finished call in the journal: what the run file keeps of it, and the reply or error that comes back from it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from flatout.errors import CallError, SchemaMismatch
from flatout.journey import Journey
from flatout.text.halves import readable
from flatout.values import Call, Reply, ToolCall, Usage

from .as_json import plain
from .records import error_of, output_of

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

    def failed(self, error: CallError, journey: Journey) -> KeptCall:
        """The same call, now that it has failed."""
        kept = self
        if error.reply is not None:
            complaints = dict(getattr(error, "complaints", {}))
            kept = replace(self._replied(error.reply), replied=True, complaints=complaints)
        return replace(kept, error=type(error).__name__, message=str(error), **_account(journey))

    def answered(self, call: Call, reply: Reply, journey: Journey) -> KeptCall:
        """The same call, now that it is answered."""
        output = msgspec.Raw(plain(reply.output)) if reply.output is not None else _NOTHING
        body = msgspec.Raw(reply.body) if _is_wanted_whole(call) and _is_object(reply.body) else _NOTHING
        return replace(self._replied(reply), output=output, body=body, **_account(journey))

    def _replied(self, reply: Reply) -> KeptCall:
        return replace(
            self,
            text=readable(reply.text),
            reasoning=readable(reply.reasoning),
            tool_calls=reply.tool_calls,
            native=msgspec.Raw(reply.native) if reply.native else _NOTHING,
            finish_reason=reply.finish_reason,
            usage=reply.usage,
            model=reply.model,
            request_id=reply.request_id,
        )

    def replay(self, call: Call, journey: Journey) -> Reply:
        """The reply, with its original cost. If the call had failed, raises the same error again."""
        journey.account.attempts += self.attempts
        journey.account.spent(self.cost)
        reply = Reply(
            text=self.text,
            reasoning=self.reasoning,
            tool_calls=self.tool_calls,
            native=bytes(self.native),
            finish_reason=self.finish_reason,
            usage=self.usage,
            output=output_of(bytes(self.output) or None, call),
            model=self.model,
            request_id=self.request_id,
            body=bytes(self.body) if _is_wanted_whole(call) else b"",
        )
        if self.error is None:
            return reply
        error = error_of(self.error, self.message, self.attempts)
        if isinstance(error, CallError) and self.replied:
            error.reply = reply
        if isinstance(error, SchemaMismatch):
            error.complaints = self.complaints
        raise error


def _is_wanted_whole(call: Call) -> bool:
    """Whether another program made the call, and takes its answer in one piece: as the provider wrote it."""
    wire = getattr(call, "wire", None)
    return wire is not None and not wire.streams


def _is_object(body: bytes) -> bool:
    return body.lstrip().startswith(b"{")  # some servers stream an answer that was asked for whole


def _account(journey: Journey) -> dict[str, Any]:
    seconds = asyncio.get_running_loop().time() - journey.started
    return {"attempts": journey.attempts, "cost": journey.cost, "seconds": seconds, "waits": journey.waits}
