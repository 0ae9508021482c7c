"""The commands by which a client is steered from outside, while its calls go; one method for each.

Every command costs O(1), and what it does is done at once, in the client's event loop. `flatout.runs.steered` has those
of a whole run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from msgspec import to_builtins

from flatout.engine import Engine
from flatout.errors import ConfigError
from flatout.layers.limit import TargetNow
from flatout.values.checks import is_positive

from .change import Change, steer, tell

LIMITS = ("rpm", "tpm", "itpm", "otpm", "rpd", "concurrency")
"""The limits that can be set."""

_SETTABLE = (*LIMITS, "budget", "deadline", "target")

Command = Callable[[dict[str, Any]], dict[str, Any]]
"""Carries out a request, and returns its answer."""


class Commands:
    """Carries out the commands for one client.

    Args:
        engine: the client's engine.
        name: what its calls are for, such as a file.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name
        self._paused = False

    def commands(self) -> dict[str, Command]:
        """The commands, by their names."""
        return {"status": self._status, "pause": self._pause, "resume": self._resume, "set": self._set}

    def __call__(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out a request: its command under ``do``, who asks under ``by``, and what the command takes.

        Raises:
            ConfigError: it is refused; the message says why.
        """
        known, what = self.commands(), request.get("do")
        do = known.get(what) if isinstance(what, str) else None
        if do is None:
            raise ConfigError(f"{self._kind} can be asked to {', '.join(known)}; not {str(what)[:80]!r}")
        return do(request)

    # What they do

    _kind = "a program's client"

    def _status(self, _: dict[str, Any]) -> dict[str, Any]:
        stack = self._engine.stack
        states = stack.limiters.status()
        return {
            "state": self._state(),
            "process": os.getpid(),
            "in_flight": sum(state.in_flight for state in states),
            "waiting": sum(state.waiting for state in states),
            "cost": known(stack.purse.spent, stack.purse.unknown),
            "unknown_costs": stack.purse.unknown,
            "budget": to_builtins(stack.purse.standing()),
            "deadline": stack.deadline.seconds,
            "limits": self._limits(),
            "targets": {state.target: to_builtins(TargetNow.of(state)) for state in states},
        }

    def _state(self) -> str:
        return "paused" if self._paused else "running"

    def _pause(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._hold(True, request["by"])

    def _resume(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._hold(False, request["by"])

    def _hold(self, paused: bool, by: str) -> dict[str, Any]:
        if self._paused is not paused:
            self._steer(Change(paused=paused), by)
            self._paused = paused
        return {"state": self._state(), "in_flight": self._in_flight()}

    def _set(self, request: dict[str, Any]) -> dict[str, Any]:
        for name in request:
            if name not in (*_SETTABLE, "do", "by"):
                raise ConfigError(f"{name} cannot be set: set {', '.join(_SETTABLE[:-1])}")
        limits = {name: _number(name, request[name]) for name in LIMITS if name in request}
        budget = _number("budget", request["budget"]) if "budget" in request else None
        deadline = _number("deadline", request["deadline"]) if "deadline" in request else None
        if not (limits or budget or deadline):
            raise ConfigError(f"nothing to set: give {', '.join(_SETTABLE[:-1])}, such as rpm=6000")
        if limits or deadline is not None:
            self._steer(Change(limits=limits, deadline=deadline, target=_target(request)), request["by"])
        if budget is not None:
            self._engine.stack.purse.change(budget)
            self._note(f"budget ${budget:g}", request["by"])
        stack = self._engine.stack
        allowed, seconds = stack.purse.budget, stack.deadline.seconds
        return {"limits": self._limits(), "budget": allowed and str(allowed), "deadline": seconds}

    def _limits(self) -> dict[str, dict[str, float]]:
        """The limits in force, by target; those that the user gave, where this process makes no calls itself."""
        allowed = {state.target: dict(state.allows) for state in self._engine.stack.limiters.status()}
        given = self._engine.targets.client_limits
        return allowed or {"": {name: value for name in LIMITS if (value := getattr(given, name)) is not None}}

    # How

    def _in_flight(self) -> int:
        return sum(state.in_flight for state in self._engine.stack.limiters.status())

    def _steer(self, change: Change, by: str) -> None:
        """Make a change, and let it be written down."""
        steer(self._engine, change, by)

    def _note(self, what: str, by: str) -> None:
        """Let something else be written down that was done."""
        tell(self._engine, what, by)


def known(cost: float, unknown: int) -> float | None:
    """US dollars known to be spent; None if all that was spent is unknown."""
    return None if unknown and not cost else cost


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
