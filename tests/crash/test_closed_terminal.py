"""A terminal that is closed, and a reader of the progress that has gone, in the middle of a real run."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.command_samples import PLENTY, check_answers, end, flatout, provider, questions, start

RUN = ("run", "in.jsonl", "-o", "out.jsonl", *PLENTY)
ROWS = 120


@contextmanager
def window(master: int) -> Iterator[None]:
    """Be the terminal's window while the context is open: what nobody reads would hold the program up. Then close."""
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            if select.select([master], [], [], 0.05)[0]:
                os.read(master, 65_536)

    reading = threading.Thread(target=read)
    reading.start()
    try:
        yield
    finally:
        over.set()
        reading.join()
        os.close(master)


def test_a_closed_terminal_loses_nothing(tmp_path: Path) -> None:
    """Closing the laptop's window would throw away what is in flight, or leave a process that nobody can see."""
    questions(tmp_path, ROWS)
    master, slave = pty.openpty()

    def own_terminal() -> None:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for stream in (0, 1, 2):
            os.dup2(slave, stream)

    with provider(latency=0.3) as server:
        process = start(*RUN, *server.options(), "--concurrency", "10", folder=tmp_path, prepare=own_terminal)
        os.close(slave)
        with window(master):
            server.wait_for(40)
        end(process)
        assert process.returncode == 130
        seen = server.stats()
        assert seen["answered"] == seen["received"] < ROWS
        assert flatout(*RUN, *server.options(), folder=tmp_path).code == 0
        assert server.received == ROWS
    check_answers(tmp_path / "out.jsonl", ROWS)


def test_a_reader_of_the_progress_that_has_gone_is_missed_by_nobody(tmp_path: Path) -> None:
    """`flatout run … 2>&1 | head -1` would end a run of hours for the sake of its progress."""
    questions(tmp_path, ROWS)
    with provider(latency=0.1) as server:
        process = start(*RUN, *server.options(), "--concurrency", "10", "--plain", folder=tmp_path)
        assert process.stderr is not None
        server.wait_for(5)
        process.stderr.close()
        process.stderr = None
        assert end(process).code == 0
        assert flatout(*RUN, *server.options(), folder=tmp_path).code == 0
        assert server.received == ROWS
    check_answers(tmp_path / "out.jsonl", ROWS)
