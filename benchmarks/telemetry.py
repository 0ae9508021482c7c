"""What telemetry costs: CPU time of a call in memory without it, and how much each part adds.

Run: ``python benchmarks/telemetry.py``. The last figures, on a shared two-core x86-64 machine under Python 3.11, stand
in docs/telemetry.md.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import NoOpTracerProvider

from flatout import Client, Limits
from flatout.layer import Response
from flatout.telemetry import measure, recording, span, trace_calls

CALLS = 2_000
ROUNDS = 7
LIMITS = Limits(concurrency=64)  # without any, the pacer would search for the limit, and wait
BODY = (
    b'{"choices":[{"message":{"content":"fine"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":9,"completion_tokens":3}}'
)


class Instant:
    """A provider that answers at once."""

    async def send(self, _):
        return Response(200, {}, BODY)

    async def close(self) -> None:
        pass


class Nowhere(SpanExporter):
    def export(self, spans) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def sdk() -> TracerProvider:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(Nowhere(), max_queue_size=100_000, schedule_delay_millis=600_000))
    return provider


def meters() -> MeterProvider:
    return MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)


async def calls(prepare: Callable[[Client], object]) -> float:
    """CPU microseconds a call."""
    async with Client("m", base_url="http://memory/v1", transport=Instant(), config={}, limits=LIMITS) as client:
        prepare(client)
        for _ in range(100):
            await client.call("warm up")
        began = time.process_time()
        for _ in range(CALLS):
            await client.call("hello")
        return (time.process_time() - began) / CALLS * 1e6


def spans(provider: TracerProvider | None) -> float:
    """CPU microseconds a `span`."""
    with recording(provider):
        began = time.process_time()
        for _ in range(CALLS):
            with span("stage"):
                pass
        return (time.process_time() - began) / CALLS * 1e6


def main() -> None:
    kinds: dict[str, Callable[[Client], object]] = {
        "nobody listens": lambda client: None,
        "a subscriber that does nothing": lambda client: client.events.subscribe(lambda event: None),
        "traces, no SDK": lambda client: trace_calls(client, tracer_provider=NoOpTracerProvider()),
        "traces, SDK": lambda client: trace_calls(client, tracer_provider=sdk()),
        "traces with content, SDK": lambda client: trace_calls(client, tracer_provider=sdk(), content=True),
        "metrics, SDK": lambda client: measure(client, meter_provider=meters()),
        "both, SDK": lambda client: (
            trace_calls(client, tracer_provider=sdk()),
            measure(client, meter_provider=meters()),
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(ROUNDS):  # in turn, so that a busy machine is busy for all of them
        for name, prepare in kinds.items():
            times[name].append(asyncio.run(calls(prepare)))
    base = statistics.median(times["nobody listens"])
    for name, found in times.items():
        here = statistics.median(found)
        print(f"{name:32} {here:7.1f} us a call  {here / base:5.2f} x  {here - base:+7.1f} us")
    for name, provider in (("a span, no SDK", None), ("a span, SDK", sdk())):
        print(f"{name:32} {statistics.median(spans(provider) for _ in range(ROUNDS)):7.1f} us")


if __name__ == "__main__":
    main()
