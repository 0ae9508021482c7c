"""One target's batch endpoint, with the batches that it has of ours."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from flatout.lanes.past import Past, server_of
from flatout.store.ledger import Batch, Ledger, Seen
from flatout.values import Target

from .format import BatchFormat, Job
from .queue import FULL, Queue
from .wire import Wire

REST = 60.0
"""Seconds without new batches after the provider's queue was full. They double each time, up to `LONGEST_REST`."""

LONGEST_REST = 900.0

MOST_DOUBLINGS = 10
"""How often a rest doubles at most: a float overflows after a thousand doublings, which take eleven days."""

MOST_REFUSED = 64
"""Batches in a row that the provider refused: then it is not for a row. To find one bad row among 50,000 takes 16."""

_LONGEST_WORD = 40
"""Most characters of a provider's word for a state."""

log = logging.getLogger("flatout")


class Desk:
    """What submitting and collecting share.

    Args:
        target: endpoint, key and model.
        format: how its batch endpoint is spoken to.
        wire: carries the requests.
        ledger: where everything is recorded.
        wall: the wall clock, in Unix seconds. A monotonic clock stands still while a laptop sleeps.

    Attributes:
        batches: those that the provider has, or may have, by number.
        mark: begins the stamps of this run's batches, and of its copies'.
        began: when the run began; Unix time.
        seen: what the provider last said of each, by number.
        jobs: the provider's names of all batches in the ledger.
        stamps: our labels of them.
        queue: what is known of the provider's queue.
        most: the most rows of a new batch.
        refused: how many batches in a row the provider refused.
        told_full: the batches that the provider refused because its queue is full. They were surely not created.
        ends: whether all batches are to be cancelled, so that none is created any more.
    """

    def __init__(
        self, target: Target, format: BatchFormat, wire: Wire, ledger: Ledger, wall: Callable[[], float] = time.time
    ) -> None:
        self.target = target
        self.format = format
        self.wire = wire
        self.ledger = ledger
        self.wall = wall
        self.batches: dict[int, Batch] = {}
        self.mark = f"flatout-{ledger.run}"
        self.began = ledger.began
        self.seen: dict[int, Seen] = {}
        self.jobs: set[str] = set()
        self.stamps: set[str] = set()
        self.queue = Queue()
        self.most = format.caps.rows
        self.refused = 0
        self.told_full: set[int] = set()
        self.ends = False
        self._ended: list[Past] = []
        self._rests = 0
        self._rested_at = 0.0
        self._rest_until = 0.0

    def saw(self, batch: Batch, job: Job) -> None:
        """The provider has said how a batch is."""
        word = job.said[:_LONGEST_WORD].lower().replace("_", " ")
        self.seen[batch.number] = Seen(self.wall(), word, job.done)

    def ended(self, batch: Batch) -> None:
        """A batch has ended: there is room for new ones, and the provider takes what it gets."""
        self._leaves(batch)
        self.queue.ran(batch.size)
        took, now = self.wall() - batch.intended_at, self.wall()
        self._ended.append(Past(batch.target, batch.rows, took, now, server_of(self.target)))
        self._rests = self.refused = 0
        self._rest_until = 0.0

    def take_ended(self) -> list[Past]:
        """The batches that have ended since the last time, for those who learn from them."""
        found, self._ended = self._ended, []
        return found

    @property
    def rests(self) -> bool:
        """Whether it takes no new batches for now. A clock that was set back ends the rest."""
        return self._rested_at <= self.wall() < self._rest_until

    @property
    def rest_until(self) -> float:
        """Until when it takes no new batches; Unix time."""
        return self._rest_until

    def rest(self) -> None:
        """Submit nothing new for a while. Several refusals at one moment are one rest."""
        if not self.rests:
            self._rests = min(self._rests + 1, MOST_DOUBLINGS)
        self._rested_at = self.wall()
        self._rest_until = self._rested_at + min(LONGEST_REST, REST * 2.0 ** (self._rests - 1))

    def is_alone(self, batch: Batch) -> bool:
        """Whether the provider has none of our batches beside this one, so that waiting for ours makes no room."""
        return all(number == batch.number or number in self.told_full for number in self.batches)

    def change(self, batch: Batch, **fields: object) -> Batch:
        """Take over a change of a batch that the ledger has."""
        changed = self.batches[batch.number] = replace(batch, **fields)
        return changed

    async def drop(self, batch: Batch, reason: str, *, most: int | None = None) -> None:
        """Put the rows of a batch back that was never run."""
        log.info("batch %d of %s was not run: %s", batch.number, self.target.name, reason)
        await self.ledger.drop(batch.number, reason, self.wall(), most)
        self._leaves(batch)
        self.told_full.discard(batch.number)

    def _leaves(self, batch: Batch) -> None:
        self.batches.pop(batch.number, None)
        self.seen.pop(batch.number, None)

    def learn(self, batches: Iterable[Batch]) -> None:
        """Take over the batches of earlier processes, in order."""
        seen = self.ledger.seen()
        for batch in batches:
            if batch.state in ("intended", "open"):
                self.batches[batch.number] = batch
                if batch.number in seen:
                    self.seen[batch.number] = seen[batch.number]
            self.stamps.add(batch.stamp)
            if batch.job is not None:
                self.jobs.add(batch.job)
            if batch.state == "ended":
                self.queue.ran(batch.size)
            elif (reason := batch.reason or "").startswith(FULL):
                self.queue.refused(batch.rows, batch.size, reason, batch.ended_at or batch.intended_at)

    async def full(self, batch: Batch, reason: str) -> None:
        """The queue is full: wait. A batch that alone is too large for it is dropped, and made smaller.

        One that is uploaded, and was surely not created, is created when there is room.
        """
        alone = self.is_alone(batch)
        most = self.queue.refused(batch.rows, batch.size, reason, self.wall()) if alone else None
        if most is None and batch.state == "intended" and batch.input_file is not None:
            self.told_full.add(batch.number)
        else:
            self.most = min(self.most, most or self.most)
            await self.drop(batch, FULL + reason if alone else reason, most=most)
        self.rest()
