"""A run in the batch lane against the simulated provider, in any provider's form, on the virtual clock."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace

from flatout import Client
from flatout.lanes import offers
from flatout.lanes.batch import lane_target
from flatout.lanes.batch.format import BatchFormat
from flatout.lanes.batch.formats import gemini, mistral
from flatout.lanes.batch.lane import BatchLane
from flatout.layer import Request, Response
from flatout.providers.registry import BUILT_IN
from flatout.runs.job import RunEnd, RunOptions
from flatout.runs.runner import Runner
from flatout.store import RunFile, RunReader
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

from .batch_wire import Killed

DAY = 86_400.0
WINDOW = 3_600.0
"""Seconds after which the provider gives a batch up: less than a day, for each look at a batch takes time."""

AZURE = "https://r.openai.azure.com"
DIALECTS = {"azure": "azure", "together": "together", "xai": "xai"}
FORMS = [
    *("openai", "openai-responses", "azure", "groq", "together", "xai", "fireworks", "anthropic", "mistral"),
    *("mistral-file", "gemini", "gemini-file", "openrouter"),
]
"""All forms of batch endpoints; Gemini and Mistral have two."""

KEYS = [endpoint.key_env for endpoint in BUILT_IN.values() if endpoint.key_env]
"""The environment variables of all providers' keys."""

COMMITS = ("intend", "uploaded", "open", "results", "end", "drop", "clear")


class World:
    """A provider, an input, and the command that is given for it.

    Args:
        form: one of `FORMS`, or several: then rows are asked of each in turn.
        folder: for the files.
        monkeypatch: changes the size of batches, and lets processes die.
        rows: of the input.
        most: rows of a batch.
        seed: of all draws.
        faults: of batches.
        settings: of batches.
    """

    def __init__(
        self,
        form: str | Sequence[str],
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        *,
        rows: int = 20,
        most: int = 6,
        seed: int = 1,
        faults: dict[str, float] | None = None,
        **settings: Any,
    ) -> None:
        forms = [form] if isinstance(form, str) else form
        self.names = [f"{each.removesuffix('-file')}/m" for each in forms]
        for module in [
            module for name, module in (("gemini", gemini), ("mistral", mistral)) if f"{name}-file" in forms
        ]:
            monkeypatch.setattr(module, "INLINE", 0)
        given = {"time": 60.0, "time_p99": 120.0, "window": WINDOW, **settings}
        self.models = {each: _provider(each, seed, BatchFaults(**(faults or {})), given) for each in forms}
        self.fate = Fate(seed)
        self.transport = Mortal({_host(form): model for form, model in self.models.items()}, self.fate)
        self.prompts = [f"question {n}" for n in range(rows)]
        self.key = "k"
        self.source, self.output = folder / "in.jsonl", folder / "out.jsonl"
        self.write()
        self.clock = 0.0
        for variable in (*KEYS, "FIREWORKS_ACCOUNT_ID"):
            monkeypatch.setenv(variable, "k")
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", AZURE)
        monkeypatch.setattr(lane_target, "batch_format", _small(most))
        for name in COMMITS:
            monkeypatch.setattr(Ledger, name, self.fate.mortal(getattr(Ledger, name)))
        monkeypatch.setattr(RunFile, "finish_all", self.fate.mortal(RunFile.finish_all))

    def write(self) -> None:
        """Write the input. Several providers are asked in turn."""
        rows = [
            {"prompt": prompt, **({"model": self.names[place % len(self.names)]} if len(self.names) > 1 else {})}
            for place, prompt in enumerate(self.prompts)
        ]
        self.source.write_text("".join(json.dumps(row) + "\n" for row in rows))

    @property
    def model(self) -> ProviderModel:
        """The provider, if it is the only one."""
        [model] = self.models.values()
        return model

    @property
    def run_file(self) -> Path:
        return self.output.with_name(f"{self.output.name}.flatout")

    @property
    def mark(self) -> str:
        """What begins the names that the run gives to what it has at the provider."""
        with RunReader.open(self.run_file) as reader:
            assert reader.ledger is not None
            return f"flatout-{reader.ledger.run}"

    def client(self) -> Client:
        prices = {f"{model}@batch": {"input": 1.0, "output": 2.0} for model in self.names}
        return Client(self.names[0], api_key=self.key, transport=self.transport, config={"prices": prices}, seed=1)

    def run(self, **options: Any) -> RunEnd:
        """Give the command; the clock goes on from command to command."""
        given = RunOptions(**{"source": str(self.source), "output": str(self.output), "lane": "batch", **options})

        async def main() -> RunEnd:
            try:
                runner = Runner(given, self.client)
                runner.prepare()
                return await runner.run()
            finally:
                self.clock = asyncio.get_running_loop().time()

        return run_virtual(main(), limit=400 * DAY, start=self.clock)

    def cancel(self) -> None:
        """Cancel all open batches, as ``flatout batch cancel`` does."""

        async def main() -> None:
            with RunReader.open(self.run_file) as reader:
                job = reader.info().job
            store = RunFile.open(self.run_file, job=job)
            try:
                lane = BatchLane(self.client()._engine, store.ledger, str(self.run_file), _no_row)
                await lane.cancel()
            finally:
                await store.close()

        run_virtual(main(), start=self.clock)

    def run_to_the_end(self, deaths: int = 0, one_in: int = 0) -> RunEnd:
        """Give the command again and again, until no process dies any more."""
        self.fate.one_in = one_in
        while True:
            try:
                return self.run()
            except Killed:
                if self.fate.deaths >= deaths:
                    self.fate.one_in = 0

    def written(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.read_text().splitlines()]

    def check(self, *, wrong: str | None = None) -> Sequence[dict[str, Any]]:
        """Every row once, in order, with its own answer; each was run once, and the cost is the provider's.

        Args:
            wrong: what the errors of rows say; None if no row may fail.

        Returns:
            The rows that failed.
        """
        rows = self.written()
        assert [row["prompt"] for row in rows] == self.prompts
        failed = [row for row in rows if row["error"] is not None]
        assert all(wrong is not None and wrong in row["error"] for row in failed), failed[:1]
        good = [row for row in rows if row["error"] is None]
        assert all(f"digest:{digest_of(row['prompt'])}" in row["answer"] for row in good)
        stats = [model.stats() for model in self.models.values()]
        assert sum(each["duplicates"] for each in stats) == 0
        assert sum(each["answered"] for each in stats) == len(good)
        self.check_cost([each["batches"] for each in stats])
        return failed

    def check_cost(self, statements: Sequence[dict[str, int]]) -> None:
        """The cost is what the providers' own accounts say."""
        cost = sum(each["prompt_tokens"] * 1.0 + each["output_tokens"] * 2.0 for each in statements) / 1e6
        with RunReader.open(self.run_file) as reader:
            assert reader.summary().cost == pytest.approx(cost)


