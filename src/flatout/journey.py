"""The data that one call collects on its way through the layers.

A `Journey` is made for each call when it enters the library. A context variable holds it, so a layer needs no argument
for it: `current_journey()`.

Thousands of journeys are under way at once. The garbage collector does not visit the parts with ``gc=False``: nothing
that they hold refers back to them. A journey itself may be part of a circle, through an error's traceback.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from .errors import DeadlineExceeded, OutputError, RateLimited
from .layer import Permit, Reader
from .tasks.patience import Patience
from .values import Reply, Usage
from .values.route import Leg

if TYPE_CHECKING:
    from .errors import CallError
    from .layer import Journal
    from .money.attempt import Money
    from .policies.failures.trouble import Trouble


SLOWER = "Hedged"
"""Why a target was left whose answer came second; see `flatout.values.route.Leg`."""


class Account(Struct, eq=False, gc=False):
    """The usage of a call, including the calls made on its behalf.

    Attributes:
        attempts: how often it was tried.
        reasks: how often the model was asked again because its answer did not fit.
        known: US dollars known to be spent.
        unknown: how often an unknown amount was spent, because a price or a usage is unknown.
        waits: seconds by cause; see `flatout.events.WAITS`.
    """

    attempts: int = 0
    reasks: int = 0
    known: float = 0.0
    unknown: int = 0
    waits: dict[str, float] = {}

    @property
    def cost(self) -> float | None:
        """US dollars; None if some of it is unknown."""
        return None if self.unknown else self.known

    def spent(self, cost: float | None) -> None:
        """Add US dollars; None for an unknown amount."""
        if cost is None:
            self.unknown += 1
        else:
            self.known += cost

    def waited(self, cause: str, seconds: float) -> None:
        """Add to the seconds of a cause."""
        if seconds > 0:
            self.waits[cause] = self.waits.get(cause, 0.0) + seconds

    def add(self, other: Account) -> None:
        """Add the usage of a call that was made on this one's behalf."""
        self.attempts += other.attempts
        self.reasks += other.reasks
        self.known += other.known
        self.unknown += other.unknown
        for cause, seconds in other.waits.items():
            self.waited(cause, seconds)


class Attempt(Struct, eq=False):
    """The attempt in progress, or the last one.

    Attributes:
        target: the target's name; "" before the first attempt.
        number: among the call's attempts, from 1; 0 until it is on the wire.
        in_flight: whether it is on the wire now.
        undecided: whether an attempt of a hedged call has ended, and its answer is not chosen yet; see `Hedge`.
        sent_at: when it was admitted, on the event loop's clock; 0 before the first attempt.
        ends_at: when it times out at the latest.
        seconds: from its permit to its end, once it has ended; None before.
        first_chunk: seconds from its start to the first text of a streamed answer.
        sends: called when it has its permit; None if nobody waits for that.
        begins: called when the answer begins, for which it is streamed; None if nobody waits for that.
        opens: called with 1 when a connection is being opened, with -1 when it is open or has failed; None if none is.
        timeout: ends it when it takes too long; None outside the layer that does so.
    """

    target: str = ""
    number: int = 0
    in_flight: bool = False
    undecided: bool = False
    sent_at: float = 0.0
    ends_at: float | None = None
    seconds: float | None = None
    first_chunk: float | None = None
    sends: Callable[[], None] | None = None
    begins: Callable[[], None] | None = None
    opens: Callable[[int], None] | None = None
    timeout: Patience | None = None

    @property
    def may_have_arrived(self) -> bool:
        """Whether there may be an answer that its call has not seen yet."""
        return self.in_flight or self.undecided


_UNKNOWN = Usage()
_NOTHING: Mapping[str, float] = MappingProxyType({})  # one for all: almost no call is refused alone


