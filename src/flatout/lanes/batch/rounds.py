"""The rounds of the batch lane: walk over the rows, wait until that is worth it again, and leave when it is time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from flatout.lanes.escalation import SETTLE

from .lane import BatchLane


class Rounds:
    """Submits and collects, for a command or for a program.

    Args:
        lane: the lane.
        walk: makes one pass over the rows without a result and keeps what it finds; told whether it is the first.
        detach: make one round, and do not wait.
        keep_files: leave the files at the provider.
    """

    def __init__(
        self,
        lane: BatchLane,
        walk: Callable[[bool], Awaitable[None]],
        *,
        detach: bool = False,
        keep_files: bool = False,
    ) -> None:
        self._lane = lane
        self._walk = walk
        self._detach = detach
        self._keep_files = keep_files
        self._stopped = False

    async def go(self, leave_at: float | None = None) -> bool:
        """Go on until every row has a result, or until `stop`.

        Args:
            leave_at: when rows leave their batches, because they would not be in time; Unix time. None for never.

        Returns:
            Whether rows have left their batches.

        Raises:
            CallError: a provider is not reached, or refuses everything. What it has of ours is in the ledger.
            StoreError: the run file can no longer be written.
        """
        lane, first = self._lane, True
        await lane.begin()
        while True:
            leaves = leave_at is not None and lane.now() >= leave_at
            if leaves:
                await self._leave()
            await self._walk(first)
            first = False
            if not self._keep_files:
                await lane.clear()
            await lane.learn()
            if leaves or self._stopped or self._detach or not lane.waits:
                return leaves and not self._stopped
            await lane.wait(leave_at)

    def stop(self) -> None:
        """Submit nothing more, and end with this round. The batches go on at the provider."""
        self._stopped = True
        self._lane.stop()

    async def _leave(self) -> None:
        """Cancel all batches, and wait a while for what is finished of them. Nothing more is submitted."""
        await self._lane.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE):
                await self._lane.finish()
        self._lane.stop()
