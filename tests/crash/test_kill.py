"""Real runs, killed with SIGKILL at random instants: what was reported is there, only what was in flight is paid twice.

``FLATOUT_KILLS`` says how often; `make soak` kills far more often, at other instants.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from flatout.errors import StoreError
from flatout.store import RunReader
from flatout.testing import digest_of
from tests.crash.seed import SEED
from tests.support import command_samples
from tests.support.command_samples import PATIENCE, Provider
from tests.support.warm import Process, Warm

KILLS = int(os.environ.get("FLATOUT_KILLS", "60"))
AT_ONCE = 3
KILLS_PER_FILE = 10
IN_FLIGHT = 8
WINDOW = 11  # calls that such a client takes on at once
LIFE = 0.3  # seconds, at most, from a process' first attempt to the kill
EARLY = 0.2  # of the kills come at any time before that: while the process starts, or opens the run file


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    """A simulated provider on a real port, in a thread of its own."""
    with command_samples.provider(latency=0.015) as made:
        yield made


@pytest.fixture(scope="module")
def warm(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """Where commands are forked from that are killed once they run: what comes before is mostly imports."""
    job = command(tmp_path_factory.mktemp("learnt") / "job", 0, provider.url, 1)
    with Warm("tests.support.quick_commands") as warm:
        warm.learn(*job.program[2:], folder=job.folder)
        yield warm


class Job:
    """One run file, and the program that works on it.

    Args:
        folder: its own, which is made.
        program: the interpreter's arguments.
        run_file: its name in the folder.
        warm: where the program is forked from when it is not killed early; it is flatout's command then.
    """

    def __init__(self, folder: Path, program: list[str], run_file: str, warm: Warm | None = None) -> None:
        folder.mkdir()
        self.folder = folder
        self.program = program
        self.run_file = folder / run_file
        self.warm = warm
        self.kills = 0

    def start(self, *, cold: bool = False) -> subprocess.Popen[bytes] | Process:
        if self.warm is not None and not cold:
            return self.warm.start(*self.program[2:], folder=self.folder)
        environment = {**os.environ, "FLATOUT_API_KEY": "none"}
        with (self.folder / "said").open("wb") as said:
            return subprocess.Popen(
                [sys.executable, *self.program], cwd=self.folder, env=environment, stdout=said, stderr=said
            )

    def kill_once(self, chance: random.Random) -> bool:
        """Start it, let it live for a while, kill it; False when it had ended by itself."""
        early = chance.random() < EARLY
        process = self.start(cold=early)
        if early:
            time.sleep(chance.uniform(0.0, 0.6))
        else:
            before = self.attempts()
            while process.poll() is None and self.attempts() == before:
                time.sleep(0.01)
            time.sleep(chance.uniform(0.0, LIFE))
        seen = self.look()
        process.kill()
        if (code := process.wait(PATIENCE)) != -signal.SIGKILL:
            assert code == 0, (self.folder / "said").read_text()
            return False
        self.kills += 1
        left = self.look()
        lost = {index for index, row in seen.items() if left.get(index) != row}
        assert not lost, f"seed {SEED}: rows {sorted(lost)} were there before the kill"
        return True

    def attempts(self) -> int:
        """How many were noted so far."""
        with (
            suppress(sqlite3.OperationalError),
            closing(sqlite3.connect(f"file:{self.run_file}?mode=ro", uri=True)) as db,
        ):
            return int(db.execute("SELECT ifnull(max(rowid), 0) FROM attempts").fetchone()[0])
        return 0

    def look(self) -> dict[int, Any]:
        """The rows that a reader sees now."""
        if not self.run_file.exists():
            return {}
        try:
            with RunReader.open(self.run_file) as reader:
                return {item.index: (item.state, item.answer, item.output) for item in reader.items()}
        except StoreError as error:
            if "has nothing in it yet" not in str(error):
                raise
            return {}

    def finish(self) -> None:
        assert self.start().wait(PATIENCE) == 0, (self.folder / "said").read_text()

    def asked(self, query: str) -> Any:
        with closing(sqlite3.connect(self.run_file)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            return connection.execute(query).fetchone()[0]

    def lost(self) -> int:
        """Attempts that the run file tells as perhaps paid for nothing."""
        open_ones = self.asked("SELECT count(*) FROM attempts WHERE outcome IS NULL")
        assert open_ones == 0, "a finished run has no attempt under way"
        return int(self.asked("SELECT count(*) FROM attempts WHERE outcome = 'lost'"))


def command(folder: Path, number: int, url: str, rows: int, warm: Warm | None = None) -> Job:
    program = ["-m", "flatout", "run", "in.jsonl", "-o", "out.jsonl", "-q", "-m", "any", "--base-url", url]
    program += ["--rpm", "600k", "--concurrency", str(IN_FLIGHT), "--workers", str(1 + number % 2)]
    job = Job(folder, program, "out.jsonl.flatout", warm)
    with (folder / "in.jsonl").open("w") as file:
        for row in range(rows):
            file.write(json.dumps({"id": row, "prompt": f"job {number} row {row}"}) + "\n")
    return job


def check_answers(job: Job, number: int, rows: int) -> None:
    """Every row exactly once, with its own answer, in order."""
    written = [json.loads(line) for line in (job.folder / "out.jsonl").read_text().splitlines()]
    assert [row["id"] for row in written] == list(range(rows))
    wrong = [row["id"] for row in written if digest_of(f"job {number} row {row['id']}") not in row["answer"]]
    assert not wrong
    assert job.asked("SELECT count(*) FROM items WHERE state = 'answered'") == rows


def kill_all(jobs: list[Job], kills: int) -> None:
    """Share the kills among the jobs, a few jobs at once; then let each run to its end."""

    def work(job: Job) -> None:
        chance = random.Random(f"{SEED} {job.folder.name}")
        for _ in range(kills // len(jobs)):
            if not job.kill_once(chance):
                break
        job.finish()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(work, jobs))


def say(figures: str) -> None:
    """For `make soak`, which shows what tests print."""
    sys.stdout.write(f"\n{figures} (seed {SEED})\n")


def duplicates(provider: Provider) -> int:
    return int(provider.stats()["duplicates"])


def test_a_killed_command_loses_nothing(tmp_path: Path, provider: Provider, warm: Warm) -> None:
    """An answer that was seen would be gone after a crash, or half of a run would be paid for twice."""
    rows, kills = 1_500, KILLS - KILLS // 10
    count = max(1, kills // KILLS_PER_FILE)
    jobs = [command(tmp_path / f"job{n}", n, provider.url, rows, warm) for n in range(count)]
    before = duplicates(provider)
    kill_all(jobs, kills)
    for number, job in enumerate(jobs):
        check_answers(job, number, rows)
    killed, lost, paid_twice = (
        sum(job.kills for job in jobs),
        sum(job.lost() for job in jobs),
        duplicates(provider) - before,
    )
    say(f"{killed} kills: {lost} calls in flight at a kill, {paid_twice} of them paid twice")
    assert killed >= 0.9 * len(jobs) * (kills // len(jobs))
    assert paid_twice <= lost <= killed * WINDOW


PROGRAM = """
import asyncio, sys
from flatout import Client, Limits

