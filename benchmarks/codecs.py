"""What a wire format costs: encode a 2 KB call and decode a 1 KB answer, ``python -m benchmarks.codecs``.

Beside it `json.dumps` of the same request and `json.loads` of the same answer, the least that a script does by hand.
CPU of one process; medians of rounds that alternate.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

from benchmarks.rounds import medians
from flatout.layer import Codec, Response
from flatout.providers import codec_for, registry
from flatout.values import Call, Target
from flatout.values.secret import Secret

CALL = Call(
    "Explain the CAP theorem in three sentences. " * 43, system="Be short. " * 10, temperature=0, max_tokens=500
)
TEXT = "Of consistency, availability and partition tolerance, a system keeps two. " * 9
COUNTS = {"input_tokens": 412, "output_tokens": 150}
MOST = 40.0
"""Microseconds that one exchange may cost."""

ANSWERS: dict[str, dict[str, Any]] = {
    "openai": {
        "id": "chatcmpl-123", "object": "chat.completion", "created": 1_700_000_000, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 412, "completion_tokens": 150, "total_tokens": 562}, "service_tier": "default",
    },
    "openai-responses": {
        "id": "resp_123", "object": "response", "status": "completed", "model": "m", "service_tier": "default",
        "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": TEXT}]}],
        "usage": {**COUNTS, "total_tokens": 562, "output_tokens_details": {"reasoning_tokens": 0}},
    },
    "anthropic": {
        "id": "msg_123", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": TEXT}], "usage": {**COUNTS, "service_tier": "standard"},
    },
    "gemini": {
        "candidates": [{"content": {"role": "model", "parts": [{"text": TEXT}]}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 412, "candidatesTokenCount": 150, "totalTokenCount": 562},
        "modelVersion": "m", "responseId": "123",
    },
}  # fmt: skip


def timed(work: Callable[[], object], times: int) -> float:
    """Microseconds for one piece of work."""
    began = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - began) / times * 1e6


def measure(name: str, times: int, rounds: int) -> tuple[float, float]:
    """Microseconds for an exchange by the codec, and by the standard library."""
    endpoint = registry.find(name)
    codec: Codec = codec_for(Target(type(endpoint)(**{**_fields(endpoint), "api_key": Secret("key")}), "m"))
    body = json.dumps(ANSWERS[name]).encode()
    response = Response(200, {"content-type": "application/json", "x-request-id": "1"}, body)
    payload = json.loads(codec.encode(CALL).body)

    def ours() -> None:
        codec.encode(CALL)
        codec.decode(CALL, response)

    def by_hand() -> None:
        json.dumps(payload).encode()
        json.loads(body)

    mine, other = medians((timed(ours, times), timed(by_hand, times)) for _ in range(rounds))
    return mine, other


def _fields(endpoint: Any) -> dict[str, Any]:
    return {name: getattr(endpoint, name) for name in endpoint.__struct_fields__}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--times", type=int, default=5_000, help="exchanges in a round (default 5000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5)")
    options = parser.parse_args()
    print(f"{'codec':18}{'µs an exchange':>16}{'json alone':>12}{'ratio':>8}   asked: {MOST:.0f} µs at most")
    for name in ANSWERS:
        ours, by_hand = measure(name, options.times, options.rounds)
        print(f"{name:18}{ours:16.1f}{by_hand:12.1f}{ours / by_hand:8.2f}   {'kept' if ours <= MOST else 'MISSED'}")


if __name__ == "__main__":
    main()
