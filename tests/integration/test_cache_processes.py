"""One cache, many processes: they write it at once, and are killed while they do."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from flatout.store.answers import AnswersReader

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
    told, _ = program.communicate(timeout=60)
    assert program.returncode == 0
    return int(told.split()[-1])


def test_many_processes_write_one_cache(tmp_path: Path) -> None:
    """Teams that share a cache would lose answers, or find the file locked."""
    file = tmp_path / "answers.cache"
    programs = [start(file, first * 500, first * 500 + 1_000) for first in range(3)]  # each overlaps the next
    assert 2_000 <= sum(map(asked, programs)) <= 3_000
    with AnswersReader(file) as reader:
        assert reader.size().answers == 2_000


def test_a_kill_harms_nothing(tmp_path: Path) -> None:
    """A cache that was being written when the machine was restarted would be lost, or give half an answer."""
    file = tmp_path / "answers.cache"
    program = start(file, 0, 1_000_000)
    assert program.stdout is not None
    program.stdout.readline()
    with AnswersReader(file) as reader:
        gives_up = time.monotonic() + 30
        while reader.size().answers < 500 and time.monotonic() < gives_up:
            time.sleep(0.02)
    program.send_signal(signal.SIGKILL)
    program.communicate()
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with AnswersReader(file) as reader:
        answers = [entry.kept.reply().text for entry in reader.entries()]
    assert len(answers) >= 500
    assert all(answer.startswith("answer to question ") for answer in answers)
