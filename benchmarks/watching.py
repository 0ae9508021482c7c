"""What it costs a run to be watched: its CPU beside `flatout watch`, and beside a live page, and without either.

    python -m benchmarks.watching [--rows 10000] [--rounds 5]

Each round runs ``flatout run`` four times against a server in a process of its own that answers at once: with `flatout
watch` in a terminal of 80 × 24, and with `flatout watch --web` and a page that listens to it; each at this run, and at
another one. Programs that are busy beside a run slow its processor, whatever they do, so the two are compared: by the
CPU time of the run's process. What those who watch take themselves is told as a share of one processor. The order
changes with each round.

A run that keeps its processor busy shows the price best, and a slow one pays less: a look is taken once a second.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import select
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.scale import write_input
from benchmarks.server import serving
from benchmarks.steering import Disturb, Ran, run

BEGINS = 0.5
"""Seconds from the start of a run to that of whoever watches."""

WATCH = (sys.executable, "-m", "flatout", "watch", "out.jsonl")
ASKED, PLACE = b"\x1b[6n", b"\x1b[1;1R"
"""A terminal is asked for its cursor's place, and answers."""

cpu: dict[str, list[float]] = {"terminal": [], "page": []}
"""CPU seconds per second of those who watched."""


def terminal(where: str, ends: threading.Event) -> int:
    """Watch in a terminal. Returns how many bytes it was sent."""
    time.sleep(BEGINS)
    began, size, end = time.monotonic(), 0, b""
    child, screen = pty.fork()
    if child == 0:
        os.chdir(Path(where).parent)
        os.execvpe(WATCH[0], WATCH, {**os.environ, "TERM": "xterm-256color"})
    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    while not ends.is_set():
        if select.select([screen], [], [], 0.1)[0]:
            with suppress(OSError):
                sent = end + os.read(screen, 65_536)
                size += len(sent) - len(end)
                os.write(screen, PLACE * sent.count(ASKED))
                end = sent[1 - len(ASKED) :]
    os.kill(child, 9)
    _, _, used = os.wait4(child, 0)
    os.close(screen)
    cpu["terminal"].append((used.ru_utime + used.ru_stime) / (time.monotonic() - began))
    return size


def page(where: str, ends: threading.Event) -> int:
    """Watch in a browser, as far as the server knows. Returns how many bytes it was sent."""
    time.sleep(BEGINS)
    began, size = time.monotonic(), 0
    command = [*WATCH, "--web", "--no-open"]
    process = subprocess.Popen(command, cwd=Path(where).parent, stderr=subprocess.PIPE)
    assert process.stderr is not None
    address = b""
    while not (found := re.search(rb"http://[\d.:]+", address)):
        address = process.stderr.readline()
        assert address, "the program that watches has ended"
    host, _, port = found[0].decode().rpartition("/")[2].partition(":")
    try:
        with socket.create_connection((host, int(port))) as end:
            end.settimeout(0.2)
            end.sendall(f"GET /events HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n".encode())
            while not ends.is_set():
                with suppress(TimeoutError):
                    size += len(end.recv(1_000_000))
    finally:
        process.kill()
        _, _, used = os.wait4(process.pid, 0)
        process.returncode = 0
        process.stderr.close()
    cpu["page"].append((used.ru_utime + used.ru_stime) / (time.monotonic() - began))
    return size


@contextmanager
def another(folder: Path, source: Path, url: str) -> Iterator[str]:
    """A slow run that goes on meanwhile. Gives the place of its socket."""
    folder.mkdir()
    given = ["run", str(source), "-o", "out.jsonl", "-m", "bench", "--base-url", url, "-q", "--rpm", "600"]
    environment = {**os.environ, "FLATOUT_API_KEY": "none"}
    process = subprocess.Popen([sys.executable, "-m", "flatout", *given], cwd=folder, env=environment)
    try:
        yield f"{folder}/out.jsonl.flatout.ctl"
    finally:
        process.kill()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    kinds: dict[str, Disturb] = {"terminal": terminal, "page": page}
    ways = [(name, other) for name in kinds for other in (False, True)]
    found: dict[tuple[str, bool], list[Ran]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder, serving() as url:
        source = Path(folder, "in.jsonl")
        write_input(source, asked.rows)
        with another(Path(folder, "there"), source, url) as there:
            for number in range(asked.rounds):
                for name, other in ways[number % 4 :] + ways[: number % 4]:
                    ran = run(source, url, kinds[name], ["--concurrency", "200"], there if other else None)
                    found[name, other].append(ran)
                    where = "elsewhere" if other else "at the run"
                    print(f"{name:8} {where:10} CPU {ran.cpu:6.2f} s in {ran.seconds:5.1f} s", flush=True)
    for name in kinds:
        pairs = list(zip(found[name, True], found[name, False], strict=True))
        more = statistics.median(here.cpu / there.cpu for there, here in pairs) - 1
        own, sent = statistics.median(cpu[name]), statistics.median(here.asked / here.seconds for _, here in pairs)
        print(f"{name:8} {more:+.2%} CPU of the run, {own:.1%} of a processor beside it, {sent:,.0f} bytes a second")


if __name__ == "__main__":
    main()
