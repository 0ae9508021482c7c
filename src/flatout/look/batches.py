"""The batches of a run: how they stand, what they cost, and what the user can do, from the run file alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from flatout.lanes.batch.money import Record
from flatout.lanes.past import Past, learnt_of_name, recalled
from flatout.lanes.standing import done_rows, state_of, states
from flatout.lanes.within import LEAVES
from flatout.store import RunReader
from flatout.store.ledger import MONEY, Batch, BatchRow, Seen
from flatout.text import figures

from .view import clock


class BatchCounts(Struct, frozen=True):
    """The batches of a run and their money.

    Attributes:
        open: how many providers have, or may have.
        rows: the rows in those.
        all: how many there ever were.
        oldest: when the oldest open one was made; Unix time.
        done: how many of those rows the providers say are finished.
        states: how the open ones are, in the providers' words, which may hold anything: ``2 validating``.
        seen_at: when the providers said so; Unix time; None if they have not.
        targets: where the open ones are.
        past: how long past batches there took, in words; "" if nobody knows.
        leaves_at: when rows go on to a faster lane, because they would not be in time; Unix time; None for never.
        answers: answers that are here, and are kept, and written, when the run continues.
        cost: US dollars that all of them are known to have cost, those answers included.
        saved: US dollars less than the live lane would have cost.
        unknown_costs: how many rows cost an unknown amount.
        unread: US dollars of ``cost`` that those answers are known to have cost.
        unread_unknown: how many of them cost an unknown amount.
    """

    open: int
    rows: int
    all: int
    oldest: float | None = None
    done: int = 0
    states: str = ""
    seen_at: float | None = None
    targets: tuple[str, ...] = ()
    past: str = ""
    leaves_at: float | None = None
    answers: int = 0
    cost: float = 0.0
    saved: float = 0.0
    unknown_costs: int = 0
    unread: float = 0.0
    unread_unknown: int = 0


def batches_of(reader: RunReader) -> BatchCounts | None:
    """The batches of a run; None if there never was one."""
    ledger = reader.ledger
    batches = [] if ledger is None else ledger.batches()
    if ledger is None or not batches:
        return None
    under_way, seen = [batch for batch in batches if batch.state in ("intended", "open")], ledger.seen()
    record = Record.of(reader.fact(MONEY))
    paid, unread, leaves = record.whole(), record.all_unread(), reader.fact(LEAVES)
    return BatchCounts(
        open=len(under_way),
        rows=sum(batch.rows for batch in under_way),
        all=len(batches),
        oldest=min((batch.intended_at for batch in under_way), default=None),
        done=done_rows(under_way, seen),
        states=states((batch, seen.get(batch.number)) for batch in under_way),
        seen_at=min((seen[batch.number].at for batch in under_way if batch.number in seen), default=None),
        targets=tuple(sorted({batch.target for batch in under_way})),
        past=_past(under_way, batches),
        leaves_at=float(leaves) if under_way and isinstance(leaves, int | float) and math.isfinite(leaves) else None,
        answers=ledger.answers() if ledger.has_results() else 0,
        cost=paid.cost,
        saved=paid.saved,
        unknown_costs=paid.unknown,
        unread=unread.cost,
        unread_unknown=unread.unknown,
    )


def _past(under_way: Sequence[Batch], batches: Sequence[Batch]) -> str:
    """How long past batches of the first open batch's target took, in words: the user's, or else this file's."""
    if not under_way:
        return ""
    target = under_way[0].target
    own = [
        Past(each.target, each.rows, each.ended_at - each.intended_at, each.ended_at)
        for each in batches
        if each.state == "ended" and each.ended_at is not None
    ]
    return learnt_of_name(recalled(), target) or learnt_of_name(own, target)


