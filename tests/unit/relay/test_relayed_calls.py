"""Requests of other programs: passed on as they are, paced and retried, or translated for another format."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from flatout import Client
from flatout.edge.relay import CACHED, RelayedStream, relayed, whole
from flatout.errors import BudgetExceeded, InvalidRequest
from flatout.layer import Response
from flatout.providers.relay import Wire, inbound_for
from flatout.providers.relay.inbound import read_object
from flatout.testing import Faults, ProviderModel, ProviderSettings, SimulatedTransport, run_virtual

CHAT = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Spam or ham?"}], "user": "me"}
MESSAGES = {"model": "claude-sonnet-4-5", "max_tokens": 50, "messages": [{"role": "user", "content": "Spam or ham?"}]}
RESPONSES = {"model": "gpt-5-mini", "input": "Spam or ham?", "instructions": "Be brief."}

MODELS = {"openai": "openai/gpt-5-mini", "anthropic": "anthropic/claude-sonnet-4-5"}


def call(dialect: str, data: dict[str, Any], model: str, **options: Any) -> Any:
    body = json.dumps(data).encode()
    asked = inbound_for(dialect).read(read_object(body))
    return relayed(asked, Wire(dialect, body, asked.streams), model, **options)


class World:
    def __init__(self, settings: ProviderSettings | None = None, **options: Any) -> None:
        self.provider = ProviderModel(settings or ProviderSettings(latency=1.0), seed=1)
        self.client = Client(transport=SimulatedTransport(self.provider), **options)

    def run(self, main: Callable[[Client], Coroutine[Any, Any, Any]]) -> Any:
        async def body() -> Any:
            async with self.client as client:
                return await main(client)

        return run_virtual(body())


async def streamed(client: Client, asked: Any) -> tuple[int, bytes]:
    async with RelayedStream(client._engine, asked) as stream:
        return stream.status, b"".join([piece async for piece in stream.pieces()])


@pytest.mark.parametrize(
    ("dialect", "data", "model"), [("openai", CHAT, MODELS["openai"]), ("anthropic", MESSAGES, MODELS["anthropic"])]
)
def test_an_answer_comes_back_as_the_provider_wrote_it(dialect: str, data: dict[str, Any], model: str):
    """A program would miss fields of its answer which flatout does not know."""
    seen: list[Response] = []

    async def main(client: Client) -> Response:
        send = client._engine.transport.send

        async def noted(request: Any) -> Response:
            assert json.loads(request.body) == data
            seen.append(await send(request))
            return seen[-1]

        client._engine.transport.send = noted  # type: ignore[method-assign]
        return await whole(client._engine, call(dialect, data, model))

    answer = World().run(main)
    assert answer.status == 200
    assert answer.body == seen[0].body


@pytest.mark.parametrize(
    ("dialect", "data", "model"), [("openai", CHAT, MODELS["openai"]), ("anthropic", MESSAGES, MODELS["anthropic"])]
)
def test_a_streamed_answer_comes_back_as_the_provider_wrote_it(dialect: str, data: dict[str, Any], model: str):
    """A program would miss events, or get them twice."""
    asked = {**data, "stream": True}
    status, body = World().run(lambda client: streamed(client, call(dialect, asked, model)))
    assert status == 200
    assert body.count(b"data:") > 3
    assert body.rstrip().endswith(b"[DONE]") or b"message_stop" in body


def test_refusals_for_speed_are_waited_out():
    """A program would see 429s, and retry them by itself, on top of flatout's own retries."""
    world = World(ProviderSettings(rpm=60, burst=2, latency=1.0))

    async def main(client: Client) -> list[Response]:
        asked = (call("openai", {**CHAT, "user": str(n)}, MODELS["openai"]) for n in range(40))
        return await asyncio.gather(*(whole(client._engine, each) for each in asked))

    answers = world.run(main)
    assert [answer.status for answer in answers] == [200] * 40


def test_failures_are_retried():
    """A program would lose calls to a provider's trouble."""
    world = World(ProviderSettings(latency=1.0, faults=Faults(server_error=0.05, reset=0.05)))

    async def main(client: Client) -> list[Response]:
        asked = (call("openai", {**CHAT, "user": str(n)}, MODELS["openai"]) for n in range(40))
        return await asyncio.gather(*(whole(client._engine, each) for each in asked))

    assert {answer.status for answer in world.run(main)} == {200}


