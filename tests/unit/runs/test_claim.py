"""Which files an output may take the place of."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from flatout import ConfigError, Limits
from flatout.runs.input.read import open_input
from flatout.runs.job import RunEnd, RunOptions
from flatout.runs.output.claim import OUTPUTS, Claim, digest
from flatout.runs.output.export import export
from flatout.runs.runner import Runner
from flatout.store import RunReader
from tests.support.scripted_wire import Wire, client

ROWS = "".join(json.dumps({"prompt": f"prompt {n}"}) + "\n" for n in range(3))
THEIRS = "someone's only copy\n"


class Job:
    """An input, and where its answers go."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "in.jsonl"
        self.source.write_text(ROWS)
        self.output = folder / "out.jsonl"
        self.run_file = folder / "out.jsonl.flatout"
        self.wire = Wire()

    def runner(self, **options: Any) -> Runner:
        given = {"output": str(self.output), **options}
        job = RunOptions(source=str(self.source), model="any", **given)
        runner = Runner(job, lambda: client(self.wire, limits=Limits(rpm=600_000)))
        runner.prepare()
        return runner

    def run(self, **options: Any) -> RunEnd:
        async def main() -> RunEnd:
            return await self.runner(**options).run()

        return asyncio.run(main())


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def test_another_file_is_not_replaced_unasked(job: Job) -> None:
    """A name typed wrongly would cost a file that nobody has a second time."""
    job.output.write_text(THEIRS)
    with pytest.raises(ConfigError, match=r"out\.jsonl: exists already; name another file, or .*--overwrite"):
        job.run()
    assert job.output.read_text() == THEIRS
    assert job.wire.prompts == []
    assert job.run(overwrite=True).unfinished == 0
    assert job.output.read_text() != THEIRS


def test_an_empty_file_is_nobodys_loss(job: Job) -> None:
    """A script that makes the file first, as mktemp does, would be refused."""
    job.output.touch()
    assert job.run().unfinished == 0


@pytest.mark.parametrize("options", [{}, {"fresh": True}, {"retry_failed": True}])
def test_a_run_replaces_its_own_output(job: Job, options: dict[str, Any]) -> None:
    """Going on with a run, or starting over, would need --overwrite each time."""
    for _ in range(3):
        assert job.run(**options).unfinished == 0
    job.source.write_text(ROWS + '"one more"\n')
    assert job.run(**options).unfinished == 0
    assert len(job.output.read_text().splitlines()) == 4


@pytest.mark.parametrize("name", ["out.jsonl.gz", "out.db::answers", "out.duckdb::answers"])
def test_a_run_knows_its_output_of_any_kind(job: Job, name: str, tmp_path: Path) -> None:
    """The same command again, perhaps with more rows, would be refused because of what it wrote itself."""
    if "duckdb" in name:
        pytest.importorskip("duckdb")
    output = str(tmp_path / name)
    job.run(output=output)
    with job.source.open("a") as more:
        more.write('{"prompt": "prompt 3"}\n')
    assert job.run(output=output).unfinished == 0
    assert [row.columns["prompt"] for row in open_input(output)] == [f"prompt {n}" for n in range(4)]
    assert len(job.wire.prompts) == 4
    with pytest.raises(ConfigError, match="exists already"):
        job.run(output=output, run_file=str(tmp_path / "another.flatout"))


def test_a_delimiter_is_for_the_output_too(job: Job, tmp_path: Path) -> None:
    """A spreadsheet would show all columns as one; or the option be refused for an input that has no cells."""
    job.run(output=str(tmp_path / "out.csv"), delimiter=";")
    assert (tmp_path / "out.csv").read_text().startswith("prompt;answer;error;")
    with pytest.raises(ConfigError, match="--delimiter is for CSV, and the format is jsonl"):
        job.run(output=str(tmp_path / "out2.jsonl"), delimiter=";")


def test_an_output_that_was_edited_is_the_users(job: Job) -> None:
    """Answers that were put right by hand would be lost when the same command is given again."""
    job.run()
    job.output.write_text(job.output.read_text().replace("prompt 1", "prompt one"))
    with pytest.raises(ConfigError, match="exists already; name another file"):
        job.run()


def test_a_fresh_run_that_stops_early_still_knows_its_output(job: Job) -> None:
    """The command that started over could not be gone on with."""
    job.run()
    runner = job.runner(fresh=True)
    runner.job.store.close_now()
    assert job.run().unfinished == 0


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_the_input_is_never_replaced(job: Job, link: Any) -> None:
    """The rows would be gone, whatever the name that leads to them."""
    link(job.output, job.source)
    with pytest.raises(ConfigError, match=r"out\.jsonl: is the input; write to another file"):
        job.run(overwrite=True)
    job.output.unlink()
    job.run()
    job.output.unlink()
    link(job.output, job.source)
    for output in (job.output, job.source):
        with pytest.raises(ConfigError, match="is the input; write to another file"):
            export(job.run_file, str(output), claim=Claim.of(job.run_file, overwrite=True))
    assert job.source.read_text() == ROWS


def test_an_export_replaces_nothing_unasked(job: Job, tmp_path: Path) -> None:
    """A file with the user's own rows would be replaced by an export."""
    job.run()
    other = tmp_path / "other.jsonl"
    other.write_text(THEIRS)
    with pytest.raises(ConfigError, match="exists already"):
        export(job.run_file, str(other))
    assert other.read_text() == THEIRS
    export(job.run_file, str(other), claim=Claim.of(job.run_file, overwrite=True))
    export(job.run_file, str(job.output))  # what the run wrote itself
    with pytest.raises(ConfigError, match="is the run file"):
        export(job.run_file, str(job.run_file), format="jsonl", claim=Claim.of(job.run_file, overwrite=True))


def test_a_file_that_appears_meanwhile_stays(job: Job) -> None:
    """Hours lie between the look at the output's place and the writing."""

    async def main() -> None:
        runner = job.runner()
        job.output.write_text(THEIRS)
        await runner.run()

    with pytest.raises(ConfigError, match="exists already; name another file"):
        asyncio.run(main())
    assert job.output.read_text() == THEIRS
    assert not list(job.output.parent.glob(".flatout-*"))
    with RunReader.open(job.run_file) as reader:
        assert reader.counts().answered == 3
        assert reader.fact(OUTPUTS) == []
    job.output.unlink()
    assert job.run().unfinished == 0
    assert len(job.wire.prompts) == 3


def test_a_run_that_is_killed_when_its_output_appears_knows_it(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the kill the same command would take the run's own output for somebody else's, and refuse to go on."""
    replace, known = Path.replace, []

    def replaced(self: Path, target: Path) -> Path:
        with RunReader.open(job.run_file) as reader:  # what is on the disk now survives the kill
            known.extend(reader.fact(OUTPUTS) or [])
        assert digest(self) in known
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replaced)
    assert job.run().unfinished == 0
    assert known
