"""``flatout batch``: the batches that runs have at providers, and how to cancel them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flatout.errors import ConfigError, FlatoutError, StoreError
from flatout.text import figures

from . import options
from .run_names import RunName, find
from .terminal import clean, say, show, show_json

if TYPE_CHECKING:
    from flatout.lanes.batch.money import Paid
    from flatout.store.ledger import Batch

HELP = "The batches that runs have at providers (--lane batch)."

LS_EPILOG = """\
[bold]Examples[/bold]

$ flatout batch ls                     # here, and open ones elsewhere
$ flatout batch ls answers.jsonl --json
"""

CANCEL_EPILOG = """\
[bold]Examples[/bold]

$ flatout batch cancel answers.jsonl
"""

Runs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN]", help="Runs; by default those in this folder, and those elsewhere whose batches are open."
    ),
]

_PATIENCE = 600.0  # seconds to wait until cancelled batches have ended


def ls(
    runs: Runs = None,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="One JSON object, for programs.")] = False,
) -> int:
    """List the batches of runs: at which provider, how many rows, how old, in which state, what they cost."""
    found = list(_found(runs))
    if as_json:
        show_json({"batches": [_facts(*each) for each in found]})
        return 0
    if not found:
        show("no batches" if runs else "no batches in this folder, and none open elsewhere")
    for place, batch, _, paid in found:
        show(_line(place, batch, paid), fit=True)
    return 0


def cancel(
    run: RunName,
    base_url: options.BaseUrl = None,
    config: options.Config = None,
) -> int:
    """Cancel the open batches of a run, and fetch what was finished of them.

    Finished rows are paid for, and kept. Give the command of the run again to write them, and to ask the others.
    """
    import asyncio

    from flatout.client import Client
    from flatout.store import RunFile, RunReader

    place = find(run)
    with RunReader.open(place) as reader:
        info = reader.info()
        under_way = [batch for batch in _batches(reader.ledger) if batch.state in ("intended", "open")]
    if not under_way:
        say("flatout: no batches are open")
        return 0
    first = under_way[0].target
    client = Client(first if base_url is None else first.partition("/")[2], base_url=base_url, config=config)
    store = RunFile.open(place, job=info.job, command=info.command, keep_prompts=info.keep_prompts)
    try:
        rows = asyncio.run(_cancelled(client, store, str(place)))
    finally:
        store.mark("interrupted")
        store.close_now()
    say(f"flatout: cancelled; {figures.counted(rows, 'row')} had been answered by then, and are kept")
    if info.command:
        say(f"To continue: {info.command}")
    return 0


async def _cancelled(client: Any, store: Any, name: str) -> int:
    """Cancel, wait for the end, and take the results. Returns how many rows have one."""
    import asyncio

    from flatout.lanes.batch.lane import BatchLane

    async def keep(*_: object) -> None:
        raise AssertionError("no row is read")

    async with client:
        lane = BatchLane(client.engine, store.ledger, name, keep)
        await lane.cancel()
        try:
            async with asyncio.timeout(_PATIENCE):
                await lane.finish()
        except TimeoutError:
            waited = figures.duration(_PATIENCE)
            raise FlatoutError(f"the batches have not ended within {waited}: give this command again") from None
    return sum(states.get("answered", 0) for states in store.ledger.counts().values())


def _found(runs: list[str] | None) -> Iterable[tuple[Path, Batch, dict[Any, int], Paid]]:
    """The batches of runs, each with its rows by state, and with what its answers have cost."""
    from flatout.lanes.batch.money import Paid, Record
    from flatout.runs.output.place import SUFFIX
    from flatout.store import RunReader
    from flatout.store.ledger import MONEY

    for place in [find(run) for run in runs] if runs else [*sorted(Path().glob(f"*{SUFFIX}")), *_elsewhere()]:
        try:
            with RunReader.open(place) as reader:
                ledger = reader.ledger
                counts = ledger.counts() if ledger is not None else {}
                paid = Record.of(reader.fact(MONEY)).paid
                for batch in _batches(ledger):
                    yield place, batch, counts.get(batch.number, {}), paid.get(batch.number, Paid())
        except StoreError:
            if runs:
                raise


def _elsewhere() -> list[Path]:
    """The run files in other folders that have batches at providers."""
    from flatout.config.folders import state_folder
    from flatout.lanes.noted import noted

    try:
        folder = state_folder()
    except ConfigError:
        return []
    return [place for place in noted(folder) if place.parent != Path.cwd()]


def _batches(ledger: Any) -> list[Batch]:
    found: list[Batch] = ledger.batches() if ledger is not None else []
    return found


def _facts(place: Path, batch: Batch, counts: dict[Any, int], paid: Paid) -> dict[str, Any]:
    return {
        "run_file": str(place),
        "number": batch.number,
        "target": batch.target,
        "state": batch.state,
        "job": batch.job,
        "rows": batch.rows,
        "rows_by_state": dict(counts),
        "intended_at": batch.intended_at,
        "opened_at": batch.opened_at,
        "ended_at": batch.ended_at,
        "reason": batch.reason,
        "cleared_at": batch.cleared_at,
        "cost": paid.cost,
        "saved": paid.saved,
        "unknown_costs": paid.unknown,
    }


_STATES = {"intended": "being submitted", "open": "at the provider", "ended": "collected", "dropped": "not run"}


def _line(place: Path, batch: Batch, paid: Paid) -> str:
    until = time.time() if batch.ended_at is None else batch.ended_at
    took = figures.duration(max(0.0, until - batch.intended_at))
    what = f"{_STATES[batch.state]}{' for' if batch.ended_at is None else ' after'} {took}"
    why = f" ({clean(batch.reason, 80)})" if batch.reason else ""
    name = f" {clean(batch.job)}" if batch.job else ""
    rows = figures.counted(batch.rows, "row")
    known = f", {figures.cost(paid.cost, paid.unknown)}{figures.saved(paid.saved)}" if paid.cost or paid.unknown else ""
    return f"{clean(str(place))} batch {batch.number}: {rows} to {clean(batch.target)}{name}, {what}{why}{known}"
