"""Runs in the batch lane: on the virtual clock, against a provider in memory that counts what it runs."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from flatout import Client, ConfigError, FlatoutError, RunMismatch
from flatout.lanes.batch.formats import openai
from flatout.lanes.batch.lane import BatchLane
from flatout.layer import Response
from flatout.runs.job import RunEnd, RunOptions
from flatout.runs.runner import Runner
from flatout.store import RunFile, RunReader
from flatout.store.ledger import Ledger
from flatout.testing import digest_of, run_virtual
from flatout.testing._clock import EPOCH
from tests.support.batch_wire import BatchWire, Killed

DAY = 86_400.0


class Job:
    """An input, and the command that is given for it."""

    def __init__(self, folder: Path, rows: int = 60) -> None:
        self.folder = folder
        self.source = folder / "in.jsonl"
        self.output = folder / "out.jsonl"
        self.run_file = folder / "out.jsonl.flatout"
        self.wire = BatchWire()
        self.key = "sk-1"
        self.later = 0.0
        self.runner: Runner | None = None
        self.prompts = [f"prompt {n}" for n in range(rows)]
        self.write(self.prompts)

    def write(self, prompts: list[str]) -> None:
        self.source.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))

    def client(self) -> Client:
        return Client("openai/gpt-5-mini", api_key=self.key, transport=self.wire, config={}, seed=1)

    def run(self, *, seconds: float = 10 * DAY, **options: Any) -> RunEnd:
        given = {"source": str(self.source), "output": str(self.output), "lane": "batch", **options}

        async def main() -> RunEnd:
            runner = self.runner = Runner(RunOptions(**given), self.client)
            runner.prepare()
            return await runner.run()

        return run_virtual(main(), limit=seconds, start=self.now())

    def now(self) -> float:
        """The virtual world goes on from command to command."""
        return self.later + max([0.0, *(job["created_at"] + 1 - EPOCH for job in self.wire.jobs.values())])

    def written(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.read_text().splitlines()]

    def check(self) -> None:
        """Every row once, in order, with its own answer; and each was run once."""
        assert [row["answer"] for row in self.written()] == [digest_of(prompt) for prompt in self.prompts]
        assert self.wire.runs == Counter(self.prompts)
        assert set(self.wire.created.values()) == {1}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 16 rows."""
    dialect = openai.DIALECTS["openai"]
    monkeypatch.setitem(openai.DIALECTS, "openai", replace(dialect, caps=replace(dialect.caps, rows=16)))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def test_rows_are_answered_in_batches(job: Job) -> None:
    """The lane would not work at all."""
    end = job.run()
    assert end.unfinished == 0
    job.check()
    assert len(job.wire.jobs) == 4


