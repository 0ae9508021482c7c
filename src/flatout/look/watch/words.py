"""The texts of the first screen. Text from rows, providers and files is made visible before it gets into one."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.text import Text

from flatout.look import gateway
from flatout.look.batches import standing
from flatout.look.changes import changes
from flatout.look.course import at_work, latency
from flatout.look.facts import Facts, FailedClass
from flatout.look.left import how_to_continue, left_of_budget, rows_of_budget
from flatout.progress._line import in_class
from flatout.store.browse import Short
from flatout.store.course import Stretch
from flatout.store.gateway import FailedCalls
from flatout.text import figures
from flatout.text.redact import redact
from flatout.text.visible import visible

from .glance import LATELY, RECENT, Glance

_LEFT = ("interrupted", "cancelled", "detached")
STATES = {"running": "green", "finished": "green", **dict.fromkeys(_LEFT, "yellow"), "broken off": "red"}
"""The colour of each state. Colours only repeat what the words say."""

_ASKED = {"running": "Why not faster: ", "detached": "Waits: "}
"""What the sentences on a run's speed answer, by its state."""

_UNKNOWN = figures.UNKNOWN


def line(text: str, most: int = 300) -> str:
    """Somebody else's text on one line."""
    whole = visible(" ".join(redact(text[: 4 * most]).split()))
    return whole if len(whole) <= most and len(text) <= 4 * most else f"{whole[: most - 1]}…"


def headline(name: str, glance: Glance, width: int) -> Text:
    """The file, the state of the run, and the time of the look."""
    facts = glance.facts
    named = facts.state if facts.gateway is None else gateway.STATES.get(facts.state, facts.state)
    state = f"{named} ({facts.writer}){facts.ending}" if facts.running else named
    if facts.state == "broken off":
        state = "broken off: its process has gone" + (f"; last row {_ago(facts, glance.at)}" if facts.finished else "")
    elif facts.state == "finished" and facts.ended_at is not None:
        recorded = (each for stretches in glance.targets.values() for each in stretches)
        took = at_work(glance.happenings, recorded, None) or facts.ended_at - facts.created_at
        state += f" in {figures.duration(took)}"
    at = time.strftime("%H:%M:%S" if facts.running else "%H:%M", time.localtime(glance.at))
    room = max(8, width - len(state) - len(at) - 4)
    shown = line(name)
    text = Text(shown if len(shown) <= room else f"…{shown[1 - room :]}", style="bold")
    text.append("  ").append(state, style=f"not bold {STATES.get(facts.state, '')}")
    text.append(" " * max(2, width - text.cell_len - len(at))).append(at, style="not bold dim")
    return text


