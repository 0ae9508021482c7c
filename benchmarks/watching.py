"""What it costs a run to be watched: its CPU beside `flatout watch`, and beside a live page.

    python -m benchmarks.watching [--pairs 40] [--seconds 3]

`flatout watch` runs in a terminal of 80 × 24, and `flatout watch --web` with a page that listens to it; each of them
twice: at a run that keeps its processor busy, and at another one. In turn, one of the two is stopped while the other
goes on, and the CPU that a row of the busy run takes is compared (`benchmarks.beside`). What those who watch take
themselves is told as a share of one processor.

A run that keeps its processor busy shows the price best, and a slow one pays less: a look is taken once a second.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path

from benchmarks.beside import Turned, cpu_of, price, told

STARTS = 5.0
"""Seconds that those who watch take to be under way."""

WATCH = (sys.executable, "-m", "flatout", "watch", "out.jsonl")
ASKED, PLACE = b"\x1b[6n", b"\x1b[1;1R"
"""A terminal is asked for its cursor's place, and answers."""


class Watcher:
    """A program that watches a run, and a thread that reads what it sends."""

    def __init__(self, process: int, read: Callable[[], int]) -> None:
        self.process = process
        self.sent = 0
        """Bytes."""
        self.cpu = self.seconds = 0.0
        """What it took while it was awake, and how long it was."""
        self._read = read
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def _follow(self) -> None:
        while not self._ends.is_set():
            with suppress(OSError):
                self.sent += self._read()

    @contextmanager
    def awake(self) -> Iterator[None]:
        """A block during which the program goes on. It is stopped before and afterwards."""
        before, began = cpu_of(self.process), time.monotonic()
        os.kill(self.process, signal.SIGCONT)
        try:
            yield
        finally:
            os.kill(self.process, signal.SIGSTOP)
            self.cpu += cpu_of(self.process) - before
            self.seconds += time.monotonic() - began

    def close(self) -> None:
        """End the program."""
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        self._ends.set()
        self._thread.join()


@contextmanager
def terminal(output: Path) -> Iterator[Watcher]:
    """Watch in a terminal."""
    child, screen = pty.fork()
    if child == 0:
        os.chdir(output.parent)
        os.execvpe(WATCH[0], WATCH, {**os.environ, "TERM": "xterm-256color"})
    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    end = b""

    def read() -> int:
        nonlocal end
        if not select.select([screen], [], [], 0.1)[0]:
            return 0
        sent = os.read(screen, 65_536)
        os.write(screen, PLACE * (end + sent).count(ASKED))
        end = sent[1 - len(ASKED) :]
        return len(sent)

    watcher = Watcher(child, read)
    try:
        yield watcher
    finally:
        watcher.close()
        os.close(screen)


@contextmanager
def page(output: Path) -> Iterator[Watcher]:
    """Watch in a browser, as far as the server knows."""
    process = subprocess.Popen([*WATCH, "--web", "--no-open"], cwd=output.parent, stderr=subprocess.PIPE)
    assert process.stderr is not None
    address = b""
    while not (found := re.search(rb"http://[\d.:]+", address)):
        address = process.stderr.readline()
        assert address, "the program that watches has ended"
    host, _, port = found[0].decode().rpartition("/")[2].partition(":")
    with process.stderr, socket.create_connection((host, int(port))) as end:
        end.settimeout(0.2)
        end.sendall(f"GET /events HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n".encode())
        watcher = Watcher(process.pid, lambda: len(end.recv(1_000_000)))
        try:
            yield watcher
        finally:
            watcher.close()
            process.returncode = 0


Watch = Callable[[Path], AbstractContextManager[Watcher]]

KINDS: dict[str, Watch] = {"terminal": terminal, "page": page}


@contextmanager
def watched(watch: Watch, busy: Path, slow: Path) -> Iterator[Turned]:
    """Both runs are watched, one at a time."""
    with watch(busy) as here, watch(slow) as there:
        time.sleep(STARTS)
        for each in (here, there):
            os.kill(each.process, signal.SIGSTOP)
        yield lambda output: (here if output == busy else there).awake()
        share, sent = here.cpu / here.seconds, here.sent / here.seconds
        print(f"{share:.1%} of a processor beside the run, {sent:,.0f} bytes a second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=40, help="of stretches")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a stretch")
    asked = parser.parse_args()
    for name, watch in KINDS.items():
        print(told(name, price(partial(watched, watch), asked.pairs, asked.seconds)), flush=True)


if __name__ == "__main__":
    main()