def test_the_providers_own_refusal_is_passed_on():
    """A program could not see what its provider says is wrong."""
    bad = {**CHAT, "messages": "no list"}
    answer = World().run(lambda client: whole(client._engine, call("openai", bad, MODELS["openai"])))
    assert answer.status == 400
    assert "error" in json.loads(answer.body)


def test_a_refused_stream_has_the_providers_status():
    """A program would read an error as an empty stream."""
    bad = {**CHAT, "messages": "no list", "stream": True}
    status, body = World().run(lambda client: streamed(client, call("openai", bad, MODELS["openai"])))
    assert status == 400
    assert "error" in json.loads(body)


def test_a_budget_holds_for_programs_too():
    """A program beneath which flatout runs would spend more than was allowed."""
    world = World(budget=0.000001)

    async def main(client: Client) -> None:
        with pytest.raises(BudgetExceeded):
            await whole(client._engine, call("openai", {**CHAT, "max_tokens": 1000}, MODELS["openai"]))

    world.run(main)


@pytest.mark.parametrize("streams", [False, True])
def test_equal_questions_are_asked_once(tmp_path: Any, streams: bool):
    """A program would pay twice for the same answer."""
    world = World(cache=tmp_path / "cache")
    asked = {**CHAT, "stream": True} if streams else CHAT

    async def main(client: Client) -> tuple[Response, Any]:
        first = await whole(client._engine, call("openai", CHAT, MODELS["openai"]))
        if streams:
            return first, await streamed(client, call("openai", asked, MODELS["openai"]))
        return first, await whole(client._engine, call("openai", asked, MODELS["openai"]))

    first, second = world.run(main)
    said = json.loads(first.body)["choices"][0]["message"]["content"]
    assert world.provider.stats()["received"] == 1
    if streams:
        assert said in second[1].decode()
    else:
        assert second.headers[CACHED] == "1"
        assert json.loads(second.body)["choices"][0]["message"]["content"] == said


@pytest.mark.parametrize(
    ("dialect", "data", "model", "text"),
    [
        ("anthropic", MESSAGES, MODELS["openai"], lambda answer: answer["content"][0]["text"]),
        ("openai", CHAT, MODELS["anthropic"], lambda answer: answer["choices"][0]["message"]["content"]),
        ("openai-responses", RESPONSES, MODELS["anthropic"], lambda answer: answer["output"][0]["content"][0]["text"]),
    ],
)
def test_another_format_is_translated(dialect: str, data: dict[str, Any], model: str, text: Callable[[Any], str]):
    """A program could only use models of the provider whose format it speaks."""
    answer = World().run(lambda client: whole(client._engine, call(dialect, data, model)))
    assert text(json.loads(answer.body))


@pytest.mark.parametrize(
    ("dialect", "data", "model", "end"),
    [
        ("anthropic", MESSAGES, MODELS["openai"], b"event: message_stop"),
        ("openai", CHAT, MODELS["anthropic"], b"data: [DONE]"),
        ("openai-responses", RESPONSES, MODELS["anthropic"], b"event: response.completed"),
    ],
)
def test_another_format_is_translated_as_it_streams(dialect: str, data: dict[str, Any], model: str, end: bytes):
    """A program would wait for the whole answer, or never see its end."""
    asked = {**data, "stream": True}
    status, body = World().run(lambda client: streamed(client, call(dialect, asked, model)))
    assert status == 200
    assert body.count(b"data: ") > 4
    assert end in body


def test_what_has_no_counterpart_is_refused_by_name():
    """A parameter that changes the answer would be lost without a word."""

    async def main(client: Client) -> None:
        with pytest.raises(InvalidRequest, match="logit_bias"):
            await whole(client._engine, call("openai", {**CHAT, "logit_bias": {"5": 1}}, MODELS["anthropic"]))

    World().run(main)


def test_leaving_a_stream_ends_its_call():
    """A program that hangs up would still pay for, and hold a place for, the rest of the answer."""
    world = World(ProviderSettings(latency=1.0, output_tokens=500, first_token=1.0))

    async def main(client: Client) -> int:
        async with RelayedStream(client._engine, call("openai", {**CHAT, "stream": True}, MODELS["openai"])) as stream:
            async for _ in stream.pieces():
                break
        await asyncio.sleep(0.1)
        return sum(limit.queue.in_flight for limit in client._engine.stack.limiters.limits.values())

    assert world.run(main) == 0
