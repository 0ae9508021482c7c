"""Against aimock, a mock of many providers on Node.js that is not ours, calm and with chaos."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel

from flatout import (
    Call,
    CallError,
    Client,
    DeadlineExceeded,
    InvalidRequest,
    Limits,
    Overloaded,
    ProtocolError,
    RateLimited,
    Result,
    ServerError,
    TransportError,
)
from tests.support.command_samples import PATIENCE
from tests.support.foreign_servers import aimock_started, fetch
from tests.support.loop_turns import turns

DoneT = TypeVar("DoneT")

PATHS = {"openai": "/v1", "openai-responses": "/v1", "anthropic": "/v1", "gemini": "/v1beta"}
each_dialect = pytest.mark.parametrize("dialect", PATHS)

PLENTY = Limits(rpm=60_000)

TALE = "Once upon a time there was a mock, and it told this tale to all who asked, in pieces of twenty characters."
CITY = {"name": "Bonn", "population": 336_000, "twins": ["Oxford", "Weimar"]}

FIXTURES = [
    {"match": {"userMessage": "weather", "hasToolResult": True}, "response": {"content": "It is 21 degrees."}},
    {
        "match": {"userMessage": "weather"},
        "response": {"toolCalls": [{"name": "weather", "arguments": {"city": "Bonn"}}]},
    },
    {"match": {"userMessage": "city"}, "response": {"content": json.dumps(CITY)}},
    {"match": {"userMessage": "cut"}, "response": {"content": TALE}, "truncateAfterChunks": 3},
    {"match": {"userMessage": "busy"}, "response": {"error": {"message": "no capacity"}, "status": 503}},
    {"match": {"userMessage": "wrong"}, "response": {"error": {"message": "no such thing"}, "status": 400}},
    {"match": {"userMessage": "tale"}, "response": {"content": TALE}},
]  # fmt: skip
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class City(BaseModel):
    name: str
    population: int
    twins: list[str]


class Aimock:
    """A running aimock."""

    def __init__(self, url: str) -> None:
        self.url = url

    def use(self, work: Callable[[Client], Awaitable[DoneT]], **options: Any) -> DoneT:
        endpoints = {name: {"base_url": self.url + path} for name, path in PATHS.items()}

        async def main() -> DoneT:
            config = {"endpoints": endpoints}
            async with Client(config=config, **{"limits": PLENTY, "deadline": PATIENCE, **options}) as client:
                return await work(client)

        return asyncio.run(main())


@contextmanager
def started(folder: Path, *options: str) -> Iterator[Aimock]:
    with aimock_started(folder, *options, fixtures=FIXTURES) as url:
        yield Aimock(url)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aimock]:
    with started(tmp_path_factory.mktemp("aimock")) as running_one:
        yield running_one


async def streamed(client: Client, call: Call) -> tuple[list[str], Any]:
    async with client.stream(call) as stream:
        texts = [text async for text in stream]
        return texts, stream.reply


@each_dialect
def test_an_answer_is_the_same_whole_and_in_pieces(server: Aimock, dialect: str) -> None:
    """A provider's answers would be misread, or differ with the way they come."""
    call = Call("Tell me a tale.", model=f"{dialect}/m-1", max_tokens=200, system="Be brief.")

    async def work(client: Client) -> tuple[Any, tuple[list[str], Any]]:
        return await asyncio.gather(client.call(call), streamed(client, call))

    whole, (texts, reply) = server.use(work)
    assert len(texts) > 2
    assert "".join(texts) == reply.text == whole.text == TALE
    assert whole.finish_reason == reply.finish_reason == "stop"


@each_dialect
def test_tools_are_asked_for_and_answered(server: Aimock, dialect: str) -> None:
    """An agent could not use its tools with this provider, or not stream while it does."""

    async def work(client: Client) -> tuple[Any, Any, Any]:
        question = {"role": "user", "content": "How is the weather?"}
        call = Call(messages=[question], model=f"{dialect}/m-1", tools=[WEATHER], max_tokens=200)
        whole, (_, pieces) = await asyncio.gather(client.call(call), streamed(client, call))
        made = whole.tool_calls[0]
        asked = {"id": made.id, "type": "function", "function": {"name": made.name, "arguments": made.arguments}}
        messages = [
            question,
            {"role": "assistant", "content": "", "tool_calls": [asked]},
            {"role": "tool", "tool_call_id": made.id, "content": "21 degrees"},
        ]
        last = await client.call(Call(messages=messages, model=f"{dialect}/m-1", tools=[WEATHER], max_tokens=200))
        return whole, pieces, last

    whole, pieces, last = server.use(work)
    for reply in (whole, pieces):
        assert [(made.name, made.parsed()) for made in reply.tool_calls] == [("weather", {"city": "Bonn"})]
    assert last.text == "It is 21 degrees."


