"""Calls through the gateway: in each format, whole and streamed, for targets of any format."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from flatout.testing import Faults, ProviderSettings

from .gateways import CHAT, MESSAGES, PATHS, RESPONSES, World

ASKS = {"openai": CHAT, "anthropic": MESSAGES, "openai-responses": RESPONSES}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-1234567890")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test-1234567890")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.mark.parametrize("dialect", ASKS)
def test_a_call_is_answered_in_its_format(dialect: str):
    """A client of that format could not read its answer."""
    model = "anthropic/claude-haiku-4-5" if dialect == "openai-responses" else ASKS[dialect]["model"]
    got = World().run(lambda world: world.ask(PATHS[dialect], {**ASKS[dialect], "model": model}))
    assert got.status == 200
    assert {"openai": "choices", "anthropic": "content", "openai-responses": "output"}[dialect] in got.data


@pytest.mark.parametrize(
    ("dialect", "model"),
    [
        ("openai", "openai/gpt-5-mini"),
        ("openai", "anthropic/claude-haiku-4-5"),
        ("anthropic", "openai/gpt-5-mini"),
        ("anthropic", "anthropic/claude-haiku-4-5"),
        ("openai-responses", "anthropic/claude-haiku-4-5"),
    ],
)
def test_a_stream_is_written_in_its_format(dialect: str, model: str):
    """A client of one format could not use a target of another one, or would wait for the end of its answer."""
    asked = {**ASKS[dialect], "model": model, "stream": True}
    got = World().run(lambda world: world.ask(PATHS[dialect], asked))
    assert got.status == 200
    assert got.headers["content-type"].startswith("text/event-stream")
    assert got.body.count(b"data:") > 3
    end = {"openai": b"[DONE]", "anthropic": b"message_stop", "openai-responses": b"response.completed"}[dialect]
    assert end in got.body[-3_000:]


def test_embeddings_are_passed_on():
    """A client would get no vectors."""
    got = World().run(lambda world: world.ask("/v1/embeddings", {"model": "text-embedding-3-small", "input": "a"}))
    assert got.status == 200
    assert got.data["data"][0]["embedding"]


def test_unknown_parameters_reach_a_target_of_the_same_format():
    """A client could not use what its provider added yesterday."""
    world = World()
    seen: list[Any] = []
    send = world.client._engine.transport.send

    async def noted(request: Any) -> Any:
        seen.append(json.loads(request.body))
        return await send(request)

    world.client._engine.transport.send = noted  # type: ignore[method-assign]
    world.run(lambda world: world.ask(PATHS["openai"], {**CHAT, "added_yesterday": [1]}))
    assert seen[0]["added_yesterday"] == [1]
    assert seen[0]["model"] == "gpt-5-mini"


@pytest.mark.parametrize("dialect", ASKS)
def test_an_unknown_model_is_refused_in_words_of_the_format(dialect: str):
    """A client would not learn which models are served, or could not read why it was refused."""
    world = World(models=("openai/gpt-5-mini",))
    got = world.run(lambda world: world.ask(PATHS[dialect], {**ASKS[dialect], "model": "gpt-5-mimi"}))
    assert got.status == 404
    assert "did you mean gpt-5-mini?" in got.data["error"]["message"]
    assert got.headers["x-should-retry"] == "false"
    assert (got.data.get("type") == "error") == (dialect == "anthropic")


def test_only_named_models_are_served():
    """A client could use, and bill, a model that nobody meant to serve."""
    world = World(models=("openai/gpt-5-mini",))

    async def main(world: World) -> list[int]:
        names = ("openai/gpt-5-mini", "gpt-5-mini", "openai/gpt-5", "anthropic/claude-haiku-4-5")
        return [(await world.ask(PATHS["openai"], {**CHAT, "model": name})).status for name in names]

    assert world.run(main) == [200, 200, 404, 404]


def test_models_are_listed_and_found_one_by_one():
    """A client that lists models first would find none."""
    world = World(models=("openai/gpt-5-mini", "anthropic/claude-haiku-4-5"))

    async def main(world: World) -> tuple[Any, Any, int]:
        listed, one = await world.get("/v1/models"), await world.get("/v1/models/openai/gpt-5-mini")
        return listed.data, one.data, (await world.get("/v1/models/no")).status

    listed, one, missing = world.run(main)
    assert [each["id"] for each in listed["data"]] == ["openai/gpt-5-mini", "anthropic/claude-haiku-4-5"]
    assert one["id"] == "openai/gpt-5-mini"
    assert missing == 404


def test_a_route_is_a_model():
    """A client could not use the routes of flatout.toml."""
    routes = {"routes": {"fast": {"targets": ["openai/gpt-5-mini", "anthropic/claude-haiku-4-5"]}}}
    world = World(config=routes)
    assert world.run(lambda world: world.ask(PATHS["openai"], {**CHAT, "model": "fast"})).status == 200


def test_refusals_for_speed_are_waited_out():
    """Clients would see 429s, and retry on top of flatout's own retries."""
    world = World(ProviderSettings(rpm=60, burst=2, latency=1.0))

    async def main(world: World) -> list[int]:
        asks = (world.ask(PATHS["openai"], {**CHAT, "user": str(n)}) for n in range(50))
        return [got.status for got in await asyncio.gather(*asks)]

    assert world.run(main) == [200] * 50


