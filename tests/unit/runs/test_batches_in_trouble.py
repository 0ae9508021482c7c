"""Runs in the batch lane whose provider, network or clock is in trouble: nothing is lost, nothing is paid twice."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flatout import Client, ConfigError, FlatoutError
from flatout.errors import ConnectError
from flatout.lanes.batch.box import index_of
from flatout.lanes.batch.formats.openrouter import batch_format
from flatout.lanes.batch.lane import BatchLane
from flatout.lanes.batch.search import Search
from flatout.layer import Response
from flatout.store import RunFile, RunReader
from flatout.store.ledger import Batch, Ledger
from flatout.testing import _clock, run_virtual
from tests.support.batch_wire import Killed

from .test_batches import DAY, FULL, Job, first_time, job, lose, small

__all__ = ["job", "small"]


def created(job: Job) -> int:
    return job.wire.requests.count("POST /batches")


@pytest.mark.parametrize("status", [503, 429])
def test_old_batches_survive_a_bad_minute(job: Job, status: int) -> None:
    """Whoever collects days later, in a bad minute of the provider, would pay for all rows once more."""
    job.run(detach=True)
    job.later = 5 * DAY
    job.wire.instead = lambda method, path: Response(status, {}, b"") if method == "GET" else None
    job.run(detach=True)
    job.wire.instead = lambda _method, _path: None
    assert job.run().unfinished == 0
    job.check()
    assert created(job) == 4


def test_an_old_batch_has_time_to_end_once_it_is_cancelled(job: Job) -> None:
    """Its answers are paid for; they would be given up a moment before they are there."""
    job.wire.seconds = 30 * DAY
    job.run(detach=True)
    job.later = 3 * DAY

    def instead(method: str, path: str) -> Response | None:
        if path.endswith("/cancel"):  # it is not cancelled at once, but it ends
            each = job.wire.jobs[path.split("/")[2]]
            each["ends_at"] = min(each["ends_at"], job.wire._now() + 600.0)
            return Response(200, {}, json.dumps(job.wire._seen(each)).encode())
        return None

    job.wire.instead = instead
    job.run(detach=True)
    assert job.run().unfinished == 0
    job.check()
    assert created(job) == 4


def test_results_are_waited_for(job: Job) -> None:
    """A server in trouble would end the run."""
    left = [20]

    def instead(method: str, path: str) -> Response | None:
        if path.endswith("/content") and left[0]:
            left[0] -= 1
            return Response(503, {}, b"")
        return None

    job.wire.instead = instead
    assert job.run().unfinished == 0
    job.check()


@pytest.mark.parametrize("answer", [Response(404, {}, b"{}"), Response(200, {}, b"<html>\n</html>\n")])
def test_results_that_are_not_there_do_not_stop_the_run_for_good(job: Job, answer: Response) -> None:
    """Every later command would end at the same file, although all other rows have answers."""
    gone: list[str] = []

    def instead(method: str, path: str) -> Response | None:
        if not path.endswith("/content"):
            return None
        gone[:] = gone or [path]
        return answer if path in gone else None

    job.wire.instead = instead
    assert job.run().unfinished == 0
    assert all(row["error"] is None for row in job.written())
    assert sum(job.wire.runs.values()) == 60 + 16


def test_a_batch_is_adopted_whatever_the_clocks_say(job: Job) -> None:
    """A wrong clock on this machine would let a batch be created and paid twice."""
    job.wire.ahead = -3 * 3_600.0
    lose(job, method="POST", path="/batches")
    assert job.run().unfinished == 0
    job.check()


def test_a_clock_that_is_set_back_holds_nothing_up(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would look at the batches until the clock is where it was."""
    loop = _clock.VirtualLoop
    real = loop.wall_time
    job.wire._now = lambda: _clock.EPOCH + asyncio.get_running_loop().time()  # type: ignore[method-assign]
    monkeypatch.setattr(loop, "wall_time", lambda self: real(self) - (3 * DAY if self.time() > 100.0 else 0.0))
    assert job.run(seconds=DAY).unfinished == 0
    job.check()


def test_batches_that_wait_for_room_do_not_wait_for_each_other(job: Job) -> None:
    """Two batches that are too large for the queue would each take the other for what fills it, and hang for ever."""
    real = job.wire._create

    def create(body: dict[str, Any]) -> Response:
        rows = job.wire.files[body["input_file_id"]].count(b"\n")
        if len(job.wire.jobs) >= 2 and rows > 5:
            return Response(429, {}, json.dumps({"error": FULL["data"][0]}).encode())
        return real(body)

    job.wire._create = create  # type: ignore[method-assign]
    assert job.run().unfinished == 0
    job.check()