@each_dialect
def test_answers_fit_a_schema(server: Aimock, dialect: str) -> None:
    """``output=`` would be refused by this provider, or its answer not become the object."""
    call = Call("Name a city.", model=f"{dialect}/m-1", output=City, max_tokens=200)

    async def work(client: Client) -> tuple[Any, tuple[list[str], Any]]:
        return await asyncio.gather(client.call(call), streamed(client, call))

    whole, (_, reply) = server.use(work)
    assert whole.output == reply.output == City.model_validate(CITY)


def test_embeddings_come_in_order(server: Aimock) -> None:
    """Vectors would be stored with the wrong texts."""
    texts = [f"text {number}" for number in range(3_000)]

    async def work(client: Client) -> tuple[list[Result[Any]], list[Result[Any]]]:
        model = "openai/text-embedding-3-small"
        return await client.embed(texts, model=model), await client.embed(texts[2_500:2_520], model=model)

    results, few = server.use(work)
    assert [result.item for result in results] == texts
    assert [result.output for result in results[2_500:2_520]] == [result.output for result in few]
    assert len({bytes(result.output) for result in results}) == len(texts)


@each_dialect
def test_errors_are_named(server: Aimock, dialect: str) -> None:
    """A user could not tell a wrong request from a busy server; or a wrong request would be sent again and again."""
    calls = [Call(text, model=f"{dialect}/m-1", max_tokens=9) for text in ("This is wrong.", "You are busy.", "What?")]
    results = server.use(lambda client: client.gather(calls), retries=1)
    assert [(type(result.error), result.attempts) for result in results] == [
        (InvalidRequest, 1), (Overloaded, 2), (InvalidRequest, 1)
    ]  # fmt: skip
    assert "no such thing" in str(results[0].error)


@each_dialect
def test_an_answer_that_is_always_cut_off_is_never_taken_for_whole(server: Aimock, dialect: str) -> None:
    """Half an answer would be stored as a whole one."""
    result = server.use(
        lambda client: client.result(Call("A cut, please.", model=f"{dialect}/m-1", max_tokens=200)),
        between_bytes=5,
        retries=1,
    )
    assert isinstance(result.error, ProtocolError)
    assert result.attempts == 2


@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "in-pieces"])
def test_chaos(tmp_path: Path, pieces: bool) -> None:
    """Under errors, garbage and dropped connections a call would be lost, or end without a named error."""
    chaos = {"drop": 0.08, "malformed": 0.08, "disconnect": 0.08}
    options = [f"--chaos-{name}={rate}" for name, rate in chaos.items()]
    calls = [Call(f"Tell me tale number {i}", model=f"{list(PATHS)[i % 4]}/m-1", max_tokens=200) for i in range(300)]
    with started(tmp_path, *options, "--chaos-latency=20", "--latency=5") as server:
        gaps = {"first_byte": 6, "between_bytes": 3} if pieces else {"timeout": 10}
        results = server.use(lambda client: client.gather(calls), **gaps)
        journal = fetch(f"{server.url}/__aimock/journal?limit=1000")
    entries = journal if isinstance(journal, list) else journal["entries"]
    met = {(entry.get("response") or {}).get("chaosAction") for entry in entries}
    assert met >= {"drop", "malformed", "disconnect"}
    assert len(results) == len(calls)
    for result in results:
        assert result.ok or isinstance(result.error, TransportError | ServerError), result.error
        assert isinstance(result.error, CallError | None)
        assert not result.ok or result.text == TALE
    assert sum(result.ok for result in results) >= 0.99 * len(calls)


def test_chaos_with_rate_limits(tmp_path: Path) -> None:
    """A refusal would lose a call without a named error, or hold it past its deadline.

    These refusals say Retry-After: 1, and beside it that no token is left for six minutes; not all calls can be
    answered in time by who believes it.
    """
    calls = [Call(f"Tell me tale number {i}", model=f"{list(PATHS)[i % 4]}/m-1", max_tokens=200) for i in range(100)]

    async def work(client: Client) -> tuple[list[Result[Any]], int]:
        async with turns(0.1) as turned:
            return await client.gather(calls), turned()

    with started(tmp_path, "--chaos-ratelimit=0.1") as server:
        results, turned = server.use(work, deadline=4)
    assert turned <= 1.5 * 4 / 0.1
    assert len(results) == len(calls)
    for result in results:
        assert result.text == TALE if result.ok else isinstance(result.error, DeadlineExceeded | RateLimited)
