"""The gateway over real sockets: slow clients, clients that hang up, foreign clients, and kill -9."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from flatout import Budget, Client, Limits
from flatout.config.folders import state_folder
from flatout.money.purse import SPARE
from flatout.serve import keys, listen
from flatout.serve.callers import Allowed
from flatout.store.scopes import accounts
from flatout.testing import ProviderModel, ProviderSettings, serve
from flatout.transports import descriptors
from flatout.values.accounts import Account
from tests.support.command_samples import PATIENCE, eventually
from tests.support.foreign_servers import fetch, llmock, or_skip, running
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
SDKS = ROOT / ".venv-sdk" / "bin" / "python"
SUPPORT = ROOT / "tests" / "support"
NODE = ROOT / ".node-sdk"
FLATOUT = Path(sys.executable).with_name("flatout")
CHAT = {"model": "any", "messages": [{"role": "user", "content": "Spam or ham?"}]}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@asynccontextmanager
async def gateway(**settings: Any) -> AsyncIterator[str]:
    model = ProviderModel(ProviderSettings(**{"latency": 0.05, **settings}), 0)
    async with (
        await serve(model) as provider,
        Client(model="any", base_url=provider.url, limits=Limits(rpm=600_000)) as client,
        listen.served(client, listen.Asked(models=("any",), grace=0.5)) as url,
    ):
        yield url


@contextmanager
def provider(latency: float, rpm: float | None = None, *options: str) -> Iterator[str]:
    """A simulated provider as a process; gives its address."""
    limits = [] if rpm is None else ["--rpm", f"{rpm:g}"]
    asked = [str(FLATOUT), "simulate", "--port", "0", "--latency", f"{latency}", *limits, *options]
    with subprocess.Popen(asked, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            yield process.stderr.readline().split(" at ")[1].split()[0]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)


@contextmanager
def command(provider: str, *options: str, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The gateway as a process."""
    asked = [str(FLATOUT), "serve", "-m", "any", "--base-url", provider, "--port", str(port), *options]
    with subprocess.Popen(asked, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            yield process, line.split(" at ")[1].split()[0]
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(PATIENCE)


def port_of(url: str) -> int:
    return int(url.split(":")[2].split("/")[0])


def stats(provider: str) -> dict[str, Any]:
    told: dict[str, Any] = httpx.get(f"{provider.removesuffix('/v1')}/__stats", timeout=PATIENCE).json()
    return told


async def until(url: str, count: str, number: int) -> dict[str, Any]:
    """How things stand when the first caller's count has reached a number."""
    while True:
        now = await status(url)
        if now["callers"] and now["callers"][0][count] >= number:
            return now
        await asyncio.sleep(0.05)


async def status(url: str) -> dict[str, Any]:
    async with httpx.AsyncClient(timeout=PATIENCE) as http:
        told: dict[str, Any] = (await http.get(f"{url.removesuffix('/v1')}/status")).json()
        return told


def asked(body: bytes = b"", *headers: bytes, line: bytes = b"POST /v1/chat/completions HTTP/1.1") -> bytes:
    """The bytes of a request."""
    lines = [line, b"Host: localhost", *headers]
    if body and not headers:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body])


def test_slow_clients_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that send a byte now and then would take all connections, and keep them."""
    monkeypatch.setattr(listen, "PATIENCE", 0.5)
    monkeypatch.setattr(listen, "KEEPALIVE", 0.2)
    monkeypatch.setattr(listen, "MOST_CONNECTIONS", 20)

    async def drip(url: str) -> int:
        """Send a byte each twentieth of a second until the server has had enough."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
        sent = 0
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
        while not reader.at_eof():
            try:
                writer.write(b"x")
                sent += 1
                await writer.drain()
                await asyncio.wait_for(reader.read(1), 0.05)
            except TimeoutError:
                continue
            except OSError:
                break
        writer.close()
        return sent

    async def main() -> tuple[list[int], int]:
        async with gateway() as url, httpx.AsyncClient() as http:
            drips = [asyncio.ensure_future(drip(url)) for _ in range(60)]
            await asyncio.sleep(0.2)
            got = await http.post(f"{url}/chat/completions", json=CHAT, timeout=PATIENCE)
            return await asyncio.gather(*drips), got.status_code

    sent, answered = asyncio.run(main())
    assert answered == 200
    assert max(sent) < 10 / 0.05


