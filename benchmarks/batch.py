"""What the batch lane costs: CPU a row from the input to the output, beside a script of a few lines that does the same.

    python -m benchmarks.batch [--rows 100000]

The command's runner packs, submits and collects against ``flatout simulate`` in a child process, over HTTP. The
strawman builds JSON lines, uploads them in files of the same size, waits, and parses the results: no ledger, no run
file, and the whole of it in memory. CPU is of this process only; memory is its peak.

Last figures (two quiet cores, Linux, Python 3.11; 100,000 rows, three runs), CPU µs a row and MB: strawman 12 (139),
lane 62–63 (117), ratio 5.2. On a busy machine the lane takes 66–73; in the same minutes the lane of before took 97–104
(125): since then the answers have a table of their own in the run file, and a row passes through less Python.
1,000,000 rows on a busy machine: 70 (123). Of 69: check the input 3, pack 7, ledger 4, upload 1, download 3, results
into the ledger 7, make answers of them 21, commit them 13, write the output 9. SQLite has 21 of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flatout import Client
from flatout.runs.job import RunOptions
from flatout.runs.process import tune_collector
from flatout.runs.runner import Runner

MOST = 60.0
"""Microseconds of CPU a row."""

PER_FILE = 50_000


@contextmanager
def provider() -> Iterator[str]:
    """``flatout simulate`` with quick batches, in a process of its own; yields its base URL."""
    command = [sys.executable, "-m", "flatout", "simulate", "--port", "0", "--batch-time", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            found = re.search(r"http://\S+/v1", process.stderr.readline())
            assert found is not None, "the provider did not start"
            yield found[0]
        finally:
            process.terminate()
            process.stderr.read()


def write(folder: Path, rows: int) -> Path:
    path = folder / "in.jsonl"
    with path.open("w") as file:
        for row in range(rows):
            file.write(json.dumps({"id": row, "prompt": f"Is mail {row} spam or ham? Buy now, pay later."}) + "\n")
    return path


async def lane(source: Path, folder: Path, url: str) -> None:
    options = RunOptions(source=str(source), output=str(folder / "out.jsonl"), lane="batch")
    runner = Runner(options, lambda: Client("any", base_url=url, api_key="none", config={}))
    runner.prepare()
    end = await runner.run()
    assert end.unfinished == 0


HEAD = (
    '--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    '--x\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
)


def strawman(source: Path, folder: Path, url: str) -> None:
    def ask(method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        headers = {"content-type": kind, "authorization": "Bearer none"}
        with urllib.request.urlopen(urllib.request.Request(url + path, body, headers, method=method)) as answer:
            found: bytes = answer.read()
        return found

    def submit(lines: list[str]) -> str:
        body = (HEAD + "".join(lines) + "\r\n--x--\r\n").encode()
        file = json.loads(ask("POST", "/files", body, "multipart/form-data; boundary=x"))["id"]
        made = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        return str(json.loads(ask("POST", "/batches", json.dumps(made).encode()))["id"])

    jobs, lines = [], []
    with source.open() as file:
        for number, line in enumerate(file):
            body = {"model": "any", "messages": [{"role": "user", "content": json.loads(line)["prompt"]}]}
            row = {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body}
            lines.append(json.dumps(row) + "\n")
            if len(lines) == PER_FILE:
                jobs.append(submit(lines))
                lines = []
    if lines:
        jobs.append(submit(lines))
    answers: dict[str, Any] = {}
    for job in jobs:
        while (told := json.loads(ask("GET", f"/batches/{job}")))["status"] != "completed":
            time.sleep(0.5)
        for answered in ask("GET", f"/files/{told['output_file_id']}/content").splitlines():
            found = json.loads(answered)
            answers[found["custom_id"]] = found["response"]["body"]["choices"][0]["message"]["content"]
    with (folder / "straw.jsonl").open("w") as out:
        for number in range(len(answers)):
            out.write(json.dumps({"answer": answers[str(number)]}) + "\n")


def measured(what: str, rows: int) -> tuple[float, float]:
    """CPU in microseconds a row, and the peak of memory in MB, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.batch", "--rows", str(rows), "--only", what]
    took, memory = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
    return took, memory


def only(what: str, rows: int) -> None:
    with provider() as url, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = write(folder, rows)
        began = time.process_time()
        if what == "lane":
            tune_collector()  # as the command does
            asyncio.run(lane(source, folder, url))
        else:
            strawman(source, folder, url)
        took = time.process_time() - began
        print(json.dumps([took / rows * 1e6, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3]))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=100_000)
    options.add_argument("--only", choices=("lane", "strawman"))
    given = options.parse_args()
    if given.only:
        only(given.only, given.rows)
        return
    straw, straw_memory = measured("strawman", given.rows)
    ours, memory = measured("lane", given.rows)
    print(f"strawman {straw:6.1f} µs a row, {straw_memory:6.0f} MB")
    print(f"lane     {ours:6.1f} µs a row, {memory:6.0f} MB (at most {MOST:.0f} µs); ratio {ours / straw:.1f}")


if __name__ == "__main__":
    main()
