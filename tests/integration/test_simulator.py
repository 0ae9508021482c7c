"""The simulated provider over real HTTP, seen by a bare HTTP client."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from flatout.errors import CallError, ProtocolError
from flatout.layer import Response
from flatout.providers import codec_for
from flatout.providers.formats.embeddings import Batch, embedding_codec
from flatout.testing import (
    BatchFaults,
    BatchSettings,
    Faults,
    ProviderModel,
    ProviderSettings,
    SimulatedServer,
    digest_of,
    serve,
)
from flatout.values import Call, Endpoint, Reply, Target
from tests.support.raw_server import LONG

FAST = {"latency": 0.0, "error_latency": 0.0}
Scenario = Callable[[SimulatedServer, aiohttp.ClientSession], Awaitable[Any]]


def run(scenario: Scenario, *, keepalive: float = 75.0, **settings: Any) -> Any:
    async def main() -> Any:
        model = ProviderModel(ProviderSettings(**(FAST | settings)))
        async with await serve(model, keepalive=keepalive) as server, aiohttp.ClientSession() as session:
            async with asyncio.timeout(LONG):
                return await scenario(server, session)

    return asyncio.run(main())


def post(server: SimulatedServer, session: aiohttp.ClientSession, prompt: str = "hello", **headers: str) -> Any:
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}]}
    return session.post(f"{server.url}/chat/completions", json=body, headers=headers)


def test_answers_models_stats_and_reset():
    """Nothing could be run against the simulator."""

    async def scenario(server: SimulatedServer, session: aiohttp.ClientSession) -> None:
        assert server.url == f"http://127.0.0.1:{server.port}/v1"
        for prompt in ("one", "two", "two"):
            async with post(server, session, prompt) as answer:
                assert answer.status == 200
                assert answer.headers["x-ratelimit-limit-requests"] == "600"
                text = (await answer.json())["choices"][0]["message"]["content"]
                assert digest_of(prompt) in text
        async with session.get(f"{server.url}/models") as answer:
            assert [row["id"] for row in (await answer.json())["data"]] == ["m"]
        root = server.url.removesuffix("/v1")
        async with session.get(f"{root}/__stats") as answer:
            stats = await answer.json()
            assert (stats["received"], stats["answered"], stats["duplicates"], stats["in_flight"]) == (3, 3, 1, 0)
            assert stats["first_at"] > 0  # scheduled changes count from the server's start
        async with session.post(f"{root}/__reset") as answer:
            assert answer.status == 204
        async with session.get(f"{root}/__stats") as answer:
            assert (await answer.json())["received"] == 0
        async with session.get(f"{root}/elsewhere") as answer:
            assert answer.status == 404

    run(scenario, rpm=600, headers="openai", models=("m",))


def test_a_reset_connection_closes_without_a_byte():
    """The fault would be another one than in memory."""

    async def scenario(server: SimulatedServer, session: aiohttp.ClientSession) -> None:
        with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
            async with post(server, session):
                pass

    run(scenario, faults=Faults(reset=1.0))


def test_an_outage_can_close_every_connection():
    """A dead server could not be played."""

    async def scenario(server: SimulatedServer, session: aiohttp.ClientSession) -> None:
        with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
            async with post(server, session):
                pass

    run(scenario, outage=(0, 60), outage_as="refused")


def test_a_truncated_answer_breaks_off_in_its_body():
    """The fault would be another one than in memory."""

    async def scenario(server: SimulatedServer, session: aiohttp.ClientSession) -> None:
        for _ in range(3):
            async with post(server, session) as answer:
                assert answer.status == 200
                assert answer.content_length is not None
                with pytest.raises(aiohttp.ClientPayloadError):
                    await answer.read()

    run(scenario, faults=Faults(truncated=1.0))


def test_a_malformed_answer_is_whole_and_no_json():
    """The fault would be another one than in memory."""

    async def scenario(server: SimulatedServer, session: aiohttp.ClientSession) -> None:
        async with post(server, session) as answer:
            assert answer.status == 200
            body = await answer.read()
            assert len(body) == answer.content_length
            with pytest.raises(json.JSONDecodeError):
                json.loads(body)

    run(scenario, faults=Faults(malformed=1.0))


def test_a_hanging_request_ends_with_its_client():
    """The slots of the simulator would fill up with requests that nobody waits for."""

    async def scenario(server: SimulatedServer, session: aiohttp.ClientSession) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(post(server, session), 0.1)
        while server.model.stats()["in_flight"]:  # noqa: ASYNC110 -- the server notices on its own; nothing signals it
            await asyncio.sleep(0.01)
        assert server.model.stats()["serving"] == 0

    run(scenario, slots=1, faults=Faults(hang=1.0))


def test_a_hanging_request_does_not_hold_up_the_shutdown():
    """The simulator could not be stopped."""

    async def scenario(server: SimulatedServer, session: aiohttp.ClientSession) -> None:
        hanging = asyncio.ensure_future(post(server, session).__aenter__())
        while not server.model.stats()["in_flight"]:  # noqa: ASYNC110 -- the request arrives on its own
            await asyncio.sleep(0.01)
        await server.close()
        with pytest.raises(aiohttp.ClientError):
            await hanging

    run(scenario, faults=Faults(hang=1.0))


async def stream(server: SimulatedServer, session: aiohttp.ClientSession, texts: list[str]) -> Reply:
    """Ask as the library asks, and decode the stream as it decodes; its texts go to a list as they come."""
    codec = codec_for(Target(Endpoint(name="simulated", base_url=server.url), "m"))
    call = Call("hello")
    request = codec.encode(call, stream=True)
    async with session.post(request.url, data=request.body, headers=request.headers) as answer:
        if answer.status != 200:
            return codec.decode(call, Response(answer.status, answer.headers, await answer.read()))
        assert answer.headers["content-type"] == "text/event-stream"
        decoder = codec.stream_decoder(call, answer.headers)
        async for data in answer.content.iter_any():
            texts.extend(decoder.feed(data))
    return decoder.reply()


def test_a_stream_is_what_the_library_decodes():
    """Streaming could not be tried without a key."""

    async def scenario(server: SimulatedServer, session: aiohttp.ClientSession) -> None:
        texts: list[str] = []
        reply = await stream(server, session, texts)
        assert "".join(texts) == reply.text
        assert reply.text.startswith(f"digest:{digest_of('hello')}")
        assert len(texts) > 5
        assert reply.finish_reason == "stop"
        assert reply.usage.output_tokens
        assert reply.request_id
        stats = server.model.stats()
        assert (stats["answered"], stats["in_flight"]) == (1, 0)
        assert stats["output_tokens"] == reply.usage.output_tokens

    run(scenario, latency=0.05)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"faults": Faults(truncated=1.0)}, ProtocolError),
        ({"faults": Faults(malformed=1.0)}, ProtocolError),
        ({"faults": Faults(late_error=1.0)}, CallError),
        ({"faults": Faults(overloaded=1.0)}, CallError),
    ],
)
def test_a_broken_stream_is_found_out(settings, error):
    """The fault would be another one than in memory."""

    async def scenario(server: SimulatedServer, session: aiohttp.ClientSession) -> None:
        texts: list[str] = []
        with pytest.raises(error):
            await stream(server, session, texts)
        assert bool(texts) is ("overloaded" not in server.model.stats()["faults"])

    run(scenario, **settings)


def test_a_stalled_stream_keeps_its_connection_open():
    """A connection that dies without a word could not be played, or would jam the simulator."""

    async def scenario(server: SimulatedServer, session: aiohttp.ClientSession) -> None:
        texts: list[str] = []
        reading = asyncio.create_task(stream(server, session, texts))
        while not texts:  # noqa: ASYNC110 -- the stream begins on its own
            await asyncio.sleep(0.01)
        assert not (await asyncio.wait({reading}, timeout=0.5))[0]
        reading.cancel()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5), post(server, session) as answer:
                await answer.read()
        while server.model.stats()["in_flight"]:  # noqa: ASYNC110 -- the server notices on its own; nothing signals it
            await asyncio.sleep(0.01)
        assert server.model.stats()["serving"] == 0

    run(scenario, slots=1, faults=Faults(stall=1.0))


def test_embeddings_over_http():
    """Nothing that embeds could be tried without a key."""

    async def scenario(server: SimulatedServer, session: aiohttp.ClientSession) -> None:
        endpoint = Endpoint(name="simulated", base_url=server.url, limit_headers="openai")
        codec = embedding_codec(Target(endpoint, "e"))
        batch = Batch((0, 1), ("one", "two"))
        request = codec.encode(batch)
        async with session.post(request.url, data=request.body, headers=request.headers) as answer:
            assert answer.headers["x-ratelimit-remaining-requests"] == "599"
            embedded = codec.decode(batch, Response(answer.status, answer.headers, await answer.read()))
        assert [len(each.vector) for each in embedded.embeddings] == [256, 256]

    run(scenario, rpm=600, headers="openai")


@pytest.mark.parametrize(
    ("settings", "status", "code"),
    [
        ({"faults": Faults(rate_limited=1.0)}, 429, "rate_limit_exceeded"),
        ({"faults": Faults(server_error=1.0)}, 500, None),
        ({"faults": Faults(overloaded=1.0)}, 503, None),
        ({"faults": Faults(invalid=1.0)}, 400, "invalid_value"),
        ({"outage": (0, 60)}, 503, None),
        ({"key": "k"}, 401, "invalid_api_key"),
        ({"models": ("other",)}, 404, "model_not_found"),
        ({"context_tokens": 3}, 400, "context_length_exceeded"),
    ],
)
def test_errors_have_their_status_and_body(settings, status, code):
    """The fault would be another one than in memory."""

    async def scenario(server: SimulatedServer, session: aiohttp.ClientSession) -> None:
        async with post(server, session, Authorization="Bearer wrong") as answer:
            assert answer.status == status
            assert (await answer.json())["error"]["code"] == code

    run(scenario, **settings)


def test_the_right_key_is_let_in():
    """A benchmark with a key could not be run."""

    async def scenario(server: SimulatedServer, session: aiohttp.ClientSession) -> int:
        async with post(server, session, authorization="Bearer k") as answer:
            return answer.status

    assert run(scenario, key="k") == 200


def test_the_limit_is_kept_over_http():
    """A flood would be let through."""

    async def scenario(server: SimulatedServer, session: aiohttp.ClientSession) -> list[int]:
        async def one() -> int:
            async with post(server, session) as answer:
                return answer.status

        return await asyncio.gather(*(one() for _ in range(30)))

    statuses = run(scenario, rpm=10, limit="fixed")
    assert (statuses.count(200), statuses.count(429)) == (10, 20)


def test_slots_queue_over_http():
    """A server of one's own would serve more at once than it can."""

    async def scenario(server: SimulatedServer, session: aiohttp.ClientSession) -> None:
        async def one() -> None:
            async with post(server, session) as answer:
                assert answer.status == 200

        async def connect() -> None:
            async with session.get(f"{server.url}/models") as answer:
                assert answer.status == 200

        loop = asyncio.get_running_loop()
        await asyncio.gather(*(connect() for _ in range(6)))  # so that all six come at once
        began = loop.time()
        await asyncio.gather(*(one() for _ in range(6)))
        assert loop.time() - began >= 0.15
        assert server.model.stats()["most_queued"] == 4

    run(scenario, slots=2, latency=0.05, latency_p99=0.05)


