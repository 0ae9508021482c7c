"""What the gateway tells beside answers: counts of tokens, lists of models, and figures for Prometheus."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from flatout.errors import ConnectError
from flatout.layer import Request, Response
from flatout.telemetry import exporting

from .gateways import CHAT, MESSAGES, PATHS, World

COUNT = "/v1/messages/count_tokens"
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY")

Answers = Callable[[Request], Response]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in KEYS:
        monkeypatch.setenv(name, "sk-test-1234567890")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def scripted(answers: Answers, **options: Any) -> tuple[World, list[Request]]:
    """A gateway whose provider answers everything but calls as a test says."""
    world, seen = World(**options), list[Request]()
    send = world.client._engine.transport.send

    async def answered(request: Request) -> Response:
        if request.url.partition("?")[0].endswith(("/chat/completions", "/messages")):
            return await send(request)
        seen.append(request)
        await asyncio.sleep(0.1)
        return answers(request)

    world.client._engine.transport.send = answered  # type: ignore[method-assign]
    return world, seen


def told(data: Any, status: int = 200) -> Response:
    return Response(status, {"content-type": "application/json", "request-id": "r"}, json.dumps(data).encode())


def test_anthropic_counts_for_its_own_models():
    """A client that trims its prompts by Anthropic's own count would get a guess."""
    world, seen = scripted(lambda _: told({"input_tokens": 14}))
    got = world.run(lambda world: world.ask(COUNT, {**MESSAGES, "model": "anthropic/claude-haiku-4-5"}))
    assert (got.status, got.data) == (200, {"input_tokens": 14})
    assert "x-flatout-estimated" not in got.headers
    assert seen[0].url == "https://api.anthropic.com/v1/messages/count_tokens"
    assert json.loads(seen[0].body)["model"] == "claude-haiku-4-5"


def test_a_request_that_anthropic_refuses_to_count_is_refused():
    """A client would take a guess for the size of a request that cannot be sent."""
    refusal = {"type": "error", "error": {"type": "invalid_request_error", "message": "messages: at least one"}}
    world, _ = scripted(lambda _: told(refusal, 400))
    got = world.run(lambda world: world.ask(COUNT, MESSAGES))
    assert (got.status, got.data) == (400, refusal)


def unreached(_: Request) -> Response:
    raise ConnectError("no connection")


@pytest.mark.parametrize(
    ("model", "answers"),
    [("openai/gpt-5-mini", unreached), ("claude-haiku-4-5", unreached), ("claude-haiku-4-5", lambda _: told({}, 429))],
)
def test_where_nobody_counts_it_is_estimated(model: str, answers: Answers):
    """A client that counts first could not be used with other models, or would fail when the provider is busy."""
    text = "Is this mail spam, or is it ham? " * 30
    asked = {"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": text}]}
    world, _ = scripted(answers)
    got = world.run(lambda world: world.ask(COUNT, asked))
    assert (got.status, got.headers["x-flatout-estimated"]) == (200, "1")
    assert 250 < got.data["input_tokens"] < 500


@pytest.mark.parametrize(("data", "status"), [(b"no", 400), ({"messages": []}, 404), ({"model": "no/model"}, 404)])
def test_what_cannot_be_counted_is_refused_in_anthropics_words(data: Any, status: int):
    """A client could not read why its request is wrong."""
    got = World().run(lambda world: world.ask(COUNT, data))
    assert got.status == status
    assert got.data["type"] == "error"


LISTS = {
    "api.openai.com": {"data": [{"id": "gpt-5-mini", "object": "model"}, {"id": "gpt-5"}]},
    "api.anthropic.com": {"data": [{"type": "model", "id": "claude-haiku-4-5"}], "has_more": False},
    "generativelanguage.googleapis.com": {"models": [{"name": "models/gemini-3-flash"}]},
}


def lists(request: Request) -> Response:
    return told(LISTS[request.url.split("/")[2]])


def test_without_names_the_models_are_those_that_the_keys_allow(monkeypatch: pytest.MonkeyPatch):
    """A program that lets its user choose from the models would show none."""
    monkeypatch.setenv("GEMINI_API_KEY", "sk-test-1234567890")
    world, seen = scripted(lists)

    async def main(world: World) -> list[Any]:
        return [(await world.get("/v1/models")).data for _ in range(2)]

    first, second = world.run(main)
    names = [each["id"] for each in first["data"]]
    assert {"openai/gpt-5-mini", "anthropic/claude-haiku-4-5", "gemini/gemini-3-flash"} <= {*names}
    assert len(names) == len({*names})
    assert first == second
    assert len(seen) == 3


