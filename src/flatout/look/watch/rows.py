"""The screen of rows: all of them, or those that match, in the order of the input or by a figure."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, cast

from msgspec.structs import replace
from rich.text import Text
from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.css.query import NoMatches
from textual.screen import Screen
from textual.widgets import Footer, Input, Static

from flatout.errors import FlatoutError
from flatout.store.browse import Figure, Kind, Wanted

from .pages import MOST_ORDERED, Pages
from .table import RowsTable, heading
from .words import line

if TYPE_CHECKING:
    from .app import Watch

ORDERS: tuple[Figure | None, ...] = (None, "provider", "seconds", "cost", "attempts")
"""The orders, one after the other; None for that of the input."""

_ORDER_WORDS = {
    "provider": "the provider's seconds",
    "seconds": "seconds in all",
    "cost": "cost",
    "attempts": "attempts",
}
_KIND_WORDS = {
    "all": "all rows",
    "failed": "rows without an answer",
    "truncated": "answers cut off at the token limit",
    "mismatch": "answers that do not fit the schema",
}
_ASKED = {
    "search": "search in ids, questions, answers and errors",
    "column": "name=value of a column of the input, or of a field of the answer",
    "go": "number of a row",
}
_AGAIN = 2.0
"""Seconds between two looks for new rows."""


class RowsScreen(Screen[None]):
    """The rows.

    Args:
        kind: which rows to begin with.
        by: their order.
        asks: what to ask for at once: ``search`` or ``go``.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back"),
        Binding("slash", "ask('search')", "Search", key_display="/"),
        Binding("f", "only('failed')", "Failed"),
        Binding("t", "only('truncated')", "Cut"),
        Binding("m", "only('mismatch')", "Misfit"),
        Binding("c", "ask('column')", "Column"),
        Binding("o", "order", "Order"),
        Binding("g", "ask('go')", "Go"),
        Binding("a", "all", "All", show=False),
    ]

    def __init__(self, *, kind: Kind = "all", by: Figure | None = None, asks: str | None = None) -> None:
        super().__init__()
        self.wanted = Wanted(kind=kind)
        self.by = by
        self._asks = asks
        self._asked = "search"
        self._note = ""
        self._shown: dict[str, Text] = {}
        self._search = 0  # the number of the latest search

    def compose(self) -> ComposeResult:
        self._pages = Pages(cast("Watch", self.app).place)
        self.table = RowsTable(self._pages)
        yield Static(id="state")
        yield Input(id="asked")
        yield Static(id="heading")
        yield self.table
        yield Footer(compact=True)

    def on_mount(self) -> None:
        self.table.focus()
        self._count_again_and_again()
        self._look_up()
        if self._asks is not None:
            self.action_ask(self._asks)

    def on_resize(self, event: events.Resize) -> None:
        """Draw in the new width."""
        self._present()

    # Keys

    def action_back(self) -> None:
        """Leave the question, or the search, or the screen."""
        if self.query_one("#asked").has_class("shown"):
            self._hide()
        elif self.wanted != Wanted() or self.by is not None:
            self.action_all()
        else:
            self.app.pop_screen()

    def action_ask(self, what: str) -> None:
        """Ask for the words of a search, a column's value, or a number."""
        self._asked = what
        asked = self.query_one("#asked", Input)
        asked.placeholder, asked.value = _ASKED[what], ""
        asked.add_class("shown")
        asked.focus()

    def action_only(self, kind: Kind) -> None:
        """Show one kind of rows, or all again."""
        self.wanted = replace(self.wanted, kind="all" if self.wanted.kind == kind else kind)
        self._look_up()

    def action_order(self) -> None:
        """Take the next order."""
        self.by = ORDERS[(ORDERS.index(self.by) + 1) % len(ORDERS)]
        self._look_up()

    def action_all(self) -> None:
        """Show all rows in order."""
        index = self._pages.index_at(self.table.cursor) if self._pages.size else 0
        self.wanted, self.by = Wanted(), None
        self._look_up()
        self.table.go_to(index)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Do what was asked for."""
        text = event.value.strip()
        self._hide()
        if self._asked == "search":
            self.wanted = replace(self.wanted, text=text or None)
        elif self._asked == "column":
            column, sign, value = text.partition("=")
            if text and not sign:
                self._tell("a column's value is asked for as name=value")
                return
            given = (column.strip(), value.strip()) if sign else (None, None)
            self.wanted = replace(self.wanted, column=given[0], value=given[1])
        else:
            self._go_to(text)
            return
        self._look_up()

    def on_rows_table_opened(self, event: RowsTable.Opened) -> None:
        """Show one row."""
        from .row import RowScreen

        self.app.push_screen(RowScreen(self._pages, event.place), self._came_back)

    def _came_back(self, place: int | None) -> None:
        if place is not None:
            self.table.go_to(place)

    def on_rows_table_troubled(self, event: RowsTable.Troubled) -> None:
        """Say why rows cannot be shown."""
        self._tell(event.text)

    def _go_to(self, text: str) -> None:
        number = text.replace(",", "")
        place = self._pages.place_of(int(number) - 1) if number.isdecimal() and len(number) < 19 else None
        if place is None:
            self._tell(f"there is no row {text} in this list")
        else:
            self.table.go_to(place)
            self._tell("")

    def _hide(self) -> None:
        self.query_one("#asked").remove_class("shown")
        self.table.focus()

    # What is shown

    def _look_up(self) -> None:
        """Make the list anew: all rows, or those that match."""
        self._search += 1
        self._note = ""
        if self.wanted == Wanted() and self.by is None:
            self._pages.everything()
            self._present()
            self.table.resized()
        else:
            self.table.cursor = 0
            self._find(self._search)

    @work(name="search")
    async def _find(self, number: int) -> None:
        """Search, and show what was found so far."""
        self._tell("searching …")
        steps = self._pages.search(self.wanted, self.by)
        try:
            while await asyncio.to_thread(_step, steps) is not None:
                if number != self._search:
                    return
                self.table.resized()
                self._tell("searching …")
        except FlatoutError as error:
            self._tell(str(error))
            return
        if number == self._search:
            self._tell("")
            self.table.resized()

    @work(name="count")
    async def _count_again_and_again(self) -> None:
        """Look for new rows while the screen is there."""
        while True:
            try:
                await asyncio.to_thread(self._pages.count)
                self._present()
                self.table.renew()
            except FlatoutError as error:
                self._tell(str(error))
            await asyncio.sleep(_AGAIN)

    def _tell(self, note: str) -> None:
        self._note = note
        self._present()

    def _present(self) -> None:
        width = max(20, self.app.size.width - 2)
        parts = [f"{self._pages.size:,} {_KIND_WORDS[self.wanted.kind]}"]
        if self.wanted.text is not None:
            parts.append(f"with “{line(self.wanted.text, 40)}”")
        if self.wanted.column is not None:
            parts.append(f"with {line(self.wanted.column, 30)} = {line(self.wanted.value or '', 30)}")
        if self.by is not None:
            parts.append(f"by {_ORDER_WORDS[self.by]}, highest first")
            if self._pages.size == MOST_ORDERED:
                parts.append(f"the first {MOST_ORDERED:,}")
        text = Text(", ".join(parts), style="bold")
        if self._note:
            text.append(f"  {line(self._note)}", style="not bold yellow")
        shown = {"#state": text, "#heading": Text(heading(width), style="dim")}
        with suppress(NoMatches):  # the screen is being built, or taken down
            for name in [each for each in shown if self._shown.get(each) != shown[each]]:
                self.query_one(name, Static).update(shown[name])
                self._shown[name] = shown[name]


def _step(steps: Iterator[int]) -> int | None:
    return next(steps, None)
