"""Plans of the command: what they leave behind."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from flatout import Client, ConfigError, Limits, RunMismatch
from flatout.planning.outlook import Outlook
from flatout.planning.size import SampleSize
from flatout.runs.job import RunEnd, RunOptions
from flatout.runs.plan.forecast import Watch, fact_of
from flatout.runs.plan.planner import Planner
from flatout.runs.runner import Runner
from flatout.testing import Faults, ProviderModel, ProviderSettings, SimulatedTransport, run_virtual
from flatout.values.plan import Plan, Range
from tests.support.batch_wire import BatchWire

PRICES = {"prices": {"sim/m": {"input": 1.0, "output": 4.0}}}


class Job:
    """An input, and the commands that are given for it."""

    def __init__(self, folder: Path, provider: ProviderSettings | None = None, **made: Any) -> None:
        self.source = folder / "in.jsonl"
        self.output = folder / "out.jsonl"
        self.run_file = folder / "out.jsonl.flatout"
        self.provider = ProviderModel(provider or ProviderSettings(latency=0.5))
        self.made = {"base_url": "http://sim/v1", "config": PRICES, "limits": Limits(rpm=600), **made}
        self.source.write_text("".join(json.dumps({"prompt": f"prompt {n}"}) + "\n" for n in range(100)))

    def runner(self, **options: Any) -> Runner:
        def client() -> Client:
            return Client(**{"model": "m", "transport": SimulatedTransport(self.provider), **self.made})

        return Runner(RunOptions(source=str(self.source), output=str(self.output), **options), client)

    def plan(self, sample: int = 20, *, dry_run: bool = False, rows: int | None = None, **options: Any) -> Plan:
        async def main() -> Plan | None:
            planner = Planner(self.runner(**options), SampleSize.of(sample), 1.0, dry_run=dry_run, rows=rows)
            planner.prepare()
            return await planner.run()

        plan = run_virtual(main())
        assert plan is not None
        return plan

    def run(self, **options: Any) -> RunEnd:
        async def main() -> RunEnd:
            runner = self.runner(**options)
            runner.prepare()
            return await runner.run()

        return run_virtual(main())


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_sample_plans_for_rows_that_are_not_here(tmp_path: Path, dry_run: bool) -> None:
    """Nobody could plan a job of a hundred million rows without writing them all to a file first."""
    job = Job(tmp_path)
    plan = job.plan(dry_run=dry_run, rows=100_000_000)
    assert (plan.calls, plan.left) == (100_000_000, 100_000_000 - plan.asked)
    assert plan.cost is not None
    assert plan.seconds is not None
    assert plan.seconds.p50 == pytest.approx(100_000_000 / 600 * 60, rel=0.05)
    small = job.plan(dry_run=True)
    assert small.cost is not None
    if dry_run:
        assert plan.cost.p50 == pytest.approx(1_000_000 * small.cost.p50, rel=0.05)
    assert any("100,000,000 calls are as the 100 here" in each for each in plan.assumed)


def test_a_plan_for_all_rows_of_a_sample_that_is_answered(tmp_path: Path) -> None:
    """A file of few rows, all of which are asked, would seem to be the whole job."""
    plan = Job(tmp_path).plan(sample=100, rows=1_000)
    assert (plan.asked, plan.left) == (100, 900)


def test_fewer_rows_than_the_input_has_are_refused(tmp_path: Path) -> None:
    """The figures would be of a job that nobody can run."""
    with pytest.raises(ConfigError, match="--rows 50 are fewer than the 100"):
        Job(tmp_path).plan(dry_run=True, rows=50)


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
    assert (plan.asked, plan.spent) == (8, 0.0)
    assert not job.run_file.exists()
    job.provider = ProviderModel(ProviderSettings(latency=0.5))
    assert job.plan(params={"temperature": 0}).spent


@pytest.mark.parametrize("dry_run", [True, False], ids=["dry run", "sample"])
@pytest.mark.parametrize("what", ["server", "temperature", "column prompt"])
def test_a_plan_refuses_the_run_file_of_another_job(tmp_path: Path, what: str, dry_run: bool) -> None:
    """Answers to other questions would be counted as done, and the job would seem to cost less than it does."""
    job = Job(tmp_path)
    job.plan()
    options: dict[str, Any] = {}
    if what == "server":
        job.made["base_url"] = "http://sim/v2"
    elif what == "temperature":
        options = {"params": {"temperature": 0}}
    else:
        job.source.write_text("".join(json.dumps({"prompt": f"other prompt {n}"}) + "\n" for n in range(100)))
    with pytest.raises(RunMismatch, match=f"belongs to another job: .*{what}"):
        job.plan(dry_run=dry_run, **options)
    assert job.plan(dry_run=dry_run, fresh=True).finished == (0 if dry_run else 20)


@pytest.mark.parametrize("dry_run", [True, False], ids=["dry run", "sample"])
def test_a_plan_that_reckons_says_so_and_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dry_run: bool
) -> None:
    """Of a long input, a terminal would say for minutes that calls do not answer, and no signal would end that."""
    begun, goes_on = threading.Event(), threading.Event()

    def slow(*_: object) -> None:
        begun.set()
        assert goes_on.wait(10.0)

    monkeypatch.setattr(Outlook, "plan", slow)
    planner = Planner(Job(tmp_path).runner(), SampleSize.of(5), 1.0, dry_run=dry_run)
    planner.prepare()

    async def main() -> Plan | None:
        planning = asyncio.ensure_future(planner.run())
        await asyncio.to_thread(begun.wait, 30.0)
        assert planner.reckons
        planner.stop()
        return await planning

    with asyncio.Runner() as runner:
        assert runner.run(main()) is None
    goes_on.set()


@pytest.mark.parametrize("lost", [False, True], ids=["nothing sent", "perhaps paid"])
def test_a_wrong_address_can_be_mended_while_nothing_was_answered(tmp_path: Path, lost: bool) -> None:
    """Whoever mistyped the port at the first try would be told that the right one belongs to another job."""
    job = Job(tmp_path)
    job.made["base_url"] = "http://sim:1/v1"
    runner = job.runner()
    runner.prepare()
    if lost:
        asyncio.run(runner.job.store.note_attempt(0, 1, "sim:1/m", 1.0, None))
    runner.job.store.mark("interrupted")
    runner.job.store.close_now()
    job.made["base_url"] = "http://sim/v1"
    if lost:
        for dry_run in (True, False):
            with pytest.raises(RunMismatch, match="belongs to another job: server"):
                job.plan(dry_run=dry_run)
    else:
        assert job.plan(dry_run=True).finished == 0
        assert job.run().unfinished == 0
        job.made["base_url"] = "http://sim:1/v1"
        with pytest.raises(RunMismatch, match="belongs to another job: server"):
            job.run()


def test_a_plan_keeps_the_run_file_that_was_there(tmp_path: Path) -> None:
    """Answers that were paid for would be deleted, because a later plan asked nothing."""
    job = Job(tmp_path)
    job.plan()
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
    assert (plan.asked, plan.spent, plan.unpriced) == (20, None, 20)
    assert job.run_file.exists()


OPENAI = {"model": "openai/gpt-5-mini", "base_url": None, "api_key": "k", "config": {}}
DAY = 86_400.0


@pytest.mark.parametrize("dry_run", [True, False], ids=["dry run", "sample"])
@pytest.mark.parametrize(
    ("lane", "within", "taken", "why"),
    [
        ("live", None, "live", ""),
        ("flex", None, "flex", ""),
        ("batch", None, "batch", ""),
        ("batch", 2 * DAY, "batch", ""),
        (
            "auto",
            2 * DAY,
            "batch",
            "--lane auto takes batch: batch costs half of the live price; the provider promises",
        ),
        ("auto", 7_200.0, "flex", "--lane auto takes flex: flex costs half of the live price; "),
        ("auto", 300.0, "live", "--lane auto takes live: live costs the live price; "),
    ],
)
def test_a_plan_names_the_lane_that_the_run_takes(
    tmp_path: Path, lane: str, within: float | None, taken: str, why: str, dry_run: bool
) -> None:
    """The figures of another lane would be confirmed than the one that is then paid for."""
    plan = Job(tmp_path, **OPENAI).plan(dry_run=dry_run, lane=lane, within=within)
    assert (plan.lane, plan.why[: len(why)], bool(plan.why)) == (taken, why, bool(why))
    mine = next(each for each in plan.models[0].lanes if each.name == taken)
    assert plan.cost is not None
    assert mine.cost is not None
    assert plan.cost.p90 == pytest.approx(mine.cost.p90)
    assert plan.seconds == mine.seconds


def test_a_time_that_is_too_short_is_refused_before_the_sample(tmp_path: Path) -> None:
    """A sample would be paid for, for a run that is refused."""
    job = Job(tmp_path, **OPENAI)
    with pytest.raises(ConfigError, match="--within is too short for batches"):
        job.plan(lane="batch", within=600.0)
    assert job.provider.stats()["received"] == 0
    assert not job.run_file.exists()


def test_a_run_in_another_lane_is_not_held_against_the_forecast() -> None:
    """Half the price would be told as a forecast that was wrong."""
    told: list[str] = []
    fact = fact_of(Plan(calls=100, left=100, cost=Range(1.0, 2.0, 3.0)), {})
    for lane, there in (("live", True), ("flex", False)):
        assert (Watch.of(fact, lane, "m", lambda: 0.0, lambda: 0.0, told.append) is not None) is there


def test_a_plan_is_not_said_to_be_wrong_after_an_outage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An outage of a minute would be extrapolated to all rows that are left: "will take about 160 s, not 8 to 9"."""
    job = Job(tmp_path)
    job.plan()
    job.provider = ProviderModel(ProviderSettings(latency=0.5, outage=(3.0, 60.0)))
    assert job.run().unfinished == 0
    assert "will take about" not in caplog.text


def test_the_forecast_of_a_lane_has_its_price(tmp_path: Path) -> None:
    """Each row of the flex lane would be held against the live price."""
    live = Job(tmp_path, **OPENAI).plan(dry_run=True)
    flex = Job(tmp_path, **OPENAI).plan(dry_run=True, lane="flex")
    assert fact_of(live, {"m": (1.0, 2.0)})["per_call"] == {"m": (1.0, 2.0)}
    assert fact_of(flex, {"m": (1.0, 2.0)})["per_call"]["m"] == pytest.approx((0.5, 1.0))


def test_rows_that_stand_in_batches_are_not_asked_for_a_plan(tmp_path: Path) -> None:
    """They would be paid for twice: live, and in their batch."""
    job = Job(tmp_path, **OPENAI, transport=BatchWire())
    assert job.run(lane="batch", detach=True).batches == 1
    with pytest.raises(ConfigError, match=r"100 rows of .* stand in batches"):
        job.plan(lane="batch")
    assert job.run(lane="batch", detach=True).batches == 1
