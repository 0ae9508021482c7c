"""Against llama.cpp's own server and the real embedded model: every wire format that it speaks, and its beginnings."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel

from flatout import Call, Client, ConnectError, Overloaded, Result, ServerError
from flatout.events import AttemptFailed
from flatout.local import LocalServer, pull
from tests.support.command_samples import PATIENCE
from tests.support.ports import free_port

pytest.importorskip("xllamacpp", reason="needs the extra 'local'")

DoneT = TypeVar("DoneT")

DIALECTS = {"llamacpp": "length", "openai-responses": "stop", "anthropic": "length"}
"""What each answers where ``max_tokens`` ended it; its Responses do not tell."""

each_dialect = pytest.mark.parametrize("dialect", DIALECTS)

SERVE = """
import sys, threading, xllamacpp
model, port, embeddings = sys.argv[1:]
params = xllamacpp.CommonParams()
params.model.path, params.port, params.hostnames = model, int(port), ["127.0.0.1"]
params.n_parallel, params.n_ctx, params.n_threads_http, params.verbosity = 4, 8192, 32, 1
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.cache_ram_mib, params.fit_params, params.ui, params.offline = 0, False, False, True
params.check_tensors = True  # it takes a moment longer to load
if embeddings == "yes":
    params.embedding, params.n_batch, params.n_ubatch = True, 2048, 2048
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
server = xllamacpp.Server(params)
threading.Event().wait()
"""


class Capital(BaseModel):
    city: str
    country: str


@pytest.fixture(scope="module")
def model() -> Path:
    return pull()


@pytest.fixture(scope="module")
def url(model: Path) -> Iterator[str]:
    with LocalServer(model=model) as server:
        yield server.base_url


@contextmanager
def listening(model: Path, embeddings: str) -> Iterator[tuple[str, int]]:
    """A server that has just begun to listen, and whose model is still to be loaded. Gives its address and process."""
    port = free_port()
    with subprocess.Popen([sys.executable, "-c", SERVE, str(model), str(port), embeddings]) as process:
        try:
            deadline = time.monotonic() + PATIENCE
            while process.poll() is None and time.monotonic() < deadline:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
            yield f"http://127.0.0.1:{port}/v1", process.pid
        finally:
            process.kill()


def use(url: str, work: Callable[[Client], Awaitable[DoneT]], **options: Any) -> DoneT:
    endpoints = {name: {"base_url": url, "system": "You are a helpful assistant."} for name in DIALECTS}

    async def main() -> DoneT:
        async with Client(config={"endpoints": endpoints}, deadline=PATIENCE, **options) as client:
            return await work(client)

    return asyncio.run(main())


@each_dialect
def test_an_answer_is_the_same_whole_and_in_pieces(url: str, dialect: str) -> None:
    """A local model could not be used by this wire format, or would answer otherwise in pieces."""
    call = Call("Say hello.", model=f"{dialect}/any", max_tokens=16, temperature=0)

    async def work(client: Client) -> tuple[Any, list[str], Any]:
        whole = await client.call(call)
        async with client.stream(call) as stream:
            texts = [text async for text in stream]
        return whole, texts, stream.reply

    whole, texts, reply = use(url, work)
    assert any(letter.isalpha() for letter in whole.text)
    assert len(texts) > 2
    assert "".join(texts) == reply.text == whole.text
    assert whole.finish_reason == reply.finish_reason == DIALECTS[dialect]
    assert whole.usage.output_tokens == reply.usage.output_tokens == 16
    assert whole.usage.input_tokens == reply.usage.input_tokens


@each_dialect
def test_a_conversation_goes_on(url: str, dialect: str) -> None:
    """A second turn, with the model's own words in it, would be refused."""
    messages = [
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Hello, Ada!"},
        {"role": "user", "content": "What is my name?"},
    ]
    call = Call(messages=messages, model=f"{dialect}/any", max_tokens=16, temperature=0)
    assert use(url, lambda client: client.call(call)).text


@pytest.mark.parametrize("gaps", [{}, {"first_byte": 30, "between_bytes": 10}], ids=["whole", "in-pieces"])
def test_answers_fit_a_schema(url: str, gaps: dict[str, float]) -> None:
    """A small model would answer with anything but the object that was asked for: the server has to hold it to that."""
    countries = ("France", "Italy", "Spain")
    calls = [
        Call(f"What is the capital of {country}?", model="llamacpp/any", output=Capital, max_tokens=80, temperature=0)
        for country in countries
    ]
    results = use(url, lambda client: client.gather(calls), **gaps)
    assert [type(result.output) for result in results] == [Capital] * len(countries)


@each_dialect
def test_many_calls_at_once(url: str, dialect: str) -> None:
    """More calls than the server has slots would be lost or mixed up."""
    calls = [Call(f"Write the number {i}.", model=f"{dialect}/any", max_tokens=4, temperature=0) for i in range(24)]
    results = use(url, lambda client: client.gather(calls), first_byte=30, between_bytes=10)
    assert [result.error for result in results] == [None] * len(calls)
    assert all(result.text for result in results)


def test_a_call_waits_for_the_model_to_load(model: Path) -> None:
    """A run that starts together with its server would fail on the 503 that this answers while it loads."""
    failed: list[AttemptFailed] = []

    async def work(client: Client, server: int) -> list[Result[Any]]:
        client.events.subscribe(lambda event: failed.append(event) if isinstance(event, AttemptFailed) else None)
        calls = [Call(f"Say {word}.", model="llamacpp/any", max_tokens=8) for word in ("yes", "no", "maybe")]
        asking = asyncio.ensure_future(client.gather(calls))
        while not client.status() or client.status()[0].in_flight < len(calls):  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0.01)
        os.kill(server, signal.SIGCONT)
        return await asking

    for _ in range(5):  # until we are there before the model is
        with listening(model, "no") as (url, server):
            os.kill(server, signal.SIGSTOP)  # it loads nothing before it is asked
            results = use(url, partial(work, server=server))
        assert [result.error for result in results] == [None] * 3
        if any(event.error.status == 503 for event in failed):
            break
    assert failed
    assert {type(event.error) for event in failed} <= {Overloaded, ConnectError}
    assert any(event.error.status == 503 for event in failed)


def test_embeddings_come_in_order(model: Path) -> None:
    """Vectors would be stored with the wrong texts."""
    texts = [f"{animal} number {number}" for number in range(20) for animal in ("dog", "cat", "whale")]

    async def work(client: Client) -> tuple[list[Result[Any]], list[Result[Any]]]:
        return await client.embed(texts, model="llamacpp/any"), await client.embed(texts[::-1], model="llamacpp/any")

    with listening(model, "yes") as (url, _):
        results, backwards = use(url, work)
    assert [result.item for result in results] == texts
    assert [len(result.output or ()) for result in results] == [576] * len(texts)
    for result, again in zip(results, reversed(backwards), strict=True):
        assert list(result.output) == pytest.approx(list(again.output), abs=1e-3)
    assert abs(results[0].output[0] - results[2].output[0]) > 1e-6


def test_a_server_without_embeddings_says_so(url: str) -> None:
    """A user would not learn which option the server lacks, or wait for retries that cannot help."""
    results = use(url, lambda client: client.embed(["a"], model="llamacpp/any"))
    assert isinstance(results[0].error, ServerError)
    assert "--embeddings" in str(results[0].error)
