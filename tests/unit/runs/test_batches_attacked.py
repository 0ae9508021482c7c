"""Runs in the batch lane that are ended everywhere, and providers that say what is not so."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from flatout.errors import StoreError
from flatout.lanes.batch.formats import openai
from flatout.layer import Response
from flatout.store.ledger import Ledger
from flatout.store.run_file import RunFile

from .test_batches import DAY, Job, job, lose, quick, small

__all__ = ["job", "small"]

COMMITS = [
    *((Ledger, name) for name in ("intend", "uploaded", "open", "results", "end", "drop", "clear")),
    (RunFile, "finish_all"),
]


class Ends:
    """Ends a run at one of the moments in which it talks to the provider or to the disk.

    Args:
        job: the run's.
        at: the moment's number, from 0.
        how: what happens then.
        requests: whether requests count as well.
    """

    def __init__(
        self, job: Job, at: int, how: Callable[[], None], patch: pytest.MonkeyPatch, *, requests: bool = True
    ) -> None:
        self.left = at
        self._how = how
        if requests:
            job.wire.on_event = lambda _what: self._happens()
        for kind, name in COMMITS:
            patch.setattr(kind, name, self._mortal(getattr(kind, name)))

    def _mortal(self, real: Callable[..., Any]) -> Callable[..., Any]:
        async def commit(*args: Any) -> None:
            self._happens()
            await real(*args)

        return commit

    def _happens(self) -> None:
        self.left -= 1
        if self.left == -1:
            self._how()


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Job]:
    """Makes jobs of three batches."""
    dialect = openai.DIALECTS["openai"]
    monkeypatch.setitem(openai.DIALECTS, "openai", replace(dialect, caps=replace(dialect.caps, rows=10)))
    return lambda number: quick(tmp_path / str(number))


def end_everywhere(
    few: Callable[[int], Job],
    patched: pytest.MonkeyPatch,
    how: Callable[[Job], None],
    moments: Iterable[int],
    *,
    requests: bool = True,
) -> None:
    """End runs at one moment after the other, and let the next command finish each."""
    for at in moments:
        job = few(at)
        with patched.context() as patch, suppress(StoreError):
            ends = Ends(job, at, partial(how, job), patch, requests=requests)
            job.run()
        assert job.run().unfinished == 0, at
        job.check()
        if ends.left >= 0:
            assert at > 10
            return
    raise AssertionError("a run has more moments")


def stop(job: Job) -> None:
    assert job.runner is not None
    job.runner.stop()


def stop_at_once(job: Job) -> None:
    stop(job)
    stop(job)


def fill_the_disk(_job: Job) -> None:
    raise StoreError("the disk is full")


SOME, ALL = 29, pytest.param(1, marks=pytest.mark.soak)


@pytest.mark.parametrize("step", [SOME, ALL])
@pytest.mark.parametrize("how", [stop, stop_at_once])
def test_ctrl_c_may_come_at_any_moment(
    few: Callable[[int], Job], monkeypatch: pytest.MonkeyPatch, how: Callable[[Job], None], step: int
) -> None:
    """SIGTERM and Ctrl-C in the middle of an upload, or of results, would lose rows or have them paid twice."""
    end_everywhere(few, monkeypatch, how, range(step - 1, 500, step))


@pytest.mark.parametrize("step", [5, ALL])
def test_the_disk_may_be_full_at_any_commit(
    few: Callable[[int], Job], monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """A row that a provider has would be forgotten, and paid for twice once there is room."""
    end_everywhere(few, monkeypatch, fill_the_disk, range(step - 1, 500, step), requests=False)


def test_results_that_are_named_late_are_waited_for_whatever_the_clocks_say(job: Job) -> None:
    """With a clock that is a day slow, the provider's batch would have ended long ago: its rows would be paid twice."""
    job.wire.ahead = -DAY
    real = job.wire._seen

    def seen(each: dict[str, Any]) -> dict[str, Any]:
        shown = real(each)
        if shown["status"] == "completed":
            shown["completed_at"] = int(each["ends_at"] + job.wire.ahead)
            if job.wire._now() < each["ends_at"] + 600.0:
                shown["output_file_id"] = None
        return shown

    job.wire._seen = seen  # type: ignore[method-assign]
    assert job.run().unfinished == 0
    job.check()


def test_a_name_that_is_another_batch_now_is_left_alone(job: Job) -> None:
    """A server that began anew gives names out again: the files of somebody else's batch would be deleted."""
    job.run(detach=True)
    real = job.wire._seen

    def seen(each: dict[str, Any]) -> dict[str, Any]:
        shown = real(each)
        if each["id"] == "batch_1":
            shown |= {"metadata": {"flatout": "flatout-another"}, "input_file_id": "theirs", "output_file_id": "theirs"}
            shown["status"] = "completed"
        return shown

    job.wire._seen = seen  # type: ignore[method-assign]
    job.wire.files["theirs"] = b'{"custom_id":"x-1","response":{"status_code":200,"body":{}}}\n'
    assert job.run().unfinished == 0
    assert "theirs" in job.wire.files
    assert [row["error"] for row in job.written()] == [None] * 60


def test_a_list_that_goes_round_in_circles_ends(job: Job) -> None:
    """A server that repeats its pages would be asked a thousand times, and the run would end without a batch."""
    lose(job, method="POST", path="/batches")
    lists = [0]

    def instead(method: str, path: str) -> Response | None:
        if (method, path) != ("GET", "/batches"):
            return None
        lists[0] += 1
        jobs = [*(job.wire._seen(each) for each in reversed(job.wire.jobs.values()))]
        last = {"id": f"other-{lists[0] % 2}", "status": "completed", "created_at": 1}
        return Response(200, {}, json.dumps({"data": [*jobs, last], "has_more": True}).encode())

    job.wire.instead = instead
    assert job.run().unfinished == 0
    job.check()
    assert lists[0] < 40


def test_results_of_another_batch_are_said_once(job: Job, caplog: pytest.LogCaptureFixture) -> None:
    """Fifty thousand lines of warnings would hide all others."""
    real = job.wire._file

    def file(rows: list[Any]) -> str | None:
        return real([*({**row, "custom_id": f"other-{n}"} for n, row in enumerate(rows)), *rows, *rows])

    job.wire._file = file  # type: ignore[method-assign]
    assert job.run().unfinished == 0
    job.check()
    said = [record.getMessage() for record in caplog.records if "for no row" in record.getMessage()]
    assert len(said) == len(job.wire.jobs)
    assert "has 16 results for no row of it, such as other-0" in said[0]


def test_a_copy_that_only_collects_is_told_where_its_answers_are(job: Job, caplog: pytest.LogCaptureFixture) -> None:
    """It would wait a day for results that another machine has, and then pay for all of them again, without a word."""
    job.run(detach=True)
    copy = job.run_file.read_bytes()
    assert job.run().unfinished == 0
    job.run_file.write_bytes(copy)
    job.output.unlink()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        end = job.run(detach=True)
    assert end.unfinished == 60
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 4
    assert "no longer has batch 1 or its results" in said[0]
    assert "continue there. Otherwise its rows are asked, and paid for, again in 2" in said[0]
