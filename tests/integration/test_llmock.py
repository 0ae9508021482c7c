"""Against llmock, a chaos server for LLM clients that is not ours: it breaks answers on demand and judges the client.

Its verdict tells apart the attempts of one call by their bodies, so every call here has words of its own.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel

from flatout import (
    AttemptTimeout,
    AuthenticationError,
    Call,
    CallError,
    Client,
    InvalidRequest,
    Limits,
    Overloaded,
    ProtocolError,
    Result,
    ServerError,
    TransportError,
)
from tests.support.command_samples import PATIENCE
from tests.support.foreign_servers import fetch, llmock, or_skip, running

DoneT = TypeVar("DoneT")

PATHS = {"openai": "/v1", "openai-responses": "/v1", "anthropic": "/anthropic/v1", "gemini": "/gemini/v1beta"}
each_dialect = pytest.mark.parametrize("dialect", PATHS)

# A known limit, if a high one: refusals at random, at any speed, would otherwise be taken for a low one.
PLENTY = Limits(rpm=60_000)
WORDS = "one two three four five six seven eight nine ten eleven twelve"

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}

GAPS = {"first_byte": 8.0, "between_bytes": 5.0}
"""Seconds of silence that end an attempt: fewer than the faults last, and more than a busy machine is silent."""

FAULTS: dict[str, dict[str, Any]] = {
    "limited": {"type": "fail", "status": 429, "retry_after": 1},
    "failed": {"type": "fail", "status": 500},
    "overloaded": {"type": "fail", "status": 503, "retry_after": 1},
    "hanging": {"type": "delay", "seconds": 30},
    "truncated": {"type": "stream_fault", "kind": "truncate", "after_chunks": 3},
    "dropped": {"type": "stream_fault", "kind": "disconnect", "after_chunks": 3},
    "garbled": {"type": "stream_fault", "kind": "malformed", "after_chunks": 3},
    "stalled": {"type": "stream_fault", "kind": "stall", "after_chunks": 3, "stall_seconds": 30},
}


class City(BaseModel):
    name: str
    population: int
    twins: list[str]


class Llmock:
    """A running llmock."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self._folder = folder

    def client(self, **options: Any) -> Client:
        endpoints = {name: {"base_url": self.url + path} for name, path in PATHS.items()}
        return Client(config={"endpoints": endpoints}, **{"limits": PLENTY, "deadline": PATIENCE, **options})

    def use(self, work: Callable[[Client], Awaitable[DoneT]], **options: Any) -> DoneT:
        async def main() -> DoneT:
            async with self.client(**options) as client:
                return await work(client)

        return asyncio.run(main())

    def script(self, *behaviours: dict[str, Any]) -> None:
        fetch(f"{self.url}/_llmock/scenario", {"behaviors": behaviours})

    def requests(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = fetch(f"{self.url}/_llmock/requests")["requests"]
        return found

    def verdict(self) -> dict[str, Any]:
        found: dict[str, Any] = fetch(f"{self.url}/_llmock/verdict")
        return found

    def report(self) -> subprocess.CompletedProcess[str]:
        """Its own command for CI, in its strictest form."""
        return subprocess.run(
            [sys.executable, "-m", "llmock.cli", "report", "--url", self.url, "--strict"],
            env={**os.environ, "PYTHONPATH": str(self._folder)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )


def started(log: Path, *options: str) -> Iterator[Llmock]:
    folder = or_skip(llmock)

    def command(port: int) -> list[str]:
        return [sys.executable, "-m", "llmock.cli", "serve", "--port", str(port), "--log-level", "error", *options]

    with running(command, log, PYTHONPATH=str(folder)) as url:
        yield Llmock(url, folder)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Llmock]:
    # Slow enough that a client who leaves in the middle is seen to leave.
    pace = ("--response-style", "echo", "--stream-chunk-delay-ms", "70")
    yield from started(tmp_path_factory.mktemp("llmock") / "log", *pace)


@pytest.fixture
def server(process: Llmock) -> Llmock:
    fetch(f"{process.url}/_llmock/reset", {})
    return process


async def streamed(client: Client, call: Call) -> tuple[list[str], Any]:
    async with client.stream(call) as stream:
        texts = [text async for text in stream]
        return texts, stream.reply


@each_dialect
def test_an_answer_is_the_same_whole_and_in_pieces(server: Llmock, dialect: str) -> None:
    """A provider's answers would be misread, or their text or their price differ with the way they come."""
    call = Call("Count to three.", model=f"{dialect}/m-1", max_tokens=200, system="Be brief.")

    async def work(client: Client) -> tuple[Any, tuple[list[str], Any]]:
        return await asyncio.gather(client.call(call), streamed(client, call))

    whole, (texts, reply) = server.use(work)
    assert "Count to three." in whole.text
    assert len(texts) > 2
    assert "".join(texts) == reply.text == whole.text
    assert whole.finish_reason == reply.finish_reason == "stop"
    assert whole.usage == reply.usage
    assert whole.usage.total_tokens
    assert server.verdict()["findings"] == []


@each_dialect
def test_tools_are_asked_for_and_answered(server: Llmock, dialect: str) -> None:
    """An agent could not use its tools with this provider, or not stream while it does."""

    async def work(client: Client) -> tuple[Any, Any, Any]:
        model = f"{dialect}/m-1"
        question = Call("What is the weather in Bonn?", model=model, tools=[WEATHER], max_tokens=200)
        whole, (_, pieces) = await asyncio.gather(client.call(question), streamed(client, question))
        made = whole.tool_calls[0]
        asked = {"id": made.id, "type": "function", "function": {"name": made.name, "arguments": made.arguments}}
        messages = [
            {"role": "user", "content": "What is the weather in Bonn?"},
            {"role": "assistant", "content": "", "tool_calls": [asked]},
            {"role": "tool", "tool_call_id": made.id, "content": "21 degrees"},
        ]
        return whole, pieces, await client.call(Call(messages=messages, model=model, tools=[WEATHER], max_tokens=200))

    whole, pieces, last = server.use(work)
    for reply in (whole, pieces):
        assert [(made.name, made.parsed()) for made in reply.tool_calls] == [("get_weather", {"city": "mock-city"})]
        assert reply.finish_reason == "tool_calls"
    assert last.tool_calls == ()
    assert last.text


@each_dialect
def test_answers_fit_a_schema(server: Llmock, dialect: str) -> None:
    """``output=`` would not reach the provider, or its answer not become the object."""
    if dialect == "anthropic":  # it looks for the schema where the API's beta had it, so it has to be told the answer
        server.script({"type": "reply", "times": 2, "text": '{"name": "x", "population": 1, "twins": []}'})
    call = Call("Name a city.", model=f"{dialect}/m-1", output=City, max_tokens=200)

    async def work(client: Client) -> tuple[Any, tuple[list[str], Any]]:
        return await asyncio.gather(client.call(call), streamed(client, call))

    whole, (_, reply) = server.use(work)
    assert isinstance(whole.output, City)
    assert whole.output == reply.output


def test_embeddings_come_in_order_through_faults(server: Llmock) -> None:
    """Vectors would be stored with the wrong texts, or lost to a passing fault."""
    texts = [f"text {number}" for number in range(400)]
    for fault in ("limited", "failed", "overloaded"):
        server.script({**FAULTS[fault], "match": {"path": "/v1/embeddings"}})

    async def work(client: Client) -> tuple[list[Result[Any]], list[Result[Any]]]:
        model = "openai/text-embedding-3-small"
        return await client.embed(texts, model=model), await client.embed(texts[300:320], model=model)

    results, few = server.use(work)
    assert [result.item for result in results] == texts
    assert all(result.ok for result in results)
    assert [result.output for result in results[300:320]] == [result.output for result in few]
    assert len({bytes(result.output) for result in results}) == len(texts)
    assert server.report().returncode == 0


@each_dialect
@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, InvalidRequest), (401, AuthenticationError), (403, AuthenticationError), (404, InvalidRequest),
     (413, InvalidRequest), (422, InvalidRequest)],
)  # fmt: skip
def test_what_cannot_succeed_is_named_and_not_repeated(
    server: Llmock, dialect: str, status: int, kind: type[CallError]
) -> None:
    """A hopeless call would be paid for again and again, or its error say nothing."""
    server.script({"type": "fail", "status": status})
    result = server.use(lambda client: client.result(Call("Hello.", model=f"{dialect}/m-1", max_tokens=9)))
    assert type(result.error) is kind
    assert (result.attempts, result.error.status) == (1, status)
    assert server.verdict()["findings"] == []


