"""What steering costs a run: its CPU while others ask, and while others mean no good, beside a run that is left alone.

    python -m benchmarks.steering [--pairs 40] [--seconds 3] [--alone 20]

Two figures are taken, each for programs that give as many ``flatout ctl`` requests as are heard, and for hostile
clients: garbage, half a line, connections that hang open, 200 at once, megabytes without an end of line.

- *The socket alone*: the CPU that a process takes which does nothing but listen.
- *A run*: the CPU that a row of ``flatout run`` takes against a server that answers at once, while they use its socket,
  beside the CPU it takes while they use another run's (`benchmarks.beside`).

A run hears 40 requests a second, whatever comes, so its price is a share of the time and not of the rows: a run that
keeps its processor busy shows it best.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from benchmarks.beside import Turned, cpu_of, price, told
from flatout.control.server import served

RPM = 6_000_000
"""A limit that binds nothing, and is changed by one from time to time."""

MANY = 200
"""Connections that a hostile client keeps open."""


class Ran(NamedTuple):
    """CPU and wall seconds of a process, and what was asked of it meanwhile."""

    cpu: float
    seconds: float
    asked: int


Disturb = Callable[[str, threading.Event], int]
"""Does something at a socket until told to end. Returns how often it was heard."""


def users(where: str, ends: threading.Event, rpm: int = RPM) -> int:
    """Ask for the status, and set a limit, one way and another, without a pause."""
    asked = 0
    while not ends.is_set():
        with suppress(OSError), connected(where) as end:
            for number in count():
                request = (
                    b'{"do": "set", "rpm": %d}\n' % (rpm + number // 10 % 2)
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


@contextmanager
def listening(place: Path) -> Iterator[int]:
    """A process that does nothing but listen at a socket. Gives the process."""
    ready, entered = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.Process(target=listen, args=(place, entered))
    process.start()
    try:
        ready.recv()
        yield process.pid or 0
    finally:
        process.terminate()
        process.join()


def listen(place: Path, entered: Connection) -> None:
    async def for_ever() -> None:
        async with served(lambda: [place], lambda asked: asked):
            entered.send(None)
            await asyncio.Event().wait()

    asyncio.run(for_ever())


def alone(disturb: Disturb, seconds: float) -> Ran:
    """Disturb a process that does nothing but listen."""
    with (
        tempfile.TemporaryDirectory() as folder,
        listening(Path(folder, "s.ctl")) as process,
        disturbed(disturb, f"{folder}/s.ctl") as asked,
    ):
        before, began = cpu_of(process), time.monotonic()
        time.sleep(seconds)
        return Ran(cpu_of(process) - before, time.monotonic() - began, asked())


@contextmanager
def disturbed(disturb: Disturb, where: str) -> Iterator[Callable[[], int]]:
    """A block during which somebody disturbs a socket. Gives what ends it, and tells how often it was heard."""
    ends, heard = threading.Event(), [0]
    other = threading.Thread(target=lambda: heard.append(disturb(where, ends)))
    other.start()

    def end() -> int:
        ends.set()
        other.join()
        return heard[-1]

    try:
        yield end
    finally:
        end()


KINDS: dict[str, Disturb] = {"ctl": users, "hostile": enemies}


def sockets(seconds: float) -> None:
    """Print what the socket alone costs."""
    for name, disturb in KINDS.items():
        ran = alone(disturb, seconds)
        print(f"the socket alone, {name:8} {ran.cpu / ran.seconds:.2%} of a processor, {ran.asked:,} times asked")


def runs(pairs: int, seconds: float) -> None:
    """Print what a run pays."""
    for name, disturb in KINDS.items():

        @contextmanager
        def program(*_: Path, disturb: Disturb = disturb) -> Iterator[Turned]:
            yield lambda output: disturbed(disturb, f"{output}.flatout.ctl")

        print(told(name, price(program, pairs, seconds)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=40, help="of stretches of a run")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a stretch")
    parser.add_argument("--alone", type=float, default=20.0, help="seconds for the socket alone")
    asked = parser.parse_args()
    sockets(asked.alone)
    runs(asked.pairs, asked.seconds)


if __name__ == "__main__":
    main()
