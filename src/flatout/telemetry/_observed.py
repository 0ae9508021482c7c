"""What traces and metrics need of a client. The client stands above this room, so it is described, not imported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from flatout.events import Events


class TargetState(Protocol):
    """What one target is doing now; see `flatout.layers.limit.TargetStatus`."""

    @property
    def target(self) -> str: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def holds(self) -> str: ...
    @property
    def use(self) -> float | None: ...


class Observed(Protocol):
    """A client: `flatout.Client`, or anything with its events and its status."""

    @property
    def events(self) -> Events: ...

    def status(self) -> Sequence[TargetState]:
        """What each target in use is doing now."""
        ...
