"""``flatout watch``: look at a run in the terminal, while it goes or later."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from . import inspect
from .run_names import RunName, find_later
from .terminal import is_live

EPILOG = """\
[bold]Examples[/bold]

$ flatout watch answers.jsonl
$ flatout watch answers.jsonl --once  # print its state, and leave
$ flatout watch answers.jsonl --web   # in the browser
"""

_NEEDED = "flatout watch needs Textual: pip install 'flatout[look]'; flatout status works without it"


def watch(
    run: RunName,
    once: Annotated[
        bool,
        typer.Option("--once", metavar="", help="Print what flatout status prints; so it does without a terminal."),
    ] = False,
    web: Annotated[
        bool, typer.Option("--web", metavar="", help="Serve a live page for browsers on this machine, until Ctrl-C.")
    ] = False,
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65_535, help="With --web: where to listen; 0 takes a free one.")
    ] = 0,
    show: Annotated[
        bool, typer.Option("--open/--no-open", metavar="", help="With --web: open the page in a browser.")
    ] = True,
) -> int:
    """Watch a run: progress, why it is not faster, errors, what is in flight, and all its rows. It only reads."""
    from flatout.errors import ConfigError

    if web:
        from .watch_web import watch_web

        return watch_web(run, port, show=show)
    if once or not (is_live(sys.stdout) and is_live(sys.stdin)):
        return inspect.status(run)
    try:
        from flatout.look.watch.app import Watch
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise ConfigError(_NEEDED) from None
    from .tree_text import lines

    for name in ("COLUMNS", "LINES"):  # the window's own size counts, also after it has changed
        os.environ.pop(name, None)
    app = Watch(lambda: find_later(run), run, lines)
    app.run()
    if app.defect is not None:
        raise app.defect
    return 0
