"""The live line of the command: a run's progress, its speed, its cost, and what it waits for.

On a terminal, two lines are updated in place eight times a second; elsewhere a plain line appears every few seconds.
"""

from __future__ import annotations

import os
import sys

from flatout.errors import ConfigError
from flatout.progress._display import PLAIN_SECONDS, Display, LiveLine, PlainLines, Silent
from flatout.progress._line import Ways

from .terminal import is_live, say

WAYS = Ways("--rpm or --concurrency", "flatout ctl FILE resume")


def choose(*, quiet: bool, plain: bool, answers_on_stdout: bool) -> Display:
    """The display that fits: none, plain lines, or a live one.

    Raises:
        ConfigError: FLATOUT_PROGRESS_SECONDS is not a number above 0.
    """
    if quiet:
        return Silent()
    # A live line would overwrite answers on the same terminal.
    mixed = answers_on_stdout and is_live(sys.stdout)
    return (
        LiveLine(WAYS) if is_live(sys.stderr) and not plain and not mixed else PlainLines(say, WAYS, _plain_seconds())
    )


def _plain_seconds() -> float:
    text = os.environ.get("FLATOUT_PROGRESS_SECONDS", "")
    try:
        seconds = float(text) if text else PLAIN_SECONDS
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"FLATOUT_PROGRESS_SECONDS is a number of seconds above 0, not {text!r}")
    return seconds
