"""The name of a run on the command line, and the run file that it means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .terminal import clean, say

RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="The output or the run file; for a run without -o its input, [bold]-[/bold] for standard input.",
    ),
]


def find(run: str) -> Path:
    """The run file that a name means: the file itself, the one beside an output, or the latest of an input."""
    from flatout.runs.output.place import SUFFIX, kept_runs

    if run.endswith(SUFFIX):
        return Path(run)
    if (beside := Path(f"{run}{SUFFIX}")).exists():
        return beside
    kept = kept_runs(run)
    if len(kept) > 1:
        say(f"flatout: the latest of {len(kept)} runs of {'standard input' if run == '-' else clean(run)}")
    return kept[0] if kept else Path(run)
