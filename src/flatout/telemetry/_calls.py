"""One span per call, made when the call has ended.

The event that ends a call is emitted in the call's own task. So the current span there (the user's, or an agent's) is
the right parent, however many runs are in progress. A span that is made at the end costs the call nothing, and it is
complete: attempts, waits, tokens and cost are known. The drawback: during a call, its own span does not exist yet, so
the spans of an instrumented HTTP client are its siblings, not its children.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from flatout.events import CallFinished, Event
from flatout.journey import FailedAttempt
from flatout.tasks.loop import wall
from flatout.text.redact import redact as without_keys
from flatout.values import Call, Reply, Usage

from . import _conventions as names
from ._content import Redact, asked_for, error_text, error_type, input_messages, instructions, kept, output_messages
from ._observed import Observed
from ._spans import provider_here

_ID_CAP = 200
"""Characters of a call's id that a span keeps."""


def trace_calls(
    client: Observed,
    *,
    tracer_provider: trace.TracerProvider | None = None,
    content: bool = False,
    redact: Redact = without_keys,
) -> Callable[[], None]:
    """Make a span for each call of a client.

    Args:
        client: the client.
        tracer_provider: receives the spans; OpenTelemetry's global provider when None.
        content: record prompts and answers too, redacted and cut to 8,000 characters each. The environment variable
            ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true`` does the same.
        redact: removes secrets from a text; by default everything that looks like a key.

    Returns:
        A function that stops it.
    """
    tracer = trace.get_tracer(
        names.SCOPE, tracer_provider=tracer_provider or provider_here(), schema_url=names.SCHEMA_URL
    )
    keep = asked_for(content)

    def hear(event: Event) -> None:
        if isinstance(event, CallFinished):
            _record(tracer, event, keep, redact)

    return client.events.subscribe(hear)


def _record(tracer: trace.Tracer, end: CallFinished, content: bool, redact: Redact) -> None:
    name, known = _identity(end.journey.attempt.target or end.call.model or "")
    wall = _wall_offset()
    span = tracer.start_span(name, kind=SpanKind.CLIENT, attributes=known, start_time=_ns(end.journey.started + wall))
    if not span.is_recording():
        return
    span.set_attributes(dict(_attributes(end, redact)))
    reply = end.reply or getattr(end.error, "reply", None)
    if content:
        span.set_attributes(dict(_content(end.call, reply, redact)))
    for failure in end.journey.failures or ():
        span.add_event(*_failure(failure), timestamp=_ns(failure.at + wall))
    for cause, seconds in end.journey.waits.items():
        waited: dict[str, Any] = {names.WAIT_CAUSE: cause, names.WAIT_SECONDS: seconds}
        span.add_event(names.EVENT_WAIT, waited, timestamp=_ns(end.at + wall))
    if end.error is not None:
        span.set_status(Status(StatusCode.ERROR, error_text(end.error, content, redact)))
    span.end(_ns(end.at + wall))


@lru_cache(maxsize=1_000)
def _identity(target: str) -> tuple[str, dict[str, str | int]]:
    """A span's name, and the attributes that samplers see. They are the same for all calls to a target."""
    known = names.target_attributes(target)
    model = known.get(names.REQUEST_MODEL)
    known |= {names.OPERATION: names.CHAT, names.TARGET: target}
    return f"{names.CHAT} {model}" if model else names.CHAT, known


def _attributes(end: CallFinished, redact: Redact) -> Iterator[tuple[str, Any]]:
    """The known facts about a call at its end. An unknown fact is left out, and never 0."""
    call, journey = end.call, end.journey
    reply = end.reply or getattr(end.error, "reply", None)
    yield names.ATTEMPTS, journey.attempts
    found: dict[str, Any] = {
        names.REQUEST_MAX_TOKENS: call.max_tokens,
        names.REQUEST_TEMPERATURE: call.temperature,
        names.REQUEST_TOP_P: call.top_p,
        names.REQUEST_SEED: call.seed,
        names.REQUEST_STREAM: True if journey.attempt.first_chunk is not None else None,
        names.RESPONSE_FIRST_CHUNK: journey.attempt.first_chunk,
        names.OUTPUT_TYPE: "json" if call.output is not None else None,
        names.REASKS: journey.account.reasks or None,
        names.COST: journey.cost if journey.attempts else None,
        names.CALL_ID: None if call.id is None else kept(call.id, redact, _ID_CAP),
        names.ERROR_TYPE: None if end.error is None else error_type(end.error),
        names.HTTP_STATUS: getattr(end.error, "status", None),
    }
    if call.stop is not None:
        found[names.REQUEST_STOP] = (call.stop,) if isinstance(call.stop, str) else tuple(call.stop)
    if reply is not None:
        found |= _reply(reply)
    yield from ((name, value) for name, value in found.items() if value is not None)


def _reply(reply: Reply) -> dict[str, Any]:
    usage = reply.usage if reply.cached is None else Usage()  # a cached answer used its tokens earlier
    return {
        names.CACHED: True if reply.cached is not None else None,
        names.RESPONSE_MODEL: reply.model,
        names.REQUEST_ID: reply.request_id,
        names.RESPONSE_FINISH_REASONS: None if reply.finish_reason is None else (reply.finish_reason,),
        names.USAGE_INPUT: usage.input_tokens,
        names.USAGE_OUTPUT: usage.output_tokens,
        names.USAGE_CACHE_READ: usage.cached_tokens,
        names.USAGE_CACHE_CREATION: usage.cache_write_tokens,
        names.USAGE_REASONING: usage.reasoning_tokens,
    }


def _content(call: Call, reply: Reply | None, redact: Redact) -> Iterator[tuple[str, str]]:
    system = instructions(call, redact)
    if system is not None:
        yield names.SYSTEM_INSTRUCTIONS, system
    yield names.INPUT_MESSAGES, input_messages(call, redact)
    if reply is not None:
        yield names.OUTPUT_MESSAGES, output_messages(reply, redact)


def _failure(failure: FailedAttempt) -> tuple[str, dict[str, Any]]:
    """The event of a failed attempt. It is a retry event if another attempt was planned."""
    attributes: dict[str, Any] = {names.ATTEMPT: failure.attempt, names.ERROR_TYPE: error_type(failure.error)}
    status = getattr(failure.error, "status", None)
    if status is not None:
        attributes[names.HTTP_STATUS] = status
    if failure.retry_in is None:
        return names.EVENT_ATTEMPT_FAILED, attributes
    return names.EVENT_RETRY, {**attributes, names.RETRY_IN: failure.retry_in}


def _wall_offset() -> float:
    """Unix time minus the loop's clock, in seconds. It is read for each call, because wall clocks are adjusted."""
    return wall() - asyncio.get_running_loop().time()


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
