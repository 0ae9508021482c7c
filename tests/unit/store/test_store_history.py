"""What a run file tells of one item: every attempt, and what the one before failed of."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flatout import Client, ServerError
from flatout.store import History, Noted, Ranked, RunReader, Tried, histories
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport
from tests.support.store_samples import item, open_run

KEY = "sk-0123456789abcdef"


def test_the_history_of_an_item(tmp_path: Path) -> None:
    """A trace would miss attempts that were settled, or show those of another item."""
    path = tmp_path / "a.flatout"

    async def main() -> None:
        async with open_run(path) as run:
            await run.note_attempt(1, 1, "o/m", 10.0, 0.5)
            await run.note_attempt(2, 1, "o/m", 11.0, 0.5)
            await run.note_attempt(1, 2, "o/n", 12.0, None, "7", "RateLimited: too fast")
            await run.journal(1, "7", b"f", "answered", b"{}")
            await run.finish(item(1, attempts=2))

    asyncio.run(main())
    with RunReader.open(path) as reader:
        found = reader.history(1)
        (noted,) = found.journal
        assert found.item == item(1, attempts=2)
        assert found.attempts == (
            Tried(1, 1, "o/m", 10.0, 0.5, None, "retried", None),
            Tried(1, 2, "o/n", 12.0, None, "7", "answered", "RateLimited: too fast"),
        )
        assert noted == Noted(b"f", "answered", b"{}", "7", noted.at)
        assert reader.history(2).attempts[0].outcome is None
        assert reader.history(3) == History(index=3)


def test_many_histories_are_those_of_each_item(tmp_path: Path) -> None:
    """A page of rows would show a row the attempts or the steps of another."""
    path = tmp_path / "a.flatout"

    async def main() -> None:
        async with open_run(path) as run:
            for index, attempt in ((0, 1), (2, 1), (1, 1), (2, 2), (4, 1)):
                await run.note_attempt(index, attempt, "o/m", 10.0 + attempt, 0.5)
            await run.journal(2, "7", b"f", "answered", b"{}")
            for index in (0, 2, 4):
                await run.finish(item(index, attempts=2))

    asyncio.run(main())
    with RunReader.open(path) as reader:
        chosen = [one for one in reader.items() if one.index != 4]
        assert histories(reader, chosen) == [reader.history(0), reader.history(2)]
        assert histories(reader, []) == []


def test_an_attempt_that_cost_nothing_is_never_in_doubt(tmp_path: Path) -> None:
    """After a kill, a connection that was refused would count as money that may be lost, and as money spent."""
    path = tmp_path / "a.flatout"

    async def main() -> None:
        async with open_run(path) as run:
            for place in (None, "7"):
                await run.note_attempt(1, 1, "o/m", 10.0, 0.5, place)
            await run.note_attempt(2, 1, "o/m", 10.0, 0.25)
            run.note_failed(1, 1, billed=False)
            run.note_failed(2, 1, billed=False)
            await run.finish(item(2, "failed", cost=None))

    asyncio.run(main())
    with RunReader.open(path) as reader:
        assert [tried.outcome for tried in reader.history(1).attempts] == ["failed", None]
        assert reader.unsettled().cost == 0.5
        assert reader.spent() == 0.0


def test_items_are_ranked_with_the_unknown_last(tmp_path: Path) -> None:
    """A list of the slowest or costliest rows would begin with rows of which nothing is known."""
    path = tmp_path / "a.flatout"

    async def main() -> None:
        async with open_run(path) as run:
            for index, (seconds, cost) in enumerate([(1.0, None), (None, 0.5), (3.0, 0.25)]):
                await run.finish(item(index, seconds=seconds, cost=cost, id=f"r{index % 2}"))
            await run.finish(item(3, "failed", seconds=2.0, cost=0.75))

    asyncio.run(main())
    with RunReader.open(path) as reader:
        assert [row.index for row in reader.ranked("slowest", 9)] == [2, 3, 0, 1]
        assert [row.index for row in reader.ranked("costliest", 9)] == [3, 1, 2, 0]
        assert reader.ranked("failed", 9) == [
            Ranked(3, "row-3", "failed", 2.0, 1, 0.75, "RateLimited", "too fast 3"),
        ]
        assert len(reader.ranked("slowest", 2)) == 2
        assert reader.named("r0") == [0, 2]
        assert reader.named("r0", 1) == [0]
        assert reader.named("nobody") == []


class Failing(SimulatedTransport):
    """Fails twice for each call, quoting a key over several lines, then answers."""

    def __init__(self) -> None:
        super().__init__(ProviderModel(ProviderSettings(latency=0.0)))
        self._sent = 0

    async def send(self, request: Any) -> Any:
        self._sent += 1
        if self._sent % 3:
            raise ServerError(f"oh {self._sent}\n\x1b no: Bearer {KEY} " + "x" * 5_000)
        return await super().send(request)


def test_the_reason_of_each_retry_is_kept_without_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace could not say why a call was tried again, or the run file would hold a key that a server quoted."""
    path = tmp_path / "a.flatout"
    monkeypatch.setattr("flatout.layers.retry.delay", lambda *_, **__: 0.0)

    async def main() -> None:
        async with Client("m", base_url="http://sim/v1", config={}, seed=1, transport=Failing()) as client:
            assert [result.attempts async for result in client.as_completed(["x"], store=path)] == [3]

            async def twice(item: str, client: Client) -> str:
                return (await client.call(item)).text

            async for result in client.map(twice, ["y"], store=tmp_path / "b.flatout"):
                assert result.attempts == 3

    asyncio.run(main())
    for name in ("a", "b"):
        with RunReader.open(tmp_path / f"{name}.flatout") as reader:
            after = [tried.after for tried in reader.history(0).attempts]
        assert after[0] is None
        assert [str(reason).partition(" ")[0] for reason in after[1:]] == ["ServerError:"] * 2
        for reason in after[1:]:
            assert reason is not None
            assert KEY not in reason
            assert len(reason) == 200
            assert "\n" not in reason
