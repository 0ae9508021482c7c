"""``flatout batch``: the batches that runs have at providers, and how to cancel them."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from flatout.errors import ConfigError, StoreError
from flatout.text import figures

from . import options
from .exit_codes import INTERRUPTED
from .run_names import RunName, find
from .terminal import clean, say, show, show_json

if TYPE_CHECKING:
    from flatout.lanes.batch.money import Paid
    from flatout.progress._display import Display
    from flatout.runs.cancelling import Cancelled
    from flatout.store.ledger import Batch, Seen

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


def ls(
    runs: Runs = None,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="One JSON object, for programs.")] = False,
) -> int:
    """List the batches of runs: at which provider, how many rows, in which state, how old, what they cost.

    The state of an open batch is the provider's own word at the last look. To look anew, give the run's command again.
    """
    found = list(_found(runs))
    if as_json:
        show_json({"batches": [_facts(each) for each in found]})
        return 0
    if not found:
        show("no batches" if runs else "no batches in this folder, and none open elsewhere")
    for each in found:
        show(_line(each, time.time()), fit=True)
    return 0


def cancel(
    run: RunName,
    base_url: options.BaseUrl = None,
    config: options.Config = None,
) -> int:
    """Cancel the open batches of a run, and fetch what was finished of them.

    Finished rows are paid for, and kept. Give the command of the run again to write them, and to ask the others.
    """
    from flatout.client import Client
    from flatout.runs.cancelling import Cancelling
    from flatout.runs.job import CANCELLED, REACH, Reach
    from flatout.store import RunFile, RunReader

    from .execute import execute

    place = find(run)
    with RunReader.open(place) as reader:
        info = reader.info()
        under_way = _open(reader.ledger)
    if not under_way:
        say("flatout: no batches are open")
        return 0
    first = under_way[0].target
    try:
        client = Client(first if base_url is None else first.partition("/")[2], base_url=base_url, config=config)
    except ConfigError as error:
        raise ConfigError(f"{error}{_missing(info.command, base_url, config)}") from None
    store = RunFile.open(place, job=info.job, command=info.command, keep_prompts=info.keep_prompts)
    store.set_fact(REACH, Reach(os.getpid(), "cancel"))
    try:
        say(_begins(under_way))
        done = execute(Cancelling(client, store, str(place)), _display(place))
        if not done.left:
            store.set_fact(CANCELLED, time.time())
    finally:
        store.mark("interrupted")
        store.close_now()
    say(f"flatout: {_ended(done)}")
    if done.left:
        return INTERRUPTED
    if info.command:
        keeps = "keep these answers, and to " if done.answers else ""
        say(f"To {keeps}submit the others again, or with --lane live to ask them now: {info.command}")
    return 0


def _missing(command: str | None, base_url: str | None, config: str | None) -> str:
    """The options of the run's command that tell where its targets are, if they were not given here."""
    words = [part for word in shlex.split(command or "") for part in _parted(word)]
    pairs = [(name, value) for name, value in pairwise(words) if name in ("--base-url", "--config")]
    given = {"--base-url": base_url, "--config": config}
    missing = [f"{name} {shlex.quote(value)}" for name, value in pairs if given[name] is None]
    return f"; add {' '.join(missing)}, as the run's command has it" if missing else ""


def _parted(word: str) -> list[str]:
    """An option and its value, which may be one word: ``--config=flatout.toml``."""
    return word.split("=", 1) if word.startswith("--") else [word]


def _display(place: Path) -> Display:
    from .progress import choose

    return choose(str(place), quiet=False, plain=False, answers_on_stdout=False)


def _begins(under_way: list[Batch]) -> str:
    rows = figures.counted(sum(batch.rows for batch in under_way), "row")
    where = " and ".join(sorted({clean(batch.target) for batch in under_way}))
    return (
        f"flatout: cancels {figures.counted(len(under_way), 'batch')} with {rows} at {where}, and waits until the "
        "provider has, which may take 10 minutes; Ctrl-C waits no longer"
    )


