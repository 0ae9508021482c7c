"""Progress in a notebook: HTML below the cell, updated in place, which stays in the saved notebook.

IPython is there if the program is a notebook's kernel. Otherwise flatout does not need it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from flatout.text.html import escaped
from flatout.text.visible import visible

from ._counters import Progress
from ._line import Ways, at_rest, how_far, how_fast, last_facts, state
from ._pace import Pace

SECONDS = 0.5
"""Seconds between two updates."""


class Card:
    """What a notebook shows: a bar, and two lines of text.

    Args:
        share: the finished share, 0 to 1; None if it is unknown.
        first: the first line.
        second: the second line.
    """

    def __init__(self, share: float | None, first: str, second: str) -> None:
        self._share = share
        self._first = first
        self._second = second

    def _repr_html_(self) -> str:
        style = "width: 16em; margin-right: 0.7em; vertical-align: middle"
        bar = "" if self._share is None else f'<progress value="{self._share:.4f}" style="{style}"></progress>'
        return f"<div>{bar}{escaped(self._first)}<br><small>{escaped(self._second)}</small></div>"

    def __repr__(self) -> str:
        return visible(" · ".join(filter(None, (self._first, self._second))))


class NotebookCard:
    """Shows progress below the cell that began it.

    Args:
        ways: what the user can do.
    """

    seconds = SECONDS

    def __init__(self, ways: Ways) -> None:
        self._ways = ways
        self._pace = Pace()
        self._handle: Any = None

    async def show(self, progress: Progress) -> None:
        """Show the current numbers, or update them."""
        first = [how_far(progress), *how_fast(progress, self._pace.look(progress))]
        await self._put(progress, first, state(progress, self._ways))

    async def end(self, progress: Progress) -> None:
        """Show the last numbers. They stay."""
        await self._put(progress, last_facts(progress), state(at_rest(progress), self._ways))

    async def _put(self, progress: Progress, first: list[str], second: list[str]) -> None:
        share = None if not progress.total else min(1.0, progress.finished / progress.total)
        card = Card(share, " · ".join(first), " · ".join(second))
        if self._handle is None:
            self._handle = import_module("IPython.display").display(card, display_id=True)
        else:
            self._handle.update(card)
