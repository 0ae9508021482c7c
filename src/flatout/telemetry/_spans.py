"""Spans around the work between calls: an agent, its stages, its tools.

This is a thin layer over OpenTelemetry's API, for two reasons. If the program has not loaded OpenTelemetry, a span
costs one dictionary lookup, and the API is not imported. And all content passes through one place, which records it
only on request, and removes keys.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from . import _conventions as names
from ._content import asked_for, error_text, error_type, kept

if TYPE_CHECKING:
    from opentelemetry import trace

Attributes = Mapping[str, Any]

SpanKind = Literal["internal", "client"]


class _Recording(Struct, frozen=True):
    """The provider for spans of this context, and whether they record content."""

    provider: trace.TracerProvider | None = None
    content: bool = False


_AS_USUAL = _Recording()

_recording: ContextVar[_Recording] = ContextVar("flatout_recording", default=_AS_USUAL)


class Span:
    """An open span. It accepts everything, whether it is recorded or not."""

    __slots__ = ("_content", "_span")

    def __init__(self, span: trace.Span | None = None, content: bool = False) -> None:
        self._span = span
        self._content = content

    @property
    def is_recording(self) -> bool:
        """Whether the span is recorded. Check it before you compute something expensive."""
        return self._span is not None

    def set(self, name: str, value: Any) -> None:
        """Set an attribute. Content (see `_conventions.CONTENT`) is recorded only on request, redacted and cut."""
        if self._span is not None and value is not None and (self._content or name not in names.CONTENT):
            self._span.set_attribute(name, kept(value) if isinstance(value, str) else value)

    def event(self, name: str, attributes: Attributes | None = None) -> None:
        """Add an event that happens now."""
        if self._span is not None:
            self._span.add_event(name, _clean(attributes))

    def guardrail(self, name: str, outcome: str, reason: str | None = None) -> None:
        """Add a guardrail's verdict. The reason may quote content, so it is treated as content."""
        if self._span is not None:
            attributes = {names.GUARDRAIL_NAME: name, names.GUARDRAIL_OUTCOME: outcome}
            if reason is not None and self._content:
                attributes[names.GUARDRAIL_REASON] = reason
            self.event(names.EVENT_GUARDRAIL, attributes)

    def result(self, told: str, *, error: str | None = None) -> None:
        """Set a tool's result. It may quote anything, so it is treated as content.

        Args:
            told: the result as the model reads it.
            error: the kind of failure, in one word; None if the tool did not fail.
        """
        self.set(names.TOOL_RESULT, told)
        self.set(names.ERROR_TYPE, error)

    def failed(self, error: BaseException) -> None:
        """Mark the span as failed. `span` does that for every error that leaves its block."""
        if self._span is not None:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_attribute(names.ERROR_TYPE, error_type(error))
            self._span.set_status(Status(StatusCode.ERROR, error_text(error, self._content)))


_SILENT = Span()


@contextmanager
def recording(provider: trace.TracerProvider | None = None, *, content: bool = False) -> Iterator[None]:
    """Within the block, and in tasks started there, spans go to this provider instead of OpenTelemetry's global one.

    Args:
        provider: the tracer provider; the global one when None.
        content: record content too, redacted and cut.
    """
    token = _recording.set(_Recording(provider, asked_for(content)))
    try:
        yield
    finally:
        _recording.reset(token)


@contextmanager
def span(name: str, kind: SpanKind = "internal", attributes: Attributes | None = None) -> Iterator[Span]:
    """A span around a block. Spans and calls inside the block are its children. An error that leaves it marks the span.

    Args:
        name: the span's name, from a small set: without ids and without content.
        kind: ``internal``, or ``client`` for work that another process does.
        attributes: the attributes known at the start, which samplers see; no content.
    """
    where = _recording.get()
    if where.provider is None and "opentelemetry.trace" not in sys.modules:
        yield _SILENT  # OpenTelemetry cannot have been set up in this process
        return
    from opentelemetry import trace

    opened = _tracer(where.provider).start_span(
        name, kind=trace.SpanKind.CLIENT if kind == "client" else trace.SpanKind.INTERNAL, attributes=_clean(attributes)
    )
    if not opened.is_recording() and not opened.get_span_context().is_valid:
        yield _SILENT
        return
    # A span that the sampler dropped becomes current all the same, so that its children are dropped too.
    made = Span(opened, asked_for(where.content)) if opened.is_recording() else _SILENT
    with trace.use_span(opened, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield made
        except BaseException as error:
            made.failed(error)
            raise


def invoke_agent(name: str, *, provider: str = names.SCOPE, model: str | None = None) -> AbstractContextManager[Span]:
    """The span of one run of an agent.

    Args:
        name: the agent's name.
        provider: the system that runs the agent; flatout itself by default.
        model: the agent's model, if it uses only one.
    """
    attributes = {names.OPERATION: names.INVOKE_AGENT, names.PROVIDER: provider, names.AGENT_NAME: name}
    if model is not None:
        attributes[names.REQUEST_MODEL] = model
    return span(f"{names.INVOKE_AGENT} {name}", attributes=attributes)


def stage(name: str) -> AbstractContextManager[Span]:
    """The span of one stage of an agent, called ``stage {name}``. The conventions have no name for it."""
    return span(f"stage {name}", attributes={names.STAGE: name})


@contextmanager
def execute_tool(name: str, *, call_id: str | None = None, arguments: str | None = None) -> Iterator[Span]:
    """The span of one execution of a tool. Set its result with `Span.result`.

    Args:
        name: the tool's name.
        call_id: the id of the model's tool call.
        arguments: the JSON that the model wrote; treated as content.
    """
    with span(
        f"{names.EXECUTE_TOOL} {name}", attributes={names.OPERATION: names.EXECUTE_TOOL, names.TOOL_NAME: name}
    ) as opened:
        opened.set(names.TOOL_CALL_ID, call_id)
        opened.set(names.TOOL_ARGUMENTS, arguments)
        yield opened


def provider_here() -> trace.TracerProvider | None:
    """The tracer provider that `recording` set in this context."""
    return _recording.get().provider


def _tracer(provider: trace.TracerProvider | None) -> trace.Tracer:
    from opentelemetry import trace

    return trace.get_tracer(names.SCOPE, tracer_provider=provider, schema_url=names.SCHEMA_URL)


def _clean(attributes: Attributes | None) -> dict[str, Any] | None:
    """Attributes whose texts are without keys, and cut."""
    if attributes is None:
        return None
    return {name: kept(value) if isinstance(value, str) else value for name, value in attributes.items()}
