"""Looking through a whole input before the first call is paid for.

An error on line 900,000 is best found before 899,999 answers have been bought. One pass checks that every row can be
read and kept and makes a call, and that no id is there twice; it remembers eight bytes a row. On resume the same pass
shows each row to whoever holds it against the run file.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice

from msgspec import Struct

from flatout.errors import ConfigError
from flatout.runs.prompts.recipe import Recipe, row_id
from flatout.runs.stored import stored
from flatout.values import Call

from .read import Input
from .rows import Row

MOST_COLUMNS = 10_000
"""Different columns that are remembered; beyond, an input's keys are data of their own, not columns."""

_BUCKETS = 256
_MASK = (1 << 64) - 1


class Findings(Struct, frozen=True):
    """What `check` found.

    Attributes:
        rows: how many rows there are (not more than the limit); None when the input can be read only once.
        ids: how many of them have an id.
        columns: every column that occurs, in the order of first appearance; None when that is not known, or when
            there are more than 10,000.
    """

    rows: int | None
    ids: int = 0
    columns: tuple[str, ...] | None = None


Accept = Callable[[Call], None]
"""Raises ConfigError for a call whose model or parameters cannot be used."""

Verify = Callable[[Row, Call | None, bytes], None]
"""Is shown a row that is right, its call where that had to be made, and the row as the run file keeps it."""


def check(
    source: Input,
    recipe: Recipe,
    *,
    limit: int | None = None,
    accept: Accept | None = None,
    verify: Verify | None = None,
) -> Findings:
    """Check every row of an input, or the first ``limit``, against a recipe.

    Of an input that can be read only once (stdin), only the header is checked, and what all calls have in common.

    Args:
        source: the input.
        recipe: how a row becomes a call.
        limit: the most rows to look at.
        accept: looks at every call, or at one for all where rows have no say.
        verify: is shown every row that is right, so that one pass does for everything that there is to find out.

    Raises:
        ConfigError: the first thing that is wrong, with its line.
    """
    if source.columns is not None:
        recipe.check_columns(source.columns)
    if accept is not None and not recipe.rows_decide(source.format):
        for call in recipe.commons():
            accept(call)
    if not source.repeatable:
        return Findings(None, columns=source.columns)
    hashes = [array("Q") for _ in range(_BUCKETS)]
    columns: dict[str, None] = dict.fromkeys(source.columns or ())
    rows = ids = 0
    for row in islice(source, limit):
        made = check_row(row, recipe, accept)
        kept = stored(row)
        if verify is not None:
            verify(row, made, kept)
        again = row.variant is not None and not row.variant.first
        if not again and (name := row_id(row) if made is None else made.id) is not None:
            digest = hash(name) & _MASK
            hashes[digest % _BUCKETS].append(digest)
            ids += 1
        if not row.columns.keys() <= columns.keys() and len(columns) <= MOST_COLUMNS:
            columns.update(dict.fromkeys(row.columns))
        rows += 1
    _check_unique(islice(source, limit), hashes)
    return Findings(rows, ids, tuple(columns) if len(columns) <= MOST_COLUMNS else None)


def check_row(row: Row, recipe: Recipe, accept: Accept | None = None) -> Call | None:
    """Check one row, as `check` does; return its call, where that had to be made.

    Raises:
        ConfigError: what is wrong, with the row's line.
    """
    call = recipe.check(row)
    if accept is not None and call is not None and recipe.rows_decide(row.source.format):
        try:
            accept(call)
        except ConfigError as error:
            raise row.naming(error) from None
    return call


def _check_unique(rows: Iterator[Row], hashes: list[array[int]]) -> None:
    suspects = {digest for bucket in hashes for digest in _repeated(bucket)}
    if not suspects:
        return
    # Different ids may share a hash, so only the ids themselves decide.
    lines: dict[str, int] = {}
    for row in rows:
        name = row_id(row)
        if name is not None and hash(name) & _MASK in suspects and lines.setdefault(name, row.line) != row.line:
            raise ConfigError(f"{row.at}: the id {name!r} was already used on {row.source.unit} {lines[name]}")


def _repeated(bucket: array[int]) -> set[int]:
    """What is in a bucket more than once."""
    if len(set(bucket)) == len(bucket):
        return set()
    return {digest for digest, times in Counter(bucket).items() if times > 1}
