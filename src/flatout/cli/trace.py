"""``flatout trace``: the events of one row as a tree, from the run file alone; or a list of rows worth a look."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from .row_names import find_row
from .run_names import RunName, find
from .terminal import clean, is_live, show, show_json

if TYPE_CHECKING:
    from flatout.store import History, Ranking, RunReader

EPILOG = """\
[bold]Examples[/bold]

$ flatout trace answers.jsonl              # the slowest rows
$ flatout trace answers.jsonl --failed --limit 50
$ flatout trace answers.jsonl 7            # what happened to row 7
$ flatout trace answers.jsonl order-1138 --json
"""


def trace(
    run: RunName,
    item: Annotated[
        str | None, typer.Argument(metavar="[ITEM]", help="A row: its number (from 1, as in messages) or its id.")
    ] = None,
    slowest: Annotated[
        bool,
        typer.Option(
            "--slowest", metavar="", help="List the rows for which the provider took longest. This is the default."
        ),
    ] = False,
    longest: Annotated[
        bool,
        typer.Option("--longest", metavar="", help="List the rows that took longest, queueing and retries included."),
    ] = False,
    failed: Annotated[bool, typer.Option("--failed", metavar="", help="List the rows without an answer.")] = False,
    costliest: Annotated[bool, typer.Option("--costliest", metavar="", help="List the rows that cost most.")] = False,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=100_000, help="The most rows to list.")] = 10,
    plain: Annotated[bool, typer.Option("--plain", metavar="", help="Indented lines, even on a terminal.")] = False,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="One JSON object, for programs.")] = False,
) -> int:
    """Show what happened to one row: stages, calls, attempts, waits, tokens, cost, times. Needs no collector."""
    from flatout.errors import ConfigError
    from flatout.store import RunReader

    asked: dict[Ranking, bool] = {"slowest": slowest, "longest": longest, "failed": failed, "costliest": costliest}
    given: list[Ranking] = [name for name, wanted in asked.items() if wanted]
    if len(given) + (item is not None) > 1:
        raise ConfigError("give one of a row, --slowest, --longest, --failed and --costliest")
    place = find(run)
    with RunReader.open(place) as reader:
        if item is None:
            _list(reader, run, given[0] if given else "slowest", limit, plain=plain, as_json=as_json)
        else:
            _show(reader, str(place), _history(reader, item), plain=plain, as_json=as_json)
    return 0


def _list(reader: RunReader, run: str, by: Ranking, limit: int, *, plain: bool, as_json: bool) -> None:
    from flatout.text.redact import redact

    from .tree_text import listing

    rows, counts = reader.ranked(by, limit), reader.counts()
    if as_json:
        facts = [
            {
                "row": row.index + 1,
                "id": row.id,
                "state": row.state,
                "seconds": row.seconds,
                "provider_seconds": row.provider_seconds,
                "attempts": row.attempts,
                "cost": row.cost,
                "error": row.error,
                "error_message": row.error_message and redact(row.error_message),
            }
            for row in rows
        ]
        show_json({"by": by, "finished": counts.finished, "failed": counts.failed + counts.unsent, "rows": facts})
    else:
        width = None if plain or not is_live(sys.stdout) else shutil.get_terminal_size().columns
        lost = {attempt.index for attempt in reader.unsettled().attempts}
        show("\n".join(listing(rows, by, counts, run, width, lost)))


def _show(reader: RunReader, name: str, history: History, *, plain: bool, as_json: bool) -> None:
    import msgspec

    from flatout.look.batches import row_in_batch
    from flatout.runs.story.tree import trace as tree_of

    from . import tree_text

    batch = row_in_batch(reader, history.index)
    tree = tree_of(history, live=reader.holder() is not None, now=time.time())
    own = history.item.id if history.item is not None else None
    if as_json:
        facts = {"run_file": name, "row": history.index + 1, "id": own, "trace": msgspec.to_builtins(tree)}
        show_json(facts if batch is None else {**facts, "batch": batch.facts()})
        return
    headline = f"{clean(name)}: row {history.index + 1}" + (f" ({clean(own, 60)})" if own else "")
    headline += "" if batch is None else f", {clean(batch.in_words(time.time()))}"
    if history.item is None and batch is not None and not history.attempts:
        show(headline)
        return
    if plain or not is_live(sys.stdout):
        show("\n".join([headline, *tree_text.lines(tree)]))
    else:
        tree_text.draw(tree, headline)


def _history(reader: RunReader, item: str) -> History:
    """The records of one row, by its number or its id.

    Raises:
        ConfigError: there is no such row, or there are several.
    """
    from flatout.look.batches import row_in_batch

    def is_known(index: int) -> bool:
        history = reader.history(index)
        return bool(history.item is not None or history.attempts or history.journal or row_in_batch(reader, index))

    return reader.history(find_row(reader, item, is_known))
