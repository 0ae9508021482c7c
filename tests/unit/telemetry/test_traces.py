"""Spans of calls, as the SDK's in-memory exporter gets them."""

from __future__ import annotations

import asyncio
import json

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from flatout import Call, Client
from flatout.layer import Response
from flatout.telemetry import recording, trace_calls
from flatout.telemetry._content import TEXT_CAP
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport, digest_of, run_virtual
from flatout.testing._clock import EPOCH
from tests.support.recorded_telemetry import KEY, Recorded, answer
from tests.support.scripted_wire import Wire, client, refusal


def traced(wire: Wire, *calls, content: bool = False, **options):
    """The spans of some calls."""
    recorded = Recorded()

    async def main() -> None:
        async with client(wire, **options) as made:
            end = trace_calls(made, tracer_provider=recorded.provider, content=content)
            await made.gather(calls or ["hello"])
            end()
            await made.result("after the end")

    run_virtual(main())
    return recorded


def test_a_call_is_a_span_by_the_conventions():
    """Every tool that knows the conventions would show nothing, or nonsense."""
    call = Call("hello", max_tokens=7, temperature=0.5, top_p=0.9, seed=3, stop="END", id="row 1")
    recorded = traced(Wire(lambda _: answer()), call)
    (span,) = recorded.spans
    assert span.name == "chat m"
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    assert span.instrumentation_scope.name == "flatout"
    assert span.instrumentation_scope.schema_url == "https://opentelemetry.io/schemas/gen-ai/1.42.0"
    attributes = dict(span.attributes)
    target = attributes.pop("flatout.target")
    assert attributes.pop("gen_ai.provider.name") == target.partition("/")[0]
    attributes.pop("flatout.cost", None)
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.request.max_tokens": 7,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.seed": 3,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.response.model": "m-2026-01-01",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 3,
        "flatout.attempts": 1,
        "flatout.call.id": "row 1",
    }


def test_names_are_those_of_the_sdks_own_conventions():
    """A misspelt name would be lost in every dashboard."""
    attributes = pytest.importorskip("opentelemetry.semconv._incubating.attributes.gen_ai_attributes")
    metrics = pytest.importorskip("opentelemetry.semconv._incubating.metrics.gen_ai_metrics")
    from flatout.telemetry import _conventions as conventions

    known = {value for module in (attributes, metrics) for value in vars(module).values() if isinstance(value, str)}
    ours = {value for value in vars(conventions).values() if isinstance(value, str) and value.startswith("gen_ai.")}
    assert len(ours) > 20
    assert ours <= known


def test_a_span_lasts_as_long_as_its_call():
    """Traces would show calls at the wrong time, beside the logs of the same moment."""

    async def main(recorded) -> float:
        await asyncio.sleep(100)
        async with client(Wire(lambda _: 5.0)) as made:
            trace_calls(made, tracer_provider=recorded.provider)
            await made.call("hello")

    recorded = Recorded()
    run_virtual(main(recorded))
    (span,) = recorded.spans
    assert span.start_time / 1e9 - EPOCH == pytest.approx(100, abs=0.01)
    assert (span.end_time - span.start_time) / 1e9 == pytest.approx(5, abs=0.01)


def test_retries_and_waits_are_events():
    """Nobody could see why a call took long."""
    turns = iter([refusal(500), refusal(429, retry_after="3")])
    recorded = traced(Wire(lambda _: next(turns, "fine")))
    (span,) = recorded.spans
    assert span.attributes["flatout.attempts"] == 3
    assert span.status.status_code is StatusCode.UNSET
    retries = [event for event in span.events if event.name == "flatout.retry"]
    assert [dict(event.attributes)["error.type"] for event in retries] == ["ServerError", "RateLimited"]
    assert [event.attributes["flatout.attempt"] for event in retries] == [1, 2]
    assert retries[0].attributes["http.response.status_code"] == 500
    assert retries[0].attributes["flatout.retry_in"] > 0
    assert span.start_time <= retries[0].timestamp < retries[1].timestamp <= span.end_time
    waits = {event.attributes["flatout.wait.cause"]: event for event in span.events if event.name == "flatout.wait"}
    assert waits["backoff"].attributes["flatout.wait.seconds"] >= 3
    assert "backoff" in waits


