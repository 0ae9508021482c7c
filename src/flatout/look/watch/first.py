"""The first screen: how far the run is, why it is not faster, and what needs attention."""

from __future__ import annotations

from contextlib import suppress
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.css.query import NoMatches
from textual.screen import Screen
from textual.widgets import Footer, Static

from flatout.store.browse import Figure, Kind

from . import words
from .glance import Glance
from .plot import PAUSED, draw

LEAST = 60.0
"""The fewest seconds that the plot of a run shows, unless the window is smaller."""

WINDOWS = (300.0, 60.0, 1_800.0, None)
"""Seconds that the plot shows, one after the other; None for the whole run."""

_PLOT_SHARE = 4
"""The plot gets the height of the screen divided by this."""

_FEWEST, _MOST, _LEAST = 5, 16, 4
"""Lines of the plot; the least on a short screen."""

SHORT = 30
"""Lines of a screen that has room for less: the rows at its end count more than empty lines."""


class FirstScreen(Screen[None]):
    """The state of the run.

    Args:
        name: the run's name.

    Attributes:
        glance: what is known; None before the first look, and before the run begins.
        before: what is said then.
        trouble: why nothing new can be read.
    """

    VERTICAL_BREAKPOINTS = [(0, "-short"), (SHORT + 1, "-tall")]  # noqa: RUF012 - Textual's own form

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "rows", "Rows"),
        Binding("f", "rows('failed')", "Failed"),
        Binding("s", "rows('all', 'provider')", "Slowest"),
        Binding("slash", "ask('search')", "Search", key_display="/"),
        Binding("g", "ask('go')", "Go to row"),
        Binding("w", "window", "Time"),
    ]

    def __init__(self, name: str) -> None:
        super().__init__()
        self.glance: Glance | None = None
        self.trouble: str | None = None
        self.before = "Reading the run file …"
        self._run = name
        self._shown: dict[str, Text] = {}
        self._window = 0
        self._keys_of_a_run = True

    def compose(self) -> ComposeResult:
        for name in ("head", "bar", "why", "plot", "sums", "errors"):
            yield Static(id=name)
        with Horizontal(id="lists"):
            yield Static(id="flying")
            yield Static(id="slowest")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        self.present()

    def on_resize(self, event: events.Resize) -> None:
        """Draw anew in the new size."""
        self.present()

    def on_screen_resume(self) -> None:
        self.present()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether a key does something here. A gateway has no rows to look at."""
        gateway = self.glance is not None and self.glance.facts.gateway is not None
        return not (gateway and action in ("rows", "ask"))

    def action_window(self) -> None:
        """Show another span of time."""
        self._window = (self._window + 1) % len(WINDOWS)
        self.present()

    def action_rows(self, kind: Kind = "all", by: Figure | None = None) -> None:
        """Show the rows."""
        from .rows import RowsScreen

        self.app.push_screen(RowsScreen(kind=kind, by=by))

    def action_ask(self, what: str) -> None:
        """Show the rows, and ask for the words of a search, or for a number."""
        from .rows import RowsScreen

        self.app.push_screen(RowsScreen(asks=what))

    def present(self) -> None:
        """Show the latest glance."""
        if self.is_current:
            with suppress(NoMatches):  # it is being built, or taken down
                self._present()

    def _present(self) -> None:
        width, height = max(20, self.app.size.width - 2), self.app.size.height
        if self.glance is None:
            self._set("head", Text(words.line(self._run), style="bold"))
            self._set("why", self._trouble() or Text(self.before))
            return
        glance = self.glance
        if glance.facts.gateway is not None and self._keys_of_a_run:
            self._keys_of_a_run = False
            self.refresh_bindings()
        plot = _LEAST if height <= SHORT else max(_FEWEST, min(_MOST, height // _PLOT_SHARE))
        self._set("head", words.headline(self._run, glance, width))
        self._set("bar", words.bar(glance.facts, width))
        self._set("why", self._trouble() or words.why(glance))
        self._set("plot", self._plot(glance, width, plot))
        self._set("sums", words.sums(glance, width))
        self._set("errors", words.errors(glance.facts, width, 2 if height <= SHORT else 6))
        lines = self.query_one("#lists").size.height or 5
        both = glance.flying and glance.slowest
        room = width // 2 - 1 if both else width
        self._set("flying", words.flying(glance, room, lines))
        self._set("slowest", words.slowest(glance.slowest, room, lines))

    def _trouble(self) -> Text | None:
        if self.trouble is None:
            return None
        still = " What is shown is what was last read." if self.glance is not None else ""
        return Text(f"{words.line(self.trouble)}.{still}", style="red")

    def _set(self, name: str, text: Text) -> None:
        """Show a text in its place. One that has not changed is not drawn again."""
        if self._shown.get(name) != text:
            self._shown[name] = text
            widget = self.query_one(f"#{name}", Static)
            widget.update(text)
            widget.display = bool(text.plain)

    def _plot(self, glance: Glance, width: int, height: int) -> Text:
        since, until = self._span(glance)
        if until is None or since is None:
            return Text()
        plot = draw(glance.targets, glance.happenings, since=since, until=until, width=width, height=height)
        text = Text().append(plot.title, style="dim")
        for number, line in enumerate(plot.lines):
            drawn = Text(f"\n{line}", style="blue" if number < len(plot.lines) - 2 else "dim")
            drawn.highlight_regex(f"{PAUSED}+", "yellow")
            for place in plot.refused if number < len(plot.lines) - 2 else ():
                drawn.stylize("red", place + 1, place + 2)
            text.append_text(drawn)
        return text

    def _span(self, glance: Glance) -> tuple[float | None, float | None]:
        """The span of time that the plot shows: the last minutes of a run that goes on, else the whole of it."""
        stretches = [known for known in glance.targets.values() if known]
        if not stretches:
            return None, None
        last = max(known[-1].began_at + known[-1].seconds for known in stretches)
        first = min(known[0].began_at for known in stretches)
        window = WINDOWS[self._window]
        if not glance.facts.running:
            whole = self._window == 0 or window is None
            return (first if whole else max(first, last - (window or 0.0))), last
        until = glance.at if glance.at - last > 5 * max(known[-1].seconds for known in stretches) else last
        if window is None:
            return first, until
        return max(until - window, min(first, until - LEAST)), until  # a run that has just begun fills the plot
