"""Commands that start at once: they are forked from a process that has imported everything, and can be killed.

Each is a process of its own, as if it had been started in a terminal, but for the half second of imports.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

POLL = 0.01
"""Seconds between two looks whether a process has ended, where the system does not tell."""


class Process:
    """A forked command.

    Attributes:
        pid: its process id.
        code: its exit code, or the negative number of the signal that ended it; None before `wait`.
    """

    def __init__(self, warm: Warm, pid: int, said: Path) -> None:
        self._warm = warm
        self._ended = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None  # Linux has it
        self._said = said
        self.pid = pid
        self.code: int | None = None

    def kill(self) -> None:
        """Kill it with SIGKILL. It is not waited for, so its id is not another's."""
        os.kill(self.pid, signal.SIGKILL)

    def ends_within(self, seconds: float) -> bool:
        """Wait for its end, for so long."""
        if self._ended is not None:
            return bool(select.select([self._ended], [], [], seconds)[0])
        until = time.monotonic() + seconds
        while not (ended := self._warm.ask({"ended": self.pid})) and time.monotonic() < until:
            time.sleep(POLL)
        return bool(ended)

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self.wait() if self.ends_within(0.0) else None

    def wait(self, seconds: float = 60.0) -> int:
        """Wait for its end, and return its exit code."""
        if self.code is None:
            assert self.ends_within(seconds), f"it hangs; it said: {self.said()}"
            self.code = os.waitstatus_to_exitcode(self._warm.ask({"wait": self.pid}))
            if self._ended is not None:
                os.close(self._ended)
        return self.code

    def said(self) -> str:
        """What it has written to standard output and standard error."""
        return self._said.read_text()


class Warm:
    """The process that forks.

    Args:
        victim: a module whose ``prepare`` is called with what `start` gets as ``given``, in the new process.
        rights: called in the process that forks before it runs Python: what it gives up, none of them has.
    """

    def __init__(self, victim: str, rights: Callable[[], None] | None = None) -> None:
        self._asking = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.warm", victim],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=rights,
        )

    def start(
        self, *arguments: str, folder: Path, key: str = "none", given: Any = None, said: Path | None = None
    ) -> Process:
        """Fork a command that runs in a folder. What it says is kept in a file there, if not in ``said``."""
        said = said or folder / "said"
        order = {"arguments": arguments, "folder": str(folder), "key": key, "given": given, "said": str(said)}
        return Process(self, self.ask({"start": order}), said)

    def learn(self, *arguments: str, folder: Path, key: str = "none") -> None:
        """Run a command to its end, and import what it has imported."""
        order = {"arguments": arguments, "folder": str(folder), "key": key, "given": None, "said": "said"}
        code = os.waitstatus_to_exitcode(self.ask({"learn": order}))
        assert code == 0, (folder / "said").read_text()

    def ask(self, order: Any) -> int:
        """Have the process do something, and return its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._asking:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=60)


def _play(victim: Any) -> None:
    """The process that forks: it answers each line that it reads with a number."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    for line in sys.stdin.buffer:
        order = json.loads(line)
        if "wait" in order:
            answer = os.waitpid(order["wait"], 0)[1]
        elif "ended" in order:
            answer = os.waitid(os.P_PID, order["ended"], os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        elif "learn" in order:
            answer = _learn(victim, order["learn"])
        elif answer := os.fork():
            pass
        else:
            _become(victim, order["start"])
        answers.write(f"{int(answer)}\n")


def _learn(victim: Any, order: Any) -> int:
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        os.close(reading)
        _become(victim, order, writing)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        for name in pipe.read().split():
            with suppress(Exception):
                importlib.import_module(name)
    gc.collect()
    gc.freeze()
    return os.waitpid(pid, 0)[1]


def _become(victim: Any, order: Any, report: int | None = None) -> None:
    """In the new process: run the command, and end."""
    code = 70
    try:
        os.chdir(order["folder"])
        said = os.open(order["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor, target in ((nothing, 0), (said, 1), (said, 2)):
            os.dup2(descriptor, target)
        os.environ["FLATOUT_API_KEY"] = order["key"]
        victim.prepare(order["given"])
        sys.argv = ["flatout", *order["arguments"]]
        from flatout.cli import main

        code = main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        if report is not None:
            os.write(report, "\n".join(sorted(sys.modules)).encode())
        with suppress(Exception):
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _play(importlib.import_module(sys.argv[1]))