@pytest.mark.parametrize("path", ["/files", "/batches"])
def test_an_outage_ends_no_wait(job: Job, path: str) -> None:
    """A dropped connection would end a wait of hours, if it came while rows were being submitted again."""
    job.wire.fate = first_time("missing")

    def instead(method: str, at: str) -> Response | None:
        under_way = [each for each in job.wire.jobs.values() if each["status"] not in ("completed", "failed")]
        if (method, at) == ("POST", path) and len(job.wire.jobs) >= 4 and under_way:
            raise ConnectError("the network is down")
        return None

    job.wire.instead = instead
    job.wire.seconds = 5_000.0
    assert job.run().unfinished == 0
    job.check()


def test_a_row_that_was_never_run_may_be_put_right(job: Job) -> None:
    """Whoever repairs the row because of which everything was refused would have to start over."""
    job.wire.instead = lambda method, path: Response(403, {}, b"{}") if path == "/batches" else None
    with pytest.raises(FlatoutError, match="403"):
        job.run()
    job.wire.instead = lambda _method, _path: None
    job.prompts[0] = "another"
    job.write(job.prompts)
    assert job.run().unfinished == 0
    job.check()


def test_the_name_of_a_row_may_be_anything() -> None:
    """One strange name among the results would end the run."""
    assert index_of("stamp", "stamp-" + "9" * 5_000) is None
    assert index_of("stamp", "stamp-12") == 12


def test_a_batch_is_known_by_results_that_its_list_leaves_out(tmp_path: Path) -> None:
    """A batch at OpenRouter whose creation was not answered would be created, and paid, a second time."""

    async def first_key() -> str | None:
        async with Client("openrouter/meta/llama", api_key="sk-1", config={}) as client:
            spoken = batch_format(client._engine.targets.target("openrouter/meta/llama"), "chat")
        whole = {"id": "b1", "status": "completed", "results": [{"custom_id": "stamp-3", "response": {"body": {}}}]}

        async def patiently(request: Any) -> Response:
            assert request.url.endswith("/batches/b1")
            return Response(200, {}, json.dumps({"data": whole}).encode())

        desk: Any = SimpleNamespace(format=spoken, wire=SimpleNamespace(patiently=patiently))
        listed = Response(200, {}, json.dumps({"data": [whole]}).encode())
        batch = Batch(number=1, target="", key="", stamp="stamp", state="intended", rows=1, size=1, intended_at=0.0)
        job = await Search(desk)._by_results(batch, spoken.listed(listed, None)[0])
        return job and job.id

    assert run_virtual(first_key()) == "b1"


def names_no_files(job: Job, *, until: float) -> None:
    """Batches that were run name no files of results, until then."""
    real = job.wire._seen

    def seen(each: dict[str, Any]) -> dict[str, Any]:
        told = real(each)
        late = job.wire._now() < _clock.EPOCH + until
        return {**told, "output_file_id": None, "error_file_id": None} if late else told

    job.wire._seen = seen  # type: ignore[method-assign]


def test_results_that_are_named_late_are_waited_for(job: Job) -> None:
    """All rows of a batch that was run and paid for would be asked again, and after five such batches fail."""
    names_no_files(job, until=2_400.0)
    assert job.run().unfinished == 0
    job.check()
    assert created(job) == 4


def test_results_that_never_come_do_not_hold_the_run_up(job: Job) -> None:
    """One batch whose results the provider has lost would keep the run from ending."""
    names_no_files(job, until=3 * 3_600.0)
    assert job.run(seconds=DAY).unfinished == 0
    assert all(row["error"] is None for row in job.written())
    assert created(job) > 4


def test_rows_that_every_batch_lost_are_asked_live_when_it_is_time(job: Job) -> None:
    """They would fail, although the live lane can answer them, and is there to do so."""
    job.wire.fate = lambda prompt: "missing" if prompt == "prompt 7" else "answered"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flatout.lanes.batch.lane.MOST_LOST", 50)
        for _ in range(6):
            job.run(detach=True)
            for each in job.wire.jobs.values():
                each["ends_at"] = 0.0
    job.later += 3 * DAY
    assert job.run(within=3_600.0).unfinished == 0
    job.check()
    assert "POST /chat/completions" in job.wire.requests


def test_rows_that_are_tried_again_are_collected_by_any_command(job: Job) -> None:
    """Answers that are paid for would stay in the ledger, and their rows be called failed."""
    job.wire.fate = lambda prompt: 400 if prompt == "prompt 7" else "answered"
    job.run()
    job.wire.fate = lambda _: "answered"
    job.run(retry_failed=True, detach=True)
    assert job.run().unfinished == 0
    job.check()
    assert len(job.wire.jobs) == 5


