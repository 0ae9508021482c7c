"""``flatout watch``: look at a run in the terminal, while it goes or later."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from . import inspect
from .run_names import RunName, find
from .terminal import is_live

EPILOG = """\
[bold]Examples[/bold]

$ flatout watch answers.jsonl
$ flatout watch answers.jsonl --once  # print its state, and leave
"""

_NEEDED = "flatout watch needs Textual: pip install 'flatout[look]'; flatout status works without it"


def watch(
    run: RunName,
    once: Annotated[
        bool,
        typer.Option("--once", metavar="", help="Print what flatout status prints; so it does without a terminal."),
    ] = False,
) -> int:
    """Watch a run: progress, why it is not faster, errors, what is in flight, and all its rows. It only reads."""
    from flatout.errors import ConfigError

    if once or not (is_live(sys.stdout) and is_live(sys.stdin)):
        return inspect.status(run)
    place = find(run)
    try:
        from flatout.look.watch.app import Watch
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise ConfigError(_NEEDED) from None
    from .tree_text import lines

    for name in ("COLUMNS", "LINES"):  # the window's own size counts, also after it has changed
        os.environ.pop(name, None)
    app = Watch(place, run, lines)
    app.run()
    if app.defect is not None:
        raise app.defect
    return 0
