"""Requests of other programs' HTTP clients: answered by a flatout client, as its own calls."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import httpx2
import pytest

import flatout
from flatout import BudgetExceeded, Client, ConfigError, DeadlineExceeded, Limits
from flatout.sdk._requests import NO_KEY
from flatout.testing import Faults, ProviderModel, ProviderSettings, SimulatedTransport, run_virtual

CHAT = "https://api.openai.com/v1/chat/completions"
KEY = "sk-of-the-program-1234567890"
HEADERS = {"authorization": f"Bearer {KEY}", "x-stainless-lang": "python"}


def asks(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-5-mini", "messages": [{"role": "user", "content": text}], **more}


class World:
    """A simulated provider, and a program with an HTTP client over a flatout client."""

    def __init__(self, settings: ProviderSettings | None = None, *, legacy: bool = False, **options: Any) -> None:
        self.provider = ProviderModel(settings or ProviderSettings(latency=1.0), seed=1)
        self.transport = SimulatedTransport(self.provider)
        self.legacy = legacy
        self.client = Client(transport=self.transport, **options)

    def run(self, program: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        async def main() -> Any:
            async with self.client as client:
                http: Any = flatout.sdk.http_client(client, legacy=self.legacy)  # type: ignore[call-overload]
                async with http:
                    return await program(http)

        return run_virtual(main())

    @property
    def in_flight(self) -> int:
        return sum(limit.queue.in_flight for limit in self.client._engine.stack.limiters.limits.values())


async def ask(http: Any, text: str, **more: Any) -> Any:
    return await http.post(CHAT, headers=HEADERS, json=asks(text, **more))


@pytest.mark.parametrize("legacy", [False, True])
def test_calls_are_paced_and_retried(legacy: bool):
    """A program beneath which flatout stands would lose calls, or be refused for its speed."""
    world = World(
        ProviderSettings(rpm=600, latency=1.0, faults=Faults(server_error=0.05, reset=0.02)),
        legacy=legacy,
        limits=Limits(rpm=600),
    )

    async def program(http: Any) -> list[Any]:
        return await asyncio.gather(*(ask(http, f"question {n}") for n in range(200)))

    answers = world.run(program)
    assert {answer.status_code for answer in answers} == {200}
    assert all(answer.json()["choices"][0]["message"]["content"] for answer in answers)
    assert world.provider.stats()["refused"] == 0


def test_the_programs_own_request_is_sent():
    """A program's own key, headers or parameters would be lost on the way."""
    world = World()
    sent: list[Any] = []
    send = world.transport.send

    async def noted(request: Any) -> Any:
        sent.append(request)
        return await send(request)

    world.transport.send = noted  # type: ignore[method-assign]
    answer = world.run(lambda http: ask(http, "Hello?", logit_bias={"5": 1}))
    [request] = sent
    assert answer.status_code == 200
    assert request.url == CHAT
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["x-stainless-lang"] == "python"
    assert json.loads(request.body) == asks("Hello?", logit_bias={"5": 1})
    assert KEY not in repr(request)


def test_a_key_has_its_own_limits():
    """Two keys would share one limit, or the program's key and flatout's own have two."""
    world = World(ProviderSettings(latency=1.0), limits=Limits(rpm=600))

    async def program(http: Any) -> int:
        own = world.client
        await own.call("Hello?", model="openai/gpt-5-mini")
        await ask(http, "Hello?")
        same = len(own._engine.stack.limiters.limits)
        await http.post(CHAT, headers={"authorization": "Bearer sk-another"}, json=asks("Hello?"))
        assert len(own._engine.stack.limiters.limits) == same + 1
        return same

    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("OPENAI_API_KEY", KEY)
        assert world.run(program) == 1


@pytest.mark.parametrize("legacy", [False, True])
def test_streams_arrive_piece_by_piece(legacy: bool):
    """A program would wait for the whole answer before it sees its first word."""
    world = World(ProviderSettings(latency=10.0, first_token=1.0, output_tokens=200), legacy=legacy)

    async def program(http: Any) -> tuple[list[float], bytes]:
        loop, times, body = asyncio.get_running_loop(), [], b""
        async with http.stream("POST", CHAT, headers=HEADERS, json=asks("Hello?", stream=True)) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            async for piece in answer.aiter_raw():
                times.append(loop.time())
                body += piece
        return times, body

    times, body = world.run(program)
    assert body.rstrip().endswith(b"data: [DONE]")
    assert times[-1] - times[0] > 1.0
    assert world.in_flight == 0


