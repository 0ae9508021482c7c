"""The batch lane against the simulated provider, with all its faults, and processes that die on the way.

Nothing here knows the lane from within: the provider's own account says what was run and paid for.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from flatout import Client
from flatout.lanes.batch.formats import openai
from flatout.layer import Request, Response
from flatout.runs.job import RunEnd, RunOptions
from flatout.runs.runner import Runner
from flatout.store import RunFile
from flatout.store.ledger import Ledger
from flatout.testing import (
    BatchFaults,
    BatchSettings,
    ProviderModel,
    ProviderSettings,
    SimulatedTransport,
    digest_of,
    run_virtual,
)
from tests.support.batch_wire import Killed

ROWS, DEATHS = 5_000, 60
FAULTS = BatchFaults(
    lost=0.1, failed=0.02, missing=0.02, expires=0.1, stuck=0.02, poison=0.0005, unknown_state=0.3, cut=0.2
)


class Mortal(SimulatedTransport):
    """Carries requests, until the process dies before or after one of them.

    Args:
        model: the provider.
        fate: draws whether it dies now.
    """

    def __init__(self, model: ProviderModel, fate: Fate) -> None:
        super().__init__(model)
        self._fate = fate

    async def send(self, request: Request) -> Response:
        self._fate.draw()
        answer = await super().send(request)
        self._fate.draw()
        return answer

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[Any]:
        self._fate.draw()
        async with super().stream(request) as answer:
            yield answer
        self._fate.draw()


class Fate:
    """Kills the process at one moment in so many; each request and each commit has two."""

    def __init__(self, seed: int, one_in: int) -> None:
        self._random = random.Random(seed)
        self.one_in = one_in
        self.deaths = 0

    def draw(self) -> None:
        if self.one_in and self._random.randrange(self.one_in) == 0:
            self.deaths += 1
            raise Killed


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.soak)])
def test_every_row_once_whatever_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Rows would be lost, mixed up, or paid for twice."""
    caps = openai.DIALECTS["openai"]
    monkeypatch.setitem(openai.DIALECTS, "openai", replace(caps, caps=replace(caps.caps, rows=700)))
    settings = ProviderSettings(latency=1.0, batch=BatchSettings(faults=FAULTS, enqueued_tokens=60_000, in_order=False))
    model, fate = ProviderModel(settings, seed), Fate(seed, 40)
    for name in ("intend", "uploaded", "open", "results", "end", "drop", "clear"):
        monkeypatch.setattr(Ledger, name, _mortal(fate, getattr(Ledger, name)))
    monkeypatch.setattr(RunFile, "finish_all", _mortal(fate, RunFile.finish_all))
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    prompts = [f"question {n}" for n in range(ROWS)]
    source.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))

    async def life() -> RunEnd:
        given = RunOptions(source=str(source), output=str(output), lane="batch")
        runner = Runner(given, lambda: Client("openai/m", api_key="k", config={}, transport=Mortal(model, fate)))
        runner.prepare()
        return await runner.run()

    clock, end = 0.0, None

    async def timed() -> RunEnd:
        nonlocal clock
        try:
            return await life()
        finally:
            clock = asyncio.get_running_loop().time()

    while end is None:
        try:
            end = run_virtual(timed(), start=clock, limit=90 * 86_400.0)
        except Killed:
            if fate.deaths >= DEATHS:
                fate.one_in = 0
    assert end.unfinished == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["prompt"] for row in rows] == prompts
    answered = [row for row in rows if row["error"] is None]
    assert all(f"digest:{digest_of(row['prompt'])}" in row["answer"] for row in answered)
    poisoned = [row["error"] for row in rows if row["error"] is not None]
    assert all("This line cannot be processed" in error for error in poisoned)
    assert len(poisoned) < ROWS / 100
    stats = model.stats()
    assert (stats["duplicates"], stats["answered"], stats["batches"]["open"]) == (0, len(answered), 0)
    assert sum(row["input_tokens"] for row in answered) == stats["prompt_tokens"]
    assert fate.deaths >= DEATHS


def _mortal(fate: Fate, real: Any) -> Any:
    async def commit(*args: Any) -> None:
        fate.draw()
        await real(*args)
        fate.draw()

    return commit
