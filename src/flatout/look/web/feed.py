"""Tells all open pages what is new: one look at the run for all of them, and none while no page is open.

A page that reads slowly gets the latest news when it is ready for them, and misses those in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Protocol

from flatout.look.report.model import Report
from flatout.text.halves import to_json

EVERY = 1.0
"""Seconds between two looks."""

SHARE = 10
"""A look is followed by a pause of at least this many times as long as it took."""

STILL = 15.0
"""Seconds without news after which a listener gets an empty message, so that one that has gone is noticed."""


class Watched(Protocol):
    """What is looked at. The methods block."""

    @property
    def due(self) -> bool:
        """Whether all rows should be read."""

    def look(self) -> Report:
        """What is known now."""

    def read_rows(self) -> None:
        """Read all rows."""


class Feed:
    """Looks at a run for those who listen.

    Args:
        run: the run.

    Attributes:
        listeners: how many listen.
    """

    def __init__(self, run: Watched) -> None:
        self._run = run
        self._report: Report | None = None
        self._news = b""
        self._changed = asyncio.Event()
        self._somebody = asyncio.Event()
        self._looking = asyncio.Lock()
        self._next = 0.0  # the loop's time of the next look
        self.listeners = 0

    async def latest(self) -> Report:
        """What is known now, or was a moment ago."""
        async with self._looking:
            loop = asyncio.get_running_loop()
            if self._report is None or loop.time() >= self._next:
                began = loop.time()
                self._publish(await asyncio.to_thread(self._run.look))
                self._next = loop.time() + max(EVERY, SHARE * (loop.time() - began))
        assert self._report is not None, "a look has a result"
        return self._report

    async def listen(self) -> AsyncGenerator[bytes, None]:
        """The reports as JSON: first the present one, then each new one; b"" after a long time without a new one."""
        self.listeners += 1
        self._somebody.set()
        try:
            seen = b""
            while True:
                changed, news = self._changed, self._news
                if news != seen:
                    seen = news
                    yield news
                    continue
                try:
                    async with asyncio.timeout(STILL):
                        await changed.wait()
                except TimeoutError:
                    yield b""
        finally:
            self.listeners -= 1
            if not self.listeners:
                self._somebody.clear()

    async def run(self) -> None:
        """Look again and again, as long as somebody listens."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._looks())
            tasks.create_task(self._readings())

    async def _looks(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._somebody.wait()
            await self.latest()
            await asyncio.sleep(max(0.0, self._next - loop.time()))

    async def _readings(self) -> None:
        while True:
            await self._somebody.wait()
            if self._run.due:
                await asyncio.to_thread(self._run.read_rows)
                self._next = 0.0
            await asyncio.sleep(EVERY)

    def _publish(self, report: Report) -> None:
        if report != self._report:
            self._report, self._news = report, to_json(report)
            self._changed.set()
            self._changed = asyncio.Event()
