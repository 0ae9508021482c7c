"""Changes to a client while its calls go: to limits, to the deadline, to whether calls may begin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from flatout.errors import ConfigError
from flatout.events import Steered

if TYPE_CHECKING:
    from flatout.engine import Engine


class Change(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something to change from now on.

    Attributes:
        limits: limits, by their names in `flatout.Limits`; None takes one back, so that it is unknown.
        target: the target, or the group of targets, whose limits change; None for all.
        paused: whether no attempt may begin; None to leave that.
        deadline: seconds for each call that begins from now on; None to leave that.
    """

    limits: dict[str, Any] = {}
    target: str | None = None
    paused: bool | None = None
    deadline: float | None = None

    @property
    def does(self) -> Literal["pause", "resume"] | None:
        """What it does to all calls; None if it neither pauses nor resumes them."""
        return None if self.paused is None else "pause" if self.paused else "resume"

    def in_words(self) -> str:
        """The change, for people: ``rpm 6,000, concurrency unknown``."""
        paused = {True: ["paused"], False: ["resumed"], None: []}[self.paused]
        limits = [f"{name} {'unknown' if value is None else f'{value:,g}'}" for name, value in self.limits.items()]
        return ", ".join([*paused, *limits, *([] if self.deadline is None else [f"deadline {self.deadline:g} s"])])


NO_CHANGE = Change()
"""Stands beside something that was changed and is no part of a `Change`, such as the budget."""


def steer(engine: Engine, change: Change, by: str | None = None) -> None:
    """Make a change, and tell whoever listens.

    Args:
        engine: what changes.
        change: what to change.
        by: who wants it, if not the program itself.

    Raises:
        ConfigError: as for `flatout.Client.set_limits`.
    """
    engine.bind()
    apply(engine, change)
    tell(engine, change.in_words(), by, change)


def tell(engine: Engine, what: str, by: str | None, change: Change = NO_CHANGE) -> None:
    """Tell whoever listens that something was changed; see `flatout.events.Steered`."""
    events, loop = engine.events, engine.loop
    if events and loop is not None:
        events.emit(Steered(at=loop.time(), what=what, by=by, target=change.target, does=change.does))


def apply(engine: Engine, change: Change) -> None:
    """Make a change that is recorded elsewhere, or need not be.

    Raises:
        ConfigError: as for `flatout.Client.set_limits`.
    """
    limiters = engine.stack.limiters
    if change.target is not None and change.target not in limiters.limits:
        known = " and ".join(limiters.limits) or "none so far"
        raise ConfigError(f"no target is named {change.target!r}; in use: {known}")
    if change.limits:
        engine.targets.change(change.limits, change.target)
        limiters.change()
    if change.deadline is not None:
        engine.stack.deadline.seconds = change.deadline
    if change.paused is not None:
        limiters.pause(change.paused)
