"""Synchronous programs: their threads wait for a flatout client that works in an event loop elsewhere."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

import flatout
from flatout import BudgetExceeded, Client, ConfigError, Limits
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport

CHAT = "https://api.openai.com/v1/chat/completions"
KEY = {"authorization": "Bearer sk-of-the-program-1234567890"}


def asks(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-5-mini", "messages": [{"role": "user", "content": text}], **more}


def made(settings: ProviderSettings | None = None, **options: Any) -> Client:
    provider = ProviderModel(settings or ProviderSettings(latency=0.005), seed=1)
    return Client(transport=SimulatedTransport(provider), **options)


def in_flight(client: Client) -> int:
    return sum(limit.queue.in_flight for limit in client._engine.stack.limiters.limits.values())


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "flatout.sdk"]


@pytest.mark.parametrize("legacy", [False, True])
def test_many_threads_ask_at_once(legacy: bool):
    """A synchronous program would lose calls, or mix them up."""
    client = made(limits=Limits(rpm=600_000))
    http: Any = flatout.sdk.http_client(client, sync=True, legacy=legacy)  # type: ignore[call-overload]

    def ask(number: int) -> str:
        answer = http.post(CHAT, headers=KEY, json=asks(str(number)))
        said: str = answer.json()["choices"][0]["message"]["content"]
        return said

    with http, ThreadPoolExecutor(16) as threads:
        once, again = (list(threads.map(ask, range(100))) for _ in range(2))
        assert once == again
        assert len(set(once)) > 90
    assert client._engine.closed


@pytest.mark.parametrize("leaves", [False, True])
def test_a_stream_arrives_in_another_thread(leaves: bool):
    """A synchronous program would wait for the whole answer; or one that has read enough pay for the rest."""
    client = made(ProviderSettings(latency=0.1, first_token=0.005, output_tokens=100))
    with flatout.sdk.http_client(client, sync=True) as http:
        with http.stream("POST", CHAT, headers=KEY, json=asks("Hello?", stream=True)) as answer:
            body = b""
            for piece in answer.iter_raw():
                body += piece
                if leaves:
                    break
        assert leaves or body.rstrip().endswith(b"data: [DONE]")
        http.post(CHAT, headers=KEY, json=asks("One more?"))
        assert in_flight(client) == 0


def test_errors_come_through():
    """A program could not tell why there is no answer."""
    with flatout.sdk.http_client(made(budget=0.000001), sync=True) as http, pytest.raises(BudgetExceeded):
        http.post(CHAT, headers=KEY, json=asks("Hello?", max_completion_tokens=1_000))
    slow = made(ProviderSettings(latency=60.0), retries=0)
    with flatout.sdk.http_client(slow, sync=True) as http, pytest.raises(httpx2.ReadTimeout):
        http.post(CHAT, headers=KEY, json=asks("Hello?"), timeout=0.02)


def test_an_interrupt_cancels_the_call():
    """Ctrl-C would leave the call to be paid for, or not end the wait at all."""
    client = made(ProviderSettings(latency=60.0))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests before this one have left
    try:
        with flatout.sdk.http_client(client, sync=True) as http:
            timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                http.post(CHAT, headers=KEY, json=asks("Hello?"))
            timer.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert in_flight(client) == 0


def test_an_interrupt_is_noticed_in_a_program_with_an_event_loop():
    """In a notebook or under ``asyncio.run``, Ctrl-C would be noticed when the answer is there."""
    client, answers = made(ProviderSettings(latency=60.0)), []

    async def main(http):
        threading.Timer(0.1, asyncio.current_task().cancel).start()  # as asyncio's handler of the signal does
        answers.append(http.post(CHAT, headers=KEY, json=asks("Hello?")))

    with flatout.sdk.http_client(client, sync=True) as http, pytest.raises(asyncio.CancelledError):
        asyncio.run(main(http))
    assert not answers
    assert in_flight(client) == 0


def test_the_last_one_closes_the_client():
    """Two SDKs over one client: closing the first would end the second."""
    client = made()
    with flatout.sdk.http_client(client, sync=True) as one:
        with flatout.sdk.http_client(client, sync=True) as other:
            assert other.post(CHAT, headers=KEY, json=asks("Hello?")).status_code == 200
        assert one.post(CHAT, headers=KEY, json=asks("Hello?")).status_code == 200
    assert client._engine.closed
    late = flatout.sdk.http_client(client, sync=True)
    with pytest.raises(ConfigError, match="closed"):
        late.post(CHAT, headers=KEY, json=asks("Hello?"))


def test_it_works_in_the_loop_of_an_open_client(tmp_path: Path):
    """Threads of a durable function would be paid for again, and have limits of their own."""
    client = made()

    async def main(client: Client, http: httpx2.Client) -> list[Any]:
        async def function(text: str, _: Client) -> str:
            answer = await asyncio.to_thread(http.post, CHAT, headers=KEY, json=asks(text))
            return answer.text

        return [result async for result in client.map(function, ["a", "b"], store=tmp_path / "run.flatout")]

    async def whole() -> None:
        async with client:
            with flatout.sdk.http_client(client, sync=True) as http:
                results = await main(client, http)
                with pytest.raises(ConfigError, match="event loop"):
                    http.post(CHAT, headers=KEY, json=asks("Hello?"))
            assert [result.attempts for result in results] == [1, 1]
            assert not client._engine.closed

    asyncio.run(whole())


def test_a_fork_is_told():
    """A forked process would wait for ever for a thread that it does not have."""
    with flatout.sdk.http_client(made(), sync=True) as http:
        http.post(CHAT, headers=KEY, json=asks("Hello?"))
        with warnings.catch_warnings():  # Python 3.12 and later warn of a fork beside threads
            warnings.simplefilter("ignore")
            child = os.fork()
        if not child:
            try:
                http.post(CHAT, headers=KEY, json=asks("Hello?"))
            except ConfigError as error:
                os._exit(7 if "fork" in str(error) else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