class Passage(Struct, eq=False, gc=False):
    """The targets that a call was sent to, if it has a choice of them.

    Attributes:
        stay: the target that an earlier attempt may still be executed at; a retry goes there again. "" for none.
        resting: until when this call is not sent to a target, which has refused this call alone, by the target's name.
        fell_back: whether another model was asked than those of the call's own route.
        trail: see `flatout.values.Result`.
    """

    stay: str = ""
    resting: Mapping[str, float] = _NOTHING
    fell_back: bool = False
    trail: tuple[Leg, ...] = ()

    def note(self, leg: Leg) -> None:
        """Note what was done at a target. Attempts at one target, one after the other, are one leg."""
        if self.trail and self.trail[-1].target == leg.target:
            self.trail = (*self.trail[:-1], self.trail[-1].and_then(leg))
        elif leg.attempts or not leg.left:
            self.trail += (leg,)

    def join(self, other: Passage) -> None:
        """Add the targets of a second attempt that went beside the last one. The one that answered comes last."""
        both = (*self.trail[-1:], *other.trail)
        self.trail = self.trail[:-1]
        answered = any(not leg.left for leg in both)
        for leg in sorted(both, key=lambda leg: not leg.left):
            slower = answered and leg.left == DeadlineExceeded.__name__
            self.note(replace(leg, left=SLOWER) if slower else leg)


class Unfit(Struct, eq=False, gc=False):
    """Answers that could not be used as they are. They were paid for all the same.

    Attributes:
        last: the last of them.
        unread: those not yet examined for usable parts.
        fallback: the usable part of one, returned if no better answer comes.
    """

    last: Reply | None = None
    unread: tuple[Reply, ...] = ()
    fallback: Reply | None = None


class Flex(Struct, frozen=True, eq=False):
    """The wish to be asked in a provider's cheaper service; see `flatout.layers.flex`.

    Attributes:
        tier: what ``service_tier`` must be for it.
        timeout: seconds for one attempt of a call without its own.
        deadline: seconds for the whole of a call without its own.
        left: tells the seconds until the call goes on in the live service.
    """

    tier: str
    timeout: float
    deadline: float
    left: Callable[[], float]


class StreamSink:
    """Receives the text of a streamed answer as it comes.

    Args:
        write: called with each piece of text; with bytes, for a call of another program.
        reader: who takes the pieces, and may be slow; None if all of them may wait in memory.

    Attributes:
        reader: see above.
        delivered: whether some text has come. Then nothing is retried: the caller has seen half an answer.
    """

    __slots__ = ("_write", "delivered", "reader")

    def __init__(self, write: Callable[[Any], None], reader: Reader | None = None) -> None:
        self._write = write
        self.reader: Reader | None = reader
        self.delivered: bool = False

    def take(self, text: str) -> None:
        """Pass a piece of text on."""
        self.delivered = True
        self._write(text)


class FailedAttempt(Protocol):
    """The record of a failed attempt, such as `flatout.events.AttemptFailed`."""

    @property
    def at(self) -> float: ...
    @property
    def attempt(self) -> int: ...
    @property
    def error(self) -> Exception: ...
    @property
    def retry_in(self) -> float | None: ...
    @property
    def seconds(self) -> float | None: ...


class AttemptNotes(Protocol):
    """Notes a call's attempts. For a run file, see `flatout.durable.attempts`."""

    def begins(self, attempt: int, target: str, estimate: float | None, after: Exception | None, /) -> Awaitable[None]:
        """Awaited before an attempt is sent.

        Args:
            attempt: its number, from 1.
            target: the target's name.
            estimate: US dollars that it may cost; None if unknown.
            after: why the attempt before it failed.
        """
        ...

    def failed(self, attempt: int, error: CallError, /) -> None:
        """Note that an attempt failed."""
        ...


