"""Who may spend how much of a budget that workers on several machines share.

One *pot* holds the budget. A worker borrows from it before it spends, and tells at least every `BEAT` seconds what it
has used: what it has spent, and has reserved for calls in flight. What is lent is never lent twice. So all workers
together never spend more than the budget, however late, lost or doubled a message is.

A worker that is silent for `SILENT` seconds keeps what it has told, and `SPARE` of the budget for what it may have used
after its last word; the rest may be lent again. A worker that gets no answer keeps no more than that from then on. So
both know the same while they cannot speak to each other.

The pot is pure. Where it lives in Redis, `flatout/cluster/money.lua` is this module line by line. If you change one,
change the other; a test compares them.
"""

from __future__ import annotations

import math

from msgspec import Struct

PORTION = 0.02
"""The share of a budget to borrow at a time, if less is needed."""

REST = 0.25
"""The largest share of what is left to borrow at a time, if less is needed: others want to go on, too."""

SPARE = 0.02
"""The share of a budget that a silent worker may have used beyond what it told."""

BEAT = 1.0
"""Seconds between two words of a worker that has borrowed; fewer if it uses more than half of `SPARE` in that time."""

SOON = 0.05
"""Seconds from a loan to the next word, which tells what it is used for; and the fewest between two words."""

SILENT = 10.0
"""Seconds without a word after which the pot takes back what a worker has not used."""

STEP = 1.0
"""Seconds by which a word may be late. If more time has passed for the pot than for the worker, the pot's clock made a
step."""

FORGOTTEN = 3_600.0
"""Seconds without a word after which a worker's name is forgotten; what it kept counts as spent."""


class Ask(Struct, array_like=True, frozen=True):
    """What a worker says. Sums are US dollars, and all of them count from the worker's start.

    Attributes:
        worker: its name.
        about: its name for people.
        number: the number of the message. The pot passes over one that comes after a later one.
        per: what the budget is for: ``run``, ``day`` or ``month``.
        usd: the budget.
        need: the least that it wants to borrow; 0 for nothing.
        lent: what it has borrowed, as it knows.
        used: what it has spent and reserved.
        settled: what it has used in earlier periods, as it knows.
        taken: what it has taken over from processes that ended: that counted as spent.
        taken_at: when that was set aside last, in Unix seconds.
        made: when the pot was made from which it borrowed; 0 if it has not.
        leaves: whether it ends.
        since: seconds since it sent the last message that was answered, by its own clock; -1 if there was none.
        heard: how many messages the pot had heard, as it answered last. A pot that has heard fewer is an old copy.
    """

    worker: str
    about: str
    number: float
    per: str
    usd: float
    need: float = 0.0
    lent: float = 0.0
    used: float = 0.0
    settled: float = 0.0
    taken: float = 0.0
    taken_at: float = 0.0
    made: float = 0.0
    leaves: bool = False
    since: float = -1.0
    heard: float = 0.0


class Granted(Struct, array_like=True, frozen=True):
    """The answer.

    Attributes:
        usd: what the worker is lent now.
        lent: what it has borrowed, with that; less than it knew if it was silent for too long.
        left: what nobody holds.
        settled: what it has used in earlier periods.
        taken: what it has taken over. It is less than asked for if that was set aside in another period.
        made: when the pot was made.
        heard: how many messages it has heard.
    """

    usd: float
    lent: float
    left: float
    settled: float
    taken: float
    made: float
    heard: float = 0.0


class Loan(Struct, array_like=True):
    """What the pot knows of a worker: see `Ask`.

    Attributes:
        seen: when it spoke last; Unix seconds.
        since: when it spoke first.
        spare: what it may have used beyond what it told, if it is silent.
    """

    worker: str
    about: str
    number: float
    seen: float
    since: float
    lent: float
    used: float
    settled: float
    taken: float
    spare: float

    @property
    def held(self) -> float:
        """What it holds of this period's money."""
        return max(self.lent + self.taken, self.used, self.settled) - self.settled

    def is_silent(self, clock: float) -> bool:
        """Whether it has not spoken for so long that it may have ended."""
        return clock - self.seen >= SILENT

    def cut(self) -> None:
        """Take back what it has not used."""
        self.lent = kept_alone(self.lent, self.taken, self.used, self.spare)

    def settle(self, used: float) -> float:
        """Hold nothing, because the worker has ended. Returns what is spent."""
        spent = max(0.0, used - self.settled)
        self.lent = self.used = self.settled = used
        self.taken = 0.0
        return spent