def test_a_client_that_does_not_read_stops_its_provider_and_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten clients that stop reading would take a gigabyte of the gateway's memory, and their providers' time."""
    monkeypatch.setattr(listen, "PATIENCE", 2.0)
    event = b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": {"content": "word " * 10_000}}]}).encode()

    async def main() -> int:
        sent, ended = 0, asyncio.Event()

        async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            with suppress(OSError):
                while True:
                    writer.write(event)
                    await writer.drain()
                    sent += len(event)
            ended.set()

        body = json.dumps({**CHAT, "stream": True}).encode()
        async with (
            await asyncio.start_server(endless, "127.0.0.1", 0) as server,
            Client(model="any", base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1") as client,
            listen.served(client, listen.Asked(models=("any",), grace=0.5)) as url,
        ):
            _, writer = await asyncio.open_connection("127.0.0.1", port_of(url), limit=1024)
            writer.write(asked(body))
            async with asyncio.timeout(PATIENCE):
                await ended.wait()
            writer.close()
        return sent

    assert 0 < asyncio.run(main()) < 32 * 1024 * 1024  # most of it is in the system's buffers


def test_idle_clients_leave_files_for_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a process may open few files, idle clients would take all of them: nobody else could be answered."""
    monkeypatch.setattr(descriptors, "free", lambda: 20)

    async def main() -> int:
        async with gateway() as url, httpx.AsyncClient(timeout=PATIENCE) as http:
            idle = [await asyncio.open_connection("127.0.0.1", port_of(url)) for _ in range(30)]
            got = await http.post(f"{url}/chat/completions", json=CHAT)
            closed = 0
            for reader, writer in idle:
                with suppress(TimeoutError, OSError):
                    closed += await asyncio.wait_for(reader.read(1), 0.01) == b""
                writer.close()
            assert got.status_code == 200
            return closed

    assert asyncio.run(main()) >= 20


@pytest.mark.parametrize("streams", ["", "before it begins", "in the middle"])
def test_a_thousand_callers_that_hang_up_leave_nothing_behind(streams: str) -> None:
    """Their calls would go on, be paid, and take the places of others."""
    first_token = 0.01 if streams == "in the middle" else None

    async def one(url: str) -> asyncio.StreamWriter:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
        writer.write(asked(json.dumps({**CHAT, "stream": bool(streams)}).encode()))
        if first_token is not None:
            await reader.readuntil(b"data: ")
        return writer

    async def main() -> dict[str, Any]:
        async with gateway(latency=3_600.0, first_token=first_token) as url:  # no answer ends before they hang up
            writers = await asyncio.gather(*(one(url) for _ in range(1_000)))
            now = await until(url, "calls", 1_000)
            assert now["waiting"] + now["callers"][0]["inside"] == 1_000
            for writer in writers:
                writer.close()
            return await until(url, "hung_up", 1_000)

    now = asyncio.run(asyncio.wait_for(main(), 2 * PATIENCE))
    assert now["waiting"] == now["waiting_bytes"] == now["callers"][0]["inside"] == 0
    assert now["targets"][0]["in_flight"] == now["targets"][0]["waiting"] == 0


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl() -> None:
    """The first thing that anybody tries would fail."""
    with provider(latency=0.05) as at, command(at) as (_, url):
        bounded = {"capture_output": True, "text": True, "timeout": PATIENCE, "check": True}
        asked = ["curl", "-sS", f"{url}/chat/completions", "-d"]
        got = subprocess.run([*asked, json.dumps(CHAT)], **bounded)
        assert json.loads(got.stdout)["choices"]
        streamed = subprocess.run([*asked, json.dumps({**CHAT, "stream": True})], **bounded)
        assert streamed.stdout.rstrip().endswith("[DONE]")


@pytest.mark.skipif(not SDKS.exists(), reason="the vendors' SDKs are not installed: make .venv-sdk")
def test_the_vendors_sdks() -> None:
    """People could not use the gateway with the libraries that they have."""
    with provider(latency=0.05) as at, command(at) as (_, url):
        asked = [str(SDKS), str(SUPPORT / "gateway_clients.py"), url]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == {
        "chat": True,
        "stream": True,
        "parse_responses": True,
        "responses_stream": True,
        "embeddings": True,
        "models": ["any"],
        "batch": {"completed": 3, "failed": 0, "total": 3},
        "lines": 3,
        "messages": True,
        "messages_stream": True,
        "refused": "NotFoundError",
        "refused_anthropic": "BadRequestError",
    }


