"""Spans around agents, stages and tools."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode

from flatout.telemetry import execute_tool, invoke_agent, recording, span, stage, trace_calls
from flatout.telemetry._content import error_type
from flatout.testing import run_virtual
from tests.support.recorded_telemetry import KEY, Recorded
from tests.support.scripted_wire import Wire, client


def test_an_agents_run_is_one_tree():
    """A trace would not show which call and which tool belong to which stage."""
    recorded = Recorded()

    async def main() -> None:
        async with client(Wire()) as made:
            trace_calls(made, tracer_provider=recorded.provider)
            with recording(recorded.provider), invoke_agent("clerk", model="m"), stage("draft"):
                await asyncio.gather(made.call("hello"), made.call("again"))
                with execute_tool("add", call_id="call_1", arguments='{"a": 1}') as tool:
                    tool.result("2")

    run_virtual(main())
    by_id = {one.context.span_id: one.name for one in recorded.spans}
    tree = sorted((by_id[one.parent.span_id] if one.parent else "", one.name) for one in recorded.spans)
    assert tree == [
        ("", "invoke_agent clerk"),
        ("invoke_agent clerk", "stage draft"),
        ("stage draft", "chat m"),
        ("stage draft", "chat m"),
        ("stage draft", "execute_tool add"),
    ]
    attributes = {one.name: dict(one.attributes) for one in recorded.spans}
    assert attributes["execute_tool add"] == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "add",
        "gen_ai.tool.call.id": "call_1",
    }
    assert attributes["invoke_agent clerk"] == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "flatout",
        "gen_ai.agent.name": "clerk",
        "gen_ai.request.model": "m",
    }


def test_content_of_tools_is_kept_on_request_without_keys():
    """Arguments and results could not be seen, or keys in them would be stored."""
    recorded = Recorded()
    with recording(recorded.provider, content=True), execute_tool("login", arguments=f'{{"key": "{KEY}"}}') as tool:
        tool.result(f"welcome, {KEY}")
        tool.guardrail("pii", "blocked", f"found {KEY}")
    (one,) = recorded.spans
    assert one.attributes["gen_ai.tool.call.arguments"] == '{"key": "…"}'
    assert one.attributes["gen_ai.tool.call.result"] == "welcome, …"
    assert one.events[0].attributes["flatout.guardrail.reason"] == "found …"
    assert KEY not in recorded.dump()


def test_guardrails_are_events():
    """A stopped run would not say what stopped it; or the reason would quote what was said."""
    recorded = Recorded()
    with recording(recorded.provider), span("answer") as opened:
        assert opened.is_recording
        opened.guardrail("pii", "blocked", "private")
    (one,) = recorded.spans
    (event,) = one.events
    assert event.name == "flatout.guardrail"
    assert dict(event.attributes) == {"flatout.guardrail.name": "pii", "flatout.guardrail.outcome": "blocked"}


@pytest.mark.parametrize(("content", "text"), [(True, "no private file"), (False, None)])
def test_an_error_marks_its_span(content, text):
    """A failed tool would look fine, or its message would give away what was said."""
    recorded = Recorded()
    with pytest.raises(FileNotFoundError), recording(recorded.provider, content=content), span("tool"):
        raise FileNotFoundError("no private file")
    (one,) = recorded.spans
    assert one.attributes["error.type"] == "FileNotFoundError"
    assert one.status.status_code is StatusCode.ERROR
    assert one.status.description == text
    assert not one.events


def test_errors_of_other_libraries_keep_their_librarys_name():
    """Two errors of one name could not be told apart."""
    assert error_type(subprocess.CalledProcessError(1, "x")) == "subprocess.CalledProcessError"
    assert error_type(TimeoutError()) == "TimeoutError"
    assert error_type(asyncio.CancelledError()) == "CancelledError"


def test_what_a_sampler_leaves_out_is_left_out_whole():
    """Orphaned calls would fill a sampled trace."""
    recorded = Recorded(sampler=ALWAYS_OFF)
    everything = Recorded()

    async def main() -> None:
        async with client(Wire()) as made:
            trace_calls(made, tracer_provider=everything.provider)
            with recording(recorded.provider), span("agent") as opened:
                assert not opened.is_recording
                await made.call("hello")

    run_virtual(main())
    assert everything.spans == ()


def test_nothing_is_loaded_until_it_is_asked_for():
    """`flatout --help` would load OpenTelemetry, and so would every agent that nobody traces."""
    program = """
import sys
import flatout, flatout.client, flatout.cli, flatout.telemetry
from flatout.telemetry import execute_tool, span
with span("x") as opened, execute_tool("y") as tool:
    opened.set("a", 1), opened.event("b"), tool.guardrail("c", "d"), opened.failed(ValueError())
    assert not opened.is_recording
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
