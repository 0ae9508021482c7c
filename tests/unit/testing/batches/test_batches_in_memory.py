"""Batches over the transport that stays in the process, on the virtual clock."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from flatout.errors import ProtocolError
from flatout.layer import Request, Response
from flatout.testing import (
    BatchFaults,
    BatchSettings,
    Faults,
    ProviderModel,
    ProviderSettings,
    SimulatedTransport,
    run_virtual,
)

from ._vendor import DAY, form, jsonl, row

URL = "http://vendor.test/v1"
KEY = {"Authorization": "Bearer k"}


class Client:
    """Asks a provider as the HTTP transport would."""

    def __init__(self, model: ProviderModel) -> None:
        self.transport = SimulatedTransport(model)

    async def ask(self, method: str, path: str, body: bytes = b"", content: str = "application/json") -> Response:
        return await self.transport.send(Request(method, URL + path, {**KEY, "Content-Type": content}, body))

    async def start(self, count: int) -> str:
        content, body = form(jsonl([row(number) for number in range(count)]), "rows.jsonl", purpose="batch")
        file = json.loads((await self.ask("POST", "/files", body, content)).body)["id"]
        asked = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        return str(json.loads((await self.ask("POST", "/batches", json.dumps(asked).encode())).body)["id"])

    async def ended(self, name: str) -> Any:
        await asyncio.sleep(DAY)
        return json.loads((await self.ask("GET", f"/batches/{name}?unused=1")).body)

    @asynccontextmanager
    async def content(self, file: str) -> AsyncIterator[AsyncIterator[bytes]]:
        request = Request("GET", f"{URL}/files/{file}/content", KEY, b"")
        async with self.transport.stream(request) as streamed:
            assert streamed.status == 200
            yield streamed.chunks()


def test_a_day_passes_in_no_time():
    """The batch lane could be tested in real time only."""

    async def main() -> None:
        client = Client(ProviderModel())
        batch = await client.ended(await client.start(1_000))
        assert batch["status"] == "completed"
        async with client.content(batch["output_file_id"]) as chunks:
            pieces = [piece async for piece in chunks]
        assert len(pieces) > 3, "a large file comes in pieces"
        assert len(b"".join(pieces).splitlines()) == 1_000
        assert asyncio.get_running_loop().time() > DAY

    run_virtual(main(), limit=10 * DAY)


def test_a_download_breaks_off_in_the_middle():
    """A lane would be tested against a failure that no connection has."""

    async def main() -> None:
        client = Client(ProviderModel(ProviderSettings(batch=BatchSettings(faults=BatchFaults(cut=1.0)))))
        batch = await client.ended(await client.start(1_000))
        got = b""
        async with client.content(batch["output_file_id"]) as chunks:
            with pytest.raises(ProtocolError):  # noqa: PT012 - it is the loop that raises, in its middle
                async for piece in chunks:
                    got += piece
        assert 300 < len(got.splitlines()) < 1_000

    run_virtual(main(), limit=10 * DAY)


def test_a_lost_answer_is_a_broken_connection():
    """As above."""

    async def main() -> None:
        model = ProviderModel(ProviderSettings(batch=BatchSettings(faults=BatchFaults(lost=1.0))))
        client = Client(model)
        with pytest.raises(ProtocolError):
            await client.start(1)
        assert model.stats()["batches"]["files"] == 1
        assert model.stats()["in_flight"] == 0

    run_virtual(main(), limit=10 * DAY)


def test_a_request_about_batches_hangs():
    """A lane without a timeout would pass its tests."""

    async def main() -> None:
        client = Client(ProviderModel(ProviderSettings(faults=Faults(hang=1.0))))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await client.ask("GET", "/batches")

    run_virtual(main(), limit=10 * DAY)
