"""Tables against the command: what a row takes, through `flatout.tables` and through files.

    python -m benchmarks.tables [--rows 100000] [--concurrency 64] [--threads 5000] [--only lazy]

Each way runs in a process of its own, against a fast server on the same machine:

- ``jsonl``, ``parquet``: ``flatout run``, from and to a file of that kind; it keeps a run file.
- ``polars``, ``pandas``: the frame in memory, `flatout.tables.answer`, and back into a Parquet file, with a run file.
- ``lazy``: a Polars LazyFrame from Parquet to Parquet, larger than memory if it has to be, with a run file.
- ``plain``: as ``lazy``, without a run file.
- ``alone``: a file of the same size written by Polars, and nothing asked: what the libraries take by themselves.
- ``loaded``: as ``jsonl``, in a process that has loaded pyarrow as the command does: what Parquet takes before a row.
- ``threads``: what a tutorial does: a thread pool over the column, and a requests-like client.

It prints CPU and peak memory, and both as a ratio to ``jsonl``. A frame in memory is memory, so its ratio says little.
``--threads`` rows are enough for the last way.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.scale import TEXT
from benchmarks.server import ANSWER, serving

PROMPT = "{{ prompt }}"
GROUP = 5_000
"""Rows of a group in what Polars writes: those of the command. Polars' own are 262,144 rows, all held in memory."""

_LOOK = 0.1  # seconds between two looks at a process


class Ran(NamedTuple):
    """What one process took, a row: seconds, CPU µs; and its peak memory in MB, with the files of its libraries, which
    processes share and the system may drop, and without (0 where the system does not tell).
    """

    seconds: float
    cpu: float
    peak: float
    own: float


def write_inputs(folder: Path, rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("id", pa.string()), ("prompt", pa.string())])
    with (folder / "in.jsonl").open("w") as lines, pq.ParquetWriter(folder / "in.parquet", schema) as writer:
        for start in range(0, rows, 10_000):
            many = [{"id": f"row-{n}", "prompt": f"{n}: {TEXT[:310]}"} for n in range(start, min(start + 10_000, rows))]
            writer.write_table(pa.Table.from_pylist(many, schema))
            lines.writelines(json.dumps(row) + "\n" for row in many)


def options(url: str, concurrency: int) -> dict[str, Any]:
    from flatout import Limits

    limits = Limits(concurrency=concurrency)
    return {"model": "bench", "base_url": url, "api_key": "none", "config": {}, "limits": limits, "tokens": True}


def polars(given: dict[str, Any]) -> None:
    import polars as pl

    import flatout.tables

    frame = flatout.tables.answer(pl.read_parquet("in.parquet"), PROMPT, store="run.flatout", **given)
    frame.write_parquet("out.parquet")


def pandas(given: dict[str, Any]) -> None:
    import pandas as pd

    import flatout.tables

    frame = flatout.tables.answer(pd.read_parquet("in.parquet"), PROMPT, store="run.flatout", **given)
    frame.to_parquet("out.parquet")


def lazy(given: dict[str, Any], store: str | None = "run.flatout") -> None:
    import polars as pl

    import flatout.tables

    frame = flatout.tables.answer(pl.scan_parquet("in.parquet"), PROMPT, store=store, **given)
    frame.sink_parquet("out.parquet", row_group_size=GROUP)


def plain(given: dict[str, Any]) -> None:
    lazy(given, store=None)


def alone(given: dict[str, Any]) -> None:
    import polars as pl
    import pyarrow  # noqa: F401  # an answered frame needs it

    text = json.loads(ANSWER)["choices"][0]["message"]["content"]
    each = pl.concat_str(pl.lit(text), pl.col("id").str.head(0))  # a text for each row: a literal is one for all
    tokens = {name: pl.lit(100, pl.Int64) for name in ("input_tokens", "output_tokens")}
    frame = pl.scan_parquet("in.parquet").with_columns(answer=each, error=pl.lit(None, pl.String), **tokens)
    frame.sink_parquet("out.parquet", row_group_size=GROUP)


