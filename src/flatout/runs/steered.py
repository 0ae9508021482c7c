"""What ``flatout ctl`` can do with a run while it goes: one method for each command.

Every command costs the run O(1). What a command does is done in the run's event loop, at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from msgspec import to_builtins

from flatout.client import Client, engine_of
from flatout.client.change import Change
from flatout.client.commands import Command, Commands, known
from flatout.errors import ConfigError
from flatout.progress._counters import Progress

from .skips import Skip

SIGNAL = "a signal"
"""What the run file names as the one who stopped a run, if Ctrl-C or the system did."""

FRESH = 1.0
"""Seconds for which the counters of an answer are not counted anew."""


class Steerable(Protocol):
    """A run, as far as it can be steered."""

    @property
    def progress(self) -> Progress:
        """The counters."""
        ...

    @property
    def client(self) -> Client:
        """The client that makes the calls, or has their limits."""
        ...

    @property
    def stops(self) -> int:
        """How often the run was told to stop."""
        ...

    @property
    def drains(self) -> bool:
        """Whether attempts in flight may take as long as they do, although the run was told to stop."""
        ...

    def refresh(self) -> None:
        """Bring the live values of `progress` up to date."""
        ...

    def stop(self, *, drain: bool = False, by: str) -> None:
        """Stop, and write that down; with ``drain`` however long the attempts in flight take."""
        ...

    def steer(self, change: Change, by: str) -> None:
        """Make a change, and write it down."""
        ...

    def skip(self, skip: Skip) -> bool:
        """Skip a row, and write that down. Returns whether it is under way; otherwise it is skipped when it comes."""
        ...

    def ask_again(self, *, failed: bool) -> int:
        """Ask rows again that were held back, or all that failed. Returns how many of this process there are."""
        ...

    def keep_budget(self) -> None:
        """Write down how the budget stands, because it was changed."""
        ...

    def note(self, what: str, by: str) -> None:
        """Write down that somebody did something else."""
        ...


class SteeredRun(Commands):
    """Carries out the commands for one run.

    Args:
        run: the run.
        name: its run file.
        clock: the event loop's time.
    """

    _kind = "a run"

    def __init__(self, run: Steerable, name: str, clock: Callable[[], float]) -> None:
        super().__init__(engine_of(run.client), name)
        self._run = run
        self._clock = clock
        self._refreshed = -FRESH

    def commands(self) -> dict[str, Command]:
        rows: dict[str, Command] = {"skip": self._skip, "retry-failed": self._retry_failed}
        return {**super().commands(), **rows, "stop": self._stop, "drain": self._drain}

    def _status(self, _: dict[str, Any]) -> dict[str, Any]:
        self._refresh()
        progress = self._run.progress
        return {
            "state": self._state(),
            "run_file": self._name,
            "process": os.getpid(),
            "total": progress.total,
            "finished": progress.finished,
            "answered": progress.answered,
            "failed": progress.failed,
            "resumed": progress.resumed,
            "in_flight": progress.in_flight,
            "waiting": progress.waiting,
            "holds": progress.holds,
            "rate": progress.rate,
            "retries": progress.retries,
            "throttled": progress.throttled,
            "input_tokens": progress.input_tokens,
            "output_tokens": progress.output_tokens,
            "cost": known(progress.cost, progress.unpriced),
            "unknown_costs": progress.unpriced,
            "budget": to_builtins(self._engine.stack.purse.standing()),
            "seconds": progress.elapsed,
            "deadline": self._engine.stack.deadline.seconds,
            "limits": {name: dict(each.limits) for name, each in progress.targets.items()} or self._limits(),
            "targets": to_builtins(progress.targets),
            "batches": to_builtins(progress.batches),
        }

    def _state(self) -> str:
        if self._run.stops:
            return "draining" if self._run.drains else "stopping"
        return super()._state()

    def _hold(self, paused: bool, by: str) -> dict[str, Any]:
        self._refresh()
        return super()._hold(paused, by)

    def _set(self, request: dict[str, Any]) -> dict[str, Any]:
        answer = super()._set(request)
        self._refreshed = -FRESH  # whoever asks next wants to see it
        if "budget" in request:
            self._run.keep_budget()
            with suppress(ConfigError):  # rows that the old budget held back are then left for the next run
                self._run.ask_again(failed=False)
        return answer

    def _skip(self, request: dict[str, Any]) -> dict[str, Any]:
        under_way = self._run.skip(_row(request.get("row"), request["by"]))
        return {"under_way": under_way, "exists": under_way or self._run.progress.total is not None}

    def _retry_failed(self, request: dict[str, Any]) -> dict[str, Any]:
        count = self._run.ask_again(failed=True)
        self._run.note("failed rows are asked again", request["by"])
        return {"rows": count}

    def _stop(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._end(request["by"], drain=False)

    def _drain(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._run.stops:
            return {"state": self._state(), "in_flight": self._in_flight()}
        return self._end(request["by"], drain=True)

    def _end(self, by: str, *, drain: bool) -> dict[str, Any]:
        self._run.refresh()
        progress = self._run.progress
        self._run.stop(drain=drain, by=by)
        flying = {"in_flight": self._in_flight(), "dropped": self._run.stops > 1}
        return {"state": self._state(), **flying, "batches": progress.batches.open, "rows": progress.batches.rows}

    def _refresh(self) -> None:
        now = self._clock()
        if now - self._refreshed >= FRESH:
            self._refreshed = now
            self._run.refresh()

    def _in_flight(self) -> int:
        return self._run.progress.in_flight

    def _steer(self, change: Change, by: str) -> None:
        self._run.steer(change, by)

    def _note(self, what: str, by: str) -> None:
        self._run.note(what, by)


def _row(name: Any, by: str) -> Skip:
    """The row of a number, from 1, or of an id."""
    if isinstance(name, int) and not isinstance(name, bool) and name > 0:
        return Skip(index=name - 1, by=by)
    if isinstance(name, str) and name:
        return Skip(id=name, by=by)
    raise ConfigError(f"the row is a number, from 1, or an id, not {str(name)[:80]!r}")
