"""Tables for real: killed and gone on with, in other processes, larger than memory."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flatout import Limits
from flatout.tables import Answers
from flatout.testing import digest_of
from tests.support.command_samples import PATIENCE, provider

pa = pytest.importorskip("pyarrow")

WINDOW = 26  # calls that a client with a concurrency of 20 takes on at once

JOB = """
import sys
import pyarrow as pa
from flatout import Limits
from flatout.tables import answer

table = pa.table({"text": [f"row {n}" for n in range(200)]})
if "lazy" in sys.argv:
    import polars
    table = polars.DataFrame(table).lazy()
made = answer(table, "{{ text }}", store="run.flatout", model="any", base_url=sys.argv[1], config={},
              limits=Limits(concurrency=20))
if "lazy" in sys.argv:
    made.sink_parquet("made.parquet")
    made = polars.read_parquet("made.parquet").to_arrow()
print(made.num_rows, made.column("answer").null_count, made.column("answer")[199].as_py().split()[0])
"""

WORKER = """
import pickle, sys
import pyarrow as pa

answers = pickle.loads(sys.stdin.buffer.read())
table = pa.table({"text": ["a", "b"]})
with answers:
    print(*(text.split()[0] for text in answers(table).column("label").to_pylist()))
"""


def python(code: str, *arguments: str, folder: Path, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


@pytest.mark.parametrize("kind", ["table", "lazy"])
def test_a_killed_table_goes_on_and_pays_only_for_what_was_in_flight(tmp_path: Path, kind: str) -> None:
    """A notebook that dies would pay for its whole table again."""
    if kind == "lazy":
        pytest.importorskip("polars")
    with provider(latency=0.05) as server:
        server.hang_after(60)
        killed = python(JOB, server.url, kind, folder=tmp_path)
        server.wait_for(70)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        server.answer_again()
        out, err = python(JOB, server.url, kind, folder=tmp_path).communicate(timeout=PATIENCE)
        assert (out.decode(), err.decode()) == (f"200 0 digest:{digest_of('row 199')}\n", "")
        assert server.stats()["received"] <= 200 + WINDOW


def test_a_question_travels_to_another_process(tmp_path: Path) -> None:
    """An engine could not use its workers."""
    with provider(latency=0.0) as server:
        ask = Answers(
            "{{ text }}", model="any", base_url=server.url, config={}, into="label", limits=Limits(rpm=60_000)
        )
        worker = python(WORKER, folder=tmp_path, stdin=subprocess.PIPE)
        out, err = worker.communicate(pickle.dumps(ask), timeout=PATIENCE)
        assert (out.decode(), err.decode()) == (f"digest:{digest_of('a')} digest:{digest_of('b')}\n", "")


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has threads, as engines on Linux do")
def test_a_forked_process_has_a_client_of_its_own(tmp_path: Path) -> None:
    """A worker that an engine forks would wait for a thread that is not there."""
    code = """
import os, sys
import pyarrow as pa
from flatout.tables import Answers

answers = Answers("{{ text }}", model="any", base_url=sys.argv[1], config={})
table = pa.table({"text": ["a"]})
assert answers(table).num_rows == 1
if (child := os.fork()) == 0:
    print(answers(table).column("answer")[0].as_py().split()[0], flush=True)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    with provider(latency=0.0) as server:
        forked = python(code, server.url, folder=tmp_path)
        out, _ = forked.communicate(timeout=PATIENCE)
        assert (forked.returncode, out.decode()) == (0, f"digest:{digest_of('a')}\n")


def test_an_interrupt_ends_the_calls_and_keeps_what_is_done(tmp_path: Path) -> None:
    """Ctrl-C in a notebook would leave calls that go on, or a run file that nobody can open."""
    with provider(latency=0.05) as server:
        server.hang_after(60)
        stopped = python(JOB, server.url, folder=tmp_path)
        server.wait_for(70)
        stopped.send_signal(signal.SIGINT)
        _, err = stopped.communicate(timeout=PATIENCE)
        server.answer_again()
        assert err.decode().rstrip().endswith("KeyboardInterrupt")
        out, err = python(JOB, server.url, folder=tmp_path).communicate(timeout=PATIENCE)
        assert (out.decode()[:5], err.decode()) == ("200 0", "")
        assert server.stats()["received"] <= 200 + WINDOW


LARGE = """
import re, sys
from pathlib import Path
import polars as pl
import pyarrow.parquet as pq
from flatout.tables import answer
from tests.support.answered_tables import Forgetful, options

kind, rows = sys.argv[1], int(sys.argv[2])
texts = pl.LazyFrame({"n": pl.int_range(rows, eager=True)}).with_columns(text=pl.format("row {}", "n") + "x" * 300)
texts.sink_parquet("in.parquet", row_group_size=10_000)
given = options(Forgetful(), store="run.flatout" if "stored" in kind else None)
if "lazy" in kind:
    asked = answer(pl.scan_parquet("in.parquet"), "{{ text }}", **given)
    asked.sink_parquet("out.parquet", row_group_size=10_000)
    answered = pl.scan_parquet("out.parquet").select(pl.col("answer").is_not_null().sum()).collect().item()
else:
    batches = answer(pq.ParquetFile("in.parquet").iter_batches(1_000), "{{ text }}", **given)
    answered = sum(batch.num_rows - batch.column("answer").null_count for batch in batches)
assert answered == rows, answered
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.soak
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory in /proc")
@pytest.mark.parametrize("kind", ["lazy", "lazy, stored", "batches", "batches, stored"])
def test_a_table_larger_than_memory_keeps_memory_flat(tmp_path: Path, kind: str) -> None:
    """A table larger than memory would be read into it."""
    pytest.importorskip("polars")
    root = str(Path(__file__).parents[2])
    taken = []
    for many in (100_000, 300_000):
        folder = tmp_path / str(many)
        folder.mkdir()
        large = python(LARGE, kind, str(many), folder=folder, env={**os.environ, "PYTHONPATH": root})
        out, err = large.communicate(timeout=600)
        assert err.decode() == ""
        taken.append(int(out))
    assert taken[1] <= taken[0] * 1.2