def bar(facts: Facts, width: int) -> Text:
    """How far the run is, how fast, and how long it will take."""
    if facts.gateway is not None:
        return Text(gateway.calls(facts.gateway) + (f"  {figures.rate(facts.rate)}" if facts.rate else ""))
    words = f" {facts.finished:,}"
    if facts.total is not None:
        words += f" of {facts.total:,} ({figures.percent(facts.finished, facts.total)})"
    counts = {"failed": facts.failed - facts.skipped, "skipped": facts.skipped, "held back": facts.unsent}
    words += "".join(f", {number:,} {name}" for name, number in counts.items() if number)
    if facts.rate:
        words += f"  {figures.rate(facts.rate)}"
    if facts.running and facts.left == 0:
        words += "  ending"
    elif facts.seconds_left:
        words += f"  {figures.duration(facts.seconds_left)} left"
    if facts.total is None:
        return Text(words.strip() + ", of an unknown number of rows")
    room = max(0, min(width // 2, width - len(words)))
    full = int(room * facts.finished / facts.total) if facts.total else room
    return Text.assemble(("█" * full, "green"), ("░" * (room - full), "dim"), words[room == 0 :])


def why(glance: Glance) -> Text:
    """Why the run is not faster, and what stands in the way of looking at it."""
    text = Text()
    if glance.notice is not None:
        text.append(f"Note: {glance.notice}.\n", style="yellow")
    if not glance.has_course:
        text.append("An earlier flatout wrote this file: how the run went over time is not in it.\n", style="yellow")
    facts = glance.facts
    if facts.state in ("broken off", *_LEFT) and facts.command and facts.left != 0:
        changed = how_to_continue(facts)
        what = "To collect" if facts.state == "detached" else f"To continue{changed and f', {changed}'}"
        text.append(f"{what}: {line(facts.command)}\n", style="bold")
    found = [line(each, 400) for each in glance.why]
    if found:
        text.append(_ASKED.get(facts.state, "Why it was not faster: "), style="bold").append(found[0])
        text.append("".join(f"\n• {each}" for each in found[1:3]))
    elif facts.running and glance.has_course:
        text.append("Why not faster: ", style="bold").append("nothing is known yet.")
    text.rstrip()
    return text


def sums(glance: Glance, width: int) -> Text:
    """Money, tokens, latency and what is in flight, as labelled cells."""
    cells = [("money", _money(glance.facts)), ("provider", _latency(glance))]
    cells.append(("tokens", _tokens(glance.facts)))
    if glance.facts.running:
        cells.append(("in flight", _in_flight(glance)))
    if glance.facts.budget is not None:
        cells.append(("budget", _budget(glance.facts)))
    if changed := changes(glance.happenings, glance.at, 1):
        cells.append(("changed", line(changed[0])))
    if glance.facts.cut_off:
        cells.append(("cut off", f"{figures.counted(glance.facts.cut_off, 'answer')} at the token limit"))
    if glance.facts.cached:
        cells.append(("cached", figures.counted(glance.facts.cached, "answer")))
    if (batches := glance.facts.batches) is not None:
        cells.append(("batches", line(standing(batches, glance.at))))
    return _cells(cells, width)


def errors(facts: Facts, width: int, most: int) -> Text:
    """The classes of failures, each with an example."""
    if facts.gateway is not None:
        return Text("\n").join(_failed(each, width) for each in gateway.failures(facts.gateway)[:most])
    shown = facts.errors[:most]
    if len(facts.errors) > most:
        shown = facts.errors[: most - 1]
    text = Text("\n").join(_error(each, width) for each in shown)
    if rest := facts.errors[len(shown) :]:
        text.append(f"\n  and {sum(each.count for each in rest):,} of {len(rest):,} other classes", style="dim")
    return text


def flying(glance: Glance, width: int, most: int) -> Text:
    """The attempts in flight, the oldest first."""
    running = glance.facts.running
    whole = glance.in_flight
    lost = figures.counted(glance.facts.unsettled.attempts, "attempt")
    title = f"In flight: {whole:,}, oldest first" if running else f"Perhaps paid for nothing: {lost}"
    if not glance.flying:
        return Text("")
    lines = [Text(title, style="bold")]
    several = len({each.target for each in glance.flying}) > 1
    for each in glance.flying[: max(0, most - 1)]:
        words = figures.elapsed(max(0.0, glance.at - each.started_at)) if running else ""
        again = f", attempt {each.attempt}" if each.attempt > 1 else ""
        target = f"  {line(each.target, 60)}" if several else ""
        lines.append(_cut(Text(f"{f'row {each.index + 1:,}':>12}  {words:>8}{again}{target}"), width))
    return Text("\n").join(lines)


def slowest(rows: Sequence[Short], width: int, most: int) -> Text:
    """The rows that took the provider longest."""
    if not rows:
        return Text("")
    lines = [Text("Slowest answers of the provider", style="bold")]
    for each in rows[: max(0, most - 1)]:
        name = f"  {line(each.id, 24)}" if each.id else ""
        words = "" if each.state == "answered" else f"  {line(each.error or each.state, 40)}"
        took = figures.elapsed(each.provider_seconds or 0.0)
        lines.append(_cut(Text(f"{f'row {each.index + 1:,}':>12}  {took:>8}{name}{words}"), width))
    return Text("\n").join(lines)


def _error(each: FailedClass, width: int) -> Text:
    text = Text.assemble((line(in_class(each.error, each.count, each.held), 60), "red"), f"  row {each.row:,}: ")
    return _cut(text.append(line(each.example or "", max(20, width))), width)


def _failed(each: FailedCalls, width: int) -> Text:
    text = Text.assemble((line(f"{each.calls:,} × {each.error}", 60), "red"))
    return _cut(text.append(f"  {line(each.example, max(20, width))}"), width)


def _cells(cells: Sequence[tuple[str, str]], width: int) -> Text:
    """Labelled texts in as many columns as fit; a long one continues across the next place."""
    columns = max(1, min(len(cells), width // 39))
    room = width // columns
    text, used = Text(), 0
    for label, words in cells:
        size = min(columns, -(-(len(words) + 12) // room))
        if used and used + size > columns:
            text.append("\n")
            used = 0
        shown = f"{label:<10}"
        text.append(shown, style="dim").append(f"{words:<{room * size - len(shown)}}"[: room * size - len(shown)])
        used += size
    return text


def _money(facts: Facts) -> str:
    if facts.gateway is not None:
        return gateway.cost(facts.gateway)
    if not (facts.finished or facts.cost or facts.unknown_costs):
        return "nothing spent yet"
    spent = figures.cost(facts.cost, facts.unknown_costs)
    if facts.cost and facts.finished and facts.running and facts.total and facts.left:
        spent += f", about {figures.dollars(facts.cost / facts.finished * facts.total)} at the end"
    return spent


def _tokens(facts: Facts) -> str:
    if facts.input_tokens is None and facts.output_tokens is None:
        return _UNKNOWN
    parts = [f"{figures.short(facts.input_tokens or 0)} in", f"{figures.short(facts.output_tokens or 0)} out"]
    return ", ".join(parts) + (f", {facts.unknown_tokens:,} rows unknown" if facts.unknown_tokens else "")


def _latency(glance: Glance) -> str:
    stretches = [each for known in _lately(glance).values() for each in known]
    median, slow = latency(stretches, 0.5), latency(stretches, 0.95)
    if median is None or slow is None:
        return _UNKNOWN
    return f"p50 {figures.elapsed(median)}, p95 {figures.elapsed(slow)}"


def _in_flight(glance: Glance) -> str:
    last = [known[-1] for known in glance.targets.values() if known and known[-1].began_at > glance.at - RECENT]
    bounds = [each.allows.get("concurrency") for each in last]
    bound = sum(each or 0 for each in bounds)
    most = f" of {bound:,.0f}" if last and all(each is not None for each in bounds) else ""
    return f"{glance.in_flight:,}{most}, {sum(each.waiting for each in last):,} waiting"


def _budget(facts: Facts) -> str:
    budget = facts.budget
    assert budget is not None
    left, rows = left_of_budget(facts), rows_of_budget(facts)
    whole = line(str(budget.budget), 60)
    lasts = "" if rows is None else f", enough for about {figures.counted(rows, 'row')}"
    return f"{whole if left is None else f'{figures.dollars(left)} of {whole} left'}{lasts}"


def _lately(glance: Glance) -> dict[str, Sequence[Stretch]]:
    """The stretches whose latencies count: those of the last minute of a run that goes on, else all."""
    if not glance.facts.running:
        return dict(glance.targets)
    since = {name: glance.at - max(LATELY, 2 * known[-1].seconds) for name, known in glance.targets.items() if known}
    return {
        name: [each for each in glance.targets[name][-120:] if each.began_at >= begin] for name, begin in since.items()
    }


def _ago(facts: Facts, now: float) -> str:
    if facts.last_finished_at is None:
        return "never"
    return f"{figures.duration(max(0.0, now - facts.last_finished_at))} ago"


def _cut(text: Text, width: int) -> Text:
    text.truncate(max(1, width), overflow="ellipsis")
    return text
