"""A plot of what was sent against the limit, in characters: columns of eighths, pauses below them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from flatout.look.changes import spells
from flatout.store.course import Happening, Stretch
from flatout.text import figures

Unit = Literal["requests", "tokens"]

BLOCKS = " ▁▂▃▄▅▆▇█"
LIMIT, PAUSED, CHANGED = "┄", "▒", "◆"
"""The limit in an empty place, a time in which a target was paused, stopped or down, and a change of the run."""

FAR = 4
"""A limit that is this many times as high as the highest column is named, and not drawn."""

_MINUTE = 60.0
_LABEL = 8
"""Columns of a label beside the plot."""


class Column(Struct):
    """One column of the plot: a span of time.

    Attributes:
        rate: requests or tokens per minute.
        refused: whether attempts were refused for their rate in it.
        mark: what happened in it: `PAUSED`, `CHANGED` or a blank.
    """

    rate: float = 0.0
    refused: bool = False
    mark: str = " "


class Plot(Struct, frozen=True):
    """A plot: its title, its lines from the top, and the columns with refusals."""

    title: str
    lines: Sequence[str]
    refused: frozenset[int] = frozenset()


def draw(
    targets: Mapping[str, Sequence[Stretch]],
    happenings: Sequence[Happening],
    *,
    since: float,
    until: float,
    width: int,
    height: int,
) -> Plot:
    """Draw what all targets sent.

    Args:
        targets: what each of them did, in order of time.
        happenings: what happened.
        since: where the span of time begins.
        until: where it ends.
        width: characters.
        height: lines, those of marks and of times included.
    """
    unit, limit, searched = what_binds(targets, since)
    count = max(1, width - _LABEL)
    columns = _columns(targets, happenings, since, until, count, unit)
    peak = max(column.rate for column in columns)
    drawn = limit if limit is not None and limit <= FAR * peak else None
    top = max(peak, drawn or 0.0) or 1.0
    rows = max(1, height - 2)
    lines = [_row(columns, top, drawn, row, rows) for row in reversed(range(rows))]
    refused = frozenset(place + _LABEL for place, column in enumerate(columns) if column.refused)
    return Plot(_title(unit, limit, drawn, searched, columns), [*lines, *_axis(columns, since, until, count)], refused)


def what_binds(targets: Mapping[str, Sequence[Stretch]], since: float) -> tuple[Unit, float | None, bool]:
    """What to plot: requests, or tokens if those bind; their limit per minute; and whether that is a search's pace."""
    lately = [each for stretches in targets.values() for each in stretches if each.began_at >= since]
    held = {cause: sum(each.held.get(cause, 0.0) for each in lately) for cause in ("requests", "tokens")}
    last = [stretches[-1] for stretches in targets.values() if stretches]
    tokens = _limit(last, ("tpm",))
    if tokens is not None and held["tokens"] > held["requests"]:
        return "tokens", tokens, False
    if any(each.pace is not None for each in last):
        return "requests", sum((each.pace or 0.0) * _MINUTE for each in last), True
    return "requests", _limit(last, ("rpm",)), False


def _limit(last: Sequence[Stretch], names: Sequence[str]) -> float | None:
    """A limit of all targets together; None if that of one of them is unknown."""
    found = [each.allows.get(name) for each in last for name in names]
    known = [each for each in found if each is not None]
    return sum(known) if known and len(known) == len(found) else None


def _columns(
    targets: Mapping[str, Sequence[Stretch]],
    happenings: Sequence[Happening],
    since: float,
    until: float,
    count: int,
    unit: Unit,
) -> list[Column]:
    columns = [Column() for _ in range(count)]
    span = max(until - since, 1.0) / count
    for stretches in targets.values():
        for each in stretches:
            if each.began_at + each.seconds > since:
                _spread(each, columns, since, span, unit)
    marks = [(each.at, each.until or each.at, PAUSED) for each in spells(happenings, until)]
    marks += [(each.at, each.at, CHANGED) for each in happenings if each.kind == "change"]
    for first, last, mark in marks:
        begin, end = int((first - since) / span), int((last - since) / span)
        for place in range(max(0, begin), min(count - 1, end) + 1):
            if mark == PAUSED or columns[place].mark != PAUSED:
                columns[place].mark = mark
    return columns


def _spread(stretch: Stretch, columns: list[Column], since: float, span: float, unit: Unit) -> None:
    """Add a stretch to the columns that it covers, each with its share."""
    whole = stretch.sent if unit == "requests" else stretch.input_tokens + stretch.output_tokens
    begin, length = stretch.began_at - since, max(stretch.seconds, 1e-3)
    for place in range(max(0, int(begin / span)), min(len(columns) - 1, int((begin + length) / span)) + 1):
        covered = min(begin + length, (place + 1) * span) - max(begin, place * span)
        if covered > 0:
            columns[place].rate += whole * covered / length / span * _MINUTE
            columns[place].refused |= stretch.refused > 0


def _row(columns: Sequence[Column], top: float, limit: float | None, row: int, rows: int) -> str:
    """One line of the plot; row 0 is the lowest."""
    label = _short(top) if row == rows - 1 else "0" if row == 0 else ""
    height = limit is not None and min(rows - 1, int(limit / top * rows - 1e-9))
    drawn = []
    for column in columns:
        eighths = round(min(1.0, column.rate / top) * rows * 8) - row * 8
        least = 1 if column.rate > 0 and row == 0 else 0
        block = BLOCKS[max(least, min(8, eighths))]
        drawn.append(LIMIT if block == " " and height is not False and row == height else block)
    return f"{label:>{_LABEL - 1}} {''.join(drawn)}"


def _axis(columns: Sequence[Column], since: float, until: float, count: int) -> list[str]:
    """The line of marks, and the line of times."""
    marks = "".join(column.mark if column.mark != " " else "─" for column in columns)
    form = "%H:%M:%S" if until - since < 900 else "%H:%M" if until - since < 86_400 else "%m-%d %H:%M"
    first, last = (time.strftime(form, time.localtime(at)) for at in (since, until))
    middle = time.strftime(form, time.localtime((since + until) / 2))
    gap = count - len(first) - len(last)
    times = f"{first}{middle:^{gap}}{last}" if gap > len(middle) + 2 else f"{first:<{max(0, count)}}"
    return [f"{'':{_LABEL}}{marks}", f"{'':{_LABEL}}{times}"[: _LABEL + count]]


def _title(unit: Unit, limit: float | None, drawn: float | None, searched: bool, columns: Sequence[Column]) -> str:
    parts = [f"{unit.capitalize()} a minute"]
    if limit is not None:
        name = "pace that is tried" if searched else "limit"
        parts.append(f"{name} {limit:,.0f}" + (f" {LIMIT}" if drawn is not None else ", far above"))
    else:
        parts.append("no limit is known")
    if any(column.mark == PAUSED for column in columns):
        parts.append(f"{PAUSED} paused")
    if any(column.mark == CHANGED for column in columns):
        parts.append(f"{CHANGED} changed")
    return " · ".join(parts)


def _short(rate: float) -> str:
    return figures.short(round(rate)) if rate >= 10 else f"{rate:.1f}"
