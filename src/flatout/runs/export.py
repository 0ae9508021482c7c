"""From a run file to an output file, at any time: while the run goes on, after a crash, when it is done."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec

from flatout.store import Item, RunReader

from .write import Answered, check_output, write

LAST = 2**62


def export(
    run_file: str | os.PathLike[str],
    output: str,
    *,
    select: Literal["all", "answered", "failed"] = "all",
    columns: Sequence[str] | None = None,
    rows: int | None = None,
    format: str | None = None,
    neutralise: bool = False,
) -> int:
    """Write a run's finished rows, in input order, and return how many there are.

    A reader of ``output`` never sees half a file, and the run is not disturbed.

    Args:
        run_file: the run.
        output: a file, its format named by its suffix, or ``-`` for JSONL on standard output.
        select: all finished rows, the answered or the failed ones.
        columns: the input's columns, when known.
        rows: the first so many rows of the input alone.
        format: the output's format; wins over the suffix.
        neutralise: see `flatout.runs.write.write`.

    Raises:
        ConfigError: the output cannot be written there.
        StoreError: the run file cannot be read, or the output not be written.
    """
    check_output(output, format=format)
    last = LAST if rows is None else rows - 1
    with RunReader.open(run_file) as reader:

        def answered() -> Iterator[Answered]:
            return map(_answered, reader.items(select, last=last))

        return write(output, answered, columns, format=format, neutralise=neutralise)


def _answered(item: Item) -> Answered:
    columns: dict[str, Any] = msgspec.json.decode(item.input) if item.input is not None else {"row": item.index + 1}
    answer: Any = msgspec.json.decode(item.output) if item.output is not None else item.answer
    error = None
    if item.error is not None:
        error = f"{item.error}: {' '.join((item.error_message or '').split())}".rstrip(": ")
    return Answered(
        columns=columns,
        answer=answer,
        error=error,
        finish_reason=item.finish_reason,
        model=item.model,
        input_tokens=item.input_tokens,
        output_tokens=item.output_tokens,
        cost=item.cost,
        attempts=item.attempts,
        seconds=round(item.seconds, 3) if item.seconds is not None else None,
    )
