"""Reads run files and makes a report of them."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from flatout._version import __version__
from flatout.look.course import Course
from flatout.look.facts import facts_of
from flatout.look.left import paced
from flatout.store import RunReader

from .compare import compared, overlaid, same_rows
from .model import Report, Rows, Run
from .one import clock_of, run_of, sums_of
from .packing import MOST_ROWS, Table
from .variants import names_of


def gather(places: Sequence[str | os.PathLike[str]], *, most: int = MOST_ROWS, now: float | None = None) -> Report:
    """Make the report of one run, or of several side by side.

    Args:
        places: the run files.
        most: the most rows in the table, and as many failed ones more.
        now: Unix time; by default the present.

    Raises:
        StoreError: a run file cannot be read.
    """
    now = time.time() if now is None else now
    paths = [Path(place) for place in places]
    names = _names(paths)
    found = [_one(path, name, most, now, len(paths) == 1) for path, name in zip(paths, names, strict=True)]
    runs = tuple(each.run for each in found)
    several = len(runs) > 1
    return Report(
        title=" and ".join(names) if len(names) < 3 else f"{names[0]} and {len(names) - 1} others",
        made_at=now,
        version=__version__,
        runs=runs,
        compared=(*compared(runs), *same_rows(paths, names)) if several else (),
        overlaid=overlaid(runs) if several else (),
        rows=found[0].rows,
    )


class _Found(Struct, frozen=True):
    run: Run
    rows: Rows | None


def _names(paths: Sequence[Path]) -> list[str]:
    """The files' names; with their folders if two have the same."""
    short = [path.name.removesuffix(".flatout") for path in paths]
    return short if len(set(short)) == len(short) else [str(path).removesuffix(".flatout") for path in paths]


def _one(path: Path, name: str, most: int, now: float, with_rows: bool) -> _Found:
    with RunReader.open(path) as reader:
        info, facts, course = reader.info(), facts_of(reader), Course()
        course.refresh(reader)
        facts = paced(facts, course, now)
        variants = names_of(info.job)
        with_rows = with_rows and facts.gateway is None
        table = Table(reader, facts.answered, facts.failed + facts.unsent, variants, most) if with_rows else None
        sums = sums_of(reader, clock_of(info, facts, course), variants, table.add if table is not None else None)
        run = run_of(name, info, facts, course, sums, now)
        return _Found(run, table.rows() if table is not None else None)
