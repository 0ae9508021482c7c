"""The table of rows: it draws the lines that are on the screen, so a million rows take no more than ten."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events, work
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from flatout.errors import FlatoutError
from flatout.text import figures

from .pages import PAGE, Pages, Row
from .words import line

STATES = {"answered": ("ok", "green"), "failed": ("failed", "red"), "unsent": ("held back", "yellow")}
"""The word and the colour of each state."""

_WIDE = 110
"""Columns from which on there is room for the question."""

_NUMBER, _STATE, _FIGURE, _COST = 9, 10, 10, 12


class RowsTable(ScrollView):
    """The rows of a list, one a line.

    Args:
        pages: the list.
    """

    can_focus = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("k", "move(-1)", show=False),
        Binding("j", "move(1)", show=False),
        Binding("pageup", "leap(-1)", show=False),
        Binding("pagedown,space", "leap(1)", show=False),
        Binding("home", "end(False)", show=False),
        Binding("end", "end(True)", show=False),
        Binding("enter", "open", "Open"),
    ]

    class Opened(Message):
        """A row is to be opened."""

        def __init__(self, place: int) -> None:
            super().__init__()
            self.place = place

    class Troubled(Message):
        """The file could not be read."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, pages: Pages) -> None:
        super().__init__()
        self.cursor = 0
        self._pages = pages
        self._loading = False

    def resized(self) -> None:
        """Take over the number of rows, and draw anew."""
        self.cursor = max(0, min(self.cursor, self._pages.size - 1))
        self.virtual_size = Size(self.size.width, self._pages.size)
        self.refresh()

    def renew(self) -> None:
        """Take over how many rows there are by now, and read those again that may have changed."""
        if self.virtual_size.height != self._pages.size:
            self.resized()
        elif self._missing() is not None:
            self._load_soon()

    def go_to(self, place: int) -> None:
        """Move the cursor to a place, and show it."""
        before, self.cursor = self.cursor, max(0, min(place, self._pages.size - 1))
        height, top = max(1, self.size.height), round(self.scroll_offset.y)
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False)
        elif self.cursor >= top + height:
            self.scroll_to(y=self.cursor - height + 1, animate=False)
        for place in {before, self.cursor}:
            self.refresh_lines(place)

    def on_resize(self, event: events.Resize) -> None:
        """Draw in the new width."""
        self.resized()
        self.go_to(self.cursor)

    def on_click(self, event: events.Click) -> None:
        """Move to a line; a second click opens it."""
        place = event.y + round(self.scroll_offset.y)
        if place < self._pages.size:
            if place == self.cursor:
                self.action_open()
            self.go_to(place)

    def action_move(self, by: int) -> None:
        """Move by lines."""
        self.go_to(self.cursor + by)

    def action_leap(self, by: int) -> None:
        """Move by screens."""
        self.go_to(self.cursor + by * max(1, self.size.height - 1))

    def action_end(self, last: bool) -> None:
        """Move to the first or the last row."""
        self.go_to(self._pages.size - 1 if last else 0)

    def action_open(self) -> None:
        """Open the row of the cursor."""
        if self._pages.size:
            self.post_message(self.Opened(self.cursor))

    def render_line(self, y: int) -> Strip:
        """Draw one line of the screen."""
        width, place = self.scrollable_content_region.width, y + round(self.scroll_offset.y)
        if place >= self._pages.size:
            return Strip.blank(width)
        row = self._pages.at(place)
        if row is None:
            self._load_soon()
            text = Text(f"{self._pages.index_at(place) + 1:>{_NUMBER},}  …", style="dim")
        else:
            text = row_text(row, width)
        text.truncate(width, overflow="ellipsis", pad=True)
        text.no_wrap = True
        if place == self.cursor:
            text.stylize(Style(reverse=True, bold=True))
        segments: list[Segment] = list(text.render(self.app.console))
        return Strip([each for each in segments if each.text != "\n"]).crop_extend(0, width, None)

    def _load_soon(self) -> None:
        if not self._loading:
            self._loading = True
            self._load()

    @work(name="pages")
    async def _load(self) -> None:
        """Read the pages that are on the screen, until all are there."""
        try:
            while (number := self._missing()) is not None:
                if await asyncio.to_thread(self._pages.load, number):
                    self.refresh()
                if self._missing() == number:  # the list became shorter meanwhile
                    break
        except (FlatoutError, IndexError) as error:
            self.post_message(self.Troubled(str(error)))
            await asyncio.sleep(1.0)
        finally:
            self._loading = False

    def _missing(self) -> int | None:
        """A page on the screen that is not in memory, or may have changed."""
        top = round(self.scroll_offset.y)
        for place in self._ends(top):
            if self._pages.must_load(place):
                return place // PAGE
        return None

    def _ends(self, top: int) -> Sequence[int]:
        """The first and the last place on the screen."""
        last = min(self._pages.size, top + max(1, self.size.height)) - 1
        return range(min(top, last), last + 1) if last >= 0 else ()


def heading(width: int) -> str:
    """The names of the columns."""
    names = f"{'row':>{_NUMBER}}  {'':<{_STATE}}{'provider':>{_FIGURE}}{'cost':>{_COST}}  "
    if width < _WIDE:
        return f"{names}answer or error"
    room = _question_room(width)
    return f"{names[:-2]}{'in all':>{_FIGURE}}{'tries':>7}  {'question':<{room}}  answer or error"


def row_text(row: Row, width: int) -> Text:
    """One row as a line."""
    text = Text(f"{row.index + 1:>{_NUMBER},}  ")
    short = row.short
    if short is None:
        return text.append("in flight" if row.in_flight else "·", style="cyan" if row.in_flight else "dim")
    word, colour = STATES[short.state]
    if short.finish_reason == "length" and short.state == "answered":
        word, colour = "cut off", "yellow"
    text.append(f"{word:<{_STATE}}", style=colour)
    text.append(f"{_seconds(short.provider_seconds):>{_FIGURE}}{figures.cost(short.cost, 0):>{_COST}}")
    words = short.words if short.error is None else f"{short.error}: {short.words}"
    name = f"{line(short.id, 20)}  " if short.id else ""
    if width < _WIDE:
        return text.append(f"  {name}").append(line(words, width))
    room = _question_room(width)
    question = Text(name + line(str(short.question), room))
    question.truncate(room, overflow="ellipsis", pad=True)
    text.append(f"{_seconds(short.seconds):>{_FIGURE}}{short.attempts:>7}  ").append_text(question)
    return text.append("  ").append(line(words, width))


def _question_room(width: int) -> int:
    return max(20, (width - 65) * 2 // 5)


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else figures.elapsed(seconds)
