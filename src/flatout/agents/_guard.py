"""Guardrails: functions and models that say pass, fail or stop to inputs and outputs.

After *pass*, the run continues. *Fail* sends an answer back to the model with the reason, a bounded number of times; a
tool's input or output is withheld. *Stop* ends the run at once with `GuardrailTripped`. A guardrail that raises says
stop, because what could not be checked has not passed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, get_args

from msgspec import Struct

from flatout.errors import CallError, ConfigError, GuardrailTripped, StoreError
from flatout.values import Call, Reply

from ._functions import called, name_of
from ._reads import attributes_read

At = Literal["input", "output", "tool_input", "tool_output"]
"""The place of a guardrail: the intent, the answer, a tool's arguments, or a tool's result."""


_MISSING: dict[str, frozenset[str]] = {
    "input": frozenset({"tool", "sources"}),
    "output": frozenset({"tool"}),
    "tool_input": frozenset(),
    "tool_output": frozenset({"value"}),
}
"""The attributes that a `Checked` does not have, by place."""


class Verdict(Struct, frozen=True):
    """The verdict of a guardrail, a verification or an approval."""

    kind: Literal["pass", "fail", "stop"]
    reason: str = ""


PASSED = Verdict("pass")


def fail(reason: str) -> Verdict:
    """The verdict that sends something back with a reason."""
    return Verdict("fail", reason)


def stop(reason: str) -> Verdict:
    """The verdict that ends the run."""
    return Verdict("stop", reason)


class Checked(Struct, frozen=True, kw_only=True):
    """The value that a guardrail checks.

    Attributes:
        at: the place: ``input``, ``output``, ``tool_input``, ``tool_output``, or ``verify``.
        text: the checked value as text.
        value: the same as an object: the intent, the typed answer, the tool's arguments; None for a tool's output.
        tool: the tool's name, at ``tool_input`` and ``tool_output``.
        intent: the agent's request.
        sources: the results of its tools so far.
        executed: the return value of ``execute``, at ``verify``.
        ask: asks a model. The call is traced, counted and limited with the run's other calls.
    """

    at: str
    text: str
    ask: Callable[[Call], Awaitable[Reply]]
    value: Any = None
    tool: str | None = None
    intent: Any = None
    sources: tuple[str, ...] = ()
    executed: Any = None


Check = Callable[[Checked], "Verdict | bool | Awaitable[Verdict | bool]"]
"""A check, plain or async. True is pass, False is fail."""


class Guardrail(Struct, frozen=True):
    """A check, and its places.

    Args:
        check: the function, or a `Judge`.
        at: the places; only the answer by default.
        name: its name in traces; the function's name when "".
        pure: the verdict depends only on the checked value, so a run file need not keep it. A `Judge` counts as pure,
            because its call is kept.

    Raises:
        ConfigError: ``check`` is not a function, a place is unknown, or the function reads an attribute that no place
            of it has. If it reads ``tool`` at ``output``, for example, that branch could never run.
    """

    check: Check
    at: tuple[At, ...] = ("output",)
    name: str = ""
    pure: bool = False

    def __post_init__(self) -> None:
        if not callable(self.check):
            raise ConfigError(f"a guardrail is a function, not {type(self.check).__name__}")
        places: Any = self.at
        if isinstance(places, str):
            raise ConfigError(f'a guardrail takes a tuple of places: at=("{places}",)')
        if not isinstance(places, tuple) or not places or any(place not in get_args(At) for place in places):
            raise ConfigError(f"a guardrail's places are {', '.join(get_args(At))}; not {self.at!r}")
        for name in sorted(attributes_read(self.check)):
            if all(name in _MISSING[place] for place in self.at):
                raise ConfigError(_misplaced(self.title, name, self.at))

    @classmethod
    def of(cls, value: Guardrail | Check) -> Guardrail:
        """A guardrail as it is; a function as a guardrail of the answer."""
        return value if isinstance(value, Guardrail) else cls(value, pure=getattr(value, "pure", False))

    @property
    def title(self) -> str:
        """Its name in traces."""
        return self.name or name_of(self.check)


def _misplaced(title: str, name: str, at: tuple[At, ...]) -> str:
    there = "".join(f'"{place}", ' for place, missing in _MISSING.items() if name not in missing)
    return (
        f"the guardrail {title} reads .{name}, which does not exist at {' or '.join(at)}: "
        f"name its place, as in Guardrail({title}, at=({there.strip()}))"
    )


async def judged(name: str, check: Callable[[Any], Any], about: Any) -> Verdict:
    """The verdict of a check.

    Raises:
        GuardrailTripped: the check raised an error, or returned something else than a verdict.
        CallError: a model that it asked gave no answer.
        StoreError: the run file cannot be written.
    """
    try:
        said = await called(check, about)
    except (CallError, StoreError):
        raise
    except Exception as error:  # a user's own function may raise anything
        raise GuardrailTripped(f"{name} raised {type(error).__name__}: {error}") from error
    if isinstance(said, Verdict):
        return said
    if isinstance(said, bool):
        return PASSED if said else fail(f"{name} says no")
    raise GuardrailTripped(f"{name} returned {type(said).__name__}, which is not a verdict: True, False or a Verdict")