def _ended(done: Cancelled) -> str:
    """What has become of the batches, in a sentence."""
    if done.left:
        left = f"{figures.counted(done.left, 'batch')} {'is' if done.left == 1 else 'are'}"
        return f"{left} being cancelled: give this command again for what was finished"
    if not done.answers:
        return "cancelled; no row had been answered by then"
    cost = figures.cost(done.cost, done.unknown_costs)
    for_it = f"at {cost} cost" if cost == figures.UNKNOWN else f"for {cost}"
    return f"cancelled; {figures.counted(done.answers, 'row')} had been answered by then, {for_it}"


class Known(NamedTuple):
    """What the run file knows of one batch: with its rows by state, what its answers cost, and how it was last seen."""

    place: Path
    batch: Batch
    counts: Mapping[Any, int]
    paid: Paid
    seen: Seen | None


def _found(runs: list[str] | None) -> Iterable[Known]:
    """The batches of runs."""
    from flatout.lanes.batch.money import Record
    from flatout.runs.output.place import SUFFIX
    from flatout.store import RunReader
    from flatout.store.ledger import MONEY

    here = [find(run) for run in runs] if runs else sorted(Path().glob(f"*{SUFFIX}"))
    for place in [*here, *(() if runs else _elsewhere())]:
        try:
            with RunReader.open(place) as reader:
                if (ledger := reader.ledger) is None:
                    continue
                counts, seen, record = ledger.counts(), ledger.seen(), Record.of(reader.fact(MONEY))
                for batch in ledger.batches() if place in here else _open(ledger):
                    number = batch.number
                    yield Known(place, batch, counts.get(number, {}), record.of_batch(number), seen.get(number))
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


def _open(ledger: Any) -> list[Batch]:
    """The batches that a provider has, or may have."""
    found: list[Batch] = ledger.batches() if ledger is not None else []
    return [batch for batch in found if batch.state in ("intended", "open")]


def _facts(known: Known) -> dict[str, Any]:
    batch, paid, seen = known.batch, known.paid, known.seen
    return {
        "run_file": str(known.place),
        "number": batch.number,
        "target": batch.target,
        "state": batch.state,
        "job": batch.job,
        "rows": batch.rows,
        "rows_by_state": dict(known.counts),
        "said": seen and seen.state,
        "done": seen and seen.done,
        "seen_at": seen and seen.at,
        "intended_at": batch.intended_at,
        "opened_at": batch.opened_at,
        "ended_at": batch.ended_at,
        "reason": batch.reason,
        "cleared_at": batch.cleared_at,
        "cost": paid.cost,
        "saved": paid.saved,
        "unknown_costs": paid.unknown,
    }


_ROWS = {
    "kept": "collected",
    "answered": "answered, and kept when the run continues",
    "expired": "expired",
    "cancelled": "cancelled",
    "missing": "not in the results",
}
"""What has become of the rows of a batch that has ended, in the order of telling."""


def _line(known: Known, now: float) -> str:
    batch, paid = known.batch, known.paid
    name = f" {clean(batch.job)}" if batch.job else ""
    what = [f"{figures.counted(batch.rows, 'row')} to {clean(batch.target)}{name}", *_standing(known, now)]
    if cost := figures.batch_cost(paid.cost, paid.unknown, paid.saved):
        what.append(cost)
    return f"{clean(str(known.place))} batch {batch.number}: {', '.join(what)}"


def _standing(known: Known, now: float) -> Iterable[str]:
    """How a batch is, and how old; and what has become of its rows."""
    from flatout.lanes.standing import state_of

    batch, seen = known.batch, known.seen
    age = figures.duration(max(0.0, (now if batch.ended_at is None else batch.ended_at) - batch.intended_at))
    if batch.state == "dropped":
        yield f"not run{f' ({clean(batch.reason, 80)})' if batch.reason else ''}"
    elif batch.state == "ended":
        yield f"ended after {age}"
        yield from (f"{count:,} {_ROWS[state]}" for state in _ROWS if (count := known.counts.get(state)))
    else:
        yield f"{clean(state_of(batch, seen), 60)}, {age} old"
        if seen is not None:
            done = "" if seen.done is None else f"{seen.done:,} done "
            yield f"{done}as seen {figures.duration(max(0.0, now - seen.at))} ago"
