"""Checks a whole input before the first call is paid for.

An error on line 900,000 should be found before 899,999 answers have been bought. One pass checks that every row can be
read, kept and turned into a call, and that no id occurs twice. It remembers eight bytes a row, and afterwards a
filter of the ids. On resume the same pass
hands each row to `Verify`, which compares it with the run file.
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
from flatout.text import figures
from flatout.values import Call

from .begun import Input
from .ids import Ids
from .rows import Row

MOST_COLUMNS = 10_000
"""Most different columns that are remembered. Beyond that, an input's keys are data, not columns."""

_BUCKETS = 256
_MASK = (1 << 64) - 1


class Findings(Struct, frozen=True):
    """The findings of `check`.

    Attributes:
        rows: the number of rows, at most the limit; None if the input can be read only once.
        ids: how many of them have an id.
        columns: every column, in the order of first appearance; None if unknown or more than 10,000.
        named: those ids; None if unknown.
    """

    rows: int | None
    ids: int = 0
    columns: tuple[str, ...] | None = None
    named: Ids | None = None

    def find(self, index: int | None, id: str | None) -> None:
        """Find a row by its place, from 0, or by its id, as far as the input is known.

        Raises:
            ConfigError: there is no such row.
        """
        if self.rows is None:
            return
        if index is not None and index >= self.rows:
            raise ConfigError(f"there is no row {index + 1}: the run has {figures.counted(self.rows, 'row')}")
        if id is not None and self.named is not None and not self.named.may_have(id):
            ids = "none has that id" if self.ids else "without ids"
            raise ConfigError(f"there is no row {id[:80]!r}: the run has {figures.counted(self.rows, 'row')}, {ids}")


Accept = Callable[[Call], None]
"""Raises ConfigError for a call whose model or parameters cannot be used."""

Verify = Callable[[Row, Call | None, bytes], None]
"""Receives a valid row, its call if one had to be made, and the row as the run file keeps it."""


def check(
    source: Input,
    recipe: Recipe,
    *,
    limit: int | None = None,
    accept: Accept | None = None,
    verify: Verify | None = None,
) -> Findings:
    """Check every row of an input, or the first ``limit``, against a recipe.

    If the input can be read only once (stdin), only its header and the part that all calls share are checked.

    Args:
        source: the input.
        recipe: how a row becomes a call.
        limit: the most rows to check.
        accept: checks every call, or one on behalf of all if rows cannot choose model or parameters.
        verify: receives every valid row, so that one pass does everything.

    Raises:
        ConfigError: the first error, with its line.
    """
    if source.columns is not None:
        recipe.check_columns(source.columns)
    if accept is not None and not recipe.rows_decide(source.format):
        for call in recipe.commons():
            accept(call)
    if not source.repeatable:
        return Findings(None, columns=source.columns)
    hashes = [array("Q") for _ in range(_BUCKETS)]
    named = Ids()
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
            named.add(digest)
            ids += 1
        if not row.columns.keys() <= columns.keys() and len(columns) <= MOST_COLUMNS:
            columns.update(dict.fromkeys(row.columns))
        rows += 1
    _check_unique(islice(source, limit), hashes)
    return Findings(rows, ids, tuple(columns) if len(columns) <= MOST_COLUMNS else None, named)


def check_row(row: Row, recipe: Recipe, accept: Accept | None = None) -> Call | None:
    """Check one row, as `check` does, and return its call if one had to be made.

    Raises:
        ConfigError: the error, with the row's line.
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
    # Different ids may share a hash, so compare the ids themselves.
    first: dict[str, Row] = {}
    for row in rows:
        name = row_id(row)
        if name is None or hash(name) & _MASK not in suspects:
            continue
        before = first.setdefault(name, row)
        if before.at != row.at:
            where = f"on {row.source.unit} {before.line}" if before.source == row.source else f"in {before.at}"
            raise ConfigError(f"{row.at}: the id {name!r} was already used {where}")


def _repeated(bucket: array[int]) -> set[int]:
    """The digests that a bucket holds more than once."""
    if len(set(bucket)) == len(bucket):
        return set()
    return {digest for digest, times in Counter(bucket).items() if times > 1}
