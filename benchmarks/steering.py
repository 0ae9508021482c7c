"""What steering costs a run: its CPU while others ask, and while others mean no good, beside a run that is left alone.

    python -m benchmarks.steering [--rows 12000] [--rounds 5]

Each round runs ``flatout run`` three times against a server in a process of its own that answers at once: alone; with
a program that gives as many ``flatout ctl`` requests as the run hears; and with hostile clients: garbage, half a line,
connections that hang open, 200 at once, megabytes without an end of line. What is compared is the CPU time of the
run's process, because the other programs take theirs from the same machine. The order changes with each round.

The run hears 20 requests a second, whatever comes, so its price is a share of the time and not of the rows: a run that
keeps its processor busy shows it best. 10,000 requests take 500 seconds, so as many rows as are asked meanwhile.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

from benchmarks.scale import write_input
from benchmarks.server import serving

RPM = 6_000_000
"""A limit that binds nothing, and is changed by one from time to time."""

MANY = 200
"""Connections that a hostile client keeps open."""


class Ran(NamedTuple):
    """CPU and wall seconds of a run, and what was asked of it meanwhile."""

    cpu: float
    seconds: float
    asked: int


Disturb = Callable[[str, threading.Event], int]
"""Does something at a socket until told to end. Returns how often it was heard."""


def nobody(_: str, ends: threading.Event) -> int:
    ends.wait()
    return 0


def users(where: str, ends: threading.Event) -> int:
    """Ask for the status, and set limits, without a pause."""
    asked = 0
    while not ends.is_set():
        with suppress(OSError), connected(where) as end:
            for number in count():
                request = (
                    b'{"do": "set", "rpm": %d}\n' % (RPM + number // 10 % 2)
                    if number % 10 == 0
                    else b'{"do": "status"}\n'
                )
                end.sendall(request)
                if not end.recv(100_000) or ends.is_set():
                    break
                asked += 1
        ends.wait(0.01)
    return asked


def enemies(where: str, ends: threading.Event) -> int:
    """Open connections, and say on each what no program should."""
    kept: list[socket.socket] = []
    opened = 0
    said = [b"{", b"", b"\x00" * 100_000, b'{"do": 7}\n', b"[" * 4_000 + b"\n", b"x" * 1_000_000]
    while not ends.is_set():
        with suppress(OSError):
            end = connected(where, 0.01)
            kept.append(end)
            opened += 1
            end.send(said[opened % len(said)])
        if len(kept) > MANY:
            kept.pop(0).close()
        ends.wait(0.002)
    for end in kept:
        end.close()
    return opened


def connected(where: str, patience: float = 5.0) -> socket.socket:
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    end.settimeout(patience)
    try:
        end.connect(where)
    except OSError:
        end.close()
        raise
    return end


def run(source: Path, url: str, disturb: Disturb, options: list[str]) -> Ran:
    """Run the command in an empty folder, while somebody disturbs it."""
    with tempfile.TemporaryDirectory() as folder:
        given = ["run", str(source), "-o", "out.jsonl", "-m", "bench", "--base-url", url, "-q", *options]
        environment = {**os.environ, "FLATOUT_API_KEY": "none"}
        process = subprocess.Popen([sys.executable, "-m", "flatout", *given], cwd=folder, env=environment)
        ends, asked = threading.Event(), [0]

        def disturbed() -> None:
            asked[0] = disturb(str(Path(folder, "out.jsonl.flatout.ctl")), ends)

        other = threading.Thread(target=disturbed)
        other.start()
        began = time.monotonic()
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        ends.set()
        other.join()
        if process.returncode:
            raise SystemExit(f"the command ended with {process.returncode}")
        assert len(Path(folder, "out.jsonl").read_bytes().splitlines()) == sum(1 for _ in source.open("rb"))
    return Ran(used.ru_utime + used.ru_stime, seconds, asked[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=12_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    options = ["--concurrency", "200", "--rpm", str(RPM)]
    kinds: dict[str, Disturb] = {"alone": nobody, "ctl": users, "hostile": enemies}
    found: dict[str, list[Ran]] = {name: [] for name in kinds}
    with tempfile.TemporaryDirectory() as folder, serving() as url:
        source = Path(folder, "in.jsonl")
        write_input(source, asked.rows)
        for number in range(asked.rounds):
            names = list(kinds)
            for name in names[number % 3 :] + names[: number % 3]:
                found[name].append(ran := run(source, url, kinds[name], options))
                print(f"{name:8} CPU {ran.cpu:6.2f} s in {ran.seconds:6.1f} s, {ran.asked:,} times asked", flush=True)
    for name in ("ctl", "hostile"):
        pairs = list(zip(found["alone"], found[name], strict=True))
        more = statistics.median(other.cpu / alone.cpu for alone, other in pairs) - 1
        share = statistics.median((other.cpu - alone.cpu) / other.seconds for alone, other in pairs)
        print(f"{name:8} {more:+.2%} CPU, {share:+.2%} of the run's time; medians of {len(pairs)} pairs")


if __name__ == "__main__":
    main()