def test_a_provider_that_does_not_list_its_models_is_named():
    """Its models would be missing, and nobody would know why; or no models would be listed at all."""

    def some(request: Request) -> Response:
        return told({}, 401) if "openai" in request.url else lists(request)

    world, _ = scripted(some)
    got = world.run(lambda world: world.get("/v1/models")).data
    assert [each["id"] for each in got["data"]] == ["anthropic/claude-haiku-4-5"]
    assert got["missing"] == {"openai": "it answered 401"}


def test_a_provider_that_did_not_list_its_models_is_soon_asked_again():
    """After a moment's outage its models would be missing for ten minutes."""
    seen: list[str] = []

    def once_down(request: Request) -> Response:
        seen.append(request.url.split("/")[2])
        return told({}, 500) if seen == ["api.openai.com"] else lists(request)

    world, _ = scripted(once_down)

    async def main(world: World) -> list[Any]:
        found = []
        for _ in range(3):
            found.append((await world.get("/v1/models")).data)
            await asyncio.sleep(10.0)
        return found

    first, second, third = world.run(main)
    assert first == second
    assert "missing" in first
    assert "missing" not in third
    assert {each["id"] for each in third["data"]} >= {"openai/gpt-5-mini", "anthropic/claude-haiku-4-5"}
    assert sorted(seen) == ["api.anthropic.com", "api.openai.com", "api.openai.com"]


def test_a_name_that_means_no_model_is_looked_for_once(monkeypatch: pytest.MonkeyPatch):
    """Clients with a wrong name, or a very long one, would hold up all others."""
    looked: list[str] = []
    monkeypatch.setattr("flatout.serve.models.get_close_matches", lambda name, *_, **__: looked.append(name) or [])

    async def main(world: World) -> list[Any]:
        names = ["gpd-5", "gpd-5", "x" * 1_000_000]
        return [await world.ask(PATHS["openai"], {**CHAT, "model": name}) for name in names]

    first, again, long = World().run(main)
    assert [got.status for got in (first, again, long)] == [404, 404, 404]
    assert first.body == again.body
    assert looked == ["gpd-5"]
    assert len(long.body) < 1_000


def test_only_named_models_are_listed_where_some_are_named():
    """Clients would choose models that are not served."""
    world, seen = scripted(lists, models=("openai/gpt-5-mini",))
    got = world.run(lambda world: world.get("/v1/models")).data
    assert [each["id"] for each in got["data"]] == ["openai/gpt-5-mini"]
    assert not seen


def test_what_is_not_there_is_refused_in_the_format_of_its_address():
    """Anthropic's client would find no message in the refusal."""

    async def main(world: World) -> list[Any]:
        return [(await world.get(path)).data for path in ("/v1/messages/batches", "/v1/messages", "/v1/images")]

    batches, calls, images = World().run(main)
    assert batches["type"] == calls["type"] == "error"
    assert batches["error"]["message"] == "there is no GET /v1/messages/batches here"
    assert "type" not in images


def test_metrics_leave_out_what_is_unknown():
    """Somebody would see in a chart that a caller of a model without a price had spent nothing."""
    world = World(base_url="http://127.0.0.1:1/v1", models=("mine",))

    async def main(world: World) -> str:
        assert (await world.ask(PATHS["openai"], {**CHAT, "model": "mine"}, x_api_key="k")).status == 200
        return (await world.get("/metrics", x_api_key="k")).body.decode()

    lines = [line for line in world.run(main).splitlines() if not line.startswith("#")]
    assert any(line.startswith("flatout_gateway_unpriced_total{") and line.endswith(" 1") for line in lines)
    assert not any(line.startswith("flatout_gateway_spent_dollars_total{") for line in lines)


def test_metrics_are_what_prometheus_reads():
    """Prometheus would drop all of the gateway's figures, for one line that it cannot read."""
    parser = pytest.importorskip("prometheus_client.parser")

    async def main(world: World) -> str:
        async with exporting(world.client, text=True) as exported:
            world.gateway.status.more = exported.text
            name = 'a "b\\c\nd'
            await asyncio.gather(*(world.ask(PATHS["openai"], CHAT, x_api_key=key) for key in ("k", name)))
            await world.gateway.callers.of(name)
            return (await world.get("/metrics")).body.decode()

    text = World().run(main)
    families = {family.name: family for family in parser.text_string_to_metric_families(text)}
    calls = families["flatout_gateway_calls"]
    assert calls.type == "counter"
    assert sum(sample.value for sample in calls.samples) == 2
    assert 'a "b\\c\nd' in {sample.labels["caller"] for sample in calls.samples}
    assert "gen_ai_client_operation_duration_seconds" in families
    assert text.count("# TYPE") == len(families)
