"""The help screen: what the keys do, and what the words mean."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Static

KEYS = """\
[bold]Everywhere[/bold]
  ?  this help    Esc  back    q, Ctrl-C  quit
  It only reads the run file: quitting does not touch the run.

[bold]First screen[/bold]
  r  all rows    f  the rows without an answer    s  the slowest answers
  /  search the rows    g  go to a row by its number
  w  the time that the plot shows: 5, 1 or 30 minutes, the whole run

  The plot shows what was sent, per minute.  ┄ is the limit.
  ▒  a target was paused, down or stopped    ◆  something was changed
  Columns in red had refused requests (429).
  Provider: the time that the last attempt of a row took. Half of the
  answers took no longer than p50, and 95 % no longer than p95. Waiting in
  flatout's own queue is not in it.

[bold]Rows[/bold]
  ↑ ↓ PgUp PgDn Home End  move    Enter  open    g  go to a number
  /  search ids, questions, answers and errors
  c  name=value: a column of the input, or a field of the answer
  f  without an answer    t  cut off at the token limit
  m  answers that do not fit the schema    a  all rows again
  o  order: by number, the provider's seconds, seconds in all, cost,
     attempts (the highest 10,000)

[bold]One row[/bold]
  ← →  the row before and after    ↑ ↓  scroll
"""


TEAM = """\
[bold]Everywhere[/bold]
  ?  this help    Esc  back    q, Ctrl-C  quit    ↑ ↓  scroll
  It only reads what the workers report: quitting does not touch them.

  Calls/s sent and the use of a limit are those of all workers in the last
  minute, also of workers that have gone. Share and calls/s of a worker are
  those of its own last minute. Binds is what most calls wait for.
  Heard is when the worker's last word came: a busy one speaks several times
  a second, an idle one every four seconds.
"""


class HelpScreen(Screen[None]):
    """What the keys do.

    Args:
        text: says it, in Rich's markup.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "app.pop_screen", "Back")]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(Text.from_markup(self._text))
        yield Footer(compact=True)
