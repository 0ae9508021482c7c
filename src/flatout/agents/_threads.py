"""Threads for plain tools, separate from the threads that the event loop itself needs.

asyncio's own executor has few threads, which also look up hosts, and a program waits for all of them at its end. Here a
tool first waits for a thread; its timeout begins after that. Nothing can end a thread. If a tool does not end, its
thread is abandoned, so it delays neither other tools nor the end of the program.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import copy_context
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

from msgspec import Struct

MOST = 128
"""Plain tools that run at once in the whole process."""


class _Returned(Struct, frozen=True):
    """The outcome of a function. It is a value, because a future refuses a StopIteration."""

    value: Any = None
    error: BaseException | None = None


class _Job:
    """One run of a function, in a thread."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.ended = self.given_up = False
        self._context = copy_context()
        self._function = function

    def __call__(self) -> _Returned:
        try:
            return _Returned(self._context.run(self._function))
        except BaseException as error:  # SystemExit too: `Threads.run` raises it in the event loop's thread
            return _Returned(error=error)


class _Turn:
    """One task's wait for a thread."""

    def __init__(self) -> None:
        self.granted = False
        self._told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def answer(self) -> bool:
        """Wait for a thread; False if there will be none."""
        return await self._told

    def tell(self, granted: bool) -> bool:
        """End the wait. Returns False if its event loop has ended, so nobody waits any more."""
        try:
            self._told.get_loop().call_soon_threadsafe(_settle, self._told, granted)
        except RuntimeError:
            return False
        self.granted = granted
        return True


def _settle(told: asyncio.Future[bool], granted: bool) -> None:
    if not told.done():
        told.set_result(granted)


class Threads(Executor):
    """A bounded number of threads, started when they are needed. `take` one, then `run` in it once.

    Args:
        most: the most threads.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self.forget()

    def __repr__(self) -> str:
        return f"Threads({self._taken} of {self._most} taken, {self._given_up} given up, {len(self._waiting)} waiting)"

    def forget(self) -> None:
        """Start over: a forked process has none of its parent's threads."""
        self._lock = Lock()
        self._jobs: SimpleQueue[tuple[Future[Any], _Job]] = SimpleQueue()
        self._waiting: deque[_Turn] = deque()
        self._started = self._taken = self._given_up = 0

    async def take(self) -> bool:
        """Wait for a thread, first in, first out. Returns False if all threads were given up."""
        with self._lock:
            if self._taken < self._most:
                self._taken += 1
                return True
            if self._given_up == self._most:
                return False
            turn = _Turn()
            self._waiting.append(turn)
        try:
            return await turn.answer()
        except asyncio.CancelledError:
            self._leave(turn)
            raise

    async def run(self, function: Callable[[], Any]) -> Any:
        """Run a function in the thread that was taken, and return its result. If cancelled, the thread is given up."""
        job = _Job(function)
        try:
            outcome = await asyncio.get_running_loop().run_in_executor(self, job)
        except asyncio.CancelledError:
            self._give_up(job)
            raise
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Hand a job to a thread. The event loop calls this for `run`."""
        assert isinstance(fn, _Job)
        future: Future[Any] = Future()
        if self._started < self._taken:
            self._start()
        self._jobs.put((future, fn))
        return future

    def _start(self) -> None:
        """Start a thread before its job is queued. If it fails to start, its tool must not run later in another one."""
        try:
            Thread(target=self._serve, name=f"flatout-tool-{self._started + 1}", daemon=True).start()
        except BaseException:  # the system has no more threads, or the program is ending
            with self._lock:
                self._pass_on()
            raise
        self._started += 1

    def _serve(self) -> None:
        while True:
            future, job = self._jobs.get()
            if future.set_running_or_notify_cancel():
                outcome = job()
                self._end(job)  # may wake a task; the future ends later, so the loop still counts a thread at work
                future.set_result(outcome)
                del outcome
            else:
                self._end(job)
            del future, job  # an idle thread keeps nothing alive

    def _end(self, job: _Job) -> None:
        with self._lock:
            job.ended = True
            self._given_up -= job.given_up
            self._pass_on()

    def _give_up(self, job: _Job) -> None:
        with self._lock:
            if job.ended:
                return
            job.given_up = True
            self._given_up += 1
            if self._given_up == self._most:
                while self._waiting:
                    self._waiting.popleft().tell(False)

    def _leave(self, turn: _Turn) -> None:
        """Stop waiting. If a thread was granted at the same moment, the next task gets it."""
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif turn.granted:
                self._pass_on()

    def _pass_on(self) -> None:
        """Give a thread to the next waiting task, or free it."""
        while self._waiting:
            if self._waiting.popleft().tell(True):
                return
        self._taken -= 1


threads = Threads()
"""The threads of this process."""

os.register_at_fork(after_in_child=threads.forget)
