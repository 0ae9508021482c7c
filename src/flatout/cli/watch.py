"""``flatout watch``: look at a run in the terminal, while it goes or later."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from . import inspect
from .run_names import RunOrTeam, find_later, team_of
from .terminal import is_live

if TYPE_CHECKING:
    from flatout.look.watch.app import Watch
    from flatout.look.watch.team import WatchTeam
    from flatout.values.place import Place

EPILOG = """\
[bold]Examples[/bold]

$ flatout watch answers.jsonl
$ flatout watch answers.jsonl --once  # print its state, and leave
$ flatout watch answers.jsonl --web   # in the browser
$ flatout watch redis://host:6379/0/team  # workers that share limits
"""

_NEEDED = "flatout watch needs Textual: pip install 'flatout[look]'; flatout status works without it"


def watch(
    run: RunOrTeam,
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
    """Watch a run: progress, why it is not faster, errors, what is in flight, and all its rows. It only reads.

    Or watch the workers that share limits on several machines.
    """
    from flatout.errors import ConfigError

    team = team_of(run)
    if web and team is not None:
        raise ConfigError("--web shows runs; a team is shown in the terminal, or by flatout status --json")
    if web:
        from .watch_web import watch_web

        return watch_web(run, port, show=show)
    if once or not (is_live(sys.stdout) and is_live(sys.stdin)):
        return inspect.status(run)
    for name in ("COLUMNS", "LINES"):  # the window's own size counts, also after it has changed
        os.environ.pop(name, None)
    try:
        app = _app(run) if team is None else _team_app(team)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise ConfigError(_NEEDED) from None
    app.run()
    if app.defect is not None:
        raise app.defect
    return 0


def _app(run: str) -> Watch:
    from flatout.look.watch.app import Watch

    from .tree_text import lines

    return Watch(lambda: find_later(run), run, lines)


def _team_app(team: Place) -> WatchTeam:
    from flatout.look.team import NobodyThere, look_at_team
    from flatout.look.watch.team import WatchTeam

    from .team_text import lines

    with suppress(NobodyThere):  # the screen waits for them
        look_at_team(team)  # what is wrong with the address is said at once
    return WatchTeam(lambda: look_at_team(team), lines)
