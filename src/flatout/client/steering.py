"""Steers a client while its calls go: limits, pauses."""

from __future__ import annotations

from typing import Never

from msgspec import UNSET, UnsetType

from flatout.edge.parameters import LIMITS, check_names

from .change import Change, steer
from .overview import Overview


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
        **unknown: Never,
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
            **unknown: nothing else is accepted; ``burst``, ``adaptive`` and ``shared`` cannot be changed.

        Raises:
            ConfigError: a limit is not a number above 0, or no such target is in use.
        """
        check_names(unknown, LIMITS - {"burst", "adaptive", "shared"} | {"target"})
        given = {"rpm": rpm, "tpm": tpm, "itpm": itpm, "otpm": otpm, "rpd": rpd, "concurrency": concurrency}
        limits = {name: value for name, value in given.items() if value is not UNSET}
        if limits:
            steer(self._engine, Change(limits=limits, target=target))

    def pause(self) -> None:
        """Let no attempt begin until `resume`. Attempts in flight finish. Deadlines go on."""
        steer(self._engine, Change(paused=True))

    def resume(self) -> None:
        """Let attempts begin again after `pause`."""
        steer(self._engine, Change(paused=False))
