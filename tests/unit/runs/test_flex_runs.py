"""Runs in the flex lane, on the virtual clock."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from flatout import Client, ConfigError
from flatout.cli.progress import WAYS
from flatout.layer import Request, Response
from flatout.look.course import Course
from flatout.look.why import afterwards
from flatout.progress._line import state
from flatout.runs.job import RunEnd, RunOptions
from flatout.runs.runner import Runner
from flatout.store import RunReader
from flatout.testing import BatchSettings, ProviderModel, ProviderSettings, SimulatedTransport, run_virtual

DAY, HOUR, MINUTE = 86_400.0, 3_600.0, 60.0


class Wire(SimulatedTransport):
    """Counts the answers of each service."""

    def __init__(self, model: ProviderModel) -> None:
        super().__init__(model)
        self.answers: Counter[str] = Counter()
        self.at: dict[str, float] = {}

    async def send(self, request: Request) -> Response:
        answer = await super().send(request)
        if request.url.endswith("/chat/completions"):
            tier = json.loads(request.body).get("service_tier", "live")
            self.answers[f"{tier} {answer.status}"] += 1
            self.at.setdefault(tier, asyncio.get_running_loop().time())
        return answer


class Job:
    """An input, and the command that is given for it."""

    def __init__(self, folder: Path, rows: int = 40) -> None:
        self.folder, self.rows = folder, rows
        self.run_file = folder / "out.jsonl.flatout"
        (folder / "in.jsonl").write_text("".join(json.dumps({"prompt": f"row {n}"}) + "\n" for n in range(rows)))
        self.model = ProviderModel(ProviderSettings())
        self.took = 0.0
        self.said: list[str] = []

    def provider(self, **settings: Any) -> None:
        self.model = ProviderModel(ProviderSettings(**settings))

    def client(self) -> Client:
        self.wire = Wire(self.model)
        return Client("openai/gpt-5-mini", api_key="k", transport=self.wire, config={}, seed=1)

    def run(self, *, stop_at: float | None = None, start: float = 0.0, **options: Any) -> RunEnd:
        files = {"source": str(self.folder / "in.jsonl"), "output": str(self.folder / "out.jsonl")}
        given: dict[str, Any] = {**files, "lane": "flex", **options}

        async def main() -> RunEnd:
            loop = asyncio.get_running_loop()
            self.runner = Runner(RunOptions(**given), self.client, self.said.append)
            self.runner.prepare()
            if stop_at is not None:
                loop.call_at(stop_at, self.runner.stop)
            end = await self.runner.run()
            self.took = loop.time() - start
            return end

        return run_virtual(main(), limit=10 * DAY, start=start)

    def check(self) -> None:
        """Every row once, in order, with an answer of its own; and each was paid once."""
        rows = [json.loads(line) for line in (self.folder / "out.jsonl").read_text().splitlines()]
        assert [row["prompt"] for row in rows] == [f"row {n}" for n in range(self.rows)]
        assert all(row["error"] is None for row in rows)
        stats = self.model.stats()
        assert (stats["answered"], stats["duplicates"]) == (self.rows, 0)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def test_a_run_in_the_flex_lane(job: Job) -> None:
    """The lane would not work at all, or cost what the live one costs."""
    job.run()
    job.check()
    assert job.wire.answers == {"flex 200": 40}
    with RunReader.open(job.run_file) as reader:
        assert reader.fact("lane") == "flex"
        cheap = reader.summary().cost
        assert {attempt.target for attempt in reader.history(3).attempts} == {"openai/gpt-5-mini@flex"}
    job.provider()
    job.run(lane="live", fresh=True)
    with RunReader.open(job.run_file) as reader:
        assert cheap == pytest.approx((reader.summary().cost or 0.0) / 2)


def test_rows_wait_for_room_without_end(job: Job) -> None:
    """Without --within nobody said that the answers are wanted soon. None of the rows may fail meanwhile."""
    job.provider(no_room=(0.0, 2 * HOUR))
    assert job.run().unfinished == 0
    job.check()
    assert job.wire.answers["live 200"] == 0


def test_a_service_without_room_is_not_down(job: Job) -> None:
    """The live line would tell of an outage and of hundreds of retries, where nothing is wrong."""
    job.provider(no_room=(0.0, HOUR))
    end = job.run(stop_at=30 * MINUTE)
    assert end.interrupted
    progress = job.runner.progress
    assert list(progress.no_room) == ["openai/gpt-5-mini@flex"]
    assert (progress.down, progress.retries) == ({}, 0)
    assert any("no room in openai/gpt-5-mini@flex since" in fact for fact in state(progress, WAYS))
    with RunReader.open(job.run_file) as reader:
        course = Course()
        course.refresh(reader)
    assert not any(stretch.failed or stretch.refused for stretch in course.whole())
    assert [each.target for each in course.happenings if each.kind == "full"] == ["openai/gpt-5-mini@flex"]
    assert not any(each.kind == "down" for each in course.happenings)
    assert job.run().unfinished == 0
    assert job.runner.progress.no_room == {}


def test_rows_that_wait_for_room_wait_for_no_input(job: Job) -> None:
    """An input that was read to its end would be blamed for what the provider's want of room does."""
    job.provider(no_room=(0.0, HOUR))
    job.run(stop_at=30 * MINUTE)
    with RunReader.open(job.run_file) as reader:
        course = Course()
        course.refresh(reader)
        found = afterwards(reader, 0.0)
    held = Counter[str]()
    for stretch in course.whole():
        held.update(stretch.held)
    assert held["room"] > 29 * MINUTE
    assert held["input"] < MINUTE
    assert found[0].text.startswith("The provider's flex service had no room 9")