def threads(given: dict[str, Any]) -> None:
    import httpx
    import pandas as pd

    frame = pd.read_parquet("in.parquet")
    with httpx.Client(base_url=given["base_url"], limits=httpx.Limits(max_connections=64)) as client:

        def ask(text: str) -> str:
            body = {"model": "bench", "messages": [{"role": "user", "content": text}]}
            answer: str = client.post("/chat/completions", json=body).json()["choices"][0]["message"]["content"]
            return answer

        with ThreadPoolExecutor(given["limits"].concurrency) as pool:
            frame["answer"] = list(pool.map(ask, frame["prompt"]))
    frame.to_parquet("out.parquet")


LOADED = """
import sys
from flatout import extras
from flatout.cli import main
from flatout.runs.parquet import arrow
extras.alone()
arrow()
sys.exit(main())
"""

WAYS: dict[str, Callable[[dict[str, Any]], None]] = {
    "polars": polars, "pandas": pandas, "lazy": lazy, "plain": plain, "alone": alone, "threads": threads,
}  # fmt: skip


def run(way: str, folder: Path, url: str, rows: int, concurrency: int) -> Ran:
    """One way in a process of its own. The kernel counts this process' memory as its own, so this one stays small."""
    elsewhere(write_inputs, folder, rows)
    if way in WAYS:
        arguments = ["-m", "benchmarks.tables", "--way", way, "--url", url, "--concurrency", str(concurrency)]
    else:
        kind = "jsonl" if way == "loaded" else way
        command = ["-c", LOADED] if way == "loaded" else ["-m", "flatout"]
        arguments = [*command, "run", f"in.{kind}", "-o", f"out.{kind}", "--prompt", PROMPT, "-m", "bench", "-q"]
        arguments += ["--base-url", url, "--concurrency", str(concurrency)]
    path = f"{Path(__file__).parents[1]}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    began = time.perf_counter()
    environment = {**os.environ, "FLATOUT_API_KEY": "none", "PYTHONPATH": path}
    process = subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment)
    own = 0.0
    while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
        own = max(own, private(process.pid))
        time.sleep(_LOOK)
    _, status, used = ended
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{way} ended with {process.returncode}")
    elsewhere(check, folder, way, rows)
    cpu = (used.ru_utime + used.ru_stime) / rows * 1e6
    return Ran(time.perf_counter() - began, cpu, used.ru_maxrss / 1024, own)


def private(pid: int) -> float:
    """The memory of a process that is no file, in MB; 0 where the system does not tell."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
    return 0.0


def check(folder: Path, way: str, rows: int) -> None:
    """Every row has an answer, in its place."""
    import pyarrow.parquet as pq

    if way in ("jsonl", "loaded"):
        with (folder / "out.jsonl").open("rb") as lines:
            written = [json.loads(line) for line in lines]
    else:
        written = pq.read_table(folder / "out.parquet", columns=["id", "answer"]).to_pylist()
    if [row["id"] for row in written] != [f"row-{n}" for n in range(rows)] or not all(row["answer"] for row in written):
        raise SystemExit(f"{way}: rows are missing or in another order")


def elsewhere(work: Callable[..., None], *arguments: Any) -> None:
    """Call a function in another process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:
        other.submit(work, *arguments).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=5_000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--only", nargs="*", default=["jsonl", "loaded", "parquet", *WAYS])
    parser.add_argument("--way")
    parser.add_argument("--url")
    asked = parser.parse_args()
    if asked.way:
        WAYS[asked.way](options(asked.url, asked.concurrency))
        return
    first: Ran | None = None
    with serving() as url:
        for way in asked.only:
            rows = asked.threads if way == "threads" else asked.rows
            with tempfile.TemporaryDirectory() as name:
                ran = run(way, Path(name), url, rows, asked.concurrency)
            first = first or ran
            ratios = f"{ran.cpu / first.cpu:5.2f} × CPU, {ran.peak / first.peak:5.2f} × memory of {asked.only[0]}"
            peak = f"peak {ran.peak:6.1f} MB, {ran.own:6.1f} MB of it no file"
            figures = f"{ran.seconds:7.1f} s, {ran.cpu:6.0f} µs CPU a row, {peak}"
            print(f"{way:8} {rows:>9,} rows: {figures}; {ratios}", flush=True)


if __name__ == "__main__":
    main()