def test_leaving_a_stream_ends_its_call():
    """A program that has read enough would still pay for, and hold a place for, the rest."""
    world = World(ProviderSettings(latency=20.0, first_token=1.0, output_tokens=500))

    async def program(http: Any) -> int:
        async with http.stream("POST", CHAT, headers=HEADERS, json=asks("Hello?", stream=True)) as answer:
            async for _ in answer.aiter_raw():
                break
        return world.in_flight

    assert world.run(program) == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_cancelled_call_is_gone(stream: bool):
    """A program that gives up a call would still hold its place."""
    world = World(ProviderSettings(latency=20.0, first_token=10.0))

    async def program(http: Any) -> int:
        task = asyncio.create_task(ask(http, "Hello?", stream=stream))
        await asyncio.sleep(0.5)
        assert world.in_flight == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return world.in_flight

    assert world.run(program) == 0


def test_a_timeout_is_one_attempts():
    """A call would fail because it waited for its turn, or wait for ever for an answer that does not come."""
    world = World(ProviderSettings(latency=1.0, rpm=60, burst=1), limits=Limits(rpm=60))

    async def program(http: Any) -> list[Any]:
        return await asyncio.gather(
            *(http.post(CHAT, headers=HEADERS, json=asks(str(n)), timeout=10) for n in range(30))
        )

    assert {answer.status_code for answer in world.run(program)} == {200}

    slow = World(ProviderSettings(latency=60.0), retries=0)

    async def waits(http: Any) -> float:
        began = asyncio.get_running_loop().time()
        with pytest.raises(httpx2.ReadTimeout) as caught:
            await http.post(CHAT, headers=HEADERS, json=asks("Hello?"), timeout=2)
        assert isinstance(caught.value.__cause__, flatout.AttemptTimeout)
        return asyncio.get_running_loop().time() - began

    assert slow.run(waits) == pytest.approx(2, abs=0.1)


def test_the_clients_timeout_is_the_usual_one():
    """A client's timeout would not hold for the programs above it."""
    world = World(timeout=7.0)

    async def program(http: Any) -> Any:
        return http.timeout

    assert world.run(program) == httpx2.Timeout(7.0)


def test_a_refusal_is_the_providers_own():
    """A program could not see what its provider says is wrong, or would retry it beside flatout."""
    answer = World().run(lambda http: http.post(CHAT, headers=HEADERS, json={**asks("x"), "messages": "none"}))
    assert answer.status_code == 400
    assert "error" in answer.json()
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("legacy", [False, True])
def test_what_flatout_holds_back_is_flatouts_own_error(legacy: bool):
    """A program could not tell a used-up budget from a broken connection."""
    world = World(budget=0.000001, legacy=legacy)

    async def program(http: Any) -> None:
        with pytest.raises(BudgetExceeded) as caught:
            await ask(http, "Hello?", max_completion_tokens=1_000)
        assert isinstance(caught.value, (httpx if legacy else httpx2).TransportError)  # some SDKs handle no others
        again = pickle.loads(pickle.dumps(caught.value))
        assert (type(again), str(again)) == (BudgetExceeded, str(caught.value))

    world.run(program)


def test_a_deadline_is_flatouts_own_error():
    """A program could not tell an overlong wait in the queue from a slow answer."""
    world = World(ProviderSettings(latency=1.0), limits=Limits(rpm=1), deadline=30)

    async def program(http: Any) -> None:
        first, *others = await asyncio.gather(*(ask(http, str(n)) for n in range(5)), return_exceptions=True)
        assert first.status_code == 200
        assert all(isinstance(other, DeadlineExceeded) for other in others)

    world.run(program)


