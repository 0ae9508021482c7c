"""Threads for plain tools, apart from those that the event loop needs for itself.

asyncio's own executor has a handful, which look up hosts as well, and at its end a program waits for all of them. Here
a tool waits for its turn before it begins, not within its time. Nothing can end a thread, so one whose tool does not
end is given up: it holds up neither the other tools nor the end of the program.
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
"""Plain tools that run at once, in all of the process."""


class _Returned(Struct, frozen=True):
    """What a function came to. As a value, since no future takes a StopIteration."""

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
        except BaseException as error:  # SystemExit too: whoever waits for it decides what becomes of the program
            return _Returned(error=error)


class _Turn:
    """Somebody's wait for a thread."""

    def __init__(self) -> None:
        self.granted = False
        self._told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def answer(self) -> bool:
        """Whether there is a thread."""
        return await self._told

    def tell(self, granted: bool) -> bool:
        """End the wait; False where nobody waits any more, since the event loop has ended."""
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
    """So many threads at most, started when they are needed. `take` one, then `run` in it, once.

    Args:
        most: how many.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self.forget()

    def __repr__(self) -> str:
        return f"Threads({self._taken} of {self._most} taken, {self._given_up} given up, {len(self._waiting)} waiting)"

    def forget(self) -> None:
        """Begin anew: a forked process has none of its parent's threads."""
        self._lock = Lock()
        self._jobs: SimpleQueue[tuple[Future[Any], _Job]] = SimpleQueue()
        self._waiting: deque[_Turn] = deque()
        self._started = self._taken = self._given_up = 0

    async def take(self) -> bool:
        """Wait for a thread, first in first out; False where all of them were given up, and none may come back."""
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
        """What a function returns, in the thread that was taken; cancelled, it is given up."""
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
        """Have a job run. Called by the event loop for `run`."""
        assert isinstance(fn, _Job)
        future: Future[Any] = Future()
        if self._started < self._taken:
            self._start()
        self._jobs.put((future, fn))
        return future

    def _start(self) -> None:
        """Start a thread, before there is a job for it: one that failed to start must not run a tool later."""
        try:
            Thread(target=self._serve, name=f"flatout-tool-{self._started + 1}", daemon=True).start()
        except BaseException:  # the system has no more, or the program ends
            with self._lock:
                self._pass_on()
            raise
        self._started += 1

    def _serve(self) -> None:
        while True:
            future, job = self._jobs.get()
            if future.set_running_or_notify_cancel():
                outcome = job()
                self._end(job)  # first: until the future is done, the loop knows that there is more to come
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
        """Wait no longer; a thread that came at the same moment goes to the next."""
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif turn.granted:
                self._pass_on()

    def _pass_on(self) -> None:
        """Give a thread to the next that waits, or back."""
        while self._waiting:
            if self._waiting.popleft().tell(True):
                return
        self._taken -= 1


threads = Threads()
"""Those of this process."""

os.register_at_fork(after_in_child=threads.forget)
