"""Traces in memory, and an answer with everything that a trace can record."""

from __future__ import annotations

import json

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flatout.layer import Response

KEY = "sk-abcdefghijklmnop1234567890"


class Recorded:
    """A tracer provider that keeps its spans in memory."""

    def __init__(self, **options) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False, **options)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def spans(self):
        return self.exporter.get_finished_spans()

    def dump(self) -> str:
        return "\n".join(span.to_json() for span in self.spans)


def answer(text: str = "fine", **more) -> Response:
    body = {
        "id": "chatcmpl-1",
        "model": "m-2026-01-01",
        "choices": [{"message": {"role": "assistant", "content": text, **more}, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 3},
        },
    }
    return Response(200, {}, json.dumps(body).encode())
