"""One cache, many processes: they write it at once, and are killed while they do."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from flatout.store.answers_reader import AnswersReader
from tests.support.command_samples import PATIENCE, PLENTY, eventually, flatout, provider, rows_of

ASK = """
import asyncio, sys
from flatout import Client
from tests.support.scripted_wire import Wire

async def main(file, first, last):
    wire = Wire(lambda prompt: f"answer to {prompt}")
    calls = [f"question {n}" for n in range(int(first), int(last))]
    async with Client("m", base_url="http://sim/v1", transport=wire, config={}, cache=file) as client:
        print("ready", flush=True)
        for start in range(0, len(calls), 200):
            for result in await client.gather(calls[start : start + 200]):
                assert result.text == f"answer to {result.call.prompt}", result
    print(len(wire.prompts), flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


def start(file: Path, first: int, last: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ASK, str(file), str(first), str(last)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def asked(program: subprocess.Popen[str]) -> int:
    told, _ = program.communicate(timeout=PATIENCE)
    assert program.returncode == 0
    return int(told.split()[-1])


def test_many_processes_write_one_cache(tmp_path: Path) -> None:
    """Teams that share a cache would lose answers, or find the file locked."""
    file = tmp_path / "answers.cache"
    programs = [start(file, first * 500, first * 500 + 1_000) for first in range(3)]  # each overlaps the next
    assert sum(map(asked, programs)) == 2_000
    with AnswersReader(file) as reader:
        assert reader.size().answers == 2_000


def test_eight_processes_with_the_same_questions_ask_each_once(tmp_path: Path) -> None:
    """Eight processes over one input would pay eight times, or wait for each other for ever."""
    file = tmp_path / "answers.cache"
    programs = [start(file, 0, 600) for _ in range(8)]
    assert sum(map(asked, programs)) == 600
    with AnswersReader(file) as reader:
        assert reader.size().answers == 600


def test_a_process_that_is_killed_leaves_its_questions_to_the_others(tmp_path: Path) -> None:
    """A run would hang for as long as another one is dead, or wait for what nobody asks any more."""
    file = tmp_path / "answers.cache"
    killed = start(file, 0, 1_000_000)  # its first questions are those of the other
    assert killed.stdout is not None
    killed.stdout.readline()
    other = start(file, 0, 2_000)
    assert other.stdout is not None
    other.stdout.readline()
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert asked(other) <= 2_000
    with AnswersReader(file) as reader:
        answers = {entry.kept.reply().text for entry in reader.entries()}
    assert {f"answer to question {number}" for number in range(2_000)} <= answers


def test_workers_ask_equal_rows_once(tmp_path: Path) -> None:
    """With several workers, rows that occur twice would be paid for twice."""
    rows = [f"question {number % 50}" for number in range(400)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"prompt": row}) + "\n" for row in rows))
    with provider(latency=0.2) as server:
        command = ("run", "in.jsonl", "-o", "out.jsonl", *server.options(), *PLENTY, "--workers", "3")
        done = flatout(*command, "--cache", "answers.cache", folder=tmp_path)
        assert done.code == 0, done.err
        assert server.received == 50
    assert len(rows_of(tmp_path / "out.jsonl")) == 400


def test_a_kill_harms_nothing(tmp_path: Path) -> None:
    """A cache that was being written when the machine was restarted would be lost, or give half an answer."""
    file = tmp_path / "answers.cache"
    program = start(file, 0, 1_000_000)
    assert program.stdout is not None
    program.stdout.readline()
    with AnswersReader(file) as reader:
        eventually(lambda: reader.size().answers >= 500)
    program.send_signal(signal.SIGKILL)
    program.communicate()
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with AnswersReader(file) as reader:
        answers = [entry.kept.reply().text for entry in reader.entries()]
    assert len(answers) >= 500
    assert all(answer.startswith("answer to question ") for answer in answers)
