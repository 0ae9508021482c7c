"""The money of a run's batches: what they have cost and saved, and what the open ones may still cost.

A batch is paid for as a whole, whatever its answers are like, so its money is set aside before it is submitted. What is
set aside stands in the run file, committed no later than the batch itself: the next process of the run goes on with it,
and a budget that processes share has already lent it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct, field

from flatout.money.prices import Prices
from flatout.money.purse import Purse
from flatout.policies.batches import Bound, Learnt, learn
from flatout.policies.pacing.tokens import most_input, most_output
from flatout.providers import unasked_tokens
from flatout.store.ledger import MONEY, LedgerReader
from flatout.values import Call, Target, Usage

from .replay import TIER, Bill

if TYPE_CHECKING:
    from flatout.stack import Stack
    from flatout.store import RunFile


class Paid(Struct):
    """What the answers of a batch have cost, in US dollars.

    Attributes:
        cost: as far as it is known.
        saved: how much less that is than the live price; as far as it is known.
        unknown: rows of unknown cost.
    """

    cost: float = 0.0
    saved: float = 0.0
    unknown: int = 0

    @classmethod
    def of(cls, bill: Bill) -> Paid:
        """What the answers to one row have cost."""
        return cls(bill.cost or 0.0, bill.saved, int(bill.cost is None))

    def add(self, other: Paid) -> None:
        """Add what other answers have cost."""
        self.cost += other.cost
        self.saved += other.saved
        self.unknown += other.unknown


class Aside(Struct, frozen=True):
    """The money that is set aside for a batch.

    Attributes:
        usd: US dollars, for all its rows.
        rows: how many these are.
        at: since when; Unix time.
    """

    usd: float
    rows: int
    at: float


class Record(Struct):
    """What the run file knows of the money of its batches.

    Attributes:
        paid: by the batch's number.
        aside: by the batch's number.
        learnt: what rows cost, by their kind.
        scope: the name of the shared budget that has lent what is set aside; "" for none.
        unread: what answers have cost that are here, but stand not among the items yet; by the batch's number.
    """

    paid: dict[int, Paid] = field(default_factory=dict)
    aside: dict[int, Aside] = field(default_factory=dict)
    learnt: dict[str, Learnt] = field(default_factory=dict)
    scope: str = ""
    unread: dict[int, Paid] = field(default_factory=dict)

    @classmethod
    def of(cls, fact: Any) -> Record:
        """The record in a run file; an empty one if it is missing or damaged."""
        try:
            return msgspec.convert(fact, cls, strict=False)
        except msgspec.ValidationError:
            return cls()

    def held(self, counts: Mapping[int, Mapping[Any, int]]) -> dict[int, float]:
        """What is still set aside, by the batch's number: for rows that a provider may have, and for unread answers.

        Args:
            counts: the rows of each batch by state.
        """
        found = {}
        for number, aside in self.aside.items():
            states = counts.get(number, {})
            if rows := states.get("sent", 0) + states.get("answered", 0):
                found[number] = aside.usd * min(1.0, rows / aside.rows)
        return found

    def of_batch(self, number: int) -> Paid:
        """What a batch has cost so far."""
        return _sum(each[number] for each in (self.paid, self.unread) if number in each)

    def whole(self) -> Paid:
        """What all batches have cost together."""
        return _sum([*self.paid.values(), self.all_unread()])

    def all_unread(self) -> Paid:
        """What those answers have cost that stand not among the items yet."""
        return _sum(self.unread.values())


def _sum(parts: Iterable[Paid]) -> Paid:
    whole = Paid()
    for each in parts:
        whole.add(each)
    return whole


class Money:
    """Keeps a run's batches to its budget, and adds up what they cost.

    Args:
        purse: the client's.
        prices: the price list.
        record: what the run file knows.
        save: stores the record in the run file, no later than what is written there afterwards.

    Attributes:
        record: see above.
        short: rows of this pass for which no money is left.
        need: US dollars that the first of them needs.
    """

    def __init__(self, purse: Purse, prices: Prices, record: Record, save: Callable[[Record], None]) -> None:
        self._purse = purse
        self._run = ""
        self._prices = prices
        self._save = save
        self._filling: dict[Bound, float] = {}  # what is set aside for batches that are being packed
        self._held: dict[int, float] = {}  # by batch: what is still set aside
        self._elsewhen: set[int] = set()  # batches whose money is of another day or month
        self._longest: dict[str, int] = {}
        self._freed = False
        self._blind = False  # rows stand in batches that were submitted without a budget
        self.record = record
        self.short = 0
        self.need = 0.0

    @classmethod
    def of(cls, stack: Stack, store: RunFile) -> Money:
        """The money of a run file's batches."""
        record = Record.of(store.fact(MONEY))
        return cls(stack.purse, stack.prices, record, partial(store.set_fact, MONEY))

    @property
    def may_come(self) -> bool:
        """Whether there is more money than when rows were found to have none."""
        return self._freed and self.short > 0

    async def begin(self, ledger: LedgerReader) -> None:
        """Go on with what earlier processes have set aside."""
        if self._purse.budget is None:
            return
        self._run, budget = ledger.run, self._purse.budget
        scope = f"{budget.per} {budget.shared}" if budget.shared else ""
        self._count(await asyncio.to_thread(ledger.counts))
        if scope and scope == self.record.scope and not self._purse.holds_for(self._run):
            for number, usd in self._held.items():
                if not await self._purse.take_over(usd, self.record.aside[number].at):
                    self._elsewhen.add(number)
        self.record.scope = scope
        self._set_aside()

    async def walks(self, ledger: LedgerReader) -> None:
        """A pass over the rows begins."""
        self.short, self._freed = 0, False
        self.record.unread.clear()  # they are kept in this pass, and counted there
        self._filling.clear()
        if self._purse.budget is not None:
            before = self._held
            self._count(await asyncio.to_thread(ledger.counts))
            for number in self._elsewhen & before.keys():
                self._purse.forgo(max(0.0, before[number] - self._held.get(number, 0.0)))
            self._set_aside()

    def waits(self) -> bool:
        """Whether a row has to wait because one before it found no money left: first come, first served."""
        self.short += self.short > 0
        return self.short > 0

    async def takes(self, target: Target, call: Call, bound: Bound, paid: float) -> bool:
        """Whether one more row may stand in a batch: then its money is set aside.

        Args:
            target: where the batch goes.
            call: what the row asks.
            bound: of the rows in the batch so far.
            paid: what earlier answers to the row have cost.
        """
        if self._purse.budget is None:
            return True
        kind, worst = self._kind(target, call), self._worst(target, call)
        more = bound.usd(self.record.learnt, kind, worst, paid) - bound.usd(self.record.learnt)
        if self._blind or not await self._purse.covers(more):
            self.short, self.need, self._freed = 1, more, False
            return False
        bound.add(kind, worst, paid)
        self._filling[bound] = self._filling.get(bound, 0.0) + more
        self._set_aside()
        return True

    def submits(self, number: int, rows: int, bound: Bound, at: float) -> None:
        """A batch is about to be submitted."""
        if self._purse.budget is None:
            return
        usd = self._held[number] = self._filling.pop(bound, 0.0)
        self.record.aside[number] = Aside(usd, rows, at)
        self._save(self.record)
        self._set_aside()

    def unpacks(self, bound: Bound) -> None:
        """Rows that were packed are not submitted."""
        if self._filling.pop(bound, None) is not None:
            self._freed = True
            self._set_aside()

    def takes_back(self, number: int) -> None:
        """A batch was not run, or a process has given it up."""
        if self._held.pop(number, None) is not None:
            self.record.aside.pop(number, None)
            self._freed = True
            self._set_aside()

    def settles(self, number: int | None, target: Target, call: Call, bill: Bill) -> None:
        """A row has its result.

        Args:
            number: the batch that it stood in.
            target: where that was.
            call: what the row asks.
            bill: what all its answers have cost together.
        """
        if not bill.answers:
            return
        if number is not None:
            self.bills(number, bill)
        self._freed = True
        if self._purse.budget is None:
            return
        self._longest[target.name] = max(self._longest.get(target.name, 0), bill.longest)
        worst = self._worst(target, call)
        if bill.cost is not None and worst > 0.0:
            learn(self.record.learnt, self._kind(target, call), bill.cost / bill.answers / worst)
        if number is not None:
            self.leaves(number, bill.cost or 0.0)

    def bills(self, number: int, bill: Bill) -> None:
        """Add what a row's answers have cost to the money of its batch."""
        if bill.answers:
            paid = self.record.paid.get(number)
            if paid is None:
                paid = self.record.paid[number] = Paid()
            paid.cost += bill.cost or 0.0
            paid.saved += bill.saved
            paid.unknown += bill.cost is None

    def leaves_unread(self, unread: dict[int, Paid]) -> None:
        """Answers have come that wait for their rows."""
        self.record.unread = unread
        self._save(self.record)

    def leaves(self, number: int, cost: float = 0.0) -> None:
        """A row has left its batch: its part of what is set aside is free."""
        aside = self.record.aside.get(number)
        if aside is None or number not in self._held:
            return
        part = min(self._held[number], aside.usd / aside.rows)
        self._held[number] -= part
        self._freed = True
        if number in self._elsewhen:
            self._purse.forgo(max(0.0, part - cost))
        self._set_aside()

    def save(self) -> None:
        """Store what is known now in the run file."""
        if self.record != Record():
            self._save(self.record)

    def _count(self, counts: Mapping[int, Mapping[Any, int]]) -> None:
        """Take from the ledger what is still set aside: for rows that a provider may have, and unread answers."""
        under_way = {number for number, states in counts.items() if states.get("sent") or states.get("answered")}
        self._blind = bool(under_way - self.record.aside.keys())
        self._held = self.record.held(counts)
        for number in self.record.aside.keys() - self._held.keys():
            del self.record.aside[number]

    def _set_aside(self) -> None:
        self._purse.set_aside(self._run, sum(self._held.values()) + sum(self._filling.values()))

    def _kind(self, target: Target, call: Call) -> str:
        """Rows of one kind cost about the same share of their worst case; see `flatout.layers.budget`."""
        shape = (call.max_tokens, call.output is None, call.reasoning_effort, most_input(call).bit_length())
        return f"{target.name} {shape}"

    def _worst(self, target: Target, call: Call) -> float:
        """The most that a row may cost. Only without a price is it 0, which the user has allowed then."""
        cap = None
        if call.max_tokens is None and (cap := unasked_tokens(target)(call)) is None:
            cap = self._prices.context(target)
        usage = Usage(
            input_tokens=most_input(call), output_tokens=most_output(call, self._longest.get(target.name, 0), cap)
        )
        return self._prices.cost(target, usage, service_tier=TIER) or 0.0
