"""The parts of a client that traces and metrics need. The client is described here because it cannot be imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from flatout.events import Events


class TargetState(Protocol):
    """The present state of one target; see `flatout.layers.limit.TargetStatus`."""

    @property
    def target(self) -> str: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def allows(self) -> Mapping[str, float]: ...


class Observed(Protocol):
    """A client: `flatout.Client`, or anything with its events and its status."""

    @property
    def events(self) -> Events: ...

    def status(self) -> Sequence[TargetState]:
        """The present state of each target in use."""
        ...
