"""Steps of a durable function that are not calls: a tool's run, a verdict, an action. Their results are kept.

A step is found again as a call is, by its content: its name and its input. Equal steps are interchangeable. A step with
an effect in the world (``once``) is also noted before it begins. If there is such a note without an end, a process died
in the middle, and it is unknown whether the effect happened. flatout never repeats such a step on its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from flatout.errors import StepUnknown
from flatout.layer import JournalStep

from .as_json import plain
from .records import fingerprint

if TYPE_CHECKING:
    from flatout.store import JournalEntry, RunFile

KINDS = frozenset({"started", "done"})
"""The kinds of journal entries that are steps."""

within: ContextVar[str] = ContextVar("flatout_step", default="")
"""The place of the running step; "" outside of one. A replayed step does not repeat the work inside it."""


class KeptStep(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A journalled step.

    Attributes:
        name: its name, for people.
        once: whether it has an effect in the world.
        within: the step in which it was run.
        value: its result; empty while unknown.
    """

    name: str
    once: bool = False
    within: str = ""
    value: msgspec.Raw = msgspec.Raw()


class Steps:
    """The steps of one item, while the function runs for it.

    Args:
        store: the run file.
        name: its name, for messages.
        index: the item's index.
        entries: their entries in the journal, by place.
    """

    def __init__(self, store: RunFile, name: str, index: int, entries: Mapping[str, JournalEntry]) -> None:
        self._store = store
        self._name = name
        self._index = index
        self._kept = {place: msgspec.json.decode(entry.value, type=KeptStep) for place, entry in entries.items()}
        self._unclaimed: defaultdict[bytes, deque[str]] = defaultdict(deque)
        for place, entry in entries.items():
            self._unclaimed[entry.fingerprint].append(place)
        self._taken = len(entries)
        self._seen: Counter[bytes] = Counter()
        self._replayed: set[str] = set()
        self._identity = b""

    async def step(self, step: JournalStep) -> bytes:
        """The result of a step, from the journal or by running it now; see `flatout.journey.Journal.step`."""
        mark = fingerprint(step.name.encode() + b"\0" + step.made)
        key = self._key(mark)
        waiting = self._unclaimed.get(mark)
        if waiting:
            place = waiting.popleft()
            kept = self._kept[place]
            if value := bytes(kept.value):
                self._replayed.add(place)
                return value
            if step.again is None or not await step.again(key):
                raise StepUnknown(
                    f"{self._name}: item {self._index + 1} began {step.name} before, "
                    "and nobody knows whether it took effect"
                )
        else:
            self._taken += 1
            place = f"step {self._taken}"
            kept = KeptStep(name=step.name, once=step.once, within=within.get())
            if step.once:
                await self._store.journal(self._index, place, mark, "started", plain(kept))
        token = within.set(place)
        try:
            value = await step.run(key)
        finally:
            within.reset(token)
        await self._store.journal(
            self._index, place, mark, "done", plain(msgspec.structs.replace(kept, value=msgspec.Raw(value)))
        )
        return value

    def is_replayed(self, place: str) -> bool:
        """Whether a step came from the journal, directly or because the step around it did."""
        while place:
            if place in self._replayed:
                return True
            kept = self._kept.get(place)
            place = kept.within if kept is not None else ""
        return False

    def not_run(self) -> Iterator[str]:
        """The names of journalled steps with effects that were not asked for this time."""
        for places in self._unclaimed.values():
            for place in places:
                kept = self._kept[place]
                if kept.once and not self.is_replayed(kept.within):
                    yield kept.name

    def _key(self, mark: bytes) -> str:
        """A key that is the same in every process that works on this run file, and differs in every other run.

        It includes when the run began: starting over with a new file means doing everything once more.
        """
        if not self._identity:
            self._identity = f"{self._store.created_at!r} {self._index}".encode()
        self._seen[mark] += 1
        return blake2b(b"%b %b %d" % (self._identity, mark, self._seen[mark]), digest_size=16).hexdigest()