class Journey(Struct, eq=False, repr_omit_defaults=True):
    """The data that one call collects on its way. Times are the event loop's clock.

    Attributes:
        started: when the call entered the library.
        deadline_at: the call's deadline; None until the deadline layer sets it.
        account: its usage.
        attempt: the attempt in progress, or the last one.
        unfit: answers that could not be used.
        last_error: why the last attempt failed.
        numbers: numbers the attempts, if several are in flight at once; None if their count does.
        permit: taken by the route for the attempt that it is about to send; None otherwise.
        money: the money of the attempt in progress; None without a budget.
        passage: the targets so far; None if there is no choice of targets.
        trouble: what went wrong so far; None if nothing did.
        refusals: how often it was sent back to the queue, for coming too fast or because its target was in trouble.
        failures: the failed attempts; kept only while somebody subscribes to events.
        notes: where its attempts are noted; None for nowhere.
        journal: answers the calls that are made on its behalf; None outside a durable function.
        flex: the cheaper service that its attempts go to; None for that which the call itself names.
        aside: called when it waits for an equal call's answer, and not for its target; None if nobody asks.
        sink: receives the answer's text as it comes; None if the caller wants the whole answer.
        tells_cost: whether somebody sees its cost. Otherwise the cost may stay unknown here; `Purse` has it.
    """

    started: float
    tells_cost: bool = True
    deadline_at: float | None = None
    account: Account = field(default_factory=Account)
    attempt: Attempt = field(default_factory=Attempt)
    unfit: Unfit = field(default_factory=Unfit)
    last_error: Exception | None = None
    numbers: Callable[[], int] | None = None
    permit: Permit | None = None
    money: Money | None = None
    passage: Passage | None = None
    trouble: Trouble | None = None
    refusals: int = 0
    failures: list[FailedAttempt] | None = None
    notes: AttemptNotes | None = None
    journal: Journal | None = None
    flex: Flex | None = None
    aside: Callable[[], None] | None = None
    sink: StreamSink | None = None

    @property
    def attempts(self) -> int:
        """How often the call was tried; for subscribers of events."""
        return self.account.attempts

    @property
    def cost(self) -> float | None:
        """US dollars for all attempts; None if unknown; for subscribers of events."""
        return self.account.cost

    @property
    def waits(self) -> Mapping[str, float]:
        """Seconds by cause, see `flatout.events.WAITS`; for subscribers of events."""
        return self.account.waits

    @property
    def trail(self) -> tuple[Leg, ...]:
        """The targets so far; see `flatout.values.Result`."""
        return self.passage.trail if self.passage is not None else ()

    def give_back(self) -> None:
        """Give back the permit, before a layer above the limiter waits or refuses; the limiter then takes another."""
        permit, self.permit = self.permit, None
        if permit is not None:
            permit.queue.give_back(permit)

    def number(self) -> int:
        """The number of the attempt that begins now, from 1."""
        return self.account.attempts + 1 if self.numbers is None else self.numbers()

    def went(self, target: str, attempts: int, cost: float | None, reply: Reply | None, left: str = "") -> None:
        """Note what was done at a target, if there was a choice of targets.

        Args:
            target: its name.
            attempts: of the call, before.
            cost: of the call, before.
            reply: the answer, usable or not.
            left: see `flatout.values.route.Leg`.
        """
        passage, account = self.passage, self.account
        if passage is None:
            return
        spent = None if account.cost is None or cost is None else account.cost - cost
        usage = reply.usage if reply is not None else _UNKNOWN
        passage.note(Leg(target, left, account.attempts - attempts, spent, usage.input_tokens, usage.output_tokens))

    def beside(self, permit: Permit) -> Journey:
        """The journey of a second attempt of this call, while the first one is in flight; `join` ends it."""
        self.numbers = self.numbers or count(self.attempts + 1).__next__
        return Journey(
            self.started,
            tells_cost=self.tells_cost,
            deadline_at=self.deadline_at,
            numbers=self.numbers,
            permit=permit,
            passage=Passage(),
            notes=self.notes,
        )

    def join(self, beside: Journey) -> None:
        """Add what a second attempt has collected; both have ended."""
        self.account.add(beside.account)
        if self.passage is not None and beside.passage is not None:
            self.passage.join(beside.passage)
            if beside.trail and not beside.trail[-1].left:
                mine, other = self.attempt, beside.attempt
                mine.target, mine.seconds, mine.first_chunk = other.target, other.seconds, other.first_chunk

    @property
    def sent_back(self) -> bool:
        """Whether its last attempt had its turn in vain: it came too fast, or its target was in trouble."""
        return isinstance(self.last_error, RateLimited) or (self.trouble is not None and self.trouble.excused)

    @property
    def delivered(self) -> bool:
        """Whether the caller has seen some of the answer's text."""
        return self.sink is not None and self.sink.delivered

    def failed(self, error: CallError) -> None:
        """Note that an attempt failed, with the model's answer if there was one."""
        self.last_error = error
        if error.reply is not None:
            self.unfit.last = error.reply
            if isinstance(error, OutputError):
                self.unfit.unread += (error.reply,)


_journey: ContextVar[Journey] = ContextVar("flatout_journey")
current_journey = _journey.get
set_journey = _journey.set
reset_journey = _journey.reset
