"""How busy the machine is: what is measured in real time says little of the client when its computer cannot keep up."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

EVERY = 1.0
"""Seconds between two looks."""

LATELY = 5
"""Looks that say how busy it is now."""

CALM = 0.6
"""The share of the processors below which there is room for one more run."""

PATIENCE = 20.0
"""Seconds after which a run begins all the same: others may keep the machine busy."""


class Machine:
    """Watches the processors.

    Attributes:
        shares: the share of their time that was used, by whomever, between two looks.
    """

    def __init__(self) -> None:
        self.shares: list[float] = []

    def __str__(self) -> str:
        ranked = sorted(self.shares) or [0.0]
        tenth = ranked[-1 - len(ranked) // 10]
        return (
            f"{os.cpu_count()} processors, {ranked[len(ranked) // 2]:.0%} busy in the median second, "
            f"{tenth:.0%} in the worst tenth, {ranked[-1]:.0%} in the worst"
        )

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[Machine]:
        """Look at it all the time."""
        task = asyncio.create_task(self._watch())
        try:
            yield self
        finally:
            task.cancel()

    async def calm(self) -> None:
        """Return when there is room, or nobody knows, or `PATIENCE` is at an end."""
        for _ in range(round(PATIENCE / EVERY)):
            lately = self.shares[-LATELY:]
            if sum(lately) <= CALM * len(lately):
                return
            await asyncio.sleep(EVERY)

    async def _watch(self) -> None:
        before = _processors()
        while before is not None:
            await asyncio.sleep(EVERY)
            now = _processors()
            assert now is not None
            self.shares.append((now[0] - before[0]) / max(1, now[1] - before[1]))
            before = now


def _processors() -> tuple[int, int] | None:
    """What all processors have worked so far, and the time that went by for them; None where nobody tells."""
    with suppress(OSError):
        spent = [int(text) for text in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
        return sum(spent) - spent[3] - spent[4], sum(spent)
    return None
