"""``flatout status`` and ``flatout export``: read a run file at any time, without disturbing the run."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flatout.text import figures

from .exit_codes import FAILED
from .run_names import RunName, find
from .terminal import Fact, clean, lay_out, say, show, show_json

if TYPE_CHECKING:
    from flatout.store import ErrorCount, RunReader

STATUS_EPILOG = """\
[bold]Examples[/bold]

$ flatout status answers.jsonl
$ flatout status answers.jsonl.flatout --json
"""

EXPORT_EPILOG = """\
[bold]Examples[/bold]

$ flatout export answers.jsonl -o so-far.csv --overwrite  # at any time
$ flatout export answers.jsonl -o failed.jsonl --only failed
$ flatout export damaged.flatout -o rescued.jsonl --salvage
"""


def status(
    run: RunName,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="One JSON object, for programs.")] = False,
) -> int:
    """Show how far a run is, what failed and what it cost: during the run, after a crash, or at the end."""
    from flatout.store import RunReader

    place = find(run)
    with RunReader.open(place) as reader:
        facts = look(reader)
        if as_json:
            show_json(facts)
        else:
            show("\n".join([f"{clean(str(place))}: {_state(facts)}", *lay_out(describe(facts))]), fit=True)
    return 0


def export(
    run: RunName,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where to: .jsonl, .csv, .tsv, .parquet; - is stdout.")
    ],
    only: Annotated[
        Literal["answered", "failed"] | None,
        typer.Option(metavar="answered|failed", help="Only the rows with an answer, or only those without."),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="jsonl, csv, tsv or parquet; by default the file's name tells."),
    ] = None,
    neutralise: Annotated[
        bool,
        typer.Option(
            "--neutralise", metavar="", help="Put ' before cells that a spreadsheet would run as a formula (CSV, TSV)."
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", metavar="", help="Replace a file that exists.")] = False,
    salvage: Annotated[
        bool,
        typer.Option("--salvage", metavar="", help="Write everything that can still be read from a damaged run file."),
    ] = False,
) -> int:
    """Write the finished rows of a run to a file, in input order."""
    from flatout.runs.output.claim import Claim
    from flatout.runs.output.export import export as write

    damage: list[str] = []
    place = find(run)
    rows = write(
        place,
        output,
        select=only or "all",
        format=format,
        neutralise=neutralise,
        salvaged=salvage,
        claim=Claim.of(place, overwrite=overwrite),
        warn=damage.append,
    )
    if output != "-":
        say(f"flatout: {figures.counted(rows, 'row')} written to {clean(output)}")
    for what in damage:
        say(f"flatout: {what}")
    return FAILED if damage and not salvage else 0


def look(reader: RunReader) -> dict[str, Any]:
    """The facts about a run, ready for JSON. An unknown fact is None."""
    from msgspec import to_builtins

    from flatout.runs.job import BUDGET, LANE

    from .before import known_cost, prompt_cache_of

    info, summary, unsettled, holder = reader.info(), reader.summary(), reader.unsettled(), reader.holder()
    finished = summary.answered + summary.failed
    left = None if info.total is None else max(0, info.total - finished)
    rate = summary.rate if holder is not None else None
    return {
        "state": info.state if info.state != "running" or holder is not None else "broken off",
        "writer": str(holder) if holder is not None else None,
        "command": info.command,
        "total": info.total,
        "finished": finished,
        "answered": summary.answered,
        "failed": summary.failed,
        "unsent": summary.unsent,
        "left": left,
        "rate": rate,
        "seconds_left": left / rate if rate and left is not None else None,
        "input_tokens": summary.input_tokens,
        "output_tokens": summary.output_tokens,
        "unknown_tokens": summary.unknown_tokens,
        "cost": known_cost(reader, summary),
        "unknown_costs": summary.unknown_costs,
        "cut_off": summary.cut_off,
        "cached": summary.cached,
        "budget": _standing(reader.fact(BUDGET)),
        "prompt_cache": to_builtins(prompt_cache_of(reader)),
        "lane": reader.fact(LANE),
        "batches": batches_of(reader),
        "targets": to_builtins(reader.shares()),
        "errors": [_error(error) for error in reader.errors()],
        "unsettled": {
            "attempts": len(unsettled.attempts),
            "cost": unsettled.cost if len(unsettled.attempts) > unsettled.unknown_costs else None,
            "unknown_costs": unsettled.unknown_costs,
        },
        "created_at": info.created_at,
        "opened_at": info.opened_at,
        "ended_at": info.ended_at,
        "last_finished_at": summary.last_finished_at,
    }


def describe(facts: dict[str, Any]) -> list[Fact]:
    """The facts as labelled lines."""
    from flatout.runs.story.progress import Failure

    from .summary import by_class

    lines = [("rows", _rows(facts))]
    if facts["rate"]:
        left = facts["seconds_left"]
        lines.append(("speed", figures.rate(facts["rate"]) + (f", {figures.duration(left)} left" if left else "")))
    lines += by_class(
        (error["error"], Failure(error["count"], error["example"] or "", error["row"], error["advice"]))
        for error in facts["errors"]
    )
    if facts["cut_off"]:
        lines.append(("cut off", f"{figures.counted(facts['cut_off'], 'answer')} at the token limit"))
    if facts["lane"] not in (None, "live"):
        lines.append(("lane", clean(str(facts["lane"]))))
    lines += _batches(facts["batches"])
    lines += _money(facts)
    lines += _unsettled(facts["unsettled"])
    if facts["last_finished_at"] is not None:
        ago = max(0.0, time.time() - facts["last_finished_at"])
        lines.append(("last row", f"{figures.duration(ago)} ago"))
    if facts["left"] != 0 and facts["writer"] is None and facts["command"]:
        lines.append(("to continue", facts["command"]))
    return lines


def batches_of(reader: RunReader) -> dict[str, Any] | None:
    """The batches of a run and their money; None if it had none.

    ``open``, ``rows`` and ``oldest`` (Unix time) are of those that providers have; ``all`` counts those before, too.
    """
    from flatout.lanes.batch.money import Record
    from flatout.runs.job import MONEY

    batches = [] if reader.ledger is None else reader.ledger.batches()
    under_way = [batch for batch in batches if batch.state in ("intended", "open")]
    if not batches:
        return None
    paid = Record.of(reader.fact(MONEY)).whole()
    return {
        "open": len(under_way),
        "rows": sum(batch.rows for batch in under_way),
        "all": len(batches),
        "oldest": min((batch.intended_at for batch in under_way), default=None),
        "cost": paid.cost,
        "saved": paid.saved,
        "unknown_costs": paid.unknown,
    }


def _batches(facts: dict[str, Any] | None) -> list[Fact]:
    if facts is None:
        return []
    rows = f" with {figures.counted(facts['rows'], 'row')}" if facts["open"] else ""
    words = f"{figures.count(facts['open'])} at the provider{rows}, of {figures.count(facts['all'])}"
    if facts["oldest"] is not None:
        words += f"; the oldest is {figures.duration(max(0.0, time.time() - facts['oldest']))} old"
    if facts["cost"] or facts["unknown_costs"]:
        words += f"; {figures.cost(facts['cost'], facts['unknown_costs'])}{figures.saved(facts['saved'])}"
    return [("batches", words)]


def _state(facts: dict[str, Any]) -> str:
    if facts["writer"]:
        return f"running ({facts['writer']})"
    if facts["state"] == "broken off":
        return "broken off: its process has gone"
    return str(facts["state"])


def _rows(facts: dict[str, Any]) -> str:
    whole = (
        ""
        if facts["total"] is None
        else f" of {facts['total']:,} ({figures.percent(facts['finished'], facts['total'])})"
    )
    parts = [f"{facts[name]:,} {name}" for name in ("answered", "failed") if facts[name]]
    if facts["unsent"]:
        parts.append(f"{facts['unsent']:,} held back, to be sent when the run continues")
    return f"{facts['finished']:,}{whole} finished" + (f": {', '.join(parts)}" if parts else "")


def _money(facts: dict[str, Any]) -> list[Fact]:
    from msgspec import convert

    from flatout.runs.story.progress import PromptCacheUse
    from flatout.values.route import Share

    from .summary import prompt_cache, targets

    if not facts["finished"]:
        return []
    tokens = "unknown"
    if facts["input_tokens"] is not None or facts["output_tokens"] is not None:
        tokens = f"{facts['input_tokens'] or 0:,} in, {facts['output_tokens'] or 0:,} out"
        if facts["unknown_tokens"]:
            tokens += f", and those of {figures.counted(facts['unknown_tokens'], 'row')} unknown"
    lines = [("tokens", tokens)]
    if use := convert(facts["prompt_cache"], PromptCacheUse):
        lines.append(("from cache", prompt_cache(use, facts["input_tokens"] or 0)))
    lines += targets(convert(facts["targets"], dict[str, Share]))
    lines.append(("cost", figures.cost_in_words(facts["cost"], facts["unknown_costs"], "row")))
    if (budget := facts["budget"]) is not None:
        bound = figures.overshoot(budget["over"], budget["exposed"])
        known = budget["left"] is not None and (budget.get("scope") or facts["state"] in ("finished", "interrupted"))
        left = f"{figures.dollars(budget['left'])} of {clean(budget['budget'])} left" if known else ""
        lines.append(("budget", "; ".join(filter(None, (left or clean(budget["budget"]), bound)))))
    if facts["cached"]:
        lines.append(("cached", figures.counted(facts["cached"], "answer")))
    return lines


def _standing(fact: Any) -> dict[str, Any] | None:
    """How the budget stood when the run file last said so; None if it does not say, or nothing of sense.

    What is left of a budget that processes share is looked up now.
    """
    import msgspec

    from flatout.config.folders import state_folder
    from flatout.errors import ConfigError
    from flatout.store.scopes import account
    from flatout.values.budget import Standing

    try:
        standing = msgspec.convert(fact, Standing | None)
    except msgspec.ValidationError:
        return None
    if standing is None:
        return None
    facts: dict[str, Any] = msgspec.to_builtins(standing)
    if standing.per is not None and standing.scope is not None:
        with suppress(ConfigError):
            if (found := account(state_folder() / "budgets", standing.per, standing.scope)) is not None:
                facts["left"] = found.left
    return facts


def _unsettled(facts: dict[str, Any]) -> list[Fact]:
    if not facts["attempts"]:
        return []
    cost = "at unknown cost" if facts["cost"] is None else f"at most {figures.dollars(facts['cost'])}"
    if facts["cost"] is not None and facts["unknown_costs"]:
        cost += f", {figures.count(facts['unknown_costs'])} of them at unknown cost"
    attempts = figures.counted(facts["attempts"], "attempt")
    what = f"{attempts} whose process stopped or died before it kept an answer, in flight or just answered ({cost})"
    return [("perhaps paid", what)]


def _error(error: ErrorCount) -> dict[str, Any]:
    from flatout.policies.failures.decision import advice_on

    return {
        "error": error.error,
        "count": error.count,
        "row": error.first_index + 1,
        "example": error.message,
        "advice": advice_on(error.error),
    }