@pytest.mark.skipif(not NODE.exists(), reason="the vendors' SDKs for Node are not installed: make .node-sdk")
@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_the_vendors_sdks_of_node() -> None:
    """People could not use the gateway from JavaScript, with or without LangChain."""
    with provider(latency=0.05) as at, command(at) as (_, url):
        asked = ["node", str(SUPPORT / "gateway_clients.mjs"), url]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=NODE)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == {
        **dict.fromkeys(["chat", "stream", "tool", "responses", "embeddings", "messages", "messages_stream"], True),
        **dict.fromkeys(["count", "langchain", "langchain_stream", "langchain_embeddings"], True),
        "tool_stream": "label",
        "responses_stream": "response.completed",
        "models": ["any"],
        "refused": "NotFoundError",
        "messages_tool": "tool_use",
        "langchain_tool": "label",
        "langchain_output": "string",
        "langchain_batch": 3,
    }


def test_what_the_gateway_sends_on_is_judged_to_be_well_behaved(tmp_path: Path) -> None:
    """Providers would see hasty retries, or retries of what they have refused for good, from whoever is behind it."""
    folder = or_skip(llmock)

    def asked(port: int) -> list[str]:
        return [sys.executable, "-m", "llmock.cli", "serve", "--port", str(port), "--log-level", "error"]

    faults = [{"type": "fail", "status": status, "retry_after": 1} for status in (429, 503)]
    with (
        running(asked, tmp_path / "log", PYTHONPATH=str(folder)) as at,
        command(f"{at}/v1", "--rpm", "60000") as (_, url),
    ):
        fetch(f"{at}/_llmock/scenario", {"behaviors": [*faults, {"type": "fail", "status": 400}]})

        async def main() -> list[int]:
            async with httpx.AsyncClient(timeout=PATIENCE) as http:
                bodies = [{**CHAT, "messages": [{"role": "user", "content": f"Question {n}"}]} for n in range(12)]
                whole = [http.post(f"{url}/chat/completions", json=body) for body in bodies[:6]]
                streamed = [http.post(f"{url}/chat/completions", json={**body, "stream": True}) for body in bodies[6:]]
                return [got.status_code for got in await asyncio.gather(*whole, *streamed)]

        statuses = asyncio.run(main())
        verdict = fetch(f"{at}/_llmock/verdict")
    assert sorted(statuses) == [*[200] * 11, 400]
    assert verdict["findings"] == []