def test_a_failed_call_is_a_failed_span():
    """Failures would look like answers, or the provider's words would give the prompt away."""
    recorded = traced(Wire(lambda _: refusal(400)))
    (span,) = recorded.spans
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    assert span.attributes["error.type"] == "InvalidRequest"
    assert span.attributes["http.response.status_code"] == 400
    assert [event.name for event in span.events] == ["flatout.attempt_failed"]


def test_a_cancelled_call_is_a_span():
    """What was cut off would be missing from traces, with all that it cost."""
    recorded = Recorded()

    async def main() -> None:
        async with client(Wire(lambda _: 50.0)) as made:
            trace_calls(made, tracer_provider=recorded.provider)
            task = asyncio.create_task(made.call("hello"))
            await asyncio.sleep(1)
            task.cancel()
            await asyncio.wait([task])

    run_virtual(main())
    (span,) = recorded.spans
    assert span.attributes["error.type"] == "CancelledError"
    assert (span.end_time - span.start_time) / 1e9 == pytest.approx(1, abs=0.01)


# -- content -----------------------------------------------------------------------------------------------------------


def test_nothing_of_what_was_said_is_kept_unasked():
    """Private prompts would leave the process."""
    echo = Response(400, {}, json.dumps({"error": {"message": "cannot parse: private prompt"}}).encode())
    recorded = traced(Wire(lambda prompt: echo if "bad" in prompt else answer("private answer")), "private prompt")
    failed = traced(Wire(lambda _: echo), Call("private prompt", system="private system"))
    assert recorded.spans
    assert failed.spans
    assert "private" not in recorded.dump() + failed.dump()


def test_content_is_kept_on_request(monkeypatch):
    """Those who want prompts in their traces would not get them, or not where their tools look."""
    tools = [{"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}]
    call = Call(
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {}}]},
            {"role": "assistant", "content": None, "tool_calls": tools},
            {"role": "tool", "tool_call_id": "call_1", "content": "2"},
        ],
        system="be brief",
    )
    for asked in ("argument", "variable"):
        if asked == "variable":
            monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")
        recorded = traced(
            Wire(lambda _: answer("fine", tool_calls=tools, reasoning_content="hm")), call, content=asked == "argument"
        )
        attributes = recorded.spans[0].attributes
        wanted = {"type": "tool_call", "id": "call_1", "name": "add", "arguments": '{"a": 1}'}
        assert json.loads(attributes["gen_ai.system_instructions"]) == [{"type": "text", "content": "be brief"}]
        assert json.loads(attributes["gen_ai.input.messages"]) == [
            {"role": "user", "parts": [{"type": "text", "content": "look"}, {"type": "image_url"}]},
            {"role": "assistant", "parts": [wanted]},
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call_1", "response": "2"}]},
        ]
        (reply,) = json.loads(attributes["gen_ai.output.messages"])
        said = [{"type": "reasoning", "content": "hm"}, {"type": "text", "content": "fine"}]
        assert reply["parts"] == [*said, wanted]
        assert reply["finish_reason"] in ("stop", "tool_calls")


