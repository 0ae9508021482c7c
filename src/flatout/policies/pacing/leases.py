"""Who may send what when workers on several machines share one target's limits.

One *keeper* holds the theoretical arrival time of each limit (see `gcra`). A worker asks it for a *lease*: the next
stretch of that time, of every limit exactly what the worker's next few calls take (see `wanted`). It spends the lease
by itself, and asks again before the end. So the workers together send what one program would, in one exchange for
several calls. No lease begins more than `FAR` seconds ahead, and one that is not used in time is lost.

To the keeper a lease is one large call, which one program would admit when the last of its limits lets it go. So a
limit that does not bind costs nothing of the one that does.

Times are seconds from the keeper's present, so no two clocks are compared. The keeper's own clock may be a wall clock:
a step of it neither admits too much nor stops anybody for long (`Keeper._present`).

The keeper is pure. Where it lives in Redis, `flatout/cluster/keeper.lua` is this module line by line, and its state is
this state, encoded as MessagePack. If you change one, change the other; a test compares them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeVar

from msgspec import Struct

from .exchange import Ask, CellAsk, Given, Granted, Lease, SlotsAsk, Told, Usual
from .turns import LATE, Worker, turn

HEARTBEAT = 4.0
"""Seconds after which a worker that waits for no turn says that it is there."""

SLOTS_HEARTBEAT = 0.3
"""The same for one that has requests in flight, where more than half of the slots are taken."""

GRACE = 0.4
"""Most seconds by which a unit may go too late. Then it is lost: others may be in its place.
``USE × (60 + BURST + GRACE) < 60``, so no minute exceeds the limit."""

ACTIVE = 10.0
"""Seconds without a word after which a worker is no longer counted."""

SILENT = 1.0
"""Seconds after a worker last needed a lease in which it counts for the size of the others' leases: all that are idle
leave the limit to those that have calls."""

STEP = 0.5
"""Seconds by which a message may be late. If a worker's clock says that the keeper's is further ahead, that one made a
step."""

QUIET = 0.5
"""Seconds without a word of the others after which a worker that was on its own is believed that the keeper was away.
Until then its answers were only late or lost, and nobody else needs to wait."""

RETURN = 0.8
"""Seconds for which nobody is granted anything after the keeper was away: all workers return in that time."""


class Cell(Struct, array_like=True):
    """One limit. ``lowest`` is the lowest that a worker was given, and ``by`` got the last lease."""

    name: str
    tat: float
    lowest: float
    lowest_at: float
    taken: float = 0.0
    by: str = ""


class Heard(Struct, array_like=True):
    """A limit that the provider told, and when."""

    name: str
    limit: float
    window: float
    at: float


NamedT = TypeVar("NamedT", Cell, Worker, Heard)


class Keeper(Struct, array_like=True):
    """What the workers of one target share.

    Attributes:
        offset: seconds to add to the keeper's clock, after steps of it.
        last: when the last exchange was.
        paused: until when nobody may send.
        returning: until when nobody is granted anything, because the keeper was away.
        claimed: the shares of all workers that the keeper has met since then, as they believed.
        version: how often a told limit changed.
        usual: what a worker has learnt about the tokens of calls; nothing, or one.
    """

    offset: float = 0.0
    last: float = 0.0
    paused: float = 0.0
    returning: float = -ACTIVE
    claimed: float = 0.0
    version: float = 0.0
    cells: list[Cell] = []
    workers: list[Worker] = []
    heard: list[Heard] = []
    usual: tuple[Usual, ...] = ()

    def exchange(self, clock: float, ask: Ask) -> Granted:
        """Hear a worker, and grant it what it may send next.

        Args:
            clock: the keeper's clock. It may step.
            ask: what the worker says.
        """
        known = _named(self.workers, ask.worker)
        if self.overtaken(ask):
            return self._late()
        now = self._present(clock, ask, known)
        forgot = known is None and ask.since >= 0.0
        was_away = forgot or (ask.alone and self._was_away(ask, now))
        worker = self._met(ask, known, now)
        if was_away and now > self.returning + RETURN:
            self.returning = now + RETURN
            self.claimed = 0.0
            for each in self.workers:
                self.claimed += each.share
        self._pause(ask.pause, now)
        self._hear(ask.told, now)
        slots, others = self._slots(ask, worker, now)
        leases, again = self._leases(ask, worker, now, room=all(slots > each.held for each in ask.slots))
        slots = self._kept(ask, worker, slots, leases)
        beat = self._beat(ask, worker, again, others, now)
        using = self._using(ask, worker, now)
        if ask.leaves:
            self.workers.remove(worker)
        return Granted(
            pause=max(0.0, self.paused - now),
            wait=max(0.0, self.returning - now),
            active=float(len(self.workers)),
            share=self._share(ask, worker),
            using=using,
            again=again,
            beat=beat,
            leases=leases,
            slots=slots,
            others=others,
            version=self.version,
            told=self._told(now) if ask.version != self.version else (),
            now=now,
            given=self._given(ask, now),
            usual=self._usual(ask),
        )

    def overtaken(self, ask: Ask) -> bool:
        """Whether the worker was heard again since it said this."""
        known = _named(self.workers, ask.worker)
        return known is not None and ask.number <= known.number

    def _late(self) -> Granted:
        """The answer to an exchange that was overtaken by a later one: nobody waits for it, and nothing changes."""
        active, version = float(len(self.workers)), self.version
        return Granted(0.0, 0.0, active, 0.0, 0.0, 0.0, 0.0, (), 0.0, 0.0, version, (), self.last)

    def _present(self, clock: float, ask: Ask, known: Worker | None) -> float:
        """The present, which never goes back, nor further ahead than the worker's own clock says since its last word.

        A clock that steps back stands still once. One that steps ahead, or a worker that the system suspended, costs no
        more than the time in which nobody else asked.
        """
        now = clock + self.offset
        if known is not None and ask.since >= 0.0 and now > known.seen + ask.since + STEP:
            now = known.seen + ask.since
        now = max(self.last, now)
        self.offset = now - clock
        self.last = now
        return now

    def _was_away(self, ask: Ask, now: float) -> bool:
        """Whether the keeper itself was away, as far as it can tell, and not only one worker's way to it."""
        return all(each.name == ask.worker or now - each.seen > QUIET for each in self.workers)

    def _met(self, ask: Ask, known: Worker | None, now: float) -> Worker:
        """The worker that asks. Those that were silent for long are forgotten."""
        self.workers = [each for each in self.workers if each is known or now - each.due < ACTIVE]
        if known is None:
            known = Worker(ask.worker, now, now, ask.share)
            self.workers.append(known)
            self.claimed += ask.share
        known.seen, known.number = now, ask.number
        return known

    def _share(self, ask: Ask, worker: Worker) -> float:
        """The worker's share without the keeper. All shares that workers may believe in are never above 1 together.

        After the keeper was away, workers that it forgot may still believe in theirs. So those that it has met since
        then have no more than they had together.
        """
        most = 1.0 if self.last >= self.returning + ACTIVE else min(1.0, self.claimed)
        others = 0.0
        for each in self.workers:
            if each is not worker:
                others += each.share
        share = min(1.0 / max(1.0, float(len(self.workers))), max(0.0, most - others))
        worker.share = max(ask.share, share)  # the worker may never hear of the new one
        return share

    def _pause(self, seconds: float, now: float) -> None:
        if seconds > 0.0:
            self.paused = max(self.paused, now + seconds)
        elif seconds == 0.0:
            self.paused = min(self.paused, now)

    # Limits per time

    def _leases(self, ask: Ask, worker: Worker, now: float, *, room: bool) -> tuple[tuple[Lease, ...], float]:
        """Admit what the worker asks for as one program would, but ahead of its time, when it is its turn.

        It goes when the last of its limits lets the first call go. The others do not wait for that at the keeper: what
        calls turn out not to use may bring it nearer.
        """
        closed = max(self.paused, self.returning)
        cells = [self._corrected(each, ask.worker, now) for each in ask.cells]
        if closed > now:
            return tuple(Lease(0.0, cell.tat - now, cell.lowest, cell.taken) for cell in cells), 0.0
        at, seconds = now, 0.0
        for each, cell in zip(ask.cells, cells, strict=True):
            cell.tat = max(cell.tat, closed + each.burst)
            if self.returning > -ACTIVE:  # what it forgot is not earned yet: half a call, on average
                cell.tat = max(cell.tat, self.returning + each.first / cell.lowest / 2.0)
            if each.want > 0.0:
                at = max(at, cell.tat - max(0.0, each.burst - each.first / cell.lowest))
                seconds = max(seconds, each.want / cell.lowest)
        goes, again = turn(self.workers, worker, at - now, seconds, now, room=room, more=ask.more)
        granted: list[Lease] = []
        for each, cell in zip(ask.cells, cells, strict=True):
            units = each.want if goes else 0.0
            if units > 0.0:
                cell.by = ask.worker
            cell.taken += units
            granted.append(Lease(units, cell.tat - now, cell.lowest, cell.taken))
            cell.tat += units / cell.lowest
        return tuple(granted), again

    def _using(self, ask: Ask, worker: Worker, now: float) -> float:
        """How many workers the limits are divided among: those that needed a lease lately; all if this one did not."""
        if not any(each.want > 0.0 for each in ask.cells):
            return float(len(self.workers))
        worker.needed_at = now
        using = 0.0
        for each in self.workers:
            if now - each.needed_at < SILENT:
                using += 1.0
        return using

    def _corrected(self, ask: CellAsk, worker: str, now: float) -> Cell:
        """A limit after what the worker says of it. Its lowest rate holds for all."""
        cell = _named(self.cells, ask.name)
        if cell is None:
            cell = Cell(ask.name, now + ask.burst, ask.rate, now)
            self.cells.append(cell)
        if not ask.follows and (ask.rate <= cell.lowest or now - cell.lowest_at >= ask.keeps):
            cell.lowest, cell.lowest_at = ask.rate, now
        cell.tat -= ask.settled / cell.lowest
        if cell.by == worker:  # else others were granted what comes after it
            cell.tat -= ask.unused / cell.lowest
        cell.tat = max(cell.tat, now)
        return cell

    # Requests in flight

    def _slots(self, ask: Ask, worker: Worker, now: float) -> tuple[float, float]:
        """How many requests the worker may have in flight, and how many the others may.

        A worker that has more than its part gives up what others wait for, as its calls end. If there are fewer slots
        than workers, it gives up all, and those without any go before it: they take turns.
        """
        others, hungry, using, before = 0.0, False, 1.0, 0.0
        if worker.slots > 0.0:
            worker.held_at = now
        for each in self.workers:
            if each is not worker and now < each.due + LATE:
                others += each.slots
                hungry = hungry or each.want > each.slots
                if each.want > 0.0:
                    using += 1.0
                    if each.slots == 0.0 and each.held_at < worker.held_at:
                        before += 1.0
        allowed = 0.0
        for slots in ask.slots:
            most = self._lowest(slots, now)
            allowed = min(slots.want, max(0.0, most - others))
            part = math.floor(most / using)
            if hungry and slots.held > 0.0:
                allowed = min(allowed, part)
            elif hungry:
                allowed = min(allowed, max(1.0, part), max(0.0, most - others - before))
            if self.returning > now:
                allowed = min(allowed, slots.held)
        return allowed, others

    def _kept(self, ask: Ask, worker: Worker, slots: float, leases: tuple[Lease, ...]) -> float:
        """How many it may have after all: not one more before its turn, because it could not use it."""
        waits = any(each.want > 0.0 for each in ask.cells) and not any(each.units > 0.0 for each in leases)
        worker.slots, worker.want = 0.0, 0.0
        for each in ask.slots:
            slots = min(slots, each.held) if waits else slots
            worker.slots = max(each.held, slots)
            worker.want = worker.slots if waits else each.want
        return slots

    def _beat(self, ask: Ask, worker: Worker, again: float, others: float, now: float) -> float:
        """Seconds after which the worker must be heard again: what dead workers have in flight may be needed."""
        beat = max(HEARTBEAT, again, worker.due - now)
        for each in ask.slots:
            if worker.slots > 0.0 and 2.0 * (others + worker.slots) > self._lowest(each, now):
                beat = SLOTS_HEARTBEAT
        worker.due = now + beat
        return beat

    def _lowest(self, slots: SlotsAsk, now: float) -> float:
        """The smallest number that a worker was given, of those that were heard lately."""
        cell = _named(self.cells, slots.name)
        if cell is None:
            cell = Cell(slots.name, 0.0, slots.most, now)
            self.cells.append(cell)
        if not slots.follows and (slots.most <= cell.lowest or now - cell.lowest_at >= ACTIVE):
            cell.lowest, cell.lowest_at = slots.most, now
        return cell.lowest

    def _given(self, ask: Ask, now: float) -> tuple[Given, ...]:
        """What other workers were given lately, except what a lease tells the worker anyway."""
        leased = {each.name for each in ask.cells}
        there = (each for each in self.cells if each.name not in leased and now - each.lowest_at < ACTIVE)
        return tuple(Given(each.name, each.lowest) for each in there)

    def _usual(self, ask: Ask) -> tuple[Usual, ...]:
        """What the worker has learnt that saw more answers than this one; else this one's is kept."""
        for each in ask.usual:
            if self.usual and self.usual[0].answers > each.answers:
                return self.usual
            self.usual = ask.usual
        return ()

    # What the provider told

    def _hear(self, told: tuple[Told, ...], now: float) -> None:
        for each in told:
            heard = _named(self.heard, each.name)
            if heard is None:
                heard = Heard(each.name, 0.0, 0.0, now)
                self.heard.append(heard)
            if heard.limit != each.limit or heard.window != each.window:
                heard.limit, heard.window = each.limit, each.window
                self.version += 1.0
            heard.at = now

    def _told(self, now: float) -> tuple[Told, ...]:
        return tuple(Told(each.name, each.limit, each.window, now - each.at) for each in self.heard)


def _named(among: Iterable[NamedT], name: str) -> NamedT | None:
    """The one of this name; None if there is none."""
    return next((each for each in among if each.name == name), None)
