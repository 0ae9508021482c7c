"""The journal of one item: a resumed function pays only for the calls that are not in it.

How a call is found again. The calls of one item are numbered in the order in which they start; that number is the
call's place. The journal is searched by content first. Calls of the same content are interchangeable, so parallel calls
may start in another order this time.

If the journal has no call of that content, either the call is new work or the function has changed. There are two
cases:

- The function's own task made all calls of the item so far one after another, both then and now. Then the order is
  certain, so the function has changed: the journal holds another call at the same place, and the run is refused before
  the new call is sent.
- Calls ran in parallel. Then their order may be chance, and the call counts as new work. If the function ends without
  making a call that the journal has, a warning says so.

Steps that are not calls are journalled beside them; see `flatout.durable.steps`.
"""

from __future__ import annotations

import asyncio
import json
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from flatout.errors import CallError, RunMismatch, StoreError
from flatout.journey import Journey
from flatout.layer import CallNext, JournalStep
from flatout.values import Call, Reply

from .as_json import plain
from .attempts import NotedAttempts
from .kept_call import KeptCall
from .mismatch import difference
from .records import content, fingerprint, may_go_again
from .steps import KINDS, Steps, within

if TYPE_CHECKING:
    from flatout.store import JournalEntry, RunFile

AskAgain = Callable[[KeptCall], bool]
"""Whether a call that failed is asked again."""


class ItemJournal:
    """The journal of one item, while the function runs for it.

    Args:
        store: the run file.
        name: its name, for messages.
        index: the item's index.
        entries: the item's entries in the run file.
        client: the client that was passed to the function; calls of other clients are not journalled.
        again: whether a call that failed is asked again.

    Attributes:
        fault: why the run cannot go on, in case the function swallows the error.
    """

    def __init__(
        self,
        store: RunFile,
        name: str,
        index: int,
        entries: Mapping[str, JournalEntry],
        client: object,
        again: AskAgain,
    ) -> None:
        self._store = store
        self._name = name
        self._index = index
        self._client = client
        self._entries: dict[str, tuple[JournalEntry, KeptCall]] = {}
        self._unclaimed: defaultdict[bytes, deque[str]] = defaultdict(deque)
        steps: dict[str, JournalEntry] = {}
        for place, entry in entries.items():
            if entry.kind in KINDS:
                steps[place] = entry
                continue
            kept = msgspec.json.decode(entry.value, type=KeptCall)
            if entry.kind == "failed" and again(kept):
                continue
            self._entries[place] = (entry, kept)
            self._unclaimed[entry.fingerprint].append(place)
        self._steps = Steps(store, name, index, steps)
        self._taken = set(self._entries)
        self._task = asyncio.current_task()
        self._started = 0
        self._under_way = 0
        self._alone = True
        self.fault: StoreError | None = None

    async def answer(self, asker: object, call: Call, journey: Journey, ask: CallNext) -> Reply:
        """Answer a call from the journal, or ask it and journal the result."""
        if asker is not self._client:
            return await ask(call)
        # inside a step does not count, because the step may not run next time
        alone = asyncio.current_task() is self._task and not within.get()
        self._alone = self._alone and not self._under_way and alone
        self._under_way += 1
        try:
            made = content(call)
            place = self._claim(made)
            if place is not None:
                return self._entries[place][1].replay(call, journey)
            return await self._ask(call, made, journey, ask)
        except StoreError as error:
            self.fault = self.fault or error
            raise
        finally:
            self._under_way -= 1

    async def step(self, step: JournalStep) -> bytes:
        """The result of a step, from the journal or by running it now."""
        try:
            return await self._steps.step(step)
        except StoreError as error:
            self.fault = self.fault or error
            raise

    def check_all_made(self) -> None:
        """Warn about journalled calls, and steps with effects, that the function did not make this time."""
        for step in self._steps.not_run():
            warnings.warn(
                f"{self._name}: item {self._index + 1} did {step} before, and not this time: has the function changed?",
                RuntimeWarning,
                stacklevel=2,
            )
        places = (place for places in self._unclaimed.values() for place in places)
        left = sorted((p for p in places if not self._steps.is_replayed(self._entries[p][1].within)), key=int)
        if left:
            kept = self._entries[left[0]][1]
            warnings.warn(
                f"{self._name}: item {self._index + 1} made call {left[0]} before ({_shown(kept.call)}), and not this "
                "time: has the function changed, or do its calls depend on chance?",
                RuntimeWarning,
                stacklevel=2,
            )

    def _claim(self, made: bytes) -> str | None:
        """The place of a journalled call with this content; None if no such call is journalled.

        Raises:
            RunMismatch: the journal certainly has another call at this place.
        """
        self._started += 1
        places = self._unclaimed.get(fingerprint(made))
        if places:
            return places.popleft()
        entry, kept = self._entries.get(str(self._started), (None, None))
        if kept is not None and entry is not None and self._alone and kept.alone:
            what = difference(json.loads(bytes(kept.call)), json.loads(made)) or "it differs"
            raise RunMismatch(
                f"{self._name} belongs to another job: item {self._index + 1}, call {self._started}, parameter {what}"
            )
        return None

    async def _ask(self, call: Call, made: bytes, journey: Journey, ask: CallNext) -> Reply:
        place, alone = self._new_place(), self._alone
        journey.notes = NotedAttempts(self._store, self._index, place)
        asked = KeptCall(call=msgspec.Raw(made), alone=alone, within=within.get())
        try:
            reply = await ask(call)
        except CallError as error:
            if not may_go_again(error):
                await self._enter(place, made, "failed", asked.failed(error, journey))
            raise
        await self._enter(place, made, "answered", asked.answered(call, reply, journey))
        return reply

    def _new_place(self) -> str:
        number = self._started
        while str(number) in self._taken:
            number += 1
        self._taken.add(str(number))
        return str(number)

    async def _enter(self, place: str, made: bytes, kind: str, kept: KeptCall) -> None:
        await self._store.journal(self._index, place, fingerprint(made), kind, plain(kept), kept.cost)


def _shown(call: msgspec.Raw) -> str:
    text = bytes(call).decode(errors="replace")
    return text if len(text) <= 120 else f"{text[:119]}…"