def kept_alone(lent: float, taken: float, used: float, spare: float) -> float:
    """The part of a loan that a worker keeps while it cannot reach the pot."""
    return min(lent, max(0.0, used + spare - taken))


class Borrowing:
    """What a worker has borrowed, as it knows; see `Ask`.

    Args:
        worker: its name.
        about: its name for people.
        per: what the budget is for.
        usd: the budget.
    """

    def __init__(self, worker: str, about: str, per: str, usd: float) -> None:
        self.worker = worker
        self.about = about
        self.per = per
        self.usd = usd
        self.lent = self.made = 0.0
        self._settled = self._taken = 0.0
        self._heard = 0.0
        self._told = 0.0  # what it had used, as the pot heard last
        self._grew = 0.0  # by how much that was more than before
        self._number = 0.0

    def ask(
        self, used: float, *, need: float = 0.0, more: float = 0.0, more_at: float = 0.0, leaves: bool = False
    ) -> Ask:
        """The next message.

        Args:
            used: what is spent and reserved.
            need: the least to borrow.
            more: what to take over.
            more_at: when that was set aside, in Unix seconds.
            leaves: whether the worker ends.
        """
        self._number += 1.0
        return Ask(
            worker=self.worker,
            about=self.about,
            number=self._number,
            per=self.per,
            usd=self.usd,
            need=need,
            lent=self.lent,
            used=used,
            settled=self._settled,
            taken=self._taken + more,
            taken_at=more_at,
            made=self.made,
            leaves=leaves,
            heard=self._heard,
        )

    def hear(self, ask: Ask, granted: Granted) -> float:
        """Hear the answer. Returns how much was taken back of what was lent before."""
        lost = self.lent + granted.usd - granted.lent
        self._grew, self._told = ask.used - self._told, ask.used
        self.lent, self._settled, self.made = granted.lent, granted.settled, granted.made
        self._heard = granted.heard
        if granted.taken >= ask.taken:
            self._taken = ask.taken
        if ask.leaves:  # what may be borrowed later is another loan
            self.lent, self._settled, self._taken, self.made = ask.used, ask.used, 0.0, 0.0
        return lost

    def rests(self, since: float) -> float:
        """Seconds until the next word, if the last two were this many seconds apart."""
        most = SPARE * self.usd / 2.0
        return BEAT if self._grew * BEAT <= most * since else max(SOON, most * since / self._grew)

    def cut(self) -> float:
        """Give up what is not used, because the pot does not answer. Returns how much that is."""
        kept = kept_alone(self.lent, self._taken, self._told, SPARE * self.usd)
        lost, self.lent = self.lent - kept, kept
        return lost


