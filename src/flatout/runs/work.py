"""One row, ready to ask. Everything about it that can fail has already been done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from flatout.durable.records import content, fingerprint
from flatout.lanes.batch.row import Before
from flatout.values import Call

from .input.rows import Row
from .output.export import OwnRow
from .prompts.recipe import Recipe
from .stored import restored, stored


class Work(Struct, frozen=True):
    """One row to ask.

    Attributes:
        index: its place in the input, from 0.
        row: the row.
        kept: the row as the run file keeps it.
        call: the call to make.
        made: the call's `content`.
        fingerprint: the digest of that.
        before: what batches have answered to it before.
    """

    index: int
    row: Row
    kept: bytes
    call: Call
    made: bytes
    fingerprint: bytes
    before: Before | None = None

    @classmethod
    def of(cls, index: int, row: Row, recipe: Recipe) -> Work:
        """Prepare the work for a row.

        Raises:
            ConfigError: the row makes no call, or cannot be kept.
        """
        call = recipe.call(row)
        made = content(call)
        return cls(index, row, stored(row), call, made, fingerprint(made))


def own_rows(rows: Iterable[tuple[int, Row]], recipe: Recipe) -> Iterator[OwnRow]:
    """The input's rows, read once more for a run file that does not hold them."""
    for index, row in rows:
        work = Work.of(index, row, recipe)
        yield OwnRow(index, row.at, work.fingerprint, restored(work.kept))