def test_every_broken_answer_is_made_good(server: Llmock) -> None:
    """A rate limit, an error, a cut, a dropped line or a silence would lose calls, or half answers pass for whole.

    Half of these calls are broken once, in every way and every wire format. (Of all of them, it would be right to give
    up: retries are capped as a share of the traffic.)
    """
    broken_in(server, [fault for fault in FAULTS if fault != "garbled"])
    fault_of = {request["seq"]: request["fault"] for request in server.requests()}
    for finding in server.verdict()["findings"]:  # none, but where the machine stood still, which breaks a call again
        assert finding["code"] == "no_backoff", finding
        assert None in [fault_of[failed] for failed in finding["requests"][:-1]], finding


def test_garbled_answers_are_made_good(server: Llmock) -> None:
    """An event that is no JSON would be left out of the answer in silence, or end the call.

    Who hangs up on it may be back before llmock has noticed, and is then taken for another caller: its verdict on this
    fault is asked for where nobody hurries, below.
    """
    broken_in(server, ["garbled"])
    assert server.verdict()["errors"] == 0


def broken_in(server: Llmock, faults: list[str]) -> None:
    """Ask ten calls for each fault and wire format. The fault breaks five of them once; all are answered in full.

    Each broken call has a model of its own. Else the faults would meet whoever comes first, a call that is repeated as
    well as a new one; after two faults it waits twice, and with full jitter the second wait may be the shorter one.
    """
    models: list[str] = []
    for dialect in PATHS:
        for fault in faults:
            whole, broken = f"{fault}-{dialect}", [f"{fault}-{dialect}-{number}" for number in range(5)]
            for name in broken:
                server.script({**FAULTS[fault], "match": {"model": name}})
            models += [f"{dialect}/{name}" for name in broken + [whole] * 5]
    calls = [Call(f"Number {i}: {WORDS}", model=model, max_tokens=200) for i, model in enumerate(models)]
    limits = Limits(rpm=60_000, concurrency=100)  # all at once would keep a busy machine silent for too long
    results = server.use(lambda client: client.gather(calls), limits=limits, **GAPS)
    assert [str(result.error) for result in results if not result.ok] == []
    assert all(WORDS in (result.text or "") for result in results)
    assert sum(result.attempts for result in results) >= len(calls) * 3 // 2
    assert fetch(f"{server.url}/_llmock/scenario")["pending"] == []


