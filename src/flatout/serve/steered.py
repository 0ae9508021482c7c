"""The commands by which a gateway is steered from outside: those of every client, and its own end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flatout.client.commands import Command, Commands
from flatout.engine import Engine


class SteeredGateway(Commands):
    """Carries out the commands for a gateway.

    Args:
        engine: the engine of the client that answers its calls.
        name: its run file.
        stop: begins to end it.
        grace: seconds that its open calls get then.
    """

    _kind = "a gateway"

    def __init__(self, engine: Engine, name: str, *, stop: Callable[[], None], grace: float) -> None:
        super().__init__(engine, name)
        self._end = stop
        self._grace = grace

    def commands(self) -> dict[str, Command]:
        """The commands, by their names."""
        return {**super().commands(), "stop": self._stop}

    def _stop(self, request: dict[str, Any]) -> dict[str, Any]:
        self._note("stop", request["by"])
        self._end()
        return {"state": "stopping", "in_flight": self._in_flight(), "grace": self._grace}
