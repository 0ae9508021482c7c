"""Converts calls and results to what a run file keeps of them, and back."""

from __future__ import annotations

import time
from hashlib import blake2b, sha256
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import structs

from flatout.errors import (
    AuthenticationError,
    CallError,
    ConfigError,
    ConnectError,
    DeadlineExceeded,
    Exited,
    NotSent,
    QuotaExhausted,
)
from flatout.policies.failures.decision import is_wrong_path
from flatout.providers.schemas.structured import restored
from flatout.store import Finished, Item
from flatout.text.redact import mask
from flatout.values import Cached, Call, Reply, Result, ToolCall, Usage
from flatout.values.result import make_result, small_waits
from flatout.values.route import Leg

from .as_json import plain, quick

NO_CALL = b"null"
"""The `content` of a row that makes no call. It may make one the next time: it is compared with nothing."""

_NO_TURN = msgspec.Raw()
_NOT_CONTENT = frozenset({"id", "metadata", "timeout", "deadline", "reasks"})
_CONTENT = sorted(name for name in Call.__struct_fields__ if name not in _NOT_CONTENT)
_Content = msgspec.defstruct("_Content", [(name, Any, None) for name in _CONTENT], omit_defaults=True)
"""Is written as the same JSON as `parts`, in half the time."""

_values = attrgetter(*_CONTENT)
_decoded_trail = msgspec.json.Decoder(tuple[Leg, ...]).decode


def content(call: Call) -> bytes:
    """The content that identifies a call, as JSON: its messages, model and parameters, not its id or time limits."""
    try:
        return plain(parts(call)) if call.extra or type(call) is not Call else quick(_Content(*_values(call)))
    except TypeError:  # for example keys that are not texts
        return plain(parts(call))


def parts(call: Call) -> dict[str, Any]:
    """The same as values by name."""
    kept = {name: value for name, value in zip(_CONTENT, _values(call), strict=True) if value is not None}
    if call.extra:
        kept["extra"] = mask(call.extra, digest)
    wire = getattr(call, "wire", None)
    if wire is not None:  # another program made it, and flatout may not understand all of it
        kept["request"] = f"sha256:{sha256(wire.body).hexdigest()[:16]}"
    return kept


def digest(secret: str) -> str:
    """The stand-in for a secret in a run file. It changes with the secret and does not reveal it."""
    return f"sha256:{sha256(secret.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def fingerprint(content: bytes) -> bytes:
    """A digest of `content`: 16 bytes of BLAKE2b."""
    return blake2b(content, digest_size=16).digest()


_OF_NO_CALL = fingerprint(NO_CALL)


def makes_no_call(item: Item | Finished) -> bool:
    """Whether a record is of a row that made no call."""
    return item.fingerprint == _OF_NO_CALL


def item_of(
    result: Result[Any], *, made: bytes, row: bytes | None, keep_prompts: bool = True, mark: bytes | None = None
) -> Item:
    """A result in the form that the run file keeps.

    Args:
        result: the result.
        made: the call's `content`.
        row: the input's own row, as a JSON object.
        keep_prompts: whether to keep ``made`` and ``row`` themselves, not only their digest.
        mark: the `fingerprint` of ``made``, for a caller that has it.
    """
    reply = result.reply if result.reply is not None else getattr(result.error, "reply", None)
    usage = reply.usage if reply is not None else Usage()
    error, waits = result.error, result.waits
    return Item(
        index=result.index,
        id=result.id,
        fingerprint=mark or fingerprint(made),
        input=row if keep_prompts else None,
        prompt=made if keep_prompts else None,
        state="answered" if error is None else "unsent" if may_go_again(error) else "failed",
        answer=result.text if error is None else _raw_answer(reply),
        output=plain(result.output) if result.output is not None else None,
        error=type(error).__name__ if error is not None else None,
        error_message=str(error) if error is not None else None,
        finish_reason=reply.finish_reason if reply is not None else None,
        model=reply.model if reply is not None else None,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost=result.cost,
        attempts=result.attempts,
        seconds=result.elapsed,
        provider_seconds=result.provider_seconds,
        waits=plain(waits) if waits else None,
        tool_calls=_kept_calls(reply) if reply is not None and reply.tool_calls else None,
        repaired=int(reply is not None and reply.repaired),
        trail=plain(result.trail) if result.trail else None,
        finished_at=time.time(),
    )