def test_a_reader_of_a_stream_hears_of_a_cut(server: Llmock) -> None:
    """Half an answer that was shown as it came would pass for a whole one; and asking again would not help."""
    faults = ("truncated", "dropped", "garbled", "stalled")
    for dialect in PATHS:
        for fault in faults:  # one after the other; some text has come by then in every wire format
            server.script({**FAULTS[fault], "after_chunks": 6, "match": {"model": f"read-{dialect}"}})

    async def read(client: Client, dialect: str) -> tuple[list[type[Exception]], str]:
        call = Call(f"Say: {WORDS}", model=f"{dialect}/read-{dialect}", max_tokens=200)
        errors: list[type[Exception]] = []
        for pause in (0.1, 0.3, 0.6, 1.2):  # a caller with manners
            with pytest.raises(CallError) as caught:
                await streamed(client, call)
            errors.append(type(caught.value))
            await asyncio.sleep(pause)
        _, reply = await streamed(client, call)
        return errors, reply.text

    async def work(client: Client) -> list[tuple[list[type[Exception]], str]]:
        return await asyncio.gather(*(read(client, dialect) for dialect in PATHS))

    for errors, text in server.use(work, between_bytes=GAPS["between_bytes"]):
        assert errors == [ProtocolError, ProtocolError, ProtocolError, AttemptTimeout]
        assert WORDS in text
    assert server.verdict()["findings"] == []


def test_faults_at_random(tmp_path: Path) -> None:
    """Under a mixture of faults some call would end without an answer and without a named error, or never.

    Two faults in a row may meet one call, and with full jitter the second wait may be the shorter one, or too short for
    llmock to notice who left: what it then warns of is allowed here, what it calls an error is not.
    """
    # Three 500s in a row are taken for the call's own fault, so they are few.
    errors = {"429": 0.02, "500": 0.04, "503": 0.04}
    streams = {"truncate": 0.05, "disconnect": 0.05, "malformed": 0.05, "stall": 0.05}
    options = [f"--error-rate={status}={rate}" for status, rate in errors.items()]
    options += [f"--stream-fault={kind}={rate}" for kind, rate in streams.items()]
    calls = [Call(f"Number {i}: {WORDS}", model=f"{list(PATHS)[i % 4]}/m-1", max_tokens=200) for i in range(120)]
    for server in started(
        tmp_path / "log", *options, "--response-style=echo", "--stream-chunk-delay-ms=50", "--stream-stall-seconds=30"
    ):
        results = server.use(lambda client: client.gather(calls), retries=8, **GAPS)
        requests = server.requests()
        verdict = server.verdict()
    faults = Counter((request["fault"] or "").partition("@")[0] for request in requests)
    assert len(faults) > 4, faults  # the kinds that chance has drawn
    assert len(results) == len(calls)
    for result in results:
        assert result.ok or isinstance(result.error, TransportError | ServerError | Overloaded), result.error
        assert not result.ok or WORDS in (result.text or "")
    assert sum(result.ok for result in results) >= 0.99 * len(calls)
    assert verdict["errors"] == 0, verdict["findings"]
    assert {finding["code"] for finding in verdict["findings"]} <= {"no_backoff", "malformed_chunk_ignored"}
