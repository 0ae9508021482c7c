"""Threads that keep no program alive: for reads from a server that may say nothing for a minute."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from threading import Thread
from typing import Any


class DaemonThreads(Executor):
    """Calls each function in a daemon thread of its own.

    Python waits for the threads of its own executors when a program ends, however long they take.
    """

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        """See `concurrent.futures.Executor.submit`."""
        future: Future[Any] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = function(*args, **options)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        Thread(target=run, name="flatout reads", daemon=True).start()
        return future
