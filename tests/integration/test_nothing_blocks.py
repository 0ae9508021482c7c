"""Nothing waits for a disk, a lock or another process in the event loop: commands and scripts, watched from inside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_samples import provider

WATCH = [sys.executable, str(Path(__file__).parents[1] / "support" / "loop_watch.py")]
ROWS = 300

SCRIPT = """
import asyncio, sys
from flatout import Client, Limits

URL, STORE, KIND = sys.argv[1:]

async def twice(item, client):
    first = await client.call(f"{item} one")
    return (await client.call(f"{item} two")).text

made = Client("any", base_url=URL, config={}, limits=Limits(rpm=60_000, shared="watched"))

async def main():
    async with made as client:
        items = [f"item {n}" for n in range(100)]
        done = client.map(twice, items, store=STORE) if KIND == "map" else client.as_completed(items, store=STORE)
        results = [result async for result in done]
        assert len(results) == 100 and all(result.ok for result in results), results[0]

asyncio.run(main())
"""

STOPPED = """
import os, signal, sys
from pathlib import Path
from flatout.config.folders import cache_folder
from flatout.store.shared import SharedLimits
from flatout.providers.targets import Targets
from flatout.config.file import Config
from flatout.values import Limits

targets = Targets(
    model="any", base_url=sys.argv[1], api_key=None, headers=None, limits=Limits(shared="watched"), config=Config()
)
with SharedLimits("watched", targets.target("any").key, cache_folder() / "limits"):
    print("held", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with provider(latency=0.02) as answering:
        yield answering.url


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in.jsonl").write_text("".join(f'{{"prompt": "p {n}"}}\n' for n in range(ROWS)))
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path


def watched(folder: Path, *command: str) -> dict[str, Any]:
    """What blocked the loop of a command."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    report = folder / "report.json"
    done = subprocess.run(
        [*WATCH, str(report), *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(report.read_text())
    return found


@pytest.mark.parametrize("more", [(), ("--shared", "watched", "--rpm", "60000"), ("--no-prompts",)])
def test_nothing_blocks_the_loop_of_a_command(folder: Path, url: str, more: tuple[str, ...]) -> None:
    """A slow disk or another program's lock would hold up every call in flight, its deadline, and Ctrl-C."""
    run = ("flatout", "run", "in.jsonl", "-o", "out.jsonl", "-m", "any", "--base-url", url, "--plain", *more)
    assert watched(folder, *run, "--limit", "100") == {}
    assert watched(folder, *run) == {}  # gone on with
    assert watched(folder, *run) == {}  # finished before
    assert len((folder / "out.jsonl").read_text().splitlines()) == ROWS


@pytest.mark.parametrize("kind", ["calls", "map"])
def test_nothing_blocks_the_loop_of_a_script(folder: Path, url: str, kind: str) -> None:
    """A web server that makes durable calls would stand still for all its users while a disk is slow."""
    for _ in range(2):
        assert watched(folder, "script", url, "kept.flatout", kind) == {}


def test_a_sibling_that_is_stopped_with_the_shared_lock_holds_up_nobody(folder: Path, url: str) -> None:
    """Ctrl-Z in one terminal would freeze the runs in all others, past every deadline."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED, url], env=environment, stdout=subprocess.PIPE, text=True
    ) as sibling:
        try:
            assert sibling.stdout is not None
            assert sibling.stdout.readline() == "held\n"
            assert watched(folder, "script", url, "kept.flatout", "calls") == {}
        finally:
            sibling.send_signal(signal.SIGKILL)


BLOCKING = """
import asyncio, fcntl, os, sqlite3, threading, time

seen = threading.Event()

def end():
    "Let the loop go on as soon as the watch has seen that it sleeps: the watch may be let look late."
    while not any("slept" in what for what in [*watch.blocked]):
        time.sleep(0.01)
    seen.set()

async def main():
    fcntl.flock(os.open("in.jsonl", os.O_RDONLY), fcntl.LOCK_EX)
    sqlite3.connect(":memory:").close()
    time.sleep(0.01)
    os.fsync(os.open(".", os.O_RDONLY))
    threading.Thread(target=end, daemon=True).start()
    seen.wait(60)

asyncio.run(main())
"""


def test_the_watch_sees_what_blocks(folder: Path) -> None:
    """A watch that sees nothing would pass every test."""
    (folder / "script.py").write_text(BLOCKING)
    found = " ".join(watched(folder, "script"))
    for what in ("open(", "fcntl.flock(", "sqlite3.connect(", "time.sleep", "os.fsync", "slept in wait"):
        assert what in found
