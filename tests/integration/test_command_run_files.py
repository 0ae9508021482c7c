"""Run files by the real command: unusable, exported in the middle of a run, damaged, without prompts."""

from __future__ import annotations

import asyncio
import csv
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flatout.store import RunFile, RunReader
from tests.support.command_samples import (
    PLENTY,
    check_answers,
    end,
    obey_permissions,
    provider,
    questions,
    rows_of,
    start,
)
from tests.support.quick_commands import flatout

RUN = ("run", "in.jsonl", "-o", "out.jsonl", *PLENTY)


def newer(path: Path) -> None:
    asyncio.run(RunFile.open(path, job={}).close())
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


def locked(path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o555)


@pytest.mark.parametrize(
    ("name", "make", "why"),
    [
        ("a.flatout", newer, "a.flatout was written by a newer flatout (version 99"),
        ("a.flatout", Path.mkdir, "a.flatout is a folder; a run is kept in a file"),
        ("in.jsonl", lambda _: None, "in.jsonl is not a run file"),
        ("locked/a.flatout", locked, "locked/a.flatout cannot be written there: Permission denied"),
    ],
    ids=["newer", "folder", "jsonl", "read-only"],
)
def test_it_is_said_in_one_sentence(name, make, why, tmp_path):
    """A user would see a traceback of SQLite, or lose the file that was named by mistake."""
    before = questions(tmp_path, 3).read_bytes()
    make(tmp_path / name)
    with provider() as server:
        done = flatout(*RUN, *server.options(), "--run-file", name, folder=tmp_path, prepare=obey_permissions)
        assert server.received == 0
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"flatout: {why}")
    assert done.err.count("\n") == 1
    assert (tmp_path / "in.jsonl").read_bytes() == before


def test_an_input_that_shrank_is_refused(tmp_path):
    """The output would lose rows that were paid for."""
    questions(tmp_path, 10)
    with provider() as server:
        assert flatout(*RUN, *server.options(), folder=tmp_path).code == 0
        questions(tmp_path, 6)
        done = flatout(*RUN, *server.options(), folder=tmp_path)
        assert (done.code, server.received) == (2, 10)
    assert done.err.startswith("flatout: out.jsonl.flatout has a result for row 7, but in.jsonl has only 6 rows now")
    check_answers(tmp_path / "out.jsonl", 10)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_run_can_be_exported_while_it_goes_on(suffix, tmp_path):
    """Whoever looks at what there is so far would get an error, or half a file."""
    pytest.importorskip("pyarrow")
    rows = ({"id": f"q{n}", "prompt": f"question {n}", f"extra{n % 50}": n} for n in range(3_000))
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with provider() as server:
        process = start(*RUN, *server.options(), "--concurrency", "20", folder=tmp_path)
        server.wait_for(50)
        sizes = []
        while process.poll() is None and len(sizes) < 4:
            done = flatout("export", "out.jsonl", "-o", f"so-far.{suffix}", "--overwrite", folder=tmp_path)
            if done.code and "there is no run file" not in done.err:
                raise AssertionError(done.err)
            sizes.append(int(done.err.split()[1].replace(",", "")))
        assert end(process).code == 0
    assert sizes == sorted(sizes)
    check_answers(tmp_path / "out.jsonl", 3_000)


def test_a_run_without_prompts_has_the_inputs_columns_in_its_output(tmp_path):
    """Whoever may not keep prompts would get answers that belong to nothing; or have prompts kept all the same."""
    questions(tmp_path, 30)
    with provider() as server:
        assert flatout(*RUN, *server.options(), "--no-prompts", folder=tmp_path).code == 0
    check_answers(tmp_path / "out.jsonl", 30)
    assert b"question 7" not in (tmp_path / "out.jsonl.flatout").read_bytes()
    assert flatout("export", "out.jsonl", "-o", "again.csv", folder=tmp_path).code == 0
    with (tmp_path / "again.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [(row["row"], row["id"]) for row in found] == [(str(n + 1), f"q{n}") for n in range(30)]
    assert all(row["answer"].startswith("digest:") for row in found)


def test_a_damaged_run_file_is_named_and_what_is_readable_is_rescued(tmp_path):
    """One bad sector would cost every answer."""
    questions(tmp_path, 400)
    with provider() as server:
        assert flatout(*RUN, *server.options(), "--param", "max_tokens=100", folder=tmp_path).code == 0
    whole = {row["id"]: row["answer"] for row in rows_of(tmp_path / "out.jsonl")}
    path = tmp_path / "out.jsonl.flatout"
    answer = sorted(whole.values())[200].encode()
    page = path.read_bytes().index(answer) // 4096  # one of those that hold answers, wherever the run has put them
    with path.open("r+b") as file:
        file.seek(4096 * page)
        file.write(b"\xff" * 4096)
    done = flatout("export", "out.jsonl", "-o", "all.jsonl", folder=tmp_path)
    assert done.code == 2
    assert "out.jsonl.flatout is damaged" in done.err
    assert "flatout export --salvage" in done.err
    assert flatout("export", "out.jsonl", "-o", "some.jsonl", "--salvage", folder=tmp_path).code == 0
    rescued = {row["id"]: row["answer"] for row in rows_of(tmp_path / "some.jsonl")}
    assert 300 < len(rescued) < 400
    assert rescued.items() <= whole.items()


def test_a_killed_run_tells_what_may_have_been_paid(tmp_path):
    """After a crash nobody would know which calls may have been paid for nothing."""
    questions(tmp_path, 50)
    with provider(latency=3_600.0) as server:
        process = start(*RUN, *server.options("gpt-5-mini"), "--concurrency", "7", folder=tmp_path)
        server.wait_for(7)
        process.kill()
        assert end(process).code == -9
    facts = json.loads(flatout("status", "out.jsonl", "--json", folder=tmp_path).out)
    assert facts["unsettled"]["attempts"] == 7
    with RunReader.open(tmp_path / "out.jsonl.flatout") as reader:
        assert reader.counts().finished == 0
