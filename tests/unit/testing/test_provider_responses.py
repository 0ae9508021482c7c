"""OpenAI's Responses, as the provider model speaks them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flatout import Call, Client
from flatout.errors import CallError
from flatout.testing import Faults, ProviderModel, ProviderSettings, SimulatedTransport, digest_of, run_virtual

MODEL = "openai-responses/gpt-5-mini"
STEADY = {"latency": 10.0, "latency_p99": 10.0}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
SHAPE = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-1234567890")


def client(settings: ProviderSettings | None = None, **options: Any) -> Client:
    transport = SimulatedTransport(ProviderModel(settings or ProviderSettings(**STEADY), seed=1))
    return Client(model=MODEL, transport=transport, **options)


@pytest.mark.parametrize(
    "call",
    [
        Call("Why?", system="Be brief."),
        Call("Why?", max_tokens=5),
        Call("Why?", tools=[TOOL], tool_choice="required"),
        Call("Why?", tools=[TOOL], tool_choice={"type": "function", "function": {"name": "look"}}),
        Call("Why?", output=SHAPE),
    ],
    ids=["text", "cut off", "a tool", "a named tool", "a schema"],
)
def test_an_answer_is_the_same_whole_and_streamed(call: Call):
    """Nobody could try the Responses API without a key, or a streamed answer would lack a part."""

    async def main() -> None:
        async with client() as asked:
            whole = await asked.call(call)
            async with asked.stream(call) as stream:
                pieces = [piece async for piece in stream]
            streamed = stream.reply
        assert (whole.text, whole.tool_calls, whole.finish_reason) == (
            (streamed.text, streamed.tool_calls, streamed.finish_reason)
        )
        assert whole.usage == streamed.usage
        assert whole.usage.input_tokens
        assert len(pieces) > 2 or not whole.text or call.output
        if whole.tool_calls:
            assert whole.tool_calls[0].name == "look"
        elif call.output:
            assert set(json.loads(whole.text)) == {"label"}
        else:
            assert digest_of("Why?", system=call.system) in whole.text
            assert whole.finish_reason == ("length" if call.max_tokens else "stop")

    run_virtual(main())


def test_a_streamed_response_comes_word_by_word():
    """The time to the first token, and the gaps, could not be tried."""
    outcome = ProviderModel(ProviderSettings(**STEADY)).receive(
        0, 0, json.dumps({"model": "m", "input": "hi", "stream": True}).encode(), responses=True
    )
    assert outcome.pieces is not None
    events = [line for _, piece in outcome.pieces for line in piece.decode().split("\n") if line.startswith("data: ")]
    told = [json.loads(line.removeprefix("data: ")) for line in events]
    kinds = [each["type"].removeprefix("response.") for each in told]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert kinds[-4:] == ["output_text.done", "content_part.done", "output_item.done", "completed"]
    assert set(kinds[4:-4]) == {"output_text.delta"}
    assert [each["sequence_number"] for each in told] == [*range(len(told))]
    assert len(outcome.pieces) == kinds.count("output_text.delta")


def test_the_faults_of_responses_are_those_of_all_answers():
    """A program that uses the Responses API would be tested against a provider without faults."""
    faults = Faults(server_error=0.1, truncated=0.1, malformed=0.1, late_error=0.1, reset=0.1, empty=0.05, stall=0.02)

    async def main() -> None:
        async with client(ProviderSettings(latency=1.0, faults=faults), retries=20, timeout=30.0) as asked:
            results = await asked.gather([f"prompt {n}" for n in range(50)])
            broken = 0
            for n in range(20):
                try:
                    async with asked.stream(f"prompt {n}") as stream:
                        async for _ in stream:
                            pass
                except CallError:  # it is not asked again: the client has seen half of the answer
                    broken += 1
                else:
                    assert digest_of(f"prompt {n}") in stream.reply.text
            assert 0 < broken < 20
        assert [digest_of(f"prompt {n}") in result.text for n, result in enumerate(results)] == [True] * 50

    run_virtual(main())


@pytest.mark.parametrize("body", [b"{", b'{"model":"m"}', b'{"model":"m","input":3}'])
def test_what_is_no_request_for_a_response_is_refused(body: bytes):
    """A program with a fault would seem to work."""
    outcome = ProviderModel().receive(0, 0, body, responses=True)
    assert outcome.status == 400
    assert b"not a Responses request" in outcome.body


def test_a_question_has_the_same_answer_in_each_format():
    """A test that changes the format would have to change the texts that it expects."""
    call = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}
    items = [{"role": "user", "content": [{"type": "input_text", "text": "Why?"}]}, call]
    body = {"model": "m", "instructions": "Be brief.", "input": [*items, {**call, "type": "function_call_output"}]}
    turns = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": None}, {"role": "tool"}]
    told = json.loads(ProviderModel().receive(0, 0, json.dumps(body).encode(), responses=True).body)
    assert digest_of(turns, system="Be brief.") in told["output"][0]["content"][0]["text"]
