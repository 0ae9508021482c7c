"""Embeddings in batches: the vectors of the live lane, for half the price, once for each text."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flatout import Client, ConfigError
from flatout.testing import BatchFaults, BatchSettings, ProviderModel, ProviderSettings, SimulatedTransport, run_virtual

TEXTS = [f"text {n}" for n in range(30)]
FORMS: dict[str, tuple[str, Any]] = {
    "openai": ("openai/text-embedding-3-small", "openai"),
    "azure": ("azure/text-embedding-3-small", "azure"),
    "mistral": ("mistral/mistral-embed", "openai"),
}


def provider(dialect: Any = "openai", **faults: float) -> ProviderModel:
    batch = BatchSettings(dialect=dialect, faults=BatchFaults(**faults))
    return ProviderModel(ProviderSettings(latency=1.0, batch=batch), 1)


async def embed(model: str, server: ProviderModel, texts: list[Any] = TEXTS, **options: Any) -> list[Any]:
    transport = SimulatedTransport(server)
    async with Client(model, api_key="k", transport=transport, config={}, seed=1) as client:
        return await client.embed(texts, **options)


@pytest.fixture(autouse=True)
def azure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://r.openai.azure.com")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("faults", [{}, {"missing": 0.2, "failed": 0.2, "cut": 0.3, "lost": 0.2}])
def test_vectors_are_those_of_the_live_lane(tmp_path: Path, form: str, faults: dict[str, float]) -> None:
    """The vectors of half the price would be others, or belong to other texts."""
    model, dialect = FORMS[form]
    store, server = tmp_path / "v.flatout", provider(dialect, **faults)
    live = run_virtual(embed(model, provider(dialect), dimensions=8))
    found = run_virtual(embed(model, server, dimensions=8, lane="batch", store=store), limit=1e7)
    assert [each.output for each in found] == [each.output for each in live]
    assert [(each.index, each.item, each.ok) for each in found] == [(n, text, True) for n, text in enumerate(TEXTS)]
    assert server.stats()["duplicates"] == 0
    created = server.stats()["batches"]["created"]
    again = run_virtual(embed(model, server, dimensions=8, lane="batch", store=store))
    assert [each.output for each in again] == [each.output for each in live]
    assert server.stats()["batches"]["created"] == created


def test_a_program_that_was_killed_collects(tmp_path: Path) -> None:
    """All texts would be paid for twice."""
    model, server, store = FORMS["openai"][0], provider(), tmp_path / "v.flatout"

    async def killed() -> None:
        async with asyncio.timeout(300):
            await embed(model, server, lane="batch", store=store)

    with pytest.raises(TimeoutError):
        run_virtual(killed())
    found = run_virtual(embed(model, server, lane="batch", store=store), limit=1e7, start=5_000.0)
    assert all(each.ok for each in found)
    assert server.stats()["batches"]["created"] == 1


def test_equal_texts_are_asked_once_and_bad_ones_fail_alone(tmp_path: Path) -> None:
    """A text that occurs ten times would be paid for ten times; or one bad value would cost the others their batch."""
    texts: list[Any] = ["a", "b", "a", 5, "", "a"]
    server = provider()
    found = run_virtual(embed(FORMS["openai"][0], server, texts, lane="batch", store=tmp_path / "v"), limit=1e7)
    assert [each.ok for each in found] == [True, True, True, False, False, True]
    assert found[0].output == found[2].output == found[5].output != found[1].output
    assert isinstance(found[3].error, ConfigError)
    assert server.stats()["batches"]["rows"] == 2


@pytest.mark.parametrize(
    ("model", "options", "why"),
    [
        ("anthropic/claude-opus-4-6", {"store": "v"}, "has no embeddings"),
        ("gemini/gemini-embedding-001", {"store": "v"}, "no batches for embeddings"),
        ("groq/m", {"store": "v"}, "no batches for embeddings"),
        ("openai/m", {}, "add store="),
        ("openai/m", {"store": "v", "lane": "flex"}, "the lanes 'live' and 'batch'"),
        ("openai/m", {"store": "v", "lane": "live"}, "for batches only"),
        ("openai/m", {"store": "v", "progress": True}, "leave it out"),
    ],
)
def test_what_has_no_batches_is_refused(tmp_path: Path, model: str, options: dict[str, Any], why: str) -> None:
    """It would be asked live, at twice the price, or fail after a day."""
    given = {"lane": "batch", **options}
    if "store" in given:
        given["store"] = tmp_path / given["store"]
    server = provider()
    with pytest.raises(ConfigError, match=why):
        run_virtual(embed(model, server, **given))
    assert server.stats()["batches"]["files"] == 0