def test_a_provider_that_fails_for_good_is_told_once():
    """A vendor's client would retry what flatout has retried already."""
    world = World(ProviderSettings(latency=0.1, faults=Faults(server_error=1.0)), retries=1)
    got = world.run(lambda world: world.ask(PATHS["openai"], CHAT))
    assert got.status >= 500
    assert got.headers["x-should-retry"] == "false"


def test_a_client_learns_nothing_of_the_gateways_key():
    """The end of the provider's key would reach every client, in words that blame the client's own key."""
    got = World(ProviderSettings(key="another")).run(lambda world: world.ask(PATHS["openai"], CHAT))
    assert got.status == 502
    assert b"gateway's key" in got.body
    assert b"7890" not in got.body


def test_a_stream_that_breaks_off_is_seen_to():
    """A client would take half an answer for a whole one."""
    world = World(ProviderSettings(latency=1.0, faults=Faults(truncated=1.0)), retries=0)
    got = world.run(lambda world: world.ask(PATHS["openai"], {**CHAT, "stream": True}))
    assert not got.whole or got.status >= 500


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null"])
def test_what_is_no_request_is_refused(body: bytes):
    """A client with a fault would wait, or the gateway would report one of its own."""
    assert World().run(lambda world: world.ask(PATHS["openai"], body)).status == 400


@pytest.mark.parametrize("model", ["openai/gpt-5-mini", "anthropic/claude-haiku-4-5"])
def test_an_answer_in_the_background_is_refused_by_name(model: str):
    """A client would be told an id, and find no answer under it."""
    asked = {**RESPONSES, "model": model, "background": True}
    got = World().run(lambda world: world.ask(PATHS["openai-responses"], asked))
    assert got.status == 400
    assert got.data["error"]["message"].startswith("background:")


@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", "/v1/batches"), ("PUT", "/v1/files"), ("POST", "/v1/models"), ("GET", "/v1/messages/count_tokens")],
)
def test_a_method_that_a_page_does_not_have_is_refused(method: str, path: str):
    """A client that deletes something would be told that it is done."""
    assert World().run(lambda world: world.ask(path, b"", method=method)).status == 405


def test_other_addresses_are_not_found():
    """A client could not tell a wrong address from a failure."""

    async def main(world: World) -> list[int]:
        return [(await world.get(path)).status for path in ("/v1/none", "/v1/chat/completions", "/healthz", "/status")]

    assert World().run(main) == [404, 405, 200, 200]


def test_an_address_that_is_not_there_is_named_whole():
    """Whoever gives a client an address with one /v1 too many would read that there is no /v1/messages here."""
    got = World().run(lambda world: world.ask("/v1/v1/messages", MESSAGES))
    assert got.status == 404
    assert "/v1/v1/messages" in got.data["error"]["message"]


@pytest.mark.parametrize("dialect", ["openai", "openai-responses"])
def test_refusals_have_the_types_of_openai(dialect: str):
    """Clients that look at an error's type would not know one of the gateway's."""

    async def main(world: World) -> list[Any]:
        asked = {"model": "none", "messages": [], "input": "a"}
        return [(await world.ask(PATHS[dialect], data)).data["error"] for data in (b"[]", asked)]

    none, unknown = World().run(main)
    assert none["type"] == unknown["type"] == "invalid_request_error"
    assert unknown["code"] == "model_not_found"
