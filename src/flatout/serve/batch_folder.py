"""What the folder of batches holds of a batch. Gateways may share a folder: one of them at a time works on a batch, and
what is written there counts.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from flatout.errors import StoreError

from .batch_work import OVER, Batch
from .files import write

if TYPE_CHECKING:
    from flatout.store.lock import Lock


@asynccontextmanager
async def held(folder: Path, name: str) -> AsyncIterator[None]:
    """A block in which no other gateway works on a batch. The lock of its run file is not enough: that file is removed
    when the batch is over, and a gateway that had read the state before would ask all rows again.

    Raises:
        RunLocked: another gateway works on it.
        StoreError: the folder has no locks, or is read-only.
    """
    taking = asyncio.ensure_future(asyncio.to_thread(_take, folder / f"{name}.work"))
    try:
        lock = await asyncio.shield(taking)
    except asyncio.CancelledError:
        with suppress(StoreError):
            (await taking).release()
        raise
    try:
        yield
    finally:
        await asyncio.shield(asyncio.to_thread(lock.release))


def _take(path: Path) -> Lock:
    from flatout.store.database import Place  # loads SQLite
    from flatout.store.lock import Lock

    return Lock.acquire(Place.to(path))


def found_at(path: Path) -> Batch | None:
    """A batch as it was written; None if it cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Batch)
    except (OSError, msgspec.MsgspecError):
        return None


def keep_at(path: Path, batch: Batch) -> Batch | None:
    """Write a batch, unless another gateway has written that it is over. Returns what that one wrote."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = found_at(path)
    if found is not None and found.state in OVER:
        return found
    write(path, msgspec.json.encode(batch))
    return None


def link(own: Path, given: Path) -> None:
    """Link a file, or copy it on a file system without links. There is nothing if that fails: if the file is gone, or
    the disk is full.
    """
    try:
        own.hardlink_to(given)
    except OSError:
        part = own.with_name(f"{own.name}-part")
        with suppress(OSError):
            shutil.copyfile(given, part)
            part.replace(own)
        part.unlink(missing_ok=True)
