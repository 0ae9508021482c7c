"""What a worker that shares limits with others asks their keeper, and what that one grants: see `leases`.

Times are seconds from the keeper's or the worker's present. Nothing is None or infinite, because a script in Redis
reads and writes the same messages: a negative number stands for "nothing".
"""

from __future__ import annotations

from msgspec import Struct

CONCURRENCY = "concurrency"
"""The name of a limit on requests in flight that was given."""


class CellAsk(Struct, array_like=True, frozen=True):
    """What a worker needs of one limit per time.

    Attributes:
        name: the limit's name.
        rate: units per second that the worker knows all may use.
        burst: seconds of the rate that may go at once.
        keeps: seconds for which a lower rate holds for workers that know a higher one.
        want: units for the next calls, beyond what the worker holds.
        first: the part of them that the first call needs.
        unused: units of the last lease that it gives back.
        settled: units that calls took beyond what they turned out to use; negative if they used more.
        follows: whether the worker was given no rate itself, and goes by that of others.
    """

    name: str
    rate: float
    burst: float
    keeps: float
    want: float
    first: float
    unused: float
    settled: float
    follows: bool = False


class SlotsAsk(Struct, array_like=True, frozen=True):
    """What a worker needs of a limit on requests in flight.

    Attributes:
        most: how many all may have in flight, as far as the worker knows.
        held: how many the worker keeps: for those in flight, and for the calls that its leases hold.
        want: how many it could use.
        name: `CONCURRENCY` for a number that was given, and another for one that the workers search for.
        follows: whether the worker was given no number itself, and goes by that of others.
    """

    most: float
    held: float
    want: float
    name: str = CONCURRENCY
    follows: bool = False


class Told(Struct, array_like=True, frozen=True):
    """A limit that the provider told: units per window, and seconds since it was told last."""

    name: str
    limit: float
    window: float
    age: float = 0.0


class Usual(Struct, array_like=True, frozen=True):
    """What is learnt about the tokens of a target's calls.

    Attributes:
        weights: tokens per character, extra byte, digit and white space; see `tokens`.
        seen: answers from which they were learnt.
        output: tokens of an answer, on average.
        answers: answers that this is the average of.
    """

    weights: tuple[float, float, float, float]
    seen: float
    output: float
    answers: float


class Ask(Struct, array_like=True, frozen=True):
    """One worker's part of an exchange.

    Attributes:
        worker: its name, which nobody else has.
        since: seconds since its last exchange, by its own clock; negative before the first, and where that was so long
            ago that the keeper may have forgotten the worker.
        share: the share of all limits that it believes to be its own while the keeper is away.
        pause: seconds for which nobody may send; 0 ends a pause, and a negative number changes nothing.
        alone: whether the worker went on without the keeper until now.
        leaves: whether this is its last word.
        cells: the limits per time.
        slots: the limit on requests in flight; at most one.
        told: what the provider told the worker since the last exchange.
        version: the version of the told limits that it knows.
        number: counts its exchanges, so that one that arrives after a later one changes nothing.
        more: whether calls wait beyond those for which it asks, or which its leases hold.
        usual: what it has learnt about the tokens of calls; nothing, or one.
    """

    worker: str
    since: float = -1.0
    share: float = 0.0
    pause: float = -1.0
    alone: bool = False
    leaves: bool = False
    cells: tuple[CellAsk, ...] = ()
    slots: tuple[SlotsAsk, ...] = ()
    told: tuple[Told, ...] = ()
    version: float = 0.0
    number: int = 0
    more: bool = False
    usual: tuple[Usual, ...] = ()


class Lease(Struct, array_like=True, frozen=True):
    """A stretch of one limit's time.

    Attributes:
        units: how many may be sent.
        at: the theoretical arrival time before the first of them, in seconds from now.
        rate: units per second that hold for all workers.
        taken: units granted to all workers so far.
    """

    units: float
    at: float
    rate: float
    taken: float


class Given(Struct, array_like=True, frozen=True):
    """A limit that another worker was given: units per second, or requests in flight."""

    name: str
    most: float


class Granted(Struct, array_like=True, frozen=True):
    """The keeper's part of an exchange.

    Attributes:
        pause: seconds for which nobody may send.
        wait: seconds for which nobody is granted anything, because the keeper was away.
        active: how many workers there are.
        share: the worker's share of all limits while the keeper is away.
        using: how many workers the limits are divided among.
        again: seconds after which to ask for the next leases, since it is others' turn; 0 if whenever it needs to.
        beat: seconds after which the worker must be heard again.
        leases: one for each limit that was asked for, in that order.
        slots: how many requests the worker may have in flight; 0 if it did not ask.
        others: how many requests the others may have in flight.
        version: the version of the told limits.
        told: all of them, if the worker does not know this version.
        now: the keeper's present, by a clock that never goes back.
        given: limits that others were given lately: those for which the worker asked no lease.
        usual: what another worker has learnt from more answers; nothing, or one.
    """

    pause: float
    wait: float
    active: float
    share: float
    using: float
    again: float
    beat: float
    leases: tuple[Lease, ...]
    slots: float
    others: float
    version: float
    told: tuple[Told, ...]
    now: float
    given: tuple[Given, ...] = ()
    usual: tuple[Usual, ...] = ()


class News(Struct, frozen=True):
    """What a worker adds to the common log, what it knows of it, and its report. The log is in batches of events.

    Attributes:
        batch: its events; empty if there are none.
        place: the number of batches that it has read.
        kept_at: after how many batches ``kept`` was true.
        kept: the state that all come to by the log; empty if there is no new one to keep.
        report: what the worker says of itself, a `reports.Report`; empty if nothing new.
    """

    batch: bytes = b""
    place: int = 0
    kept_at: int = 0
    kept: bytes = b""
    report: bytes = b""


class Read(Struct, frozen=True):
    """What a worker has not read of the common log yet.

    Attributes:
        end: how many batches there were so far.
        batches: the last of them. Those before are no longer kept if the worker had not read so far.
        kept_at: after how many batches ``kept`` was true.
        kept: the state to begin with, if the worker cannot go on with its own.
    """

    end: int
    batches: tuple[bytes, ...] = ()
    kept_at: int = 0
    kept: bytes = b""