def test_an_idle_connection_is_closed_when_it_should_be():
    """The race between a client that sends and a server that closes could not be provoked."""

    async def main() -> None:
        async with await serve(ProviderModel(ProviderSettings(**FAST)), keepalive=0.05) as server:
            sock = socket.create_connection(("127.0.0.1", server.port))
            sock.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")  # it is there when the server accepts
            sock.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=sock)
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"200 OK" in head
            await asyncio.wait_for(reader.read(), LONG)
            writer.close()
            await writer.wait_closed()

    asyncio.run(main())


def test_a_large_prompt_is_taken():
    """Long documents would be refused by the HTTP server and not by the provider."""

    async def scenario(server: SimulatedServer, session: aiohttp.ClientSession) -> int:
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "word " * 500_000}]}).encode()
        async with session.post(f"{server.url}/chat/completions", data=io.BytesIO(body)) as answer:
            return answer.status

    assert run(scenario) == 200


def test_a_taken_port_is_an_error():
    """A second simulator would seem to run."""

    async def main() -> None:
        async with await serve(ProviderModel()) as server:
            with pytest.raises(OSError, match="in use"):
                await serve(ProviderModel(), port=server.port)

    asyncio.run(main())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_simulate_tells_its_url_and_ends_on_a_signal(number):
    """`flatout simulate` could not be stopped, or nobody would know where it is."""
    program = (
        "from flatout.testing import ProviderSettings, simulate\n"
        "simulate(ProviderSettings(), port=0, announce=lambda url: print(url, flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stdout.readline().decode().strip()
        host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
        with socket.create_connection((host, int(port)), timeout=5):
            os.kill(process.pid, number)
        assert process.wait(LONG) == 0
        assert process.stderr.read() == b""


async def start_batch(server: SimulatedServer, session: aiohttp.ClientSession, rows: int) -> str:
    lines = []
    for number in range(rows):
        body = {"model": "m", "messages": [{"role": "user", "content": f"question {number}"}]}
        line = {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body}
        lines.append(json.dumps(line).encode())
    data = b"\n".join(lines)
    form = aiohttp.FormData({"purpose": "batch"})
    form.add_field("file", data, filename="rows.jsonl", content_type="application/jsonl")
    async with session.post(f"{server.url}/files", data=form) as answer:
        file = (await answer.json())["id"]
    asked = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    async with session.post(f"{server.url}/batches", json=asked) as answer:
        assert answer.status == 200, await answer.text()
        return str((await answer.json())["id"])


async def ended_batch(server: SimulatedServer, session: aiohttp.ClientSession, name: str) -> dict[str, Any]:
    while True:
        async with session.get(f"{server.url}/batches/{name}") as answer:
            batch: dict[str, Any] = await answer.json()
        if batch["status"] == "completed":
            return batch
        await asyncio.sleep(0.05)


QUICK = {"time": 0.1, "validating": 0.0, "finalizing": 0.0}


def test_a_batch_over_http():
    """A lane could not be tested in a process of its own; nor could programs in other languages."""

    async def scenario(server: SimulatedServer, session: aiohttp.ClientSession) -> None:
        batch = await ended_batch(server, session, await start_batch(server, session, 2_000))
        async with session.get(f"{server.url}/files/{batch['output_file_id']}/content") as answer:
            lines = [json.loads(line) async for line in answer.content]
        assert len(lines) == 2_000
        for line in lines:
            text = line["response"]["body"]["choices"][0]["message"]["content"]
            prompt = f"question {line['custom_id']}"
            assert text.startswith(f"digest:{digest_of(prompt)}")
        async with session.get(f"{server.url}/batches?limit=1&after={batch['id']}") as answer:
            assert (await answer.json())["data"] == []

    run(scenario, batch=BatchSettings(**QUICK))


def test_results_break_off_over_http():
    """A lane would be tested against a failure that no connection has."""

    async def scenario(server: SimulatedServer, session: aiohttp.ClientSession) -> None:
        batch = await ended_batch(server, session, await start_batch(server, session, 2_000))
        async with session.get(f"{server.url}/files/{batch['output_file_id']}/content") as answer:
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()

    run(scenario, batch=BatchSettings(**QUICK, faults=BatchFaults(cut=1.0)))


def test_an_answer_that_is_lost_over_http():
    """As above."""

    async def scenario(server: SimulatedServer, session: aiohttp.ClientSession) -> None:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await start_batch(server, session, 1)
        assert server.model.stats()["batches"]["files"] == 1

    run(scenario, batch=BatchSettings(**QUICK, faults=BatchFaults(lost=1.0)))
