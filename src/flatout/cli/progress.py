"""The live line of the command: a run's progress, its speed, its cost, and what it waits for.

On a terminal, two lines are updated in place eight times a second; elsewhere a plain line appears every few seconds.
"""

from __future__ import annotations

import os
import shlex
import sys

from flatout.errors import ConfigError
from flatout.progress._display import PLAIN_SECONDS, Display, LiveLine, PlainLines, Silent
from flatout.progress._line import Ways
from flatout.runs.output.place import SUFFIX

from .terminal import clean, is_live, say

WAYS = Ways("--rpm or --concurrency", "flatout ctl FILE resume")


def choose(run: str | None = None, *, quiet: bool, plain: bool, answers_on_stdout: bool) -> Display:
    """The display that fits: none, plain lines, or a live one.

    Args:
        run: the run file, which the line names.
        quiet: show nothing.
        plain: show plain lines.
        answers_on_stdout: whether answers are written to stdout.

    Raises:
        ConfigError: FLATOUT_PROGRESS_SECONDS is not a number above 0.
    """
    if quiet:
        return Silent()
    # A live line would overwrite answers on the same terminal.
    mixed = answers_on_stdout and is_live(sys.stdout)
    ways = WAYS
    if run is not None:
        ways = WAYS._replace(resumes=f"flatout ctl {clean(shlex.quote(run.removesuffix(SUFFIX)))} resume")
    live = is_live(sys.stderr) and not plain and not mixed
    return LiveLine(ways) if live else PlainLines(say, ways, _plain_seconds())


def _plain_seconds() -> float:
    text = os.environ.get("FLATOUT_PROGRESS_SECONDS", "")
    try:
        seconds = float(text) if text else PLAIN_SECONDS
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"FLATOUT_PROGRESS_SECONDS is a number of seconds above 0, not {text!r}")
    return seconds