def test_secrets_never_appear():
    """A key pasted into a prompt would be stored in every backend."""
    long = "x" * (TEXT_CAP - 11) + f" {KEY}"  # the cut would leave the first half of it
    echo = Response(400, {}, json.dumps({"error": {"message": f"bad key {KEY}"}}).encode())
    calls = [
        Call(f"my key is {KEY}", system=f"use {KEY}", id=KEY),
        long,
        Call(messages=[{"role": "tool", "tool_call_id": "1", "content": {"key": KEY}}]),
        Call(messages=[{"role": "user", "content": [{"type": "text", "text": KEY}]}]),
        "bad",
    ]
    wire = Wire(lambda prompt: echo if prompt == "bad" else answer(f"it is {KEY}"))
    recorded = traced(wire, *calls, content=True, api_key="sk-the-clients-own-key-1234")
    assert len(recorded.spans) == len(calls)
    assert "my key is" in recorded.dump()
    for part in range(len(KEY) - 5):
        assert KEY[part : part + 6] not in recorded.dump()
    assert "own-key" not in recorded.dump()


def test_content_is_cut():
    """One prompt of a megabyte would fail a whole batch of spans."""
    recorded = traced(Wire(lambda _: answer("y" * 100_000)), "x" * 1_000_000, content=True)
    attributes = recorded.spans[0].attributes
    assert len(attributes["gen_ai.input.messages"]) < TEXT_CAP + 200
    assert len(attributes["gen_ai.output.messages"]) < TEXT_CAP + 200


# -- many at once ------------------------------------------------------------------------------------------------------


def test_calls_of_many_runs_keep_to_their_parents():
    """Runs side by side would show each other's calls."""
    recorded = Recorded()
    tracer = recorded.provider.get_tracer("user")

    async def run(made: Client, number: int) -> None:
        with tracer.start_as_current_span(f"run {number}"):
            results = await made.gather([Call(f"prompt {n}", id=f"{number}") for n in range(50)])
        assert all(result.ok for result in results)

    async def main() -> None:
        model = ProviderModel(ProviderSettings(latency=5), 1)
        async with Client("m", base_url="http://sim/v1", transport=SimulatedTransport(model), config={}) as made:
            trace_calls(made, tracer_provider=recorded.provider)
            async with asyncio.TaskGroup() as group:
                for number in range(20):
                    group.create_task(run(made, number))

    run_virtual(main())
    parents = {span.context.span_id: span for span in recorded.spans if span.name.startswith("run")}
    chats = [span for span in recorded.spans if span.name == "chat m"]
    assert len(parents) == 20
    assert len(chats) == 1_000
    for span in chats:
        parent = parents[span.parent.span_id]
        assert parent.name == f"run {span.attributes['flatout.call.id']}"
        assert span.context.trace_id == parent.context.trace_id


def test_a_failing_exporter_costs_no_answer(caplog):
    """A broken collector would lose paid answers."""

    class Broken(SimpleSpanProcessor):
        def on_end(self, span) -> None:
            raise OSError("no collector")

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Broken(InMemorySpanExporter()))

    async def main():
        async with client(Wire(lambda prompt: refusal(400) if prompt == "bad" else digest_of(prompt))) as made:
            trace_calls(made, tracer_provider=provider)
            return await made.gather(["good", "bad", "good too"])

    good, bad, too = run_virtual(main())
    assert good.text == digest_of("good")
    assert too.text == digest_of("good too")
    assert bad.error.status == 400
    assert len([record for record in caplog.records if record.name == "flatout.events"]) == 1


def test_what_the_sampler_leaves_out_costs_little():
    """Users who sample one trace in a thousand would pay for all of them."""
    recorded = Recorded(sampler=ALWAYS_OFF)

    async def main() -> None:
        async with client(Wire()) as made:
            trace_calls(made, tracer_provider=recorded.provider)
            await made.call("hello")

    run_virtual(main())
    assert recorded.spans == ()


def test_the_provider_of_the_context_is_used():
    """`exporting` would miss the calls of agents that trace themselves."""
    recorded = Recorded()

    async def main() -> None:
        async with client(Wire()) as made:
            with recording(recorded.provider):
                trace_calls(made)
            await made.call("hello")

    run_virtual(main())
    assert [span.name for span in recorded.spans] == ["chat m"]
    assert trace.get_current_span().get_span_context().is_valid is False
