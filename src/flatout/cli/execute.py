"""Runs a job in this process: the event loop, signals, the garbage collector and the limit on open files."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Protocol, TypeVar

from flatout.errors import FlatoutError
from flatout.progress._display import watch
from flatout.runs.process import allow_many_files, tune_collector
from flatout.tasks.loop import loop_factory
from flatout.text import figures

if TYPE_CHECKING:
    from flatout.progress._counters import Progress
    from flatout.progress._display import Display


EndT = TypeVar("EndT", covariant=True)


class Runs(Protocol[EndT]):
    """What can be run: a runner, or a planner."""

    @property
    def progress(self) -> Progress:
        """The counters."""
        ...

    async def run(self) -> EndT:
        """Run to the end."""
        ...

    def refresh(self) -> None:
        """Bring the live values of the counters up to date."""
        ...

    def stop(self) -> None:
        """Stop; at the second call, at once."""
        ...


def execute(runner: Runs[EndT], display: Display) -> EndT:
    """Run to the end in a new event loop, showing progress."""
    tune_collector()
    allow_many_files()
    with asyncio.Runner(loop_factory=loop_factory()) as loop:
        try:
            return loop.run(_watched(runner, display))
        except asyncio.CancelledError:  # not an Exception, so it would pass every boundary and end as a traceback
            raise FlatoutError("the run was cancelled") from None


async def _watched(runner: Runs[EndT], display: Display) -> EndT:
    stopping = _Stopping(runner)
    stopping.listen()
    watcher = asyncio.ensure_future(watch(runner.refresh, runner.progress, display, stopping.note))
    try:
        return await runner.run()
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)  # a display that failed has not failed the run
        display.close()
        stopping.leave()


class _Stopping:
    """Handles Ctrl-C and its like: the first waits for calls in flight, the second drops them, the third kills."""

    def __init__(self, runner: Runs[object]) -> None:
        self._runner = runner
        self._asked = 0
        self._handled: list[signal.Signals] = []

    def listen(self) -> None:
        """Handle the signals, except those that were ignored before: nohup and background jobs rely on that."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._stop, number)
                self._handled.append(number)

    def leave(self) -> None:
        """Restore the previous handlers."""
        loop = asyncio.get_running_loop()
        while self._handled:
            loop.remove_signal_handler(self._handled.pop())

    def note(self) -> str:
        """The live line's note about stopping."""
        asked = max(self._asked, getattr(self._runner, "stops", 0))  # or flatout ctl has stopped it
        if getattr(self._runner, "reckons", False):
            return "working out the plan"
        if not asked:
            return ""
        if getattr(self._runner, "collects", False):
            return "draining: waits for open batches, submits no more"
        if getattr(self._runner, "drains", False):
            return "draining: waits for calls in flight; Ctrl-C waits 30 s for them"
        if asked == 1 and self._runner.progress.batches.open:
            return "leaves the batches where they are"
        by = figures.at_the_latest(self._runner.progress.ends_by)
        return f"stopping{by}: waits for calls in flight; Ctrl-C again drops them" if asked == 1 else "stopping"

    def _stop(self, number: signal.Signals) -> None:
        if number is signal.SIGHUP and self._asked:
            return  # a closing terminal may send it more than once; that is not impatience
        self._asked += 1
        self._runner.stop()
        if self._asked > 1:
            self.leave()
