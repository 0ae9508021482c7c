"""Giving the command again: what is read, what is refused, and what a refused command leaves behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from flatout import ConfigError, Limits, RunMismatch, StoreError
from flatout.look.course import Course, at_work
from flatout.runs import opened as runs
from flatout.runs import stored as keeping
from flatout.runs.input.begun import Input
from flatout.runs.input.rows import Row
from flatout.runs.job import RunEnd, RunOptions
from flatout.runs.output.export import export
from flatout.runs.runner import Runner
from flatout.store import RunReader
from tests.support.scripted_wire import Wire, client, refusal

ROWS = [{"id": f"q{n}", "prompt": f"prompt {n}"} for n in range(6)]


class Job:
    """An input, and the command that is given for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "in.jsonl"
        self.output = folder / "out.jsonl"
        self.run_file = folder / "out.jsonl.flatout"
        self.wire = Wire()

    def write(self, rows: list[dict[str, Any]]) -> None:
        self.source.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def prepared(self, **options: Any) -> Runner:
        given = RunOptions(source=str(self.source), output=str(self.output), model="any", **options)
        runner = Runner(given, lambda: client(self.wire, limits=Limits(rpm=600_000)))
        runner.prepare()
        return runner

    def run(self, **options: Any) -> RunEnd:
        async def main() -> RunEnd:
            return await self.prepared(**options).run()

        return asyncio.run(main())

    def output_run(self) -> Path:
        return Path(f"{self.output}.flatout")

    def written(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.read_text().splitlines()]

    def state(self) -> str:
        with RunReader.open(self.run_file) as reader:
            return reader.info().state


def test_the_summary_tells_the_time_that_the_file_tells(tmp_path: Path) -> None:
    """The summary would say 2 min 20 s, and watch and report of the same run 2 min 19 s."""
    job = Job(tmp_path)
    job.write(ROWS)

    async def main() -> Runner:
        runner = job.prepared()
        await asyncio.sleep(0.05)  # what comes between taking up the file and asking
        finish = runner._finish

        async def late() -> RunEnd:
            await asyncio.sleep(0.05)  # the output is written
            runner.refresh()
            return await finish()

        with patch.object(runner, "_finish", late):
            await runner.run()
        return runner

    elapsed = asyncio.run(main()).progress.elapsed
    with RunReader.open(job.run_file) as reader:
        course = Course()
        course.refresh(reader)
    assert at_work(course.happenings, (), None) == pytest.approx(elapsed, abs=0.01)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A run of six rows that is finished."""
    job = Job(tmp_path)
    job.write(ROWS)
    assert job.run().unfinished == 0
    job.wire = Wire()
    return job


def test_a_finished_run_reads_its_input_once(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Going on with a million rows would take twice as long, or longer."""
    read: list[int] = []
    rows = Input.__iter__

    def counted(source: Input) -> Iterator[Row]:
        for row in rows(source):
            read.append(row.index)
            yield row

    monkeypatch.setattr(Input, "__iter__", counted)
    assert job.run().unfinished == 0
    assert read == list(range(6))
    assert job.wire.prompts == []


@pytest.mark.parametrize("keep_prompts", [True, False])
def test_a_smaller_limit_keeps_what_is_finished(tmp_path: Path, keep_prompts: bool) -> None:
    """A trial of two rows would cut thousands of paid answers off the output, and tell of 300 percent."""
    job = Job(tmp_path)
    job.write(ROWS)
    job.run(keep_prompts=keep_prompts)
    before = job.written()
    job.wire = Wire()
    for rows in (ROWS, [*ROWS, {"id": "q6", "prompt": "prompt 6"}]):
        job.write(rows)
        assert job.run(limit=2, keep_prompts=keep_prompts).unfinished == 0
        assert job.written() == before
        with RunReader.open(job.run_file) as reader:
            assert (reader.info().total, reader.info().state) == (6, "finished")
    assert job.wire.prompts == []


def test_a_limit_asks_its_own_rows_beside_those_beyond(job: Job) -> None:
    """Rows that failed within the limit would not be asked again, or those beyond it would."""
    job.wire = Wire(lambda prompt: refusal(400))
    job.run(fresh=True)
    job.wire = Wire()
    assert job.run(limit=2, retry_failed=True).unfinished == 0
    assert sorted(job.wire.prompts) == ["prompt 0", "prompt 1"]
    assert [row["error"] is None for row in job.written()] == [True, True, False, False, False, False]


@pytest.mark.parametrize(
    ("added", "options", "failed_before"),
    [(0, {}, 2), (0, {"limit": 4}, 1), (1, {}, 2), (1, {"limit": 4}, 1), (0, {"retry_failed": True}, 0)],
)
def test_rows_that_failed_before_are_counted(
    tmp_path: Path, added: int, options: dict[str, Any], failed_before: int
) -> None:
    """Going on would turn failed rows into success, or --limit report failures that were not asked for."""
    job = Job(tmp_path)
    job.write(ROWS)
    job.wire = Wire(lambda prompt: refusal(400) if prompt in ("prompt 1", "prompt 5") else "yes")
    job.run()
    job.write([*ROWS, *({"id": "more", "prompt": "more"},) * added])
    runner = job.prepared(**options)
    asyncio.run(runner.run())
    assert runner.progress.failed_before == failed_before


