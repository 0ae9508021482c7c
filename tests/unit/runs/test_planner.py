"""Plans of the command: what they leave behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flatout import Client, ConfigError, Limits
from flatout.planning.size import SampleSize
from flatout.runs.job import RunEnd, RunOptions
from flatout.runs.plan.planner import Planner
from flatout.runs.runner import Runner
from flatout.testing import Faults, ProviderModel, ProviderSettings, SimulatedTransport, run_virtual
from flatout.values.plan import Plan
from tests.support.virtual_store import store_on_virtual_time

PRICES = {"prices": {"sim/m": {"input": 1.0, "output": 4.0}}}


@pytest.fixture(autouse=True)
def on_virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run file is written on the virtual clock."""
    store_on_virtual_time(monkeypatch)


class Job:
    """An input, and the commands that are given for it."""

    def __init__(self, folder: Path, provider: ProviderSettings | None = None, **made: Any) -> None:
        self.source = folder / "in.jsonl"
        self.output = folder / "out.jsonl"
        self.run_file = folder / "out.jsonl.flatout"
        self.provider = ProviderModel(provider or ProviderSettings(latency=0.5))
        self.made = {"config": PRICES, "limits": Limits(rpm=600), **made}
        self.source.write_text("".join(json.dumps({"prompt": f"prompt {n}"}) + "\n" for n in range(100)))

    def runner(self, **options: Any) -> Runner:
        def client() -> Client:
            return Client("m", base_url="http://sim/v1", transport=SimulatedTransport(self.provider), **self.made)

        return Runner(RunOptions(source=str(self.source), output=str(self.output), **options), client)

    def plan(self, sample: int = 20, **options: Any) -> Plan | None:
        async def main() -> Plan | None:
            planner = Planner(self.runner(**options), SampleSize.of(sample), 1.0, dry_run=False)
            planner.prepare()
            return await planner.run()

        return run_virtual(main())

    def run(self, **options: Any) -> RunEnd:
        async def main() -> RunEnd:
            runner = self.runner(**options)
            runner.prepare()
            return await runner.run()

        return run_virtual(main())


def test_a_plan_that_asked_nothing_leaves_no_run_file(tmp_path: Path) -> None:
    """Another job with the same output would be refused, for a file in which nothing is."""
    job = Job(tmp_path, config={})
    with pytest.raises(ConfigError, match="price"):
        job.plan()
    assert not job.run_file.exists()


def test_a_plan_without_an_answer_leaves_no_run_file(tmp_path: Path) -> None:
    """Somebody who mends a wrong parameter would be told that the file belongs to another job."""
    job = Job(tmp_path, ProviderSettings(faults=Faults(invalid=1.0)))
    plan = job.plan()
    assert plan is not None
    assert (plan.asked, plan.spent) == (8, 0.0)
    assert not job.run_file.exists()
    job.provider = ProviderModel(ProviderSettings(latency=0.5))
    assert job.plan(params={"temperature": 0}) is not None


def test_a_plan_keeps_the_run_file_that_was_there(tmp_path: Path) -> None:
    """Answers that were paid for would be deleted, because a later plan asked nothing."""
    job = Job(tmp_path)
    assert job.plan() is not None
    job.made["config"] = {}
    with pytest.raises(ConfigError, match="price"):
        job.plan()
    job.made["config"] = PRICES
    assert job.run().unfinished == 0
    assert job.provider.stats()["received"] == 100


def test_an_unknown_cost_of_the_sample_keeps_its_answers(tmp_path: Path) -> None:
    """What may have been paid for would be asked again."""
    job = Job(tmp_path, config={}, allow_unknown_price=True)
    plan = job.plan()
    assert plan is not None
    assert (plan.asked, plan.spent, plan.unpriced) == (20, None, 20)
    assert job.run_file.exists()