async def three(item, client):
    first = await client.call(f"{item} first")
    middle = await client.gather([f"{item} middle {n}" for n in range(2)])
    last = await client.call(f"{item} last")
    return [first.text, *(result.text for result in middle), last.text]

async def main():
    async with Client("any", base_url=sys.argv[1], limits=Limits(concurrency=8), config={}) as client:
        items = (f"{sys.argv[2]} {n}" for n in range(int(sys.argv[3])))
        async for result in client.map(three, items, store="map.flatout"):
            assert result.ok, result

asyncio.run(main())
"""


def function(folder: Path, number: int, url: str, rows: int) -> Job:
    job = Job(folder, ["-W", "error", "program.py", url, f"map {number}", str(rows)], "map.flatout")
    (folder / "program.py").write_text(textwrap.dedent(PROGRAM))
    return job


def test_a_killed_function_pays_for_no_call_twice(tmp_path: Path, provider: Provider) -> None:
    """A function of many calls would begin each half-finished item anew."""
    rows, kills = 500, KILLS // 10
    jobs = [function(tmp_path / f"map{n}", n, provider.url, rows) for n in range(max(1, kills // KILLS_PER_FILE))]
    before = duplicates(provider)
    kill_all(jobs, kills)
    for number, job in enumerate(jobs):
        with RunReader.open(job.run_file) as reader:
            items = list(reader.items())
        assert [item.index for item in items] == list(range(rows))
        for item in items:
            name = f"map {number} {item.index}"
            prompts = [f"{name} first", f"{name} middle 0", f"{name} middle 1", f"{name} last"]
            answers = json.loads(item.output or b"[]")
            assert [
                prompt for prompt, text in zip(prompts, answers, strict=True) if digest_of(prompt) not in text
            ] == []
        assert job.asked("SELECT count(*) FROM journal") == 4 * rows
    killed, lost, paid_twice = (
        sum(job.kills for job in jobs),
        sum(job.lost() for job in jobs),
        duplicates(provider) - before,
    )
    say(f"{killed} kills: {lost} calls in flight at a kill, {paid_twice} of them paid twice")
    assert paid_twice <= lost <= killed * 3 * WINDOW
