"""``flatout report``: a run, or several side by side, as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flatout.text import figures

from .run_names import find
from .terminal import clean, say

EPILOG = """\
[bold]Examples[/bold]

$ flatout report answers.jsonl                    # writes answers.jsonl.html
$ flatout report answers.jsonl -o page.html --open
$ flatout report mini.jsonl large.jsonl -o compared.html
"""

_SUFFIX = ".html"


def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="The output or the run file; for a run without -o its input, [bold]-[/bold] for standard input. "
            "Several are compared.",
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="The page; default beside the run file, as .html."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", metavar="", help="Replace a file that exists.")] = False,
    show: Annotated[bool, typer.Option("--open", metavar="", help="Open the page in a browser.")] = False,
) -> int:
    """Make one page of a run: the outcome in words, plots, and all its rows to search; during the run or later.

    The page needs no network and holds everything: whoever gets it can read the prompts and the answers in it.
    """
    from flatout.look.report.gather import gather
    from flatout.look.report.page import page
    from flatout.runs.output.claim import Claim
    from flatout.runs.output.place import SUFFIX
    from flatout.runs.output.whole import whole

    places = [find(run) for run in runs]
    target = Path(output) if output is not None else places[0].with_name(places[0].name.removesuffix(SUFFIX) + _SUFFIX)
    for place in places:
        Claim.of(place, overwrite=overwrite or _is_report(target)).check(target)
    text = page(gather(places)).encode()
    with whole(target) as file:
        file.write(text)
    say(f"flatout: {_size(len(text))} written to {clean(str(target))}")
    if show:
        import webbrowser

        webbrowser.open(target.absolute().as_uri())
    return 0


def _is_report(target: Path) -> bool:
    """Whether a file is an earlier report, which a new one may replace."""
    try:
        with target.open("rb") as file:
            return b" flatout report</title>" in file.read(2_000)
    except OSError:
        return False


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{figures.count(-(-count // 1_000))} KB"
