"""``flatout status`` and ``flatout export``: read a run file at any time, without disturbing the run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flatout.text import figures

from .exit_codes import FAILED
from .run_names import RunName, RunOrTeam, find, team_of
from .terminal import Fact, clean, lay_out, say, show, show_json

if TYPE_CHECKING:
    from flatout.look.batches import BatchCounts
    from flatout.look.facts import Facts, PerhapsPaid
    from flatout.store.gateway import Served
    from flatout.values.budget import Standing
    from flatout.values.place import Place

_MOST = 3
"""Most sentences on why a run is not faster, and most changes; --json has all."""

_WHY = 400
"""Most characters of one."""

STATUS_EPILOG = """\
[bold]Examples[/bold]

$ flatout status answers.jsonl
$ flatout status answers.jsonl.flatout --json
$ flatout status redis://host:6379/0/team  # workers that share limits
"""

EXPORT_EPILOG = """\
[bold]Examples[/bold]

$ flatout export answers.jsonl -o so-far.csv --overwrite  # at any time
$ flatout export answers.jsonl -o failed.jsonl --only failed
$ flatout export answers.jsonl -o shop.db::answers  # a table
$ flatout export damaged.flatout -o rescued.jsonl --salvage
"""


def status(
    run: RunOrTeam,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="One JSON object, for programs.")] = False,
) -> int:
    """Show how far a run is, what slows it, what failed and what it cost: at any time, also after a crash.

    Or what the workers do that share limits on several machines.
    """
    if (team := team_of(run)) is not None:
        return _team(team, as_json=as_json)
    from msgspec import to_builtins

    from flatout.look.changes import changes
    from flatout.look.course import Course
    from flatout.look.facts import facts_of
    from flatout.look.left import paced
    from flatout.look.why import findings
    from flatout.store import RunReader

    place, course = find(run), Course()
    with RunReader.open(place) as reader:
        facts = facts_of(reader)
        course.refresh(reader)
    now = time.time()
    facts = paced(facts, course, now)
    found = findings(course, facts, now)
    changed = changes(course.happenings, now, len(course.happenings) if as_json else _MOST)
    if as_json:
        show_json({"state": facts.state, "why": to_builtins(found), "changes": changed, **to_builtins(facts)})
    else:
        pace: list[Fact] = [
            ("" if place else "pace", clean(each.text, _WHY)) for place, each in enumerate(found[:_MOST])
        ]
        steered: list[Fact] = [("" if place else "changed", clean(each)) for place, each in enumerate(changed)]
        lines = lay_out([*pace, *describe(facts), *steered])
        show("\n".join([f"{clean(str(place))}: {_state(facts)}", *lines]), fit=True)
    return 0


def _team(place: Place, *, as_json: bool) -> int:
    from msgspec import to_builtins

    from flatout.look.team import look_at_team

    from .team_text import lines

    team = look_at_team(place)
    if as_json:
        show_json(to_builtins(team))
    else:
        show("\n".join(lines(team)), fit=True)
    return 0


def export(
    run: RunName,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where to: .jsonl, .csv, .tsv (and packed: .jsonl.gz), .parquet, out.db::answers; - is stdout.",
        ),
    ],
    only: Annotated[
        Literal["answered", "failed"] | None,
        typer.Option(metavar="answered|failed", help="Only the rows with an answer, or only those without."),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="jsonl, csv, tsv or parquet; by default the file's name tells."),
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option(metavar="CHAR", help=r"What stands between the cells of CSV: ; or \t.")
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
    from flatout.runs.input.names import shown
    from flatout.runs.output.claim import Claim
    from flatout.runs.output.export import export as write

    between = None if delimiter is None else _delimiter(delimiter, output, format)
    damage: list[str] = []
    place = find(run)
    rows = write(
        place,
        output,
        select=only or "all",
        format=format,
        delimiter=between,
        neutralise=neutralise,
        salvaged=salvage,
        claim=Claim.of(place, overwrite=overwrite),
        warn=damage.append,
    )
    if output != "-":
        say(f"flatout: {figures.counted(rows, 'row')} written to {clean(shown(output))}")
    for what in damage:
        say(f"flatout: {what}")
    return FAILED if damage and not salvage else 0


def _delimiter(given: str, output: str, format: str | None) -> str:
    from flatout.errors import ConfigError
    from flatout.runs.input.delimited import checked_delimiter
    from flatout.runs.output.formats import form_of

    if (written := form_of(output, format).format) != "csv":
        raise ConfigError(f"--delimiter is for CSV, and the format is {written}")
    return checked_delimiter(given)


def describe(facts: Facts) -> list[Fact]:
    """The facts as labelled lines."""
    if facts.gateway is not None:
        return _gateway(facts.gateway)
    from flatout.progress._counters import Failure

    from .summary import by_class

    lines = [("rows", _rows(facts))]
    if facts.rate:
        left = facts.seconds_left
        lines.append(("speed", figures.rate(facts.rate) + (f", {figures.duration(left)} left" if left else "")))
    lines += by_class(
        (error.error, Failure(error.count, error.example or "", error.row, error.advice, error.held))
        for error in facts.errors
    )
    if facts.cut_off:
        lines.append(("cut off", f"{figures.counted(facts.cut_off, 'answer')} at the token limit"))
    if facts.lane is not None and facts.lane != "live":
        lines.append(("lane", clean(facts.lane)))
    lines += _batches(facts.batches)
    lines += _money(facts)
    lines += _unsettled(facts.unsettled)
    if facts.last_finished_at is not None:
        ago = max(0.0, time.time() - facts.last_finished_at)
        lines.append(("last row", f"{figures.duration(ago)} ago"))
    if facts.left != 0 and facts.writer is None and facts.command:
        lines.append(_next(facts, facts.command))
    return lines


def _next(facts: Facts, command: str) -> Fact:
    """The command that goes on with a run, and what must change in it before."""
    from flatout.look.left import how_to_continue

    if facts.state == "detached":
        return "to collect", command
    changed = how_to_continue(facts)
    return "to continue", f"{changed}: {command}" if changed else command


def _gateway(served: Served) -> list[Fact]:
    from flatout.look import gateway

    callers: list[Fact] = [
        ("" if place else "callers", clean(line, _WHY)) for place, line in enumerate(gateway.callers(served))
    ]
    lines = [("served", gateway.calls(served)), *callers]
    for each in gateway.failures(served):
        lines.append(("failed" if len(lines) == 1 + len(callers) else "", f"{each.calls:,} × {clean(each.error)}"))
        if each.example:
            lines.append(("", f"  {clean(each.example, _WHY)}"))
    return [*lines, ("cost", gateway.cost(served))]


def _batches(facts: BatchCounts | None) -> list[Fact]:
    if facts is None:
        return []
    from flatout.look.batches import standing

    return [("batches", clean(standing(facts, time.time()), _WHY))]


def _state(facts: Facts) -> str:
    if facts.gateway is not None and facts.state != "broken off":
        from flatout.look.gateway import STATES

        state = STATES.get(facts.state, facts.state)
        return f"{state} ({facts.writer})" if facts.writer else state
    if facts.writer:
        return f"running ({facts.writer}){facts.ending}"
    if facts.state == "broken off":
        waits = facts.batches is not None and facts.batches.open
        return f"broken off: its process has gone{'; its batches go on at the provider' if waits else ''}"
    if facts.state == "detached":
        return "detached: its batches go on at the provider"
    return "cancelled: its batches were" if facts.state == "cancelled" else facts.state


def _rows(facts: Facts) -> str:
    whole = "" if facts.total is None else f" of {facts.total:,} ({figures.percent(facts.finished, facts.total)})"
    counts = {"answered": facts.answered, "failed": facts.failed - facts.skipped, "skipped": facts.skipped}
    parts = [f"{number:,} {name}" for name, number in counts.items() if number]
    if facts.unsent:
        parts.append(f"{facts.unsent:,} held back, to be sent when the run continues")
    return f"{facts.finished:,}{whole} finished" + (f": {', '.join(parts)}" if parts else "")


def _money(facts: Facts) -> list[Fact]:
    from .summary import prompt_cache, targets

    if not facts.finished:
        unread = facts.batches is not None and facts.batches.answers
        return [("cost", figures.cost_in_words(facts.cost, facts.unknown_costs, "row"))] if unread else []
    tokens = "unknown"
    if facts.input_tokens is not None or facts.output_tokens is not None:
        tokens = f"{facts.input_tokens or 0:,} in, {facts.output_tokens or 0:,} out"
        if facts.unknown_tokens:
            tokens += f", and those of {figures.counted(facts.unknown_tokens, 'row')} unknown"
    lines = [("tokens", tokens)]
    if facts.prompt_cache:
        lines.append(("from cache", prompt_cache(facts.prompt_cache, facts.input_tokens or 0)))
    lines += targets(facts.targets)
    lines.append(("cost", figures.cost_in_words(facts.cost, facts.unknown_costs, "row")))
    if facts.budget is not None:
        lines.append(("budget", _budget(facts, facts.budget)))
    if facts.cached:
        lines.append(("cached", figures.counted(facts.cached, "answer")))
    return lines


def _budget(facts: Facts, budget: Standing) -> str:
    """How the budget stands, and how long it lasts if it does not for all rows."""
    from flatout.look.left import left_of_budget, rows_of_budget

    whole, left, rows = clean(budget.budget), left_of_budget(facts), rows_of_budget(facts)
    if left is not None:
        whole = f"{figures.dollars(left)} of {whole} left"
    lasts = "" if rows is None else f"enough for about {figures.counted(rows, 'row')} more"
    goes_on = facts.running or (facts.batches is not None and facts.batches.open > 0)
    return "; ".join(filter(None, (whole, lasts, figures.overshoot(budget.over, budget.exposed, goes_on=goes_on))))


def _unsettled(facts: PerhapsPaid) -> list[Fact]:
    if not facts.attempts:
        return []
    cost = "at unknown cost" if facts.cost is None else f"at most {figures.dollars(facts.cost)}"
    if facts.cost is not None and facts.unknown_costs:
        cost += f", {figures.count(facts.unknown_costs)} of them at unknown cost"
    attempts = figures.counted(facts.attempts, "attempt")
    how = "in flight, just answered, or failed, perhaps after the provider had begun"
    what = f"{attempts} whose process stopped or died before it kept an answer: {how} ({cost})"
    return [("perhaps paid", what)]
