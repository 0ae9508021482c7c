"""What batches leave behind: files at the providers, and answers for which no row was at hand."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from flatout.errors import ConfigError
from flatout.store.ledger import Ledger

from .lane_targets import LaneTargets
from .money import Paid


async def clear(ledger: Ledger, targets: LaneTargets) -> None:
    """Delete the files at the providers whose rows are all in the run file."""
    done = [
        batch
        for batch in await asyncio.to_thread(ledger.batches)
        if batch.state in ("ended", "dropped") and batch.cleared_at is None and batch.all_files
    ]
    if not done:
        return
    unread = await asyncio.to_thread(ledger.unread)
    for name in {batch.target for batch in done}:
        with suppress(ConfigError):  # this client does not know it: another process deletes them
            each = targets.named(name)
            mine = [batch for batch in done if (batch.target, batch.key) == (name, each.desk.target.key)]
            await each.collector.clear([batch for batch in mine if batch.number not in unread])


def unread_answers(ledger: Ledger, targets: LaneTargets) -> tuple[int, dict[int, Paid]]:
    """How many answers are here that no row has been given, and what they cost, by the batch. Blocks on the disk."""
    names = {batch.number: batch.target for batch in ledger.batches()}
    unread: dict[int, Paid] = {}
    answers = 0
    for row in ledger.rows():
        if row.state == "answered":
            answers += 1
            bill = targets.named(names[row.batch]).replay.bill(row.told)
            unread.setdefault(row.batch, Paid()).add(Paid.of(bill))
    return answers, unread
