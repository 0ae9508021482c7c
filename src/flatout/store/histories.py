"""Reads everything that is known about many items at once, for pages that show thousands of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .queries import queries
from .rows import History, Item, Noted, Tried

if TYPE_CHECKING:
    from .reader import RunReader


def histories(reader: RunReader, items: Sequence[Item]) -> list[History]:
    """The histories of some finished items.

    Reads every attempt of the run once, as `RunReader.history` does for each single item.

    Args:
        reader: the run file.
        items: in index order.
    """
    if not items:
        return []
    tried: dict[int, list[Tried]] = {item.index: [] for item in items}
    for row in reader.select(queries("attempts")["tried_among"], (items[0].index, items[-1].index)):
        if row[0] in tried:
            tried[row[0]].append(Tried(*row))
    noted = queries("journal")["noted"] if reader.has_journal() else None
    return [
        History(
            index=item.index,
            item=item,
            attempts=tuple(tried[item.index]),
            journal=tuple(Noted(*row) for row in reader.select(noted, (item.index,))) if noted else (),
        )
        for item in items
    ]
