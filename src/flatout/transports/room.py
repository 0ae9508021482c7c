"""A bound on the memory of all answers that are arriving.

Each answer has its own bound, but a thousand answers at once may take a thousand times as much. If the room is full,
answers wait: nobody reads their sockets, so their servers stop sending. The oldest answer always continues, so one
always finishes and makes room. One that waits for its own reader does not count as the oldest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Room:
    """A bound on the bytes of all answers that are being read.

    It may be exceeded by the last chunk of each answer, and by one whole answer (the oldest).

    Args:
        most: bytes.
    """

    __slots__ = ("_held", "_most", "_shares", "_waiting")

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._shares: dict[Share, None] = {}  # oldest first
        self._waiting: dict[Share, asyncio.Future[None]] = {}

    def __repr__(self) -> str:
        held = f"{self._held:,} of {self._most:,} bytes"
        return f"Room({held}, {len(self._shares)} answers, {len(self._waiting)} waiting)"

    def share(self) -> Share:
        """A share for a new answer. Use it in ``with``, so that it is given back on any exit."""
        return Share(self)

    def enter(self, share: Share) -> None:
        """Join the queue behind the older answers."""
        self._shares[share] = None

    def leave(self, share: Share, size: int) -> None:
        """Give back a share and its bytes, and wake the answers that may continue now."""
        self._waiting.pop(share, None)
        self._held -= size
        self.rest(share)

    def rest(self, share: Share) -> None:
        """Take an answer out of the queue, and wake those that may continue now. Its bytes still count."""
        self._shares.pop(share, None)
        if not self._waiting:
            return
        for waiting in list(self._waiting) if self._held <= self._most else [next(iter(self._shares))]:
            if (future := self._waiting.pop(waiting, None)) is not None and not future.done():
                future.set_result(None)

    def book(self, size: int) -> None:
        """Count the bytes of a chunk that arrived."""
        self._held += size

    def has_place(self, share: Share) -> bool:
        """Whether an answer may continue: there is room, or it is the oldest."""
        return self._held <= self._most or next(iter(self._shares)) is share

    def wait(self, share: Share) -> asyncio.Future[None]:
        """A future that is done once it is worth calling `has_place` again."""
        future = self._waiting[share] = asyncio.get_running_loop().create_future()
        return future


class Share:
    """One answer's part of a `Room`."""

    __slots__ = ("_room", "_size")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._size = 0

    def __enter__(self) -> Share:
        self._room.enter(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._room.leave(self, self._size)

    def add(self, size: int) -> bool:
        """Count a chunk that arrived. If this returns False, wait for the answer's `turn` before reading on."""
        self._size += size
        self._room.book(size)
        return self._room.has_place(self)

    @contextmanager
    def resting(self) -> Iterator[None]:
        """A block in which the answer waits for something else than room, and holds up no younger answer."""
        self._room.rest(self)
        try:
            yield
        finally:
            self._room.enter(self)

    async def turn(self) -> None:
        """Wait until the answer may continue."""
        while not self._room.has_place(self):
            await self._room.wait(self)
