"""Changes a client while its calls go: limits, the deadline, pauses."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from flatout.errors import ConfigError
from flatout.events import Steered

from .overview import Overview


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
"""What somebody changed is none of this."""


class Steering(Overview):
    """The part of a Client that changes it. Its methods are for the client's own event loop, and cost next to nothing.

    Each change is emitted as an event (`flatout.events.Steered`), and run files keep it.
    """

    def set_limits(
        self,
        *,
        rpm: float | UnsetType | None = UNSET,
        tpm: float | UnsetType | None = UNSET,
        itpm: float | UnsetType | None = UNSET,
        otpm: float | UnsetType | None = UNSET,
        rpd: float | UnsetType | None = UNSET,
        concurrency: int | UnsetType | None = UNSET,
        target: str | None = None,
    ) -> None:
        """Change limits while calls go; see `Limits` for their meaning.

        They hold at once. What was sent before stays counted: a limit below what is in use lets no call go until it
        fits. A limit that was unknown ends the search for it. Limits that are not named stay.

        Args:
            rpm: requests per minute; here and below, None takes a limit back, so that it is unknown.
            tpm: tokens per minute, input and output together.
            itpm: input tokens per minute.
            otpm: output tokens per minute.
            rpd: requests per day.
            concurrency: the most requests in flight.
            target: the target whose limits change, by its name, such as ``openai/gpt-5-mini``; None for all.

        Raises:
            ConfigError: a limit is not a number above 0, or no such target is in use.
        """
        given = {"rpm": rpm, "tpm": tpm, "itpm": itpm, "otpm": otpm, "rpd": rpd, "concurrency": concurrency}
        limits = {name: value for name, value in given.items() if value is not UNSET}
        if limits:
            self.steer(Change(limits=limits, target=target))

    def pause(self) -> None:
        """Let no attempt begin until `resume`. Attempts in flight finish. Deadlines go on."""
        self.steer(Change(paused=True))

    def resume(self) -> None:
        """Let attempts begin again after `pause`."""
        self.steer(Change(paused=False))

    def steer(self, change: Change, by: str | None = None) -> None:
        """Make a change.

        Args:
            change: what to change.
            by: who wants it, if not the program itself.

        Raises:
            ConfigError: as for `set_limits`.
        """
        self._engine.bind()
        self.apply(change)
        self.tell(change.in_words(), by, change)

    def tell(self, what: str, by: str | None, change: Change = NO_CHANGE) -> None:
        """Tell whoever listens that something was changed; see `flatout.events.Steered`."""
        events, loop = self._engine.events, self._engine.loop
        if events and loop is not None:
            events.emit(Steered(at=loop.time(), what=what, by=by, target=change.target, does=change.does))

    def apply(self, change: Change) -> None:
        """Make a change that is recorded elsewhere, or need not be.

        Raises:
            ConfigError: as for `set_limits`.
        """
        engine = self._engine
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