def test_rows_go_on_live_when_the_time_that_is_left_just_covers_it(job: Job) -> None:
    """The deadline would be missed; or the rows would cost twice as much as they have to."""
    job.provider(no_room=(0.0, math.inf))
    assert job.run(within=HOUR).unfinished == 0
    job.check()
    assert job.wire.answers["live 200"] == 40
    assert HOUR / 2 < job.wire.at["live"] < job.took < HOUR


def test_a_stopped_run_goes_on(job: Job) -> None:
    """Rows that were answered, at whatever price, would be paid again."""
    job.provider(no_room=(5.0, HOUR), rpm=240, burst=1)
    assert job.run(stop_at=10.0).unfinished
    assert job.run(start=2 * HOUR).unfinished == 0
    job.check()


def test_the_lane_may_change_from_command_to_command(job: Job) -> None:
    """A user in a hurry would have to pay the whole run again."""
    job.provider(no_room=(5.0, math.inf), rpm=240, burst=1)
    left = job.run(stop_at=10.0).unfinished
    assert left
    assert job.run(lane="live").unfinished == 0
    job.check()
    assert job.wire.answers["live 200"] == left
    assert "flex" not in job.wire.at


def test_the_time_counts_from_the_first_command(job: Job) -> None:
    """Each further command would put the end off, and rows would wait for room for ever."""
    job.provider(no_room=(0.0, math.inf))
    assert job.run(within=HOUR, stop_at=MINUTE).unfinished == 40
    assert job.run(within=HOUR, start=50 * MINUTE).unfinished == 0
    job.check()
    assert job.wire.answers == {"live 200": 40}


def test_from_batch_to_flex_to_live(job: Job) -> None:
    """The most expensive lane would be taken too early, or the deadline missed."""
    job.provider(batch=BatchSettings(time=5 * DAY, window=7 * DAY), no_room=(DAY - HOUR, math.inf), rpm=240)
    assert job.run(lane="batch", within=DAY).unfinished == 0
    job.check()
    assert job.wire.at["flex"] < job.wire.at["live"]
    assert DAY - 2 * HOUR < job.wire.at["flex"] < job.took < DAY


def test_from_batch_to_flex_costs_half(job: Job) -> None:
    """Rows that leave their batches need not pay the live price as long as flex is in time."""
    job.provider(batch=BatchSettings(time=5 * DAY, window=7 * DAY))
    assert job.run(lane="batch", within=DAY).unfinished == 0
    job.check()
    assert set(job.wire.answers) == {"flex 200"}


@pytest.mark.parametrize(("within", "lane"), [(2 * DAY, "batch"), (2 * HOUR, "flex"), (10 * MINUTE, "live")])
def test_the_cheapest_lane_that_is_in_time(job: Job, within: float, lane: str) -> None:
    """ "auto" would cost too much, or come too late."""
    job.provider(batch=BatchSettings(time=HOUR))
    assert job.run(lane="auto", within=within).unfinished == 0
    job.check()
    assert job.said[0].startswith(f"--lane auto takes {lane}: ")
    with RunReader.open(job.run_file) as reader:
        assert reader.fact("lane") == lane


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"detach": True}, "--detach is for batches"),
        ({"within": 600.0}, "--within is too short for flex: rows must leave it 18 min before the end, to be asked"),
        ({"params": {"service_tier": "flex"}}, "leave service_tier=flex out"),
        ({"model": "local"}, "the embedded model has no flex lane"),
        ({"source": "-", "within": DAY}, "--within has to know how many rows there are"),
    ],
)
def test_what_the_lane_cannot_do_is_refused(job: Job, options: dict[str, Any], message: str) -> None:
    """It would be found out after a day, or never."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        job.run(**options)
    assert job.model.stats()["received"] == 0


def test_a_model_without_the_lane_is_refused_with_those_that_it_has(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows would fail one by one."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    with pytest.raises(ConfigError, match="anthropic/claude-haiku-4-5 has live and batch"):
        job.run(model="anthropic/claude-haiku-4-5")
