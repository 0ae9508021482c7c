"""What a report says: numbers and words, ready for the page. Nothing here reads or draws."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Numbers = tuple[float | None, ...]

UNKNOWN_COSTS, UNKNOWN_TOKENS = "rows of unknown cost", "rows of unknown tokens"
"""Figures of a run that tell how far its cost and its tokens are known."""

Look = Literal["line", "area", "limit", "steps"]
"""How a series is drawn: ``limit`` is dashed, ``steps`` is a histogram's outline."""


class Series(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One curve.

    Attributes:
        label: its name.
        values: one for each x; None where nothing is known.
        look: see `Look`.
    """

    label: str
    values: Numbers
    look: Look = "line"


class Band(Struct, frozen=True, kw_only=True):
    """A stretch of time that is shaded: a pause, for example. Times are seconds on the x axis."""

    begin: float
    end: float
    label: str


class Mark(Struct, frozen=True, kw_only=True):
    """A moment that is marked: a change by a person, for example."""

    at: float
    label: str


class Plot(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One plot.

    Attributes:
        name: identifies it.
        title: what it shows.
        unit: of the values.
        x: the places of all values; rising.
        x_is: what x is: ``time`` (seconds since the start), or a quantity on a logarithmic axis, in ``x_unit``.
        x_unit: the unit of a quantity.
        series, bands, marks: what is in it.
        note: what to know for reading it.
        top: the end of the scale, if it does not show the highest values.
    """

    name: str
    title: str
    unit: str
    x: tuple[float, ...]
    x_is: Literal["time", "quantity"] = "time"
    x_unit: str = ""
    series: tuple[Series, ...]
    bands: tuple[Band, ...] = ()
    marks: tuple[Mark, ...] = ()
    note: str = ""
    top: float | None = None


class Bar(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One bar: its length, and that in words."""

    label: str
    value: float
    words: str


class Bars(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Figures by category, the longest first, unless the categories have an order."""

    name: str
    title: str
    bars: tuple[Bar, ...]
    note: str = ""


class Cells(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A small table.

    Attributes:
        heads: the columns' names.
        rows: its cells; the first of each row is the row's name.
        shaded: whether the cells' numbers are shaded by their size, as in a confusion table.
    """

    name: str
    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str | int, ...], ...]
    shaded: bool = False
    note: str = ""


class Attention(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that a person should look at.

    Attributes:
        title: what it is, with its count.
        example: the words of the first one.
        row: its row, from 1.
        advice: what to do about it.
        filter: the table's filter that shows these rows.
    """

    title: str
    example: str = ""
    row: int | None = None
    advice: str = ""
    filter: str = ""


class Run(Struct, frozen=True, kw_only=True):
    """One run.

    Attributes:
        name: the run file's name.
        state: ``finished``, ``running``, ``interrupted`` or ``broken off``.
        headline: the outcome in a sentence.
        sentences: what else to know first.
        attention: what needs it.
        facts: labels and texts.
        plots, bars, cells: the pictures.
        figures: numbers by name, for comparisons and programs.
    """

    name: str
    state: str
    headline: str
    sentences: tuple[str, ...]
    attention: tuple[Attention, ...]
    facts: tuple[tuple[str, str], ...]
    plots: tuple[Plot, ...]
    bars: tuple[Bars, ...]
    cells: tuple[Cells, ...]
    figures: dict[str, float | None]


class Rows(Struct, frozen=True, kw_only=True):
    """The table of rows, in columns.

    Attributes:
        columns: the names of the columns.
        packed: the columns, as compressed JSON; each is a list with one value for each row.
        texts: the rows' texts and traces, as compressed JSON, ``together`` rows in each.
        together: how many rows one of ``texts`` holds.
        count: how many rows there are.
        total: how many rows the run has finished.
        note: which rows these are, if not all.
    """

    columns: tuple[str, ...]
    packed: str
    texts: tuple[str, ...]
    together: int
    count: int
    total: int
    note: str = ""


class Served(Struct, frozen=True, kw_only=True):
    """What a live page shows besides.

    Attributes:
        done: the share of the rows that are finished, 0 to 1; None if the number of rows is unknown.
        filters: the filters of the table, with how many rows each finds; None where that is unknown.
        rows: whether there are rows to show.
        flying: the attempts in flight, the oldest first; None if there are none.
        trouble: why the file cannot be read now.
    """

    done: float | None = None
    filters: tuple[tuple[str, int | None], ...] = ()
    rows: bool = False
    flying: Cells | None = None
    trouble: str = ""


class Report(Struct, frozen=True, kw_only=True):
    """A whole report.

    Attributes:
        title: of the page.
        made_at: Unix time.
        version: flatout's.
        runs: the runs.
        compared: their differences, if there are several.
        overlaid: plots with a curve for each run.
        rows: the rows of a single run.
        served: what a live page shows besides; its rows come from its server.
    """

    title: str
    made_at: float
    version: str
    runs: tuple[Run, ...]
    compared: tuple[Cells, ...] = ()
    overlaid: tuple[Plot, ...] = ()
    rows: Rows | None = None
    served: Served | None = None
