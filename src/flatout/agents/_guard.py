"""Guardrails: functions and models that say pass, fail or stop of what goes in and what comes out.

*Pass* goes on. *Fail* sends the run back with the reason, a bounded number of times; what was going into a tool or
coming out of it is withheld. *Stop* ends the run with `GuardrailTripped`, at once. A guardrail that raises says stop:
what could not be looked at has not passed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, get_args

from msgspec import Struct

from flatout.errors import CallError, ConfigError, GuardrailTripped, StoreError
from flatout.values import Call, Reply

from ._functions import called, name_of
from ._looks import looks_at

At = Literal["input", "output", "tool_input", "tool_output"]
"""Where a guardrail looks: at the intent, at the answer, at a tool's arguments, at what a tool returned."""


_MISSING: dict[str, frozenset[str]] = {
    "input": frozenset({"tool", "sources"}),
    "output": frozenset({"tool"}),
    "tool_input": frozenset(),
    "tool_output": frozenset({"value"}),
}
"""By place, what a `Checked` does not have there."""


class Verdict(Struct, frozen=True):
    """What a guardrail, a verification or an approval says."""

    kind: Literal["pass", "fail", "stop"]
    reason: str = ""


PASSED = Verdict("pass")


def fail(reason: str) -> Verdict:
    """Not like this: back with the reason."""
    return Verdict("fail", reason)


def stop(reason: str) -> Verdict:
    """Not at all: the run ends."""
    return Verdict("stop", reason)


class Checked(Struct, frozen=True, kw_only=True):
    """What a guardrail looks at.

    Attributes:
        at: where it stands: ``input``, ``output``, ``tool_input``, ``tool_output``, or ``verify``.
        text: what is looked at, as text.
        value: the same as a value: the intent, the typed answer, the tool's arguments; None for a tool's output.
        tool: the tool's name, at ``tool_input`` and ``tool_output``.
        intent: what the agent was asked to do.
        sources: what its tools have returned so far.
        executed: what ``execute`` returned, at ``verify``.
        ask: asks a model, on the run's account: traced, counted and limited with its other calls.
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
"""Looks at something; plain or async. True is pass, False is fail."""


class Guardrail(Struct, frozen=True):
    """A check, and where it looks.

    Args:
        check: the function, or a `Judge`.
        at: the places; the answer alone by default.
        name: its name in traces; the function's when "".
        pure: its verdict follows from what it looks at alone, so that a run file need not keep it. A `Judge` is: its
            call is kept.

    Raises:
        ConfigError: it is no function, a place is unknown, or the function reads an attribute that none of its places
            has. It reads ``tool`` at ``output``, for example: that branch could never run.
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
            raise ConfigError(f'a guardrail stands at a tuple of places: at=("{places}",)')
        if not isinstance(places, tuple) or not places or any(place not in get_args(At) for place in places):
            raise ConfigError(f"a guardrail stands at {', '.join(get_args(At))}; not at {self.at!r}")
        for name in sorted(looks_at(self.check)):
            if all(name in _MISSING[place] for place in self.at):
                raise ConfigError(_misplaced(self.title, name, self.at))

    @classmethod
    def of(cls, value: Guardrail | Check) -> Guardrail:
        """A function as a guardrail of the answer."""
        return value if isinstance(value, Guardrail) else cls(value, pure=getattr(value, "pure", False))

    @property
    def title(self) -> str:
        """Its name in traces."""
        return self.name or name_of(self.check)


def _misplaced(title: str, name: str, at: tuple[At, ...]) -> str:
    there = "".join(f'"{place}", ' for place, missing in _MISSING.items() if name not in missing)
    return (
        f"the guardrail {title} looks at .{name}, which is never there at {' or '.join(at)}: "
        f"say where it stands, as in Guardrail({title}, at=({there.strip()}))"
    )


async def judged(name: str, check: Callable[[Any], Any], about: Any) -> Verdict:
    """The verdict of a check. One that raises, or says nothing that is a verdict, says stop.

    Raises:
        CallError: a model that it asked has no answer.
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
    raise GuardrailTripped(f"{name} returned {type(said).__name__}, which is no verdict: True, False or a Verdict")