def _raw_answer(reply: Reply | None) -> str | None:
    """The text of an answer that could not be used but was paid for; None if it is empty."""
    if reply is None:
        return None
    return reply.text if reply.text.strip() else reply.reasoning or None


def result_of(item: Item, call: Call | None = None) -> Result[Any]:
    """The result that an item was made from, as far as the run file keeps it."""
    output: Any = None
    error: Exception | None = None
    reply: Reply[Any] = Reply(
        text=item.answer or "",
        tool_calls=tool_calls_of(item.tool_calls),
        native=_native_of(item.tool_calls),
        finish_reason=item.finish_reason,
        usage=Usage(input_tokens=item.input_tokens, output_tokens=item.output_tokens),
        model=item.model,
        repaired=bool(item.repaired),
        cached=Cached() if is_cached(item) else None,
    )
    if item.state == "answered":
        output = output_of(item.output, call)
        reply = structs.replace(reply, output=output)
    else:
        error = error_of(item.error or "CallError", item.error_message or "", item.attempts)
        if isinstance(error, CallError) and (item.answer is not None or item.tool_calls is not None):
            error.reply = reply
    return make_result(
        index=item.index,
        id=item.id,
        call=call,
        reply=reply if error is None else None,
        output=output,
        error=error,
        attempts=item.attempts,
        cost=item.cost,
        elapsed=item.seconds or 0.0,
        provider_seconds=item.provider_seconds,
        waits=small_waits(msgspec.json.decode(item.waits) if item.waits else {}),
        trail=trail_of(item),
    )


def trail_of(item: Item) -> tuple[Leg, ...]:
    """The targets of its route that an item was sent to."""
    return () if item.trail is None else _decoded_trail(item.trail)


def is_cached(item: Item) -> bool:
    """Whether an item's answer came from a cache: there is one, it took no attempt and cost nothing."""
    return item.state == "answered" and item.answer is not None and item.attempts == 0 and item.cost == 0


def output_of(kept: bytes | None, call: Call | None) -> Any:
    """A validated object in the type that the call asked for; plain decoded JSON without one."""
    if kept is None:
        return None
    wanted = getattr(call, "output", None)
    return msgspec.json.decode(kept) if wanted is None else restored(wanted, kept)


class _SignedCall(ToolCall, frozen=True, kw_only=True):
    """A tool call that carries the whole turn in its provider's own form.

    Providers want a thought back only together with the results of the tools that it asked for. So rows without tool
    calls keep none.
    """

    native: msgspec.Raw = _NO_TURN


def _kept_calls(reply: Reply[Any]) -> bytes:
    """The model's tool calls, as JSON. The first one carries the turn, if the turn holds more than the calls."""
    first, *others = reply.tool_calls
    if reply.native:
        fields = msgspec.structs.asdict(first)
        first = _SignedCall(**fields, native=msgspec.Raw(reply.native))
    return plain([first, *others])


def _native_of(kept: bytes | None) -> bytes:
    """The turn that the tool calls carry."""
    calls = msgspec.json.decode(kept, type=tuple[_SignedCall, ...]) if kept is not None else ()
    return bytes(calls[0].native) if calls else b""


def tool_calls_of(kept: bytes | None) -> tuple[ToolCall, ...]:
    """The model's tool calls."""
    return msgspec.json.decode(kept, type=tuple[ToolCall, ...]) if kept is not None else ()


def error_of(name: str, message: str, attempts: int) -> Exception:
    """The error of a class name in a run file; a `CallError` if the name is unknown."""
    from flatout import errors

    kind = getattr(errors, name, None)
    if not isinstance(kind, type) or not issubclass(kind, CallError):
        return ConfigError(message) if name == "ConfigError" else CallError(f"{name}: {message}", attempts=attempts)
    return kind(message, attempts=attempts)


def may_go_again(error: Exception) -> bool:
    """Whether a resumed run asks the call again: nothing was sent, or the target failed and not the call."""
    if isinstance(error, DeadlineExceeded):
        return error.attempts == 0
    if isinstance(error, Exited):
        return isinstance(error.exit, KeyboardInterrupt)  # somebody stopped the program, not this item
    return isinstance(error, NotSent | ConnectError | AuthenticationError | QuotaExhausted) or is_wrong_path(error)