@pytest.mark.parametrize(("legacy", "package"), [(False, httpx2), (True, httpx)])
def test_a_lost_connection_is_an_error_of_the_programs_client(legacy: bool, package: Any):
    """A program catches its own HTTP client's errors, and would not know these."""
    world = World(ProviderSettings(faults=Faults(reset=1.0)), legacy=legacy, retries=0)

    async def program(http: Any) -> None:
        with pytest.raises(package.TransportError) as caught:
            await ask(http, "Hello?")
        assert isinstance(caught.value.__cause__, flatout.TransportError)
        assert caught.value.request.url == CHAT

    world.run(program)


def test_a_stream_that_breaks_off_is_an_error():
    """A program would take half an answer for the whole."""
    world = World(ProviderSettings(latency=10.0, first_token=1.0, output_tokens=400, faults=Faults(truncated=1.0)))

    async def program(http: Any) -> None:
        with pytest.raises(httpx2.TransportError):
            await ask(http, "Hello?", stream=True)

    world.run(program)


def test_a_stream_that_passes_its_deadline_is_an_error():
    """A program would take half an answer for the whole."""
    world = World(ProviderSettings(latency=60.0, first_token=1.0, output_tokens=400), deadline=10)

    async def program(http: Any) -> None:
        with pytest.raises(DeadlineExceeded):
            await ask(http, "Hello?", stream=True)

    world.run(program)


@pytest.mark.parametrize(
    ("method", "url", "body"),
    [
        ("GET", "https://api.openai.com/v1/models", b""),
        ("POST", CHAT, b"no JSON"),
        ("POST", "https://x.example/", b"x"),
    ],
)
def test_what_is_no_call_passes_as_it_is(method: str, url: str, body: bytes):
    """An upload or a list of models would be refused, or wait behind calls."""
    world = World(limits=Limits(rpm=1))
    sent: list[Any] = []
    stream = world.transport.stream

    def noted(request: Any) -> Any:
        sent.append(request)
        return stream(request)

    world.transport.stream = noted  # type: ignore[method-assign]

    async def program(http: Any) -> list[Any]:
        return [await http.request(method, url, headers=HEADERS, content=body) for _ in range(3)]

    answers = world.run(program)
    assert len(sent) == 3
    assert (sent[0].method, sent[0].url, sent[0].body) == (method, url, body)
    assert sent[0].headers["authorization"] == f"Bearer {KEY}"
    assert world.client._engine.stack.limiters.limits == {}
    assert all(isinstance(answer.status_code, int) for answer in answers)


@pytest.mark.parametrize("header", [("authorization", f"Bearer {NO_KEY}"), ("x-api-key", NO_KEY)])
@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1/chat/completions", "http://127.0.0.1:9/v1/files"])
def test_the_key_that_stands_for_none_is_not_sent(header: tuple[str, str], url: str):
    """A server of the user's own that needs no key would get a wrong one, and may refuse it."""
    world = World(base_url="http://127.0.0.1:9/v1", model="any")
    sent: list[Any] = []
    send, stream = world.transport.send, world.transport.stream
    world.transport.send = lambda request: sent.append(request) or send(request)  # type: ignore[method-assign, func-returns-value]
    world.transport.stream = lambda request: sent.append(request) or stream(request)  # type: ignore[method-assign, func-returns-value]

    async def program(http: Any) -> Any:
        return await http.post(url, headers=dict([header]), json=asks("Hello?"))

    world.run(program)
    assert len(sent) == 1
    assert NO_KEY not in str(dict(sent[0].headers))
    assert header[0] not in sent[0].headers


def test_a_route_of_the_users_is_taken_by_its_name():
    """A program could not use the user's own routes."""
    world = World(config={"routes": {"fast": {"targets": ["anthropic/claude-sonnet-4-5", "openai/gpt-5-mini"]}}})

    async def program(http: Any) -> Any:
        return await http.post(CHAT, headers=HEADERS, json={**asks("Hello?"), "model": "fast"})

    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("OPENAI_API_KEY", KEY)
        patched.setenv("ANTHROPIC_API_KEY", "sk-ant-1234567890")
        answer = world.run(program).json()
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"]


def test_a_closed_client_answers_nothing():
    """A program would wait for ever for a client that is gone."""
    world = World()

    async def main() -> None:
        async with world.client as client:
            http = flatout.sdk.http_client(client)
        with pytest.raises(ConfigError, match="closed"):
            await ask(http, "Hello?")
        await http.aclose()

    run_virtual(main())
