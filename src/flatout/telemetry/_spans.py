"""Spans around what happens between the calls: an agent, its stages, its tools.

A thin skin over OpenTelemetry's API, for two reasons. Where nobody has loaded OpenTelemetry there is nothing to record,
and a span then costs one look (the API is not even imported for it). And what was said passes through one door, where
it is left out unless asked for, and freed of keys.
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
    """Where spans of this context go, and whether they keep what was said."""

    provider: trace.TracerProvider | None = None
    content: bool = False


_AS_USUAL = _Recording()

_recording: ContextVar[_Recording] = ContextVar("flatout_recording", default=_AS_USUAL)


class Span:
    """A span that is open. Everything may be said to it, whether it is recorded or not."""

    __slots__ = ("_content", "_span")

    def __init__(self, span: trace.Span | None = None, content: bool = False) -> None:
        self._span = span
        self._content = content

    @property
    def is_recording(self) -> bool:
        """Whether what it is told goes anywhere. Look here before you compute something dear."""
        return self._span is not None

    def set(self, name: str, value: Any) -> None:
        """Set an attribute. Content (see `conventions.CONTENT`) is kept only when asked for, redacted and cut."""
        if self._span is not None and value is not None and (self._content or name not in names.CONTENT):
            self._span.set_attribute(name, kept(value) if isinstance(value, str) else value)

    def event(self, name: str, attributes: Attributes | None = None) -> None:
        """Note that something happened now."""
        if self._span is not None:
            self._span.add_event(name, _clean(attributes))

    def guardrail(self, name: str, outcome: str, reason: str | None = None) -> None:
        """Note what a guardrail decided. The reason may quote what was said: it is kept as content is."""
        if self._span is not None:
            attributes = {names.GUARDRAIL_NAME: name, names.GUARDRAIL_OUTCOME: outcome}
            if reason is not None and self._content:
                attributes[names.GUARDRAIL_REASON] = reason
            self.event(names.EVENT_GUARDRAIL, attributes)

    def result(self, told: str, *, error: str | None = None) -> None:
        """Note what a tool's execution came to. It may quote anything: it is kept as content is.

        Args:
            told: what the model is told of it.
            error: what kind of failure it was, in a word; None when it was none.
        """
        self.set(names.TOOL_RESULT, told)
        self.set(names.ERROR_TYPE, error)

    def failed(self, error: BaseException) -> None:
        """Mark the span as failed; `span` does so for every error that leaves its block."""
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
        content: keep what was said (redacted and cut) as well.
    """
    token = _recording.set(_Recording(provider, asked_for(content)))
    try:
        yield
    finally:
        _recording.reset(token)


@contextmanager
def span(name: str, kind: SpanKind = "internal", attributes: Attributes | None = None) -> Iterator[Span]:
    """A span around a block; spans and calls within are its children. An error that leaves the block marks it.

    Args:
        name: the span's name, of few kinds: no ids, nothing that was said.
        kind: ``internal``, or ``client`` for what another process does.
        attributes: what is known at the start (samplers see it); no content.
    """
    where = _recording.get()
    if where.provider is None and "opentelemetry.trace" not in sys.modules:
        yield _SILENT  # nobody in this process can have set up OpenTelemetry
        return
    from opentelemetry import trace

    opened = _tracer(where.provider).start_span(
        name, kind=trace.SpanKind.CLIENT if kind == "client" else trace.SpanKind.INTERNAL, attributes=_clean(attributes)
    )
    if not opened.is_recording() and not opened.get_span_context().is_valid:
        yield _SILENT
        return
    # A span that the sampler left out is made current all the same, so that its children are left out with it.
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
        provider: what runs it; flatout itself, unless it is a provider's.
        model: the model it works with, when it is one alone.
    """
    attributes = {names.OPERATION: names.INVOKE_AGENT, names.PROVIDER: provider, names.AGENT_NAME: name}
    if model is not None:
        attributes[names.REQUEST_MODEL] = model
    return span(f"{names.INVOKE_AGENT} {name}", attributes=attributes)


def stage(name: str) -> AbstractContextManager[Span]:
    """The span of one stage of an agent. The conventions have none such: it is called ``stage {name}``."""
    return span(f"stage {name}", attributes={names.STAGE: name})


@contextmanager
def execute_tool(name: str, *, call_id: str | None = None, arguments: str | None = None) -> Iterator[Span]:
    """The span of one execution of a tool; tell it what came of it with `Span.result`.

    Args:
        name: the tool's name.
        call_id: the id under which the model asked for it.
        arguments: the JSON that the model wrote; kept as content is.
    """
    with span(
        f"{names.EXECUTE_TOOL} {name}", attributes={names.OPERATION: names.EXECUTE_TOOL, names.TOOL_NAME: name}
    ) as opened:
        opened.set(names.TOOL_CALL_ID, call_id)
        opened.set(names.TOOL_ARGUMENTS, arguments)
        yield opened


def provider_here() -> trace.TracerProvider | None:
    """The provider that `recording` set in this context."""
    return _recording.get().provider


def _tracer(provider: trace.TracerProvider | None) -> trace.Tracer:
    from opentelemetry import trace

    return trace.get_tracer(names.SCOPE, tracer_provider=provider, schema_url=names.SCHEMA_URL)


def _clean(attributes: Attributes | None) -> dict[str, Any] | None:
    """Attributes with their texts freed of keys and cut."""
    if attributes is None:
        return None
    return {name: kept(value) if isinstance(value, str) else value for name, value in attributes.items()}