class Fate:
    """Kills the process at one moment in so many; each request and each commit has two."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.one_in = 0
        self.deaths = 0

    def draw(self) -> None:
        if self.one_in and self._random.randrange(self.one_in) == 0:
            self.deaths += 1
            raise Killed

    def mortal(self, real: Any) -> Any:
        """A commit before or after which the process may die."""

        async def commit(*args: Any) -> None:
            self.draw()
            await real(*args)
            self.draw()

        return commit


class Mortal:
    """Carries requests, until the process dies before or after one of them.

    Args:
        models: the providers, by their hosts.
        fate: draws whether it dies now.

    Attributes:
        requests: the methods and the addresses of all requests.
        instead: replaces the answer to a request; None leaves it.
    """

    def __init__(self, models: Mapping[str, ProviderModel], fate: Fate) -> None:
        self._carriers = {host: SimulatedTransport(model) for host, model in models.items()}
        self._fate = fate
        self.requests: list[str] = []
        self.instead: Callable[[Request], Response | None] = lambda _: None

    async def send(self, request: Request) -> Response:
        self._fate.draw()
        answer = self.instead(request) or await self._carrier(request).send(request)
        self._fate.draw()
        return answer

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[Any]:
        self._fate.draw()
        async with self._carrier(request).stream(request) as answer:
            yield answer
        self._fate.draw()

    async def close(self) -> None:
        """Stay open for the next process."""

    def _carrier(self, request: Request) -> SimulatedTransport:
        self.requests.append(f"{request.method} {request.url}")
        return self._carriers[urlsplit(request.url).netloc]


async def _no_row(*_: object) -> None:
    raise AssertionError("no row is read")


def _host(form: str) -> str:
    where = AZURE if form == "azure" else BUILT_IN[form.removesuffix("-file")].base_url
    return urlsplit(where).netloc


def _provider(form: str, seed: int, faults: BatchFaults, settings: dict[str, Any]) -> ProviderModel:
    dialect: Any = DIALECTS.get(form, "openai")
    batch = BatchSettings(dialect=dialect, faults=faults, **settings)
    return ProviderModel(ProviderSettings(latency=1.0, batch=batch), seed)


def _small(most: int) -> Callable[..., BatchFormat]:
    def made(*args: Any) -> BatchFormat:
        found = offers.batch_format(*args)
        found.caps = replace(found.caps, rows=most, seconds=WINDOW)
        return found

    return made
