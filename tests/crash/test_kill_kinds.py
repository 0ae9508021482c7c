"""Runs over each kind of input and output, killed with SIGKILL: the same rows are asked, and no output is ever half."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from flatout.runs.input.read import open_input
from flatout.runs.output.answered import AnsweredRow
from flatout.runs.output.write import check_output, write
from flatout.testing import digest_of
from tests.crash.test_kill import IN_FLIGHT, WINDOW, Job, Provider, duplicates, kill_all, provider  # noqa: F401 - a fixture
from tests.support.web_files import Files, web
from tests.unit.runs.workbooks import workbook

ROWS = 400
KILLS = 1  # of each job


@pytest.fixture(scope="module")
def files() -> Iterator[Files]:
    with web() as served:
        yield served


def prompt(kind: str, row: int) -> str:
    return f"{kind} row {row}"


def packed(folder: Path, kind: str) -> tuple[str, str]:
    lines = (json.dumps({"id": n, "prompt": prompt(kind, n)}) + "\n" for n in range(ROWS))
    (folder / "in.jsonl.gz").write_bytes(gzip.compress("".join(lines).encode()))
    return "in.jsonl.gz", "out.jsonl.gz"


def sqlite(folder: Path, kind: str) -> tuple[str, str]:
    with contextlib.closing(sqlite3.connect(folder / "shop.db")) as made, made:
        made.execute("CREATE TABLE mails (id INTEGER, prompt TEXT)")
        made.executemany("INSERT INTO mails VALUES (?, ?)", ((n, prompt(kind, n)) for n in range(ROWS)))
    return "shop.db::mails", "shop.db::labels"


def sheet(folder: Path, kind: str) -> tuple[str, str]:
    pytest.importorskip("python_calamine")
    pytest.importorskip("duckdb")
    workbook(folder / "in.xlsx", {"Mails": [["id", "prompt"], *([n, prompt(kind, n)] for n in range(ROWS))]})
    return "in.xlsx::Mails", "out.duckdb::labels"


def elsewhere(folder: Path, kind: str, files: Files) -> tuple[str, str]:
    pytest.importorskip("fsspec")
    rows = "".join(json.dumps({"id": n, "prompt": prompt(kind, n)}) + "\n" for n in range(ROWS))
    files.files["in.jsonl"] = rows.encode()
    files.each = len(rows)  # so every third connection is lost
    return f"{files.url}/cut/in.jsonl", "out.csv"


@pytest.mark.parametrize(
    "kinds", [pytest.param(["db", "web"], id="some"), pytest.param(["gz", "xlsx"], id="others", marks=pytest.mark.soak)]
)
def test_a_killed_run_of_any_kind_loses_nothing(
    tmp_path: Path,
    kinds: list[str],
    provider: Provider,  # noqa: F811 - pytest hands it in
    files: Files,
) -> None:
    """A run over a database, a workbook or a web server could not go on where it was, or would pay twice."""
    makers = {"gz": packed, "db": sqlite, "xlsx": sheet, "web": lambda *given: elsewhere(*given, files)}
    jobs, outputs, before = [], {}, duplicates(provider)
    for number, kind in enumerate(kinds):
        job = Job(tmp_path / kind, [], "")
        source, output = makers[kind](job.folder, kind)
        job.program = ["-m", "flatout", "run", source, "-o", output, "-q", "-m", "any", "--base-url", provider.url]
        job.program += ["--rpm", "600k", "--concurrency", str(IN_FLIGHT), "--workers", str(1 + number % 2)]
        job.run_file = job.folder / f"{output}.flatout"
        jobs.append(job)
        outputs[kind] = f"{job.folder / output}"
    kill_all(jobs, KILLS * len(jobs))
    for kind, output in outputs.items():
        rows = [row.columns for row in open_input(output)]
        assert [int(row["id"]) for row in rows] == list(range(ROWS)), kind
        assert all(digest_of(prompt(kind, n)) in row["answer"] for n, row in enumerate(rows)), kind
    lost = sum(job.lost() for job in jobs)
    assert duplicates(provider) - before <= lost <= sum(job.kills for job in jobs) * WINDOW


STOPS = """
import sys, time
from flatout.runs.output.answered import AnsweredRow
from flatout.runs.output.write import write

passes = 0

def rows():
    global passes
    passes += 1
    for n in range(40_000):
        yield AnsweredRow(columns={"n": n}, answer="new " * 30)
    if passes == int(sys.argv[2]):
        print("writes", flush=True)
        time.sleep(60)

write(sys.argv[1], rows, ("n",))
"""


@pytest.mark.parametrize("name", ["out.jsonl.gz", "out.db::t", "out.duckdb::t"])
def test_an_output_that_is_being_written_at_a_kill_is_the_old_one(tmp_path: Path, name: str) -> None:
    """Half a file, or half a table, would stand where yesterday's whole one was."""
    if "duckdb" in name:
        pytest.importorskip("duckdb")
    output = str(tmp_path / name)
    old = [{"n": n} for n in range(10)]
    write(output, lambda: (AnsweredRow(columns=row, answer="old") for row in old))
    passes = "2" if "duckdb" in name else "1"  # the first is for its types
    program = [sys.executable, "-c", textwrap.dedent(STOPS), output, passes]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writes\n"
        os.kill(process.pid, signal.SIGKILL)
    check_output(output)  # as the same command does before it reads anything
    assert [(row.columns["n"], row.columns["answer"]) for row in open_input(output)] == [(n, "old") for n in range(10)]
    write(output, lambda: [AnsweredRow(columns={"n": 1}, answer="newer")])
    assert [row.columns["answer"] for row in open_input(output)] == ["newer"]
    assert not list(tmp_path.glob(".flatout-*"))
