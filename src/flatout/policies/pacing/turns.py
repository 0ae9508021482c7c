"""Whose turn it is to get the next lease, where workers on several machines share limits: see `leases`.

The workers that wait stand in a line. Each is told when its turn is likely to come, and is silent until then. After its
turn it stands behind all others. So a lease costs about one exchange, however many workers wait for one.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

FAR = 2.5
"""Most seconds from the present at which a lease may begin. Further ahead it would be lost for longer with its worker,
and what calls turn out not to use would be used later. Instead, a worker is told when its turn is likely to come."""

LEAD = 0.75
"""The part of these seconds before which a worker comes for its lease."""

SOON = 0.25
"""If a lease would begin within this part of them, those whose turn it is are late, and nobody waits for them."""

EARLY = 0.8
"""The part of the time that the calls of those before it should take, after which a worker comes: they may take less.
If it comes too late, the limit lies idle; if too early, it costs one more exchange."""

AGAIN = 0.25
"""Least seconds after which to ask again."""

PATIENT = 5.0
"""Most seconds for which a worker waits for its turn without a word: others may leave, or a limit be raised."""

LATE = 0.7
"""Seconds by which a worker may be late. Then its calls in flight no longer count, and nobody waits for its turn."""


class Worker(Struct, array_like=True):
    """One worker.

    Attributes:
        seen: when it was heard last.
        due: when it is to be heard again, at the latest.
        share: its share without the keeper.
        slots: its requests in flight, as it may have them.
        want: how many it could use.
        held_at: when it was last heard to have any.
        needed_at: when it last needed a lease.
        waits: since when it waits for its turn; 0 if it does not.
        takes: seconds of the limit that binds that its lease should take.
        number: of its latest exchange.
    """

    name: str
    seen: float
    due: float
    share: float = 0.0
    slots: float = 0.0
    want: float = 0.0
    held_at: float = 0.0
    needed_at: float = 0.0
    waits: float = 0.0
    takes: float = 0.0
    number: int = 0


def turn(
    workers: Iterable[Worker], worker: Worker, ahead: float, seconds: float, now: float, *, room: bool, more: bool
) -> tuple[bool, float]:
    """Whether it is a worker's turn, and the seconds after which it should ask again; 0 if whenever it needs to.

    Args:
        workers: all of them.
        worker: the one that asks.
        ahead: seconds until its lease would begin.
        seconds: how long its lease would last; 0 if it needs none.
        now: the present.
        room: whether another of its requests may be in flight.
        more: whether it has calls beyond those of the lease.
    """
    if seconds == 0.0:
        worker.waits = worker.waits if more else 0.0
        return False, 0.0
    before = others = 0.0
    for each in workers:
        if each is not worker and each.waits > 0.0 and now < each.due + LATE:
            others += each.takes
            if worker.waits == 0.0 or (each.waits, each.name) < (worker.waits, worker.name):
                before += each.takes
    worker.takes = seconds
    late = ahead <= SOON * FAR
    if room and (late or ahead + before <= FAR):
        worker.waits = now if more else 0.0
        wait = EARLY * (ahead + seconds + (0.0 if late else others)) - LEAD * FAR
        return True, min(PATIENT, max(0.0, wait)) if more else 0.0
    worker.waits = worker.waits or now
    return False, min(PATIENT, max(AGAIN, EARLY * (ahead + before) - LEAD * FAR))
