"""Finds whatever blocks an event loop, in this process or in a command that runs under this script.

    python loop_watch.py REPORT flatout run …

It has two witnesses. An audit hook sees every call of the interpreter that may wait for a disk, a lock, a name server
or a process, and notes those in the thread of a running loop. A watchdog thread finds what the hook cannot: a loop's
thread that sleeps in the kernel for `STALL` looks in one wait, other than the wait for its events. Neither depends on
how busy the machine is. A thread that waits for a processor does not sleep; and while whoever holds a lock waits for
one, so does the watchdog.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import runpy
import sqlite3
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

STALL = 5
"""Looks that find a thread in the same sleep in the kernel which count as blocking: a tenth of a second at least."""

_LOOK = 0.02
"""Seconds between two looks of the watchdog."""
_IDLE = ("selectors.py", "asyncio/runners.py", "asyncio/base_events.py")

Note = Callable[[str], None]


class LoopWatch:
    """Notes what blocks a loop, once for each place, from `start` until `stop`.

    Attributes:
        blocked: the blocking calls, each with the last frames that led to it.
    """

    def __init__(self) -> None:
        self.blocked: dict[str, str] = {}
        self._notes = False

    def start(self) -> None:
        """Begin to watch. An audit hook cannot be removed, so `stop` only makes it do nothing."""
        self._notes = True
        sys.addaudithook(self._hear)
        _watch_calls(self._seen)
        threading.Thread(target=self._watch, daemon=True, name="watches the loop").start()

    def stop(self) -> None:
        """Stop noting."""
        self._notes = False

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _MAY_BLOCK and self._notes and _in_loop() and _MAY_BLOCK[event](arguments):
            self._note(f"{event}{_shown(arguments)}", sys._getframe(1))

    def _seen(self, what: str) -> None:
        if self._notes and _in_loop():
            self._note(what, sys._getframe(2))

    def _note(self, what: str, frame: FrameType | None) -> None:
        self._notes, was = False, self._notes  # reading the source lines opens files
        try:
            stack = traceback.extract_stack(frame, limit=12)
            self.blocked.setdefault(what, " < ".join(f"{f.filename}:{f.lineno} {f.name}" for f in reversed(stack)))
        finally:
            self._notes = was

    def _watch(self) -> None:
        since: dict[int, tuple[int, str]] = {}
        pause = threading.Event()
        while not pause.wait(_LOOK):
            frames = sys._current_frames()
            for thread in threading.enumerate():
                frame = frames.get(thread.ident or 0)
                if frame is not None and thread.native_id is not None and _runs_a_loop(frame):
                    self._look(thread.native_id, frame, since)

    def _look(self, thread: int, frame: FrameType, since: dict[int, tuple[int, str]]) -> None:
        idle = frame.f_code.co_filename.endswith(_IDLE) or _starts_a_thread(frame)
        sleep = None if idle else _sleep(thread)
        if sleep is None:
            since.pop(thread, None)
            return
        looks, before = since.get(thread, (0, sleep))
        looks = looks + 1 if sleep == before else 1
        since[thread] = looks, sleep
        if looks > STALL and self._notes:
            self._note(f"slept in {frame.f_code.co_name}", frame)


def _runs_a_loop(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name in ("run_forever", "run_until_complete") or (
            frame.f_code.co_filename.endswith("asyncio/runners.py") and frame.f_code.co_name == "run"
        ):
            return True
        frame = frame.f_back
    return False


def _starts_a_thread(frame: FrameType | None) -> bool:
    """Whether a thread waits until a new one has begun, which waits for a processor and for nothing else."""
    while frame is not None and frame.f_code.co_filename == threading.__file__:
        if frame.f_code.co_name == "start":
            return True
        frame = frame.f_back
    return False


def _in_loop() -> bool:
    return asyncio._get_running_loop() is not None


def _in_memory(arguments: tuple[Any, ...]) -> bool:
    return str(arguments[0]).startswith("/proc/")


def _always(_: tuple[Any, ...]) -> bool:
    return True


_MAY_BLOCK: dict[str, Callable[[tuple[Any, ...]], bool]] = {
    "open": lambda arguments: not _in_memory(arguments),
    "sqlite3.connect": _always,
    "fcntl.flock": lambda arguments: not arguments[1] & (fcntl.LOCK_NB | fcntl.LOCK_UN),
    "fcntl.lockf": lambda arguments: not arguments[1] & (fcntl.LOCK_NB | fcntl.LOCK_UN),
    "subprocess.Popen": _always,
    "socket.getaddrinfo": _always,
    "socket.gethostbyname": _always,
    "os.listdir": lambda arguments: not _in_memory(arguments),
    "os.scandir": lambda arguments: not _in_memory(arguments),
    "os.mkdir": _always,
    "os.rename": _always,
    "os.remove": _always,
}


def _shown(arguments: tuple[Any, ...]) -> str:
    return f"({', '.join(repr(argument)[:120] for argument in arguments)})"


def _watch_calls(seen: Note) -> None:
    """Wrap the calls without an audit event: fsync, sleeps, and database statements."""
    fsync, sleep = os.fsync, time.sleep

    def watched_fsync(descriptor: int) -> None:
        seen("os.fsync")
        fsync(descriptor)

    def watched_sleep(seconds: float) -> None:
        if seconds > 0:
            seen("time.sleep")
        sleep(seconds)

    os.fsync, time.sleep = watched_fsync, watched_sleep

    from flatout.store import database

    class Watched(sqlite3.Connection):
        def execute(self, statement: str, *rest: Any) -> sqlite3.Cursor:
            seen(f"SQLite: {statement[:60]}")
            return super().execute(statement, *rest)

    database.connection_class = Watched


def _sleep(thread: int) -> str | None:
    """A value that identifies one sleep of a thread in the kernel; None while it runs, or waits to run."""
    try:
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/self/task/{thread}/status").read_text().splitlines()
            if ":\t" in line
        )
    except (OSError, ValueError):
        return None
    return status["voluntary_ctxt_switches"] if status["State"][0] in "SD" else None


def main(report: str, module: str, *arguments: str) -> None:
    watch = LoopWatch()
    watch.start()
    sys.argv = [module, *arguments]
    sys.path.insert(0, str(Path.cwd()))
    try:
        runpy.run_module(module, init_globals={"watch": watch}, run_name="__main__", alter_sys=True)
    finally:
        watch.stop()
        Path(report).write_text(json.dumps(watch.blocked))


if __name__ == "__main__":
    main(*sys.argv[1:])
