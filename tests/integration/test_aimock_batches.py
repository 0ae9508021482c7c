"""The batch lane against aimock's files and batches: a mock on Node.js that is not ours."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from flatout import Client, ServerError, TransportError
from flatout.lanes.batch import collect, desk, lane, submit, wire
from flatout.runs.job import RunEnd, RunOptions
from flatout.runs.runner import Runner
from tests.support.command_samples import PATIENCE
from tests.support.foreign_servers import aimock_started, fetch

ROWS = 12


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of aimock's ends when it is looked at for the second time, and its troubles last for one request."""
    for module in (collect, submit, wire):
        monkeypatch.setattr(module, "overload_delay", lambda *_: 0.02)
    monkeypatch.setattr(submit, "LOOKS", (0.0, 0.02, 0.05))
    monkeypatch.setattr(desk, "REST", 0.1)
    monkeypatch.setattr(collect, "SOONEST", 0.02)
    monkeypatch.setattr(lane, "PASS_EVERY", 0.1)


class Job:
    """An input, and the command that is given for it."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._source, self.output = folder / "in.jsonl", folder / "out.jsonl"
        self._source.write_text("".join(json.dumps({"prompt": f"tale {n}"}) + "\n" for n in range(ROWS)))

    def run(self, outcome: str = "completed", **options: Any) -> RunEnd:
        """Give the command. The batches that it creates have the outcome."""
        given = RunOptions(source=str(self._source), output=str(self.output), lane="batch", **options)
        server = {"base_url": f"{self._url}/v1", "headers": {"X-AIMock-Batch-Outcome": outcome}}

        async def main() -> RunEnd:
            config = {"endpoints": {"openai": server}}
            runner = Runner(given, lambda: Client("openai/m-1", api_key="k", config=config, retries=0))
            runner.prepare()
            return await runner.run()

        return asyncio.run(asyncio.wait_for(main(), PATIENCE))

    def written(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.read_text().splitlines()]

    def created(self) -> Counter[str]:
        """How often each of our batches was created."""
        return Counter(batch["metadata"]["flatout"] for batch in fetch(f"{self._url}/v1/batches?limit=100")["data"])

    def files(self) -> list[str]:
        return [file["id"] for file in fetch(f"{self._url}/v1/files")["data"]]


def test_batches_are_answered(tmp_path: Path) -> None:
    """Our files, batches and results would be those of our own simulator only."""
    with aimock_started(tmp_path) as url:
        job = Job(url, tmp_path)
        assert job.run().unfinished == 0
        assert [row["answer"] for row in job.written()] == ["Mock batch completion"] * ROWS
        assert (set(job.created().values()), job.files()) == ({1}, [])


def test_a_failed_batch_with_a_file_of_errors_fails_its_rows(tmp_path: Path) -> None:
    """The rows would be asked again and again, or be lost without a word."""
    with aimock_started(tmp_path) as url:
        job = Job(url, tmp_path)
        assert job.run("failed").unfinished == 0
        assert all("Mock batch failure" in row["error"] for row in job.written())
        assert len(job.created()) == 1


@pytest.mark.parametrize("outcome", ["expired", "cancelled"])
def test_rows_that_were_not_run_are_in_the_next_batch(tmp_path: Path, outcome: str) -> None:
    """A batch without any file would keep its rows for ever, or fail them."""
    with aimock_started(tmp_path) as url:
        job = Job(url, tmp_path)
        assert job.run(outcome, detach=True).under_way
        assert job.run().unfinished == 0
        assert [row["answer"] for row in job.written()] == ["Mock batch completion"] * ROWS
        assert set(job.created().values()) == {1}


def test_rows_that_are_never_run_fail_at_last(tmp_path: Path) -> None:
    """A run against a provider that expires everything would not end."""
    with aimock_started(tmp_path) as url:
        job = Job(url, tmp_path)
        assert job.run("expired").unfinished == 0
        assert all("none of the 5 batches" in row["error"] for row in job.written())


def test_a_server_in_trouble_creates_nothing_twice(tmp_path: Path) -> None:
    """Errors, garbage and dropped connections would cost rows, or make batches twice."""
    options = ("--chaos-drop=0.1", "--chaos-malformed=0.1", "--chaos-disconnect=0.1")
    with aimock_started(tmp_path, *options) as url:
        job = Job(url, tmp_path)
        while not job.output.exists():
            with suppress(ServerError, TransportError):  # the same command again goes on
                job.run()
        assert [row["answer"] for row in job.written()] == ["Mock batch completion"] * ROWS
        journal = fetch(f"{url}/__aimock/journal?limit=1000")
        entries = journal if isinstance(journal, list) else journal["entries"]
        created = [
            entry
            for entry in entries
            if (entry["method"], entry["path"], entry["response"]["status"]) == ("POST", "/v1/batches", 200)
            and not entry["response"].get("chaosAction")
        ]
        assert len(created) == 1