class Pot(Struct, array_like=True):
    """A budget.

    Attributes:
        made: when it was made, or first known to be an old copy, in Unix seconds.
        period: the number of the day or the month, by UTC.
        usd: its amount, as it was told last.
        spent: what is spent for good in this period.
        loans: what each worker has; nothing, for `SILENT` seconds after it has ended.
        heard: how many messages it has heard.
    """

    made: float = 0.0
    period: float = 0.0
    usd: float = 0.0
    spent: float = 0.0
    loans: list[Loan] = []
    heard: float = 0.0

    def exchange(self, clock: float, ask: Ask) -> Granted:
        """Hear a worker, and lend it what it needs if there is as much.

        Args:
            clock: the pot's clock, in Unix seconds.
            ask: what the worker says.
        """
        if ask.made == self.made and ask.heard > self.heard:  # what came after the copy is lost, as in a new pot
            self.made = clock
        self._follow(clock, ask)
        self.turn(clock, ask.per)
        self.usd = ask.usd
        loan, usd = self._loan(ask, clock), 0.0
        if ask.number > loan.number:
            self.heard += 1.0
            self._hear(loan, ask, clock)
            left = ask.usd - self.held()
            if 0.0 < ask.need <= left:
                usd = max(ask.need, min(PORTION * ask.usd, REST * left))
                loan.lent += usd
            if ask.leaves:
                self.spent += loan.settle(ask.used)  # it stays for a while: its number tells what comes late
        return Granted(usd, loan.lent, ask.usd - self.held(), loan.settled, loan.taken, self.made, self.heard)

    def _follow(self, clock: float, ask: Ask) -> None:
        """Follow a step ahead of the clock, if the worker's own clock tells of one: nobody was silent meanwhile.

        A worker that the pot does not know cannot tell. So its first word after a step still makes the others silent.
        """
        loan = self._of(ask.worker)
        if loan is not None and ask.number > loan.number and ask.since >= 0.0:
            step = clock - loan.seen - ask.since
            if step > STEP:
                for each in self.loans:
                    each.seen = min(clock, each.seen + step)

    def turn(self, clock: float, per: str) -> None:
        """Begin a new period if it is time, and take back what silent workers have not used."""
        if self.made == 0.0:
            self.made = clock
        period = period_of(per, clock)
        if period > self.period:
            self.period, self.spent = period, 0.0
            self.loans = [loan for loan in self.loans if not loan.is_silent(clock)]
            for loan in self.loans:
                loan.settled = loan.used
        for loan in self.loans:
            if loan.is_silent(clock):
                loan.cut()
        for loan in self.loans:
            if clock - loan.seen >= FORGOTTEN:
                self.spent += loan.held
        self.loans = [loan for loan in self.loans if clock - loan.seen < (FORGOTTEN if loan.held else SILENT)]

    def held(self) -> float:
        """What is spent and lent in this period."""
        held = self.spent
        for loan in self.loans:
            held += loan.held
        return held

    def take_back(self, clock: float, per: str, worker: str, spent: float) -> bool:
        """Settle the loan of a worker that has ended, and has spent this much at most. False while it may live."""
        self.turn(clock, per)
        loan = self._of(worker)
        if loan is not None and not loan.is_silent(clock):
            return False
        if loan is not None:
            self.spent += loan.settle(min(spent, loan.settled + loan.held))
        return True

    def mend(self, clock: float, per: str, spent: float) -> None:
        """Set what is spent in this period, and forget workers that may have ended."""
        self.turn(clock, per)
        self.spent = spent
        self.loans = [loan for loan in self.loans if not loan.is_silent(clock)]

    def _loan(self, ask: Ask, clock: float) -> Loan:
        """What the pot knows of the worker, or what the worker tells if the pot does not know it."""
        loan = self._of(ask.worker)
        if loan is None:
            lent, settled, taken = ask.lent, ask.settled, 0.0
            if ask.made == self.made:  # it was forgotten, and what it had counts as spent
                lent, settled = ask.used, ask.used
            elif ask.made > 0.0:  # this pot is a new one: the old one is lost
                taken = ask.taken
            loan = Loan(ask.worker, ask.about, 0.0, clock, clock, lent, ask.used, settled, taken, 0.0)
            self.loans.append(loan)
        return loan

    def _hear(self, loan: Loan, ask: Ask, clock: float) -> None:
        loan.number, loan.seen = ask.number, clock
        loan.lent = min(loan.lent, ask.lent)  # an answer that was lost has lent nothing
        loan.used, loan.spare = ask.used, SPARE * ask.usd
        if ask.taken > loan.taken and period_of(ask.per, ask.taken_at) == self.period:
            self.spent -= ask.taken - loan.taken
            loan.taken = ask.taken

    def _of(self, worker: str) -> Loan | None:
        return next((loan for loan in self.loans if loan.worker == worker), None)


def period_of(per: str, at: float) -> float:
    """The number of a time's day or month, by UTC; 0 for a run.

    The month is that of Howard Hinnant's ``civil_from_days``, which needs no calendar.
    """
    if per == "run":
        return 0.0
    day = math.floor(at / 86_400)
    if per == "day":
        return float(day)
    days = day + 719_468  # from 1 March of the year 0
    era = math.floor(days / 146_097)
    of_era = days - era * 146_097
    year = math.floor(
        (of_era - math.floor(of_era / 1_460) + math.floor(of_era / 36_524) - math.floor(of_era / 146_096)) / 365
    )
    of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
    months = math.floor((5 * of_year + 2) / 153)  # from March
    return float((era * 400 + year) * 12 + months + 2)