def test_an_input_that_is_shorter_than_its_limit_is_refused_as_any_other(job: Job) -> None:
    """An answer would stand in the output whose row is gone."""
    job.write(ROWS[:4])
    with pytest.raises(RunMismatch, match=r"has a result for row 5, but .* has only 4 rows now"):
        job.run(limit=5)


@pytest.mark.parametrize("option", [{"prompt": "Say {{ prompt }}"}, {"prompt": "{{ prompt | upper }}"}])
def test_templates_are_compared_by_what_they_make(tmp_path: Path, option: dict[str, str]) -> None:
    """With a plain template no call is made for the check: changed rows would slip through."""
    job = Job(tmp_path)
    job.write(ROWS)
    job.run(**option)
    assert job.run(**option).unfinished == 0
    job.write([*ROWS[:3], {"id": "q3", "prompt": "another"}, *ROWS[4:]])
    with pytest.raises(RunMismatch, match=r'line 4, column prompt: was "prompt 3", is now "another"'):
        job.run(**option)


def test_the_first_difference_is_named_and_nothing_sent(job: Job) -> None:
    """Old answers would stand beside new questions, or the user not learn which row it is."""
    job.write([*ROWS[:2], {"id": "q2", "prompt": "new"}, {"id": "q3", "prompt": "new too"}, *ROWS[4:], {"prompt": "x"}])
    with pytest.raises(RunMismatch, match=r'in\.jsonl, line 3, column prompt: was "prompt 2", is now "new"; use'):
        job.run()
    job.write(ROWS[:4])
    with pytest.raises(RunMismatch, match=r"has a result for row 5, but .* has only 4 rows now"):
        job.run()
    assert job.wire.prompts == []
    assert job.state() == "finished"


def test_an_unusable_row_is_told_before_a_difference(job: Job) -> None:
    """A file that was cut off while it was copied would be called another job's."""
    job.write([{"prompt": "changed"}, *ROWS[1:5], {"prompt": 5}])
    with pytest.raises(ConfigError, match=r"line 6: a prompt is a string"):
        job.run()
    assert job.wire.prompts == []
    assert job.state() == "finished"
    assert sorted(path.name for path in job.folder.iterdir()) == ["in.jsonl", "out.jsonl", "out.jsonl.flatout"]


@pytest.mark.parametrize("options", [{}, {"fresh": True}])
def test_an_unusable_input_makes_and_moves_no_run_file(tmp_path: Path, options: dict[str, Any]) -> None:
    """A typo would leave an empty run behind, or put a good one aside."""
    job = Job(tmp_path)
    job.write([*ROWS, {"prompt": 5}])
    if options:
        job.run_file.write_bytes(b"")
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(ConfigError):
        job.run(**options)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_run_that_appears_meanwhile_is_not_taken_unseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two commands started at once, the slower would hand out the other's answers without having looked at them."""
    job = Job(tmp_path)
    job.write(ROWS)
    check = runs.check

    def slow(*given: Any, **options: Any) -> Any:
        monkeypatch.setattr(runs, "check", check)
        job.run()
        job.wire = Wire()
        return check(*given, **options)

    monkeypatch.setattr(runs, "check", slow)
    with pytest.raises(StoreError, match="was written by another process just now; run the same command again"):
        job.prepared()
    assert job.state() == "finished"
    assert job.run().unfinished == 0
    assert job.wire.prompts == []


def test_columns_are_those_of_today(job: Job) -> None:
    """After a column was added, mended or removed, the output would show it as it was, or the run refuse to go on."""
    job.write([{"id": f"r{n}", "prompt": row["prompt"], "new": n} for n, row in enumerate(ROWS)])
    assert job.run().unfinished == 0
    assert [(row["id"], row["new"]) for row in job.written()] == [(f"r{n}", n) for n in range(6)]
    with RunReader.open(job.run_file) as reader:
        assert [item.id for item in reader.items()] == [f"r{n}" for n in range(6)]
    job.write([{"prompt": row["prompt"]} for row in ROWS] + [{"prompt": "one more"}])
    assert job.run().unfinished == 0
    assert [set(row) & {"id", "new"} for row in job.written()] == [set()] * 7
    assert job.wire.prompts == ["one more"]


