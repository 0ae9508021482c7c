"""The rows that a worker has, and what the parent remembers of them until their answers are in the run file."""

from __future__ import annotations

from typing import Any

from flatout.runs.work import Work
from flatout.store import Item

from .remote import OWN

STATE = Item.__struct_fields__.index("state")
"""The place of the state among the values of an Item."""

COST = Item.__struct_fields__.index("cost")
"""The place of the cost."""

MOST_DEATHS = 3
"""Workers that may die over one row."""


class Given:
    """One row that a worker has.

    Attributes:
        work: the row.
        tries: the attempts that were noted and may have been paid for, with their estimated cost; by their numbers.
        deaths: how many workers died while they had it.
    """

    __slots__ = ("deaths", "tries", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.tries: dict[int, float | None] = {}
        self.deaths = 0

    def complete(self, values: list[Any], *, keep_prompts: bool) -> tuple[Any, ...]:
        """The values of the row's Item, from those that the worker has sent."""
        work = self.work
        mine = [work.fingerprint, work.kept, work.made] if keep_prompts else [work.fingerprint, None, None]
        values[OWN] = mine
        return tuple(values)
