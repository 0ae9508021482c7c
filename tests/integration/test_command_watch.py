"""``flatout watch`` in a real terminal, beside a real run: at two sizes, through a kill, without colours."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_samples import PATIENCE, PLENTY, end, eventually, provider, questions, start

pytest.importorskip("textual")

from flatout.look.watch.link import ASK
from flatout.store import RunFile

RUN = ("run", "in.jsonl", "-o", "out.jsonl")
FEW = (*PLENTY, "--concurrency", "4")
ROWS = 60
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9\d|10\d)[;m]")
"""A colour that is set, and not the terminal's own."""

MOUSE_OFF = b"\x1b[?1003l"
FOCUS_OFF = b"\x1b[?1004l"
MOVED = b"\x1b[<35;10;5M"


class Terminal:
    """A tmux server of the test's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = f"flatout-{os.getpid()}-{folder.name}"

    def open(self, name: str, columns: int, lines: int, *, colour: bool = True) -> None:
        """Watch the run in a new window of that size. When the view ends, the window says so and stays."""
        plain = [] if colour else ["NO_COLOR=1"]
        watch = [
            "env",
            "COLUMNS=70",
            *plain,
            "TERM=tmux-256color",
            sys.executable,
            "-m",
            "flatout",
            "watch",
            "out.jsonl",
        ]
        shell = f"{' '.join(watch)}; echo ended with $?; sleep 1000"
        size = ["-x", str(columns), "-y", str(lines)]
        self._tmux("new-session", "-d", "-s", name, *size, "-c", str(self._folder), shell)

    def keys(self, name: str, *keys: str) -> None:
        """Press keys."""
        self._tmux("send-keys", "-t", name, *keys)

    def screen(self, name: str, *, escapes: bool = False) -> str:
        """What the window shows."""
        return self._tmux("capture-pane", "-p", *(["-e"] if escapes else []), "-t", name)

    def shows(self, name: str, *texts: str) -> str:
        """Wait until the window shows some texts."""
        seen = ""

        def shown() -> bool:
            nonlocal seen
            seen = self.screen(name)
            return all(text in seen for text in texts)

        eventually(shown)
        return seen

    def close(self) -> None:
        """End this server alone."""
        self._tmux("kill-server", check=False)

    def _tmux(self, *words: str, check: bool = True) -> str:
        command = ["tmux", "-L", self._socket, "-f", os.devnull, *words]
        return subprocess.run(command, capture_output=True, text=True, check=check, timeout=PATIENCE).stdout


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    if shutil.which("tmux") is None:
        pytest.skip("there is no tmux")
    found = Terminal(tmp_path)
    yield found
    found.close()


def test_a_run_is_watched_through_a_kill_to_its_end(tmp_path: Path, terminal: Terminal) -> None:
    """A view in a real terminal would not fit, not notice that the run was killed, or hold the run up."""
    questions(tmp_path, ROWS)
    with provider(latency=0.3) as server:
        first = start(*RUN, *FEW, *server.options(), folder=tmp_path)
        server.wait_for(8)
        server.change(latency=3_600.0)  # it goes on for as long as a busy machine takes to open the view
        terminal.open("small", 80, 24)
        terminal.open("large", 200, 50, colour=False)
        for name, columns, lines in (("small", 80, 24), ("large", 200, 50)):
            parts = (f"of {ROWS}", "running (process", "Why not faster", "Slowest answers", "Rows", "Quit")
            screen = terminal.shows(name, *parts)  # the reason is known after some seconds
            assert columns - 12 <= max(map(len, screen.splitlines())) <= columns
            assert len(screen.splitlines()) <= lines
        assert not COLOUR.search(terminal.screen("large", escapes=True))
        assert COLOUR.search(terminal.screen("small", escapes=True))
        first.kill()
        first.communicate()
        for name in ("small", "large"):
            terminal.shows(name, "broken off: its process has gone")
        server.change(latency=0.3)
        received = server.received
        second = start(*RUN, *FEW, *server.options(), folder=tmp_path)
        server.wait_for(received + 8)
        second.send_signal(signal.SIGSTOP)  # until the view has seen it go on
        terminal.shows("small", "running (process")
        second.send_signal(signal.SIGCONT)
        assert end(second).code == 0
        terminal.shows("small", "finished in", f"{ROWS} of {ROWS} (100 %)")
        terminal.keys("small", "r")
        terminal.shows("small", f"{ROWS} all rows", "q0")
        terminal.keys("small", "Enter")
        terminal.shows("small", "Row 1 (q0)", "question 0")
        terminal.keys("small", "C-c")
        terminal.keys("large", "q")
        for name in ("small", "large"):
            terminal.shows(name, "ended with 0")


@pytest.mark.parametrize("keys", [[b"q", b"hello\n"], [b"qhello\n"], [MOVED + b"q", b"hello\n"]])
def test_what_is_typed_after_q_is_the_shell_s(tmp_path: Path, keys: list[bytes]) -> None:
    """The beginning of the next command would be missing, and the rest of it be run."""
    RunFile.open(tmp_path / "out.jsonl.flatout", job={}).close_now()
    watch = f"{shlex.quote(sys.executable)} -m flatout watch out.jsonl; read typed; echo the shell got $typed"
    process, terminal = pty.fork()
    if not process:
        os.chdir(tmp_path)
        os.execvpe("sh", ["sh", "-c", watch], {**os.environ, "TERM": "xterm-256color"})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    shown, asked, asked_at, left = b"", 0, 0.0, len(keys)
    until = time.monotonic() + PATIENCE
    try:
        while b"the shell got" not in shown:
            assert time.monotonic() < until, shown
            if select.select([terminal], [], [], 0.2)[0]:
                shown += os.read(terminal, 65_536)
            now = shown.count(ASK.encode())
            os.write(terminal, b"\x1b[1;1R" * (now - asked))
            asked, asked_at = now, asked_at if now == asked else time.monotonic()
            gone = (
                MOUSE_OFF in shown[: max(0, shown.rfind(ASK.encode()))] or FOCUS_OFF in shown
            )  # nothing is read any more
            still = b"Quit" in shown and time.monotonic() - asked_at > 3.0  # all that was asked is answered
            if left and (still if left == len(keys) else gone):
                time.sleep(0.05)
                os.write(terminal, keys[-left])
                left -= 1
        assert b"the shell got hello" in shown
    finally:
        os.close(terminal)
        os.waitpid(process, 0)