def test_answers_never_stand_beside_other_rows(tmp_path: Path) -> None:
    """Without prompts in the run file, an input edited meanwhile would get the answers of the rows that it had."""
    job = Job(tmp_path)
    job.write(ROWS)
    edited = [ROWS[0], {"id": "x", "prompt": "squeezed in"}, *ROWS[1:]]

    async def main(rows: list[dict[str, Any]]) -> None:
        runner = job.prepared(keep_prompts=False)
        finish = runner._finish

        def meanwhile() -> RunEnd:
            job.write(rows)
            return finish()

        runner._finish = meanwhile  # type: ignore[method-assign]
        await runner.run()

    with pytest.raises(RunMismatch, match=r"in\.jsonl, line 2 has changed since it was asked; the answers are kept in"):
        asyncio.run(main(edited))
    assert not job.output.exists()
    job.write(ROWS)
    with pytest.raises(RunMismatch, match=r"the input has become shorter: row 6 is gone"):
        asyncio.run(main(ROWS[:5]))
    job.write([{**ROWS[0], "id": "new", "n": 1}, *ROWS[1:]])
    assert job.run(keep_prompts=False).unfinished == 0
    assert job.written()[0] | {"n": 1, "id": "new", "prompt": "prompt 0"} == job.written()[0]
    assert len(job.wire.prompts) == 6


def test_rows_that_cannot_be_kept_are_refused_before_the_first_call(tmp_path: Path) -> None:
    """Each resume would pay for answers that the run file then does not take."""
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    job = Job(tmp_path)
    job.source = tmp_path / "in.parquet"
    job.output = tmp_path / "out.parquet"
    when = pa.array([1, 1_500_000_000, None], pa.timestamp("ns"))
    parquet.write_table(pa.table({"prompt": ["a", "b", "c"], "when": when}), job.source)
    for _ in range(2):
        assert job.run().unfinished == 0
    assert sorted(job.wire.prompts) == ["a", "b", "c"]
    assert parquet.read_table(job.output)["when"].combine_chunks().equals(when)
    later = tmp_path / "later.parquet"
    export(job.output_run(), str(later))
    assert parquet.read_table(later)["when"].combine_chunks().equals(when)


def test_what_a_model_said_beside_the_point_is_in_the_output(tmp_path: Path) -> None:
    """Whoever wants to know why an answer does not fit would have to pay for it once more."""
    job = Job(tmp_path)
    job.write(ROWS[:2])
    job.wire.answer = lambda prompt: "I cannot." if prompt == "prompt 1" else '{"n": 1}'
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    job.run(params={"output": schema, "reasks": 0})
    good, bad = job.written()
    assert (good["answer"], good["raw_answer"]) == ({"n": 1}, None)
    assert (bad["answer"], bad["raw_answer"]) == (None, "I cannot.")
    assert bad["error"].startswith("SchemaMismatch: ")
    later = tmp_path / "later.csv"
    for select, there in (("all", True), ("failed", True), ("answered", False)):
        export(job.output_run(), str(later), select=select)
        assert ("raw_answer" in later.read_text()) == there
        later.unlink()


def test_what_no_run_file_takes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row too large for the run file would be found when its answer was paid for."""
    monkeypatch.setattr(keeping, "LARGEST_ROW", 1024**2)
    job = Job(tmp_path)
    job.write([*ROWS, {"prompt": "x", "large": "y" * 1024**2}])
    with pytest.raises(ConfigError, match=r"in\.jsonl, line 7: the row is larger than 1 MB"):
        job.run()
    with pytest.raises(ConfigError, match=r"line 1: the column odd cannot be kept in a run file"):
        keeping.stored(Row(0, 1, {"fine": 1, "odd": object()}))
    assert job.wire.prompts == []


def test_a_prompt_that_is_the_same_for_all_needs_to_be_meant(tmp_path: Path) -> None:
    """A forgotten placeholder would cost as many calls as there are rows."""
    job = Job(tmp_path)
    job.write(ROWS)
    with pytest.raises(ConfigError, match="add --same-prompt"):
        job.run(prompt="Say hello")
    assert not job.run_file.exists()
    assert job.run(prompt="Say hello", same_prompt=True).unfinished == 0
    assert job.wire.prompts == ["Say hello"] * 6


def test_nulls_are_found_before_the_first_call(tmp_path: Path) -> None:
    """The rows before it would be paid for, and the row itself be asked about the word None."""
    job = Job(tmp_path)
    job.write([*ROWS, {"prompt": None}])
    with pytest.raises(ConfigError, match=r"in\.jsonl, line 7: the column prompt is null; --nulls empty"):
        job.run(prompt="Say {{ prompt }}")
    assert job.wire.prompts == []
    assert job.run(prompt="Say {{ prompt }}", nulls="empty").unfinished == 0
    assert "Say " in job.wire.prompts


def test_the_command_to_continue_is_the_last_one_that_went_on(job: Job) -> None:
    """Whoever copies it would lose the limits of the day; or be told a command that was refused."""

    def kept() -> str | None:
        with RunReader.open(job.run_file) as reader:
            return reader.info().command

    job.run(fresh=True, command="flatout run in.jsonl")
    job.run(command="flatout run in.jsonl --rpm 60")
    assert kept() == "flatout run in.jsonl --rpm 60"
    with pytest.raises(RunMismatch):
        job.run(command="flatout run in.jsonl --prompt x", prompt="Say {{ id }}")
    job.write(ROWS[:4])
    with pytest.raises(RunMismatch):
        job.run(command="flatout run short.jsonl")
    assert kept() == "flatout run in.jsonl --rpm 60"