class Deaths:
    """Kills the process at one of the moments in which it talks to the provider or to the disk.

    Args:
        job: whose process.
        at: the moment's number, from 0; None counts only.
    """

    def __init__(self, job: Job, at: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
        self.moments: list[str] = []
        self.at = at
        job.wire.on_event = self.happens
        for kind, name in [
            *((Ledger, name) for name in ("intend", "uploaded", "open", "results", "end", "drop", "clear")),
            (RunFile, "finish_all"),
        ]:
            monkeypatch.setattr(kind, name, self._mortal(name, getattr(kind, name)))

    def _mortal(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        async def commit(*args: Any) -> None:
            self.happens(f"before {name}")
            await real(*args)
            self.happens(f"after {name}")

        return commit

    def happens(self, what: str) -> None:
        self.moments.append(what)
        if self.at is not None and len(self.moments) > self.at:
            self.at = None
            raise Killed(what)


def moments_of(job: Job, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many moments a run has."""
    with monkeypatch.context() as patch:
        deaths = Deaths(job, None, patch)
        job.run()
    job.check()
    return len(deaths.moments)


def quick(folder: Path) -> Job:
    """A job of 24 rows, whose batches take seconds."""
    folder.mkdir()
    job = Job(folder, rows=24)
    job.wire.seconds = 8.0
    return job


def test_a_process_may_die_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows would be lost, or paid for twice: the rows of a whole batch at once."""
    caps = openai.DIALECTS["openai"]
    monkeypatch.setitem(openai.DIALECTS, "openai", replace(caps, caps=replace(caps.caps, rows=10)))
    moments = moments_of(quick(tmp_path / "whole"), monkeypatch)
    assert moments > 50
    for at in range(moments):
        job = quick(tmp_path / str(at))
        with monkeypatch.context() as patch:
            deaths = Deaths(job, at, patch)
            with pytest.raises(Killed):
                job.run()
        assert job.run().unfinished == 0, deaths.moments[-1]
        job.check()


def test_a_process_may_die_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done about a death would itself not survive one."""
    for steps in (3, 7, 11, 16, 23):
        job = quick(tmp_path / str(steps))
        for _ in range(60):
            with monkeypatch.context() as patch:
                Deaths(job, steps, patch)
                try:
                    job.run()
                except Killed:
                    continue
                break
        job.run()
        job.check()


def first_time(fate: str | int) -> Callable[[str], str | int]:
    """A third of the rows fares like this the first time, and is answered then."""
    seen: Counter[str] = Counter()

    def decide(prompt: str) -> str | int:
        seen[prompt] += 1
        return fate if seen[prompt] == 1 and int(prompt.split()[1]) % 3 == 0 else "answered"

    return decide


@pytest.mark.parametrize("fate", ["missing", "expired", 500, 429])
def test_rows_that_were_not_run_go_into_the_next_batch(job: Job, fate: str | int) -> None:
    """Rows that the provider did not run would have no answer, although they can have one."""
    job.wire.fate = first_time(fate)
    assert job.run().unfinished == 0
    job.check()


def test_a_row_that_is_never_run_fails_at_last(job: Job) -> None:
    """A row that its provider always forgets would keep the run from ending."""
    job.wire.fate = lambda prompt: "missing" if prompt == "prompt 7" else "answered"
    assert job.run().unfinished == 0
    failed = [row for row in job.written() if row["error"]]
    assert [row["prompt"] for row in failed] == ["prompt 7"]
    assert "none of the 5 batches that it stood in has answered it" in failed[0]["error"]


def test_a_row_that_is_wrong_fails_alone(job: Job) -> None:
    """One bad row would be tried for ever, or be called answered."""
    job.wire.fate = lambda prompt: 400 if prompt == "prompt 7" else "answered"
    assert job.run().unfinished == 0
    assert [row["error"] for row in job.written() if row["error"]] == ["InvalidRequest: openai answered 400: no"]
    assert job.wire.runs == Counter(prompt for prompt in job.prompts if prompt != "prompt 7")


def lose(job: Job, *, method: str, path: str, times: int = 1) -> None:
    left = [times]

    def lost(was: str, at: str) -> bool:
        if was == method and at.startswith(path) and left[0]:
            left[0] -= 1
            return True
        return False

    job.wire.lost = lost


@pytest.mark.parametrize("path", ["/files", "/batches"])
@pytest.mark.parametrize("times", [1, 3])
def test_an_answer_that_is_lost_submits_nothing_twice(job: Job, path: str, times: int) -> None:
    """A batch whose creation was not answered would be created, and paid, a second time."""
    lose(job, method="POST", path=path, times=times)
    assert job.run().unfinished == 0
    job.check()


def test_results_that_break_off_are_read_again(job: Job) -> None:
    """The rows behind the break would be asked again, although they were answered and paid for."""
    job.wire.cut = 3
    assert job.run().unfinished == 0
    job.check()


def test_a_provider_in_trouble_is_waited_for(job: Job) -> None:
    """A wait of hours would end with the first bad minute."""
    left = [40]

    def instead(method: str, path: str) -> Response | None:
        if len(job.wire.requests) > 8 and left[0]:
            left[0] -= 1
            return Response(503, {}, b"")
        return None

    job.wire.instead = instead
    assert job.run().unfinished == 0
    job.check()


FULL = {"data": [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}]}


def test_a_queue_that_is_full_in_validation_is_waited_for(job: Job) -> None:
    """Batches that found no room would fail, and their rows with them."""
    busy = [3]

    def fails(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
        busy[0] -= 1
        return FULL if busy[0] >= 0 else None

    job.wire.fails = fails
    assert job.run().unfinished == 0
    job.check()


def test_a_batch_that_alone_fills_the_queue_is_halved(job: Job) -> None:
    """A batch that can never fit would be submitted for ever."""
    job.wire.fails = lambda rows: FULL if len(rows) > 5 else None
    assert job.run().unfinished == 0
    job.check()


def test_a_queue_that_is_full_refuses_the_creation(job: Job) -> None:
    """The file would be uploaded again for each try, or its rows fail."""
    body = json.dumps({"error": FULL["data"][0]}).encode()

    def instead(method: str, path: str) -> Response | None:
        under_way = sum(each["status"] not in ("completed", "failed") for each in job.wire.jobs.values())
        return Response(429, {}, body) if (method, path) == ("POST", "/batches") and under_way else None

    job.wire.instead = instead
    assert job.run().unfinished == 0
    job.check()
    assert job.wire.requests.count("POST /files") == 4


@pytest.mark.parametrize("named", [True, False])
def test_a_file_with_a_bad_line_is_repaired(job: Job, named: bool) -> None:
    """One row that the provider's validation refuses would keep all rows of its batch from being answered."""

    def fails(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
        prompts = [row["body"]["messages"][0]["content"] for row in rows]
        if "prompt 21" not in prompts:
            return None
        line = prompts.index("prompt 21") + 1 if named else None
        return {"data": [{"code": "invalid_json_line", "message": "this line is no JSON", "line": line}]}

    job.wire.fails = fails
    assert job.run().unfinished == 0
    (failed,) = [row for row in job.written() if row["error"]]
    assert failed["prompt"] == "prompt 21"
    assert re.search("InvalidRequest: .*this line is no JSON", failed["error"])
    assert job.wire.runs == Counter(prompt for prompt in job.prompts if prompt != "prompt 21")


def test_a_provider_that_refuses_everything_ends_the_run(tmp_path: Path) -> None:
    """A batch of 50,000 rows would be halved down to 50,000 batches, because of one wrong parameter."""
    job = Job(tmp_path, rows=600)
    job.wire.fails = lambda rows: {"data": [{"code": "strange", "message": "not like this"}]}
    with pytest.raises(FlatoutError, match=r"refused \d+ batches one after another: .*not like this"):
        job.run()
    assert len(job.wire.jobs) < 200


def test_a_batch_that_never_ends_is_given_up(job: Job) -> None:
    """A state that flatout does not know would keep the run for ever."""
    job.wire.seconds = 30 * DAY
    ended = []

    def instead(method: str, path: str) -> Response | None:
        if path.endswith("/cancel"):
            ended.append(path)
            job.wire.seconds = 60.0
        return None

    job.wire.instead = instead
    assert job.run(seconds=40 * DAY).unfinished == 0
    assert ended
    job.check()


def test_the_same_command_collects(job: Job) -> None:
    """A cron line would have to know what has been submitted."""
    end = job.run(detach=True)
    assert (end.batches, end.unfinished, end.interrupted) == (4, 60, False)
    assert not job.output.exists()
    end = job.run(detach=True)
    assert (end.batches, end.unfinished) == (4, 60)
    for each in job.wire.jobs.values():
        each["ends_at"] = 0.0
    end = job.run(detach=True)
    assert (end.batches, end.unfinished) == (0, 0)
    job.check()
    job.run(detach=True)
    job.check()


def test_ctrl_c_detaches(job: Job) -> None:
    """Somebody who shuts the laptop down would lose the batches, or have to wait for them."""

    async def main() -> RunEnd:
        given = {"source": str(job.source), "output": str(job.output), "lane": "batch"}
        runner = Runner(RunOptions(**given), job.client)
        runner.prepare()
        asyncio.get_running_loop().call_later(100.0, runner.stop)
        return await runner.run()

    job.wire.seconds = 5_000.0
    end = run_virtual(main())
    assert (end.interrupted, end.batches) == (True, 4)
    assert job.run().unfinished == 0
    job.check()


def test_ctrl_c_ends_the_wait_for_batches_that_are_being_cancelled(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could leave a run whose provider takes hours to cancel a batch: it went on whatever was pressed."""
    job.wire.seconds = 4 * DAY
    waits: list[float] = []

    async def for_ever(lane: BatchLane) -> None:
        loop = asyncio.get_running_loop()
        waits.append(loop.time())
        if len(waits) == 2:  # the first one has a bound of its own
            assert job.runner is not None
            loop.call_later(60.0, job.runner.stop)
            loop.call_later(120.0, ended.append, True)
        await asyncio.sleep(DAY)

    ended: list[bool] = []
    monkeypatch.setattr(BatchLane, "finish", for_ever)
    end = job.run(within=2 * DAY)
    assert (end.interrupted, len(waits), ended) == (True, 2, [])


def test_a_run_with_open_batches_does_not_start_over(job: Job) -> None:
    """A line of cron with --fresh would pay for all rows again, each time."""
    assert job.run(detach=True).under_way
    with pytest.raises(ConfigError, match=r"60 rows of .* stand in batches, and --fresh would pay for them again"):
        job.run(detach=True, fresh=True)
    assert len(job.wire.jobs) == 4
    assert job.run().unfinished == 0
    job.check()
    job.run(detach=True, fresh=True)


def test_rows_that_wait_for_their_next_batch_are_under_way(job: Job) -> None:
    """The output would be written without them, and the line of cron would call the run failed."""
    job.run(detach=True)
    for each in job.wire.jobs.values():
        each["ends_at"] = 0.0
        each["status"] = "expired"
    job.wire.instead = lambda method, path, *_: _full() if (method, path) == ("POST", "/batches") else None
    end = job.run(detach=True)
    assert end.under_way or end.unfinished == 0


def _full() -> Response:
    return Response(429, {}, b'{"error": {"message": "enqueued token limit", "code": "token_limit_exceeded"}}')


def test_files_are_deleted_when_their_rows_are_kept(job: Job) -> None:
    """Prompts and answers would lie at the provider for weeks."""
    job.wire.fate = first_time(500)
    job.run()
    assert job.wire.files == {}


def test_files_stay_on_request(job: Job) -> None:
    """Whoever wants to look at them could not."""
    job.run(keep_files=True)
    assert len(job.wire.files) == 8


def test_the_price_is_the_lane_s(job: Job) -> None:
    """The bill would be told at twice its height."""
    job.run()
    with RunReader.open(job.run_file) as reader:
        cost = reader.summary().cost
        assert reader.spent() == pytest.approx(cost)
    assert cost == pytest.approx(60 * (1_000 * 0.25 + 1_000 * 2.0) / 1e6 / 2)
    assert job.runner is not None
    assert job.runner.progress.cost == pytest.approx(cost)


def test_an_answer_that_does_not_fit_is_asked_again_in_the_next_batch(job: Job) -> None:
    """Schemas would be worth less in batches: the model would not learn what is wrong."""
    asked: list[list[Any]] = []

    def text(prompt: str, messages: list[Any]) -> str:
        if len(messages) == 1 and prompt == "prompt 5":
            return "no JSON at all"
        asked.append(messages)
        return '{"n": 1}'

    job.wire.text = text
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert job.run(params={"output": schema}).unfinished == 0
    rows = job.written()
    assert all(row["error"] is None for row in rows)
    (again,) = [messages for messages in asked if len(messages) > 1]
    assert again[1]["content"] == "no JSON at all"
    assert job.wire.runs["prompt 5"] == 2
    assert rows[5]["attempts"] == 2
    assert rows[5]["cost"] == pytest.approx(2 * rows[4]["cost"])


def test_a_row_that_changed_since_is_refused(job: Job) -> None:
    """The answer to the old question would stand beside the new one."""
    job.run(detach=True)
    job.write(["another", *job.prompts[1:]])
    with pytest.raises(RunMismatch, match="row 1 has changed since it was submitted"):
        job.run()
    job.write(job.prompts)
    job.run()
    job.check()


def test_another_key_cannot_collect(job: Job) -> None:
    """The provider says that it knows none of the batches, and their rows would be paid for again."""
    job.run(detach=True)
    job.key = "sk-2"
    with pytest.raises(
        ConfigError, match=r"batch 1 in .*out.jsonl.flatout was submitted to openai/gpt-5-mini with anot"
    ):
        job.run()
    assert len(job.wire.jobs) == 4


def test_rows_in_batches_are_not_asked_live(job: Job) -> None:
    """They would be paid for twice."""
    job.run(detach=True)
    with pytest.raises(ConfigError, match=r"60 rows of .* stand in batches: collect them with --lane batch, or cancel"):
        job.run(lane="live")
    job.run()
    job.check()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "-"}, "read their input again"),
        ({"output": None}, "need a place that they find again"),
        ({"workers": 2}, "--workers has no effect"),
        ({"lane": "live", "detach": True}, "--detach is for batches"),
        ({"lane": "live", "keep_files": True}, "--keep-files is for batches: add --lane batch"),
        ({"lane": "live", "within": DAY}, "--within chooses between lanes"),
        ({"lane": "auto"}, "--lane auto needs the time that there is"),
        ({"within": 300.0}, "--within is too short for batches: rows must leave them 18 min before the end"),
        ({"lane": "auto", "within": 60.0}, "no lane is in time: live needs 4 min (it is the fastest lane, at 60"),
        ({"params": {"service_tier": "flex"}}, "leave service_tier=flex out"),
        ({"model": "local"}, "the embedded model has no batch lane"),
    ],
)
def test_what_the_lane_cannot_do_is_refused(job: Job, options: dict[str, Any], message: str) -> None:
    """It would be found out after a day, or never."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        job.run(**options)
    assert job.wire.requests == []


def test_results_of_cancelled_batches_are_not_paid_for_again(job: Job) -> None:
    """Whoever has no more patience would pay for the rows that were finished, live, at twice the price."""

    async def cancel() -> None:
        with RunReader.open(job.run_file) as reader:
            described = reader.info().job
        store = RunFile.open(job.run_file, job=described)

        async def keep(*_: object) -> None:
            raise AssertionError

        async with job.client() as client:
            lane = BatchLane(client._engine, store.ledger, "out", keep)
            await lane.begin()
            await lane.cancel()
            await lane.finish()
        await store.close()

    job.run(detach=True)
    for each in list(job.wire.jobs.values())[:2]:
        each["ends_at"] = 0.0
    run_virtual(cancel(), start=job.now())
    assert job.wire.runs == Counter(job.prompts[:32])
    assert job.run(lane="live").unfinished == 0
    job.check()


def test_rows_that_would_be_late_in_a_batch_are_asked_live(job: Job) -> None:
    """The answers would come after the meeting that they were for; or be paid for twice."""
    job.wire.seconds = 4 * DAY
    started = job.now()
    assert job.run(within=2 * DAY).unfinished == 0
    job.check()
    assert "POST /chat/completions" in job.wire.requests
    assert any(request.endswith("/cancel") for request in job.wire.requests)
    assert max(each["ends_at"] for each in job.wire.jobs.values()) - EPOCH - started < 2 * DAY


def test_rows_that_are_in_time_stay_in_their_batches(job: Job) -> None:
    """They would be paid for at twice the price."""
    assert job.run(within=2 * DAY).unfinished == 0
    job.check()
    assert "POST /chat/completions" not in job.wire.requests


def test_the_time_counts_from_the_first_command(job: Job) -> None:
    """Each line of cron would put the end off, and rows would stay in their batches for ever."""
    job.wire.seconds = 4 * DAY
    assert job.run(within=2 * DAY, detach=True).batches == 4
    for each in job.wire.jobs.values():  # the next command is given a day and 23 hours later
        each["created_at"] += int(1.99 * DAY)
    assert job.run(within=2 * DAY, detach=True).unfinished == 0
    job.check()


@pytest.mark.parametrize(("within", "lane"), [(2 * DAY, "batch"), (3_600.0, "live")])
def test_the_cheapest_lane_that_is_in_time(job: Job, within: float, lane: str) -> None:
    """Users would have to know how long batches take."""
    assert job.run(lane="auto", within=within).unfinished == 0
    assert job.wire.runs == Counter(job.prompts)
    assert bool(job.wire.jobs) is (lane == "batch")


def test_a_batch_that_is_not_cancelled_in_time_is_not_asked_live(job: Job) -> None:
    """Its rows would be paid for twice: the provider runs them still."""
    job.wire.seconds = DAY / 2
    job.wire.instead = lambda _, path: Response(200, {}, b'{"id": "x"}') if path.endswith("/cancel") else None
    assert job.run(within=DAY / 4).unfinished == 0
    job.check()