@pytest.mark.skipif(not SDKS.exists(), reason="the vendors' SDKs are not installed: make .venv-sdk")
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_a_kill_under_load_is_a_pause_for_clients_that_retry() -> None:
    """A gateway that is restarted would lose its clients' calls, or pay for the finished rows of a batch again."""
    rows = [
        {"custom_id": f"{n}", "url": "/v1/chat/completions", "body": {**CHAT, "user": f"row-{n}"}} for n in range(200)
    ]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    port, calls = free_port(), 120
    with provider(0.4, 3_000) as at, httpx.Client(timeout=PATIENCE) as http:
        with command(at, port=port) as (process, url):
            file = http.post(f"{url}/files", files={"file": ("rows.jsonl", data)}, data={"purpose": "batch"}).json()
            asked = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
            name = http.post(f"{url}/batches", json=asked).json()["id"]
            sdk = subprocess.Popen(
                [str(SDKS), str(SUPPORT / "gateway_load.py"), url, str(calls)], stdout=subprocess.PIPE, text=True
            )
            curl = ["curl", "-sS", "-m", "60", "--retry", "60", "--retry-delay", "1", "--retry-all-errors", "-f"]
            curls = [
                subprocess.Popen(
                    [*curl, f"{url}/chat/completions", "-d", json.dumps({**CHAT, "user": f"curl-{n}"})],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
                for n in range(6)
            ]
            while stats(at)["answered"] < 60:
                time.sleep(0.02)
            os.kill(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)
        with command(at, port=port) as (_, url):
            assert sdk.stdout is not None
            told = json.loads(sdk.communicate(timeout=PATIENCE)[0])
            answers = [each.communicate(timeout=PATIENCE)[0] for each in curls]
            while (batch := http.get(f"{url}/batches/{name}").json())["status"] != "completed":
                time.sleep(0.1)
        after = stats(at)
    assert told == {"answered": calls, "failed": 0}
    assert all(json.loads(answer)["choices"] for answer in answers)
    assert batch["request_counts"] == {"total": 200, "completed": 200, "failed": 0}
    assert after["answered"] <= 200 + calls + 6 + after["most_in_flight"]


def test_what_a_killed_gateway_had_borrowed_goes_back(tmp_path: Path) -> None:
    """Each kill would leave less of a key's budget, until nothing can be sent that is not spent."""
    key = keys.add("team", Allowed(budget=Budget(20.0, "day", "team")), keys.place())
    config = tmp_path / "flatout.toml"
    chat = {**CHAT, "max_tokens": 1_000}

    def spare(account: Account) -> float:
        """The share of a budget that is lent and not spent. It goes back a second after the last call."""
        return (sum(lent.usd for lent in account.lent) - caller["spent"]) / account.usd

    with (
        provider(latency=0.05) as at,
        httpx.Client(timeout=PATIENCE, headers={"authorization": f"Bearer {key}"}) as http,
    ):
        config.write_text(f'[prices."{at.split("/")[2]}/any"]\ninput = 1.0\noutput = 10.0\n')
        options = ("--config", str(config), "--budget", "30/day:mine")
        with command(at, *options) as (process, url):
            for _ in range(3):
                assert http.post(f"{url}/chat/completions", json=chat).status_code == 200
            (caller,) = http.get(f"{url.removesuffix('/v1')}/status").json()["callers"]
            eventually(lambda: all(spare(each) <= SPARE for each in accounts(state_folder() / "budgets")))
            os.kill(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)
        assert [len(each.lent) for each in accounts(state_folder() / "budgets")] == [1, 1]
        with command(at, *options):
            found = [*accounts(state_folder() / "budgets")]
    assert caller["spent"] > 0
    assert [(each.scope, each.lent) for each in found] == [("mine", ()), ("team", ())]
    assert all(caller["spent"] <= each.spent <= caller["spent"] + SPARE * each.usd for each in found)


def test_a_batch_survives_a_kill() -> None:
    """Rows that were answered would be paid for twice, or a batch that was accepted would be lost."""
    rows = [{"custom_id": f"{n}", "url": "/v1/chat/completions", "body": {**CHAT, "user": f"{n}"}} for n in range(300)]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    port = str(free_port())
    with httpx.Client(timeout=PATIENCE) as http:
        # A hundredth of the answers takes a minute: not all rows are answered before the kill, however late it comes.
        with provider(1.0, 6_000, "--port", port, "--latency-p99", "60") as at, command(at) as (process, url):
            file = http.post(f"{url}/files", files={"file": ("rows.jsonl", data)}, data={"purpose": "batch"}).json()
            asked = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
            name = http.post(f"{url}/batches", json=asked).json()["id"]
            while http.get(f"{url}/batches/{name}").json()["request_counts"]["completed"] < 50:
                time.sleep(0.05)
            os.kill(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)
            before = stats(at)["answered"]
        with provider(0.2, 6_000, "--port", port) as at, command(at) as (_, url):
            while (batch := http.get(f"{url}/batches/{name}").json())["status"] != "completed":
                assert batch["status"] in ("validating", "in_progress", "finalizing")
                time.sleep(0.1)
            lines = http.get(f"{url}/files/{batch['output_file_id']}/content").text.splitlines()
            after = stats(at)["answered"]
    assert sorted(int(json.loads(line)["custom_id"]) for line in lines) == [*range(300)]
    assert 50 <= before < 300
    assert before + after <= 300 + 200


@pytest.mark.parametrize("cancels", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_a_batch_at_its_provider_survives_a_kill(cancels: bool) -> None:
    """Its rows would be submitted, and paid for, once more; or a cancelled batch would leave nothing of what it has."""
    rows = [{"custom_id": f"{n}", "url": "/v1/chat/completions", "body": {**CHAT, "user": f"{n}"}} for n in range(300)]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    with provider(0.05, None, "--batch-time", "20" if cancels else "3") as at, httpx.Client(timeout=PATIENCE) as http:
        with command(at) as (process, url):
            file = http.post(f"{url}/files", files={"file": ("rows.jsonl", data)}, data={"purpose": "batch"}).json()
            asked = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
            name = http.post(f"{url}/batches", json={**asked, "metadata": {"lane": "batch"}}).json()["id"]
            while not stats(at)["batches"]["created"]:
                time.sleep(0.05)
            if cancels:
                time.sleep(3.0)  # some of its rows are answered by then
                assert http.post(f"{url}/batches/{name}/cancel").json()["status"] == "cancelling"
            os.kill(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)
        with command(at) as (_, url):
            ends = "cancelled" if cancels else "completed"
            while (batch := http.get(f"{url}/batches/{name}").json())["status"] != ends:
                assert batch["status"] in ("validating", "in_progress", "finalizing", "cancelling")
                time.sleep(0.1)
            lines = http.get(f"{url}/files/{batch['output_file_id']}/content").text.splitlines()
        after = stats(at)["batches"]
    assert after["created"] == 1
    assert len(lines) == after["answers"] == batch["request_counts"]["completed"]
    assert (len(lines) == 300) is not cancels