def standing(counts: BatchCounts, now: float) -> str:
    """How the batches stand: ``1 of 4 open, with 200 rows: in progress, 12 min old; 40 answers to keep``."""
    parts = []
    if counts.open:
        of = f" of {figures.count(counts.all)}" if counts.all > counts.open else ""
        age = "" if counts.oldest is None else f", {figures.duration(max(0.0, now - counts.oldest))} old"
        done = f" ({figures.count(counts.done)} done)" if counts.done else ""
        rows = f"{figures.counted(counts.rows, 'row')}{done}"
        parts.append(f"{figures.count(counts.open)}{of} open, with {rows}: {counts.states}{age}")
    else:
        parts.append(f"{figures.counted(counts.all, 'batch')}, none open")
    if counts.answers:
        parts.append(f"{figures.counted(counts.answers, 'answer')} here that the next run keeps")
    if cost := figures.batch_cost(counts.cost, counts.unknown_costs, counts.saved):
        parts.append(cost)
    return "; ".join(parts)


def waiting(counts: BatchCounts, now: float, *, running: bool, command: str | None) -> str:
    """What a run with open batches waits for, in sentences.

    Args:
        counts: its batches.
        now: Unix time.
        running: whether a process looks after them.
        command: the command line that began the run; None for a run of the library.
    """
    one = counts.open == 1
    batches = f"{figures.counted(counts.open, 'batch')} with {figures.counted(counts.rows, 'row')}"
    where = " and ".join(counts.targets[:2]) + (" and others" if len(counts.targets) > 2 else "")
    since = "" if counts.oldest is None else f", {'' if one else 'the oldest '}since {clock(counts.oldest, now)}"
    done = f"{figures.count(counts.done)} rows done" if counts.done else ""
    seen = "" if running or counts.seen_at is None else f"seen {figures.duration(max(0.0, now - counts.seen_at))} ago"
    how = ", ".join(filter(None, (counts.states, done, seen)))
    past = counts.past or "providers promise a day, and often take less"
    text = f"{batches} {'is' if one else 'are'} at {where or 'the provider'}{since}{how and ': '}{how}. "
    return f"{text}{past[:1].upper()}{past[1:]}. {_what_helps(counts, now, running=running, command=command)}"


def _what_helps(counts: BatchCounts, now: float, *, running: bool, command: str | None) -> str:
    if not running:
        return "The same command collects them." if command else "The same call collects them."
    if counts.leaves_at is not None:
        return f"Rows without an answer go on to a faster lane at {clock(counts.leaves_at, now)}."
    return "To have the rest sooner, cancel them (flatout batch cancel) and take --lane live: it costs more."


class RowInBatch(Struct, frozen=True):
    """A row that stands in a batch, or stood in one.

    Attributes:
        batch: the latest.
        row: what became of it.
        seen: what the provider last said of the batch.
    """

    batch: Batch
    row: BatchRow
    seen: Seen | None

    def facts(self) -> dict[str, Any]:
        """The same for programs."""
        batch, row = self.batch, self.row
        return {"number": batch.number, "target": batch.target, "job": batch.job, "row": row.state, "tries": row.tries}

    def in_words(self, now: float) -> str:
        """``in batch 3 of openai/gpt-5-mini (batch_68f2): in progress, 12 min old``. It may hold anything."""
        batch, job = self.batch, f" ({self.batch.job[:60]})" if self.batch.job else ""
        name = f"batch {batch.number} of {batch.target}{job}"
        if self.row.state == "sent":
            return f"in {name}: {state_of(batch, self.seen)}, {figures.duration(max(0.0, now - batch.intended_at))} old"
        return f"stood in {name}{_BECAME.get(self.row.state, '')}"


_BECAME = {
    "answered": ", which has answered it: the next run keeps that",
    "expired": ", which expired before it was run",
    "cancelled": ", which was cancelled before it was run",
    "missing": ", whose results do not mention it",
    "back": ", which was not run",
}


def row_in_batch(reader: RunReader, index: int) -> RowInBatch | None:
    """The batch that a row stands in, or stood in last; None if it never did."""
    ledger = reader.ledger
    row = ledger.row(index) if ledger is not None else None
    if row is None or ledger is None:
        return None
    batch = next(batch for batch in ledger.batches() if batch.number == row.batch)
    return RowInBatch(batch, row, ledger.seen().get(row.batch))
