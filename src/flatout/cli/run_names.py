"""The name of a run on the command line, and the run file that it means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flatout.errors import ConfigError

from .programs import refuse
from .terminal import clean, say

if TYPE_CHECKING:
    from flatout.values.place import Place

RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="The output or the run file; for a run without -o its input, [bold]-[/bold] for standard input.",
    ),
]

RunOrTeam = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="The output or the run file; for a run without -o its input, [bold]-[/bold] for standard input. Or where "
        "workers share limits: [bold]redis://host:6379/0/team[/bold].",
    ),
]


def team_of(run: str) -> Place | None:
    """Where a team shares limits, if this is such an address and no run's name.

    Raises:
        ConfigError: it is a wrong one, or has a password in it.
    """
    from flatout.values.place import SCHEMES, place_of

    scheme, is_address, _ = run.partition("://")
    if is_address and scheme in ("http", "https"):
        raise ConfigError(
            f"{clean(run)} is no run: ask a gateway itself how it stands, with curl {clean(run.rstrip('/'))}/status"
        )
    return place_of(run) if is_address and scheme in SCHEMES else None


def find(run: str, *, steered: bool = False) -> Path:
    """The run file that a name means: the file itself, the one beside an output, or the latest of an input.

    Args:
        run: the name.
        steered: the name may also be one that steers a program.

    Raises:
        ConfigError: it steers a program, and is not a run's.
    """
    from flatout.runs.input.names import is_elsewhere
    from flatout.runs.output.place import SUFFIX, kept_runs, run_elsewhere

    if run.endswith(SUFFIX):
        return Path(run)
    if (beside := Path(f"{run}{SUFFIX}")).exists():
        return beside
    kept = kept_runs(run)
    if is_elsewhere(run) and ((written := run_elsewhere(run)).exists() or not kept):
        return written
    if len(kept) > 1:
        say(f"flatout: the latest of {len(kept)} runs of {'standard input' if run == '-' else clean(run)}")
    if not kept and not steered and not Path(run).is_file():
        refuse(run)
    return kept[0] if kept else Path(run)


def find_later(run: str) -> Path:
    """The run file that a name means, which may begin to exist later: the one beside the output of that name."""
    from flatout.runs.output.place import SUFFIX

    place = find(run)
    return place if place.exists() else place.with_name(place.name.removesuffix(SUFFIX) + SUFFIX)