@pytest.mark.parametrize("is_there", [False, True])
def test_what_is_cancelled_is_not_created(job: Job, is_there: bool) -> None:
    """A batch of which the provider knows nothing would be created first, and be paid for as far as it gets."""
    job.wire.seconds = 4 * DAY

    def instead(method: str, path: str) -> Response | None:
        if (method, path) == ("POST", "/batches") and len(job.wire.jobs) >= 2 + is_there:
            raise Killed(path)
        return None

    job.wire.instead = instead
    job.wire.on_event = lambda what: dies(what) if is_there else None

    def dies(what: str) -> None:
        if what == "after POST /batches" and len(job.wire.jobs) == 3:
            raise Killed(what)

    with pytest.raises(Killed):
        job.run(detach=True)
    job.wire.on_event = lambda _: None
    before = len(job.wire.jobs)
    run_virtual(cancelled(job), start=job.now())
    assert len(job.wire.jobs) == before == 2 + is_there
    assert all(each["status"] == "cancelled" for each in job.wire.jobs.values())
    with RunReader.open(job.run_file) as reader:
        assert reader.ledger is not None
        assert [batch.state for batch in reader.ledger.batches()].count("dropped") == (not is_there)
    job.wire.instead = lambda _method, _path: None
    job.wire.seconds = 60.0
    assert job.run().unfinished == 0
    job.check()


async def cancelled(job: Job) -> None:
    """What ``flatout batch cancel`` does."""
    with RunReader.open(job.run_file) as reader:
        described = reader.info().job
    store = RunFile.open(job.run_file, job=described)
    async with job.client() as client:
        lane = BatchLane(client._engine, store.ledger, "out", lambda *_: pytest.fail("no row is read"))
        await lane.cancel()
        await lane.finish()
    await store.close()


@pytest.mark.parametrize("face", ["create", "validation"])
def test_a_queue_that_others_keep_full_is_waited_for(job: Job, face: str) -> None:
    """A colleague's large job would turn every batch into batches of one row."""
    free_at = 2 * 3_600.0

    def is_full() -> bool:
        return asyncio.get_running_loop().time() < free_at

    def instead(method: str, path: str) -> Response | None:
        if face == "create" and (method, path) == ("POST", "/batches") and is_full():
            return Response(429, {}, json.dumps({"error": FULL["data"][0]}).encode())
        return None

    job.wire.instead = instead
    job.wire.fails = lambda _rows: FULL if face == "validation" and is_full() else None
    job.wire.seconds = 100.0
    assert job.run().unfinished == 0
    job.check()
    assert sum(each["status"] == "completed" for each in job.wire.jobs.values()) <= 16
    assert job.wire.requests.count("POST /files") < 100


def test_an_upload_whose_answer_is_lost_leaves_no_file_behind(job: Job) -> None:
    """The prompts would lie at the provider for good, in a file that nobody knows of."""
    lose(job, method="POST", path="/files", times=2)
    assert job.run().unfinished == 0
    job.check()
    assert job.wire.requests.count("POST /files") == 4
    assert job.wire.files == {}


def test_an_upload_that_was_not_recorded_is_used(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies after an upload would leave its file behind, and upload it once more."""
    with monkeypatch.context() as patch:

        async def dies(*_: object) -> None:
            raise Killed("before it is recorded")

        patch.setattr(Ledger, "uploaded", dies)
        with pytest.raises(Killed):
            job.run()
    assert job.run().unfinished == 0
    job.check()
    assert job.wire.requests.count("POST /files") == 4
    assert job.wire.files == {}


def test_files_are_deleted_by_a_command_that_finds_nothing_to_do(job: Job) -> None:
    """If the last command died after its last row, prompts and answers would lie at the provider for good."""
    assert job.run(keep_files=True).unfinished == 0
    assert job.wire.files
    assert job.run().unfinished == 0
    assert job.wire.files == {}
    job.check()


def test_a_run_that_goes_on_in_a_copy_submits_nothing(job: Job) -> None:
    """Two machines with copies of one run file would each pay for the rows that are left."""
    job.wire.fate = first_time("missing")
    job.run(detach=True, keep_files=True)
    copy = job.run_file.read_bytes()
    assert job.run(keep_files=True).unfinished == 0
    made = len(job.wire.jobs)
    job.run_file.write_bytes(copy)
    with pytest.raises(
        ConfigError, match=r"openai/gpt-5-mini has a batch of this run, batch_\d+, that this run file does"
    ):
        job.run(overwrite=True)
    assert len(job.wire.jobs) == made
    job.check()
