"""What ``flatout ctl`` can do with a run while it goes: one method for each command.

Every command costs the run O(1). What a command does is done in the run's event loop, at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from msgspec import to_builtins

from flatout.client import Client
from flatout.errors import ConfigError
from flatout.progress._counters import Progress
from flatout.steering import Change
from flatout.values.checks import is_positive

from .skips import Skip

FRESH = 1.0
"""Seconds for which the counters of a status are not counted anew."""

LIMITS = ("rpm", "tpm", "itpm", "otpm", "rpd", "concurrency")
"""The limits that can be set."""


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

    def refresh(self) -> None:
        """Bring the live values of `progress` up to date."""
        ...

    def stop(self, *, drain: bool = False) -> None:
        """Stop; with ``drain`` however long the attempts in flight take."""
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

    def note(self, what: str, by: str) -> None:
        """Write down that somebody did something else."""
        ...


class Steered:
    """Carries out the commands for one run.

    Args:
        run: the run.
        name: its run file.
        clock: the event loop's time.
    """

    def __init__(self, run: Steerable, name: str, clock: Callable[[], float]) -> None:
        self._run = run
        self._name = name
        self._clock = clock
        self._refreshed = -FRESH
        self._paused = self._drains = False
        self._do: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "status": self._status,
            "pause": self._pause,
            "resume": self._resume,
            "set": self._set,
            "skip": self._skip,
            "retry-failed": self._retry_failed,
            "stop": self._stop,
            "drain": self._drain,
        }

    def __call__(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out a request: its command under ``do``, who asks under ``by``, and what the command takes.

        Raises:
            ConfigError: it is refused; the message says why.
        """
        what = request.get("do")
        do = self._do.get(what) if isinstance(what, str) else None
        if do is None:
            raise ConfigError(f"a run can be asked to {', '.join(self._do)}; not {str(what)[:80]!r}")
        return do(request)

    def _status(self, _: dict[str, Any]) -> dict[str, Any]:
        now = self._clock()
        if now - self._refreshed >= FRESH:
            self._refreshed = now
            self._run.refresh()
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
            "cost": progress.cost,
            "unknown_costs": progress.unpriced,
            "budget": to_builtins(self._run.client.purse.standing()),
            "seconds": progress.elapsed,
            "deadline": self._run.client.engine.stack.deadline.seconds,
            "limits": self._limits(),
        }

    def _limits(self) -> dict[str, dict[str, float]]:
        """The limits in force, by target; those that the user gave, where this process makes no calls itself."""
        client = self._run.client
        allowed = {state.target: dict(state.allows) for state in client.status()}
        given = client.engine.targets.client_limits
        return allowed or {"": {name: value for name in LIMITS if (value := getattr(given, name)) is not None}}

    def _state(self) -> str:
        if self._run.stops:
            return "draining" if self._drains else "stopping"
        return "paused" if self._paused else "running"

    def _pause(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._hold(True, request["by"])

    def _resume(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._hold(False, request["by"])

    def _hold(self, paused: bool, by: str) -> dict[str, Any]:
        if self._paused is not paused:
            self._run.steer(Change(paused=paused), by)
            self._paused = paused
        return {"state": self._state(), "in_flight": self._run.progress.in_flight}

    def _set(self, request: dict[str, Any]) -> dict[str, Any]:
        known = (*LIMITS, "budget", "deadline", "target", "do", "by")
        for name in request:
            if name not in known:
                raise ConfigError(f"{name} cannot be set: set {', '.join(known[:-3])}")
        limits = {name: _number(name, request[name]) for name in LIMITS if name in request}
        budget = _number("budget", request["budget"]) if "budget" in request else None
        deadline = _number("deadline", request["deadline"]) if "deadline" in request else None
        if not (limits or budget or deadline):
            raise ConfigError(f"nothing to set: give {', '.join(known[:-3])}, such as rpm=6000")
        if limits or deadline is not None:
            self._run.steer(Change(limits=limits, deadline=deadline, target=_target(request)), request["by"])
        if budget is not None:
            self._run.client.purse.change(budget)
            self._run.note(f"budget ${budget:g}", request["by"])
            with suppress(ConfigError):  # rows that the old budget held back are then left for the next run
                self._run.ask_again(failed=False)
        return {"limits": self._limits()}

    def _skip(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"under_way": self._run.skip(_row(request.get("row"), request["by"]))}

    def _retry_failed(self, request: dict[str, Any]) -> dict[str, Any]:
        count = self._run.ask_again(failed=True)
        self._run.note("failed rows are asked again", request["by"])
        return {"rows": count}

    def _stop(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._end(request["by"], "stop", drain=False)

    def _drain(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._run.stops:
            return {"state": self._state(), "in_flight": self._run.progress.in_flight}
        return self._end(request["by"], "drain", drain=True)

    def _end(self, by: str, what: str, *, drain: bool) -> dict[str, Any]:
        self._drains = drain
        self._run.note(what, by)
        self._run.stop(drain=drain)
        return {"state": self._state(), "in_flight": self._run.progress.in_flight}


def _number(name: str, value: Any) -> Any:
    """A number above 0; None, which takes a limit back, for limits only."""
    if value is None and name in LIMITS:
        return None
    if not is_positive(value):
        raise ConfigError(f"{name} is a number above 0, not {value!r}")
    return value


def _target(request: dict[str, Any]) -> str | None:
    target = request.get("target")
    if target is not None and not isinstance(target, str):
        raise ConfigError(f"the target is a name, not {target!r}")
    return target


def _row(name: Any, by: str) -> Skip:
    """The row of a number, from 1, or of an id."""
    if isinstance(name, int) and not isinstance(name, bool) and name > 0:
        return Skip(index=name - 1, by=by)
    if isinstance(name, str) and name:
        return Skip(id=name, by=by)
    raise ConfigError(f"the row is a number, from 1, or an id, not {str(name)[:80]!r}")
