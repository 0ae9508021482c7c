"""A provider for tables: it answers at once, and its connection outlives every client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flatout import Limits
from flatout.layer import Request, Response

from .scripted_wire import Wire, completion


class Lines(Wire):
    """A wire whose answers are what a function makes of the prompt's last word."""

    def __init__(self, answer: Callable[[str], Any] = lambda word: f"about {word}") -> None:
        super().__init__(lambda prompt: answer(prompt.split()[-1]))


def options(wire: Any, **more: Any) -> dict[str, Any]:
    """The options of a client whose requests go to the wire, in any process and without a flatout.toml."""
    given = {"model": "m", "base_url": "http://sim/v1", "config": {}, "limits": Limits(rpm=6_000_000)}
    return {**given, "transport": wire, **more}


class Forgetful:
    """A wire that answers every prompt alike, and keeps nothing: for what memory is measured of."""

    async def send(self, request: Request) -> Response:
        return completion("fine")

    async def close(self) -> None:
        """There is nothing to close."""
