"""Programs inside the functions of `Client.map`: their calls are kept in the run file, like flatout's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import flatout
from flatout import Client
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport, run_virtual

BASE = "https://api.openai.com/v1"
CHAT = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Hello?"}], "n": 2, "logprobs": True}
EMBEDDINGS = {"model": "text-embedding-3-small", "input": ["Hello?"]}


class Stop(BaseException):
    """Ends a run as a crash would."""


@pytest.mark.parametrize(
    ("end", "data", "other"),
    [
        ("/chat/completions", CHAT, {**CHAT, "n": 3}),
        ("/embeddings", EMBEDDINGS, {**EMBEDDINGS, "input": ["Goodbye?"]}),
    ],
)
def test_a_whole_answer_comes_back_as_it_was(tmp_path: Path, end: str, data: dict[str, Any], other: dict[str, Any]):
    """A resumed program would pay again, get less of an answer than at first, or get the answer to another request."""

    async def program(text: str, http: Any) -> list[str]:
        key = {"authorization": "Bearer sk-1"}
        answers = [await http.post(BASE + end, headers=key, json=each) for each in (data, other)]
        return [answer.text for answer in answers]

    first, again, received = twice(tmp_path, program)
    assert first == again
    assert received == 2


def test_a_streamed_answer_is_written_anew(tmp_path: Path):
    """A resumed program would pay again, or see an empty answer."""

    async def program(text: str, http: Any) -> list[str]:
        asked = {"model": "gpt-5-mini", "messages": CHAT["messages"], "stream": True}
        answer = await http.post(BASE + "/chat/completions", headers={"authorization": "Bearer sk-1"}, json=asked)
        return [said_in(answer.text)]

    first, again, received = twice(tmp_path, program)
    assert first == again
    assert first[0]
    assert received == 1


def said_in(events: str) -> str:
    """The text of a streamed chat completion."""
    data = (json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: {"))
    return "".join(choice["delta"].get("content") or "" for each in data for choice in each["choices"])


def twice(folder: Path, program: Any) -> tuple[Any, Any, int]:
    """What a program gets before a crash at its item's end, and then from the journal; and the requests in all."""
    provider = ProviderModel(ProviderSettings(latency=1.0), seed=1)
    got: list[Any] = []

    async def item(text: str, client: Client, *, crashes: bool) -> None:
        async with flatout.sdk.http_client(client) as http:
            got.append(await program(text, http))
        if crashes:
            raise Stop

    async def run(*, crashes: bool) -> None:
        async def function(text: str, client: Client) -> None:
            await item(text, client, crashes=crashes)

        async with Client(transport=SimulatedTransport(provider)) as client:
            async for result in client.map(function, ["a"], store=folder / "run.flatout"):
                assert result.ok, result.error

    with pytest.raises(Stop):
        run_virtual(run(crashes=True))
    run_virtual(run(crashes=False))
    return got[0], got[1], provider.stats()["received"]
