"""The screen of one row: what was asked, what came back, and what happened on the way."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, cast

import msgspec
from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.css.query import NoMatches
from textual.screen import Screen
from textual.widgets import Footer, Static

from flatout.errors import FlatoutError
from flatout.events import WAITS
from flatout.runs.story.agent import trace_of
from flatout.runs.story.node import as_text
from flatout.runs.story.tree import trace
from flatout.store import History, Item, RunReader
from flatout.text import figures
from flatout.text.redact import redact
from flatout.text.visible import visible, visible_lines

from .pages import Pages
from .table import STATES
from .words import line

if TYPE_CHECKING:
    from .app import Watch

MOST = 20_000
"""Characters of a question or an answer that are shown."""

MOST_NOTE = 240
"""Characters of a line of the tree."""

_AGAIN = 2.0
"""Seconds between two looks at a row that is not finished."""


class RowScreen(Screen[int]):
    """One row. It is dismissed with its place.

    Args:
        pages: the list.
        place: its place in it.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back"),
        Binding("left", "other(-1)", "Before"),
        Binding("right", "other(1)", "Next"),
    ]

    def __init__(self, pages: Pages, place: int) -> None:
        super().__init__()
        self._pages = pages
        self._place = place

    def compose(self) -> ComposeResult:
        yield Static(id="heading")
        with VerticalScroll():
            yield Static(id="story")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()
        self._read()

    def action_back(self) -> None:
        """Return to the list."""
        self.dismiss(self._place)

    def action_other(self, by: int) -> None:
        """Show the row before or after."""
        place = self._place + by
        if 0 <= place < self._pages.size:
            self._place = place
            self.query_one(VerticalScroll).scroll_home(animate=False)
            self._read()

    @work(exclusive=True, name="row")
    async def _read(self) -> None:
        """Show the row, and again while it is not finished."""
        with suppress(NoMatches):  # the screen is being taken down
            await self._read_again_and_again()

    async def _read_again_and_again(self) -> None:
        app = cast("Watch", self.app)
        index = self._pages.index_at(self._place)
        self.query_one("#heading", Static).update(Text(f"Row {index + 1:,}"))
        while True:
            try:
                history, live = await asyncio.to_thread(self._history, index)
            except FlatoutError as error:
                self.query_one("#story", Static).update(Text(line(str(error)), style="red"))
                return
            self.query_one("#heading", Static).update(headline(history))
            lines = [_cut(each) for each in app.tree_lines(trace(history, live=live, now=time.time()))]
            self.query_one("#story", Static).update(story(history, lines))
            if history.item is not None or not live:
                return
            await asyncio.sleep(_AGAIN)

    def _history(self, index: int) -> tuple[History, bool]:
        with RunReader.open(cast("Watch", self.app).place) as reader:
            return reader.history(index), reader.holder() is not None


def headline(history: History) -> Text:
    """The number, the id, the state and the figures of a row."""
    text = Text(f"Row {history.index + 1:,}", style="bold")
    item = history.item
    if item is None:
        return text.append("  not finished", style="not bold cyan")
    if item.id:
        text.append(f" ({line(item.id, 60)})")
    text.append(f"  {STATES[item.state][0]}", style=f"not bold {STATES[item.state][1]}")
    return text.append("  " + "  ".join(_figures(item)), style="not bold")


def story(history: History, tree: list[str]) -> Text:
    """A row's question, its answer or error, where the time went, and its attempts as a tree."""
    item = history.item
    text = Text()
    if item is not None:
        if item.error is not None:
            _section(text, "Error", f"{item.error}: {item.error_message or ''}", "red")
        if item.answer is not None:
            _section(text, "Answer" if item.error is None else "What the model said", item.answer)
        agent = trace_of(item.output) if item.output is not None else None
        if agent is not None and agent.answer is not None:  # its trace is shown as what happened
            _section(text, "Answer", as_text(agent.answer))
        elif item.output is not None and agent is None:
            _section(text, "Answer, parsed", _pretty(item.output))
        if item.tool_calls is not None:
            _section(text, "Tools asked for", _pretty(item.tool_calls))
        if (question := item.prompt or item.input) is not None:
            _section(text, "Question", _question(question))
        if item.input is not None and item.prompt is not None:
            _section(text, "Row of the input", _pretty(item.input))
        if item.waits is not None:
            _section(text, "Where the time went", _waits(item.waits))
    text.append("What happened\n", style="bold").append("\n".join(tree))
    return text


def _cut(text: str) -> str:
    """A line of the tree. Its notes may quote a long answer, which is shown above."""
    shown = visible(redact(text))
    return shown if len(shown) <= MOST_NOTE else f"{shown[: MOST_NOTE - 1]}…"


def _figures(item: Item) -> list[str]:
    found = []
    if item.provider_seconds is not None:
        found.append(f"provider {figures.elapsed(item.provider_seconds)}")
    if item.seconds is not None:
        found.append(f"in all {figures.elapsed(item.seconds)}")
    found.append(figures.counted(item.attempts, "attempt"))
    if item.cost is not None:
        found.append(figures.cost(item.cost, 0))
    if item.finish_reason == "length":
        found.append("cut off at the token limit")
    return found


def _section(text: Text, title: str, words: str, style: str = "") -> None:
    text.append(f"{title}\n", style="bold").append(_shown(words), style=style).append("\n\n")


def _shown(words: str) -> str:
    """Somebody else's text on several lines, without keys; a long one is cut."""
    shown = visible_lines(redact(words[:MOST]))
    if len(words) > MOST:
        shown += f"\n… {len(words) - MOST:,} characters more; flatout export writes them all"
    return shown


def _question(prompt: bytes) -> str:
    """The call as people read it: its messages one below the other, or its prompt."""
    try:
        call = msgspec.json.decode(prompt)
    except msgspec.DecodeError:
        return prompt.decode(errors="replace")
    if not isinstance(call, dict):
        return _pretty(prompt)
    if isinstance(words := call.get("prompt"), str) and not call.get("messages"):
        system = call.get("system")
        return f"[system] {system}\n{words}" if isinstance(system, str) else words
    messages = call.get("messages")
    if isinstance(messages, list) and all(isinstance(each, dict) for each in messages) and messages:
        return "\n".join(f"[{each.get('role', '')}] {_content(each.get('content'))}" for each in messages)
    return _pretty(prompt)


def _content(content: object) -> str:
    if isinstance(content, str):
        return content
    return msgspec.json.format(msgspec.json.encode(content), indent=2).decode()


def _pretty(data: bytes) -> str:
    try:
        return msgspec.json.format(data[: 10 * MOST], indent=2).decode(errors="replace")
    except msgspec.DecodeError:
        return data.decode(errors="replace")


def _waits(waits: bytes) -> str:
    """The seconds by cause, the longest first."""
    try:
        found = msgspec.json.decode(waits, type=dict[str, float])
    except msgspec.DecodeError:
        return waits.decode(errors="replace")
    longest = sorted(found.items(), key=lambda pair: -pair[1])
    return "\n".join(f"{figures.elapsed(seconds):>12}  {WAITS.get(cause, cause)}" for cause, seconds in longest)
