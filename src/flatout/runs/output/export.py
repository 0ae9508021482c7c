"""Writes an output file from a run file, at any time: during the run, after a crash, or at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from flatout.durable.records import is_cached, trail_of
from flatout.errors import RunDamaged, RunMismatch
from flatout.runs.stored import restored
from flatout.store import Choice, Item, RunReader, salvage
from flatout.values.result import queued

from .answered import AnsweredRow, named_error
from .claim import Claim
from .write import check_output, write

TYPES = "types"
"""The fact in the run file that holds the input's types, if it keeps the input's rows; see
`flatout.runs.input.begun.Input`.
"""

_UNREADABLE = (msgspec.DecodeError, ValueError, TypeError, RecursionError)
"""The errors of decoding bytes that once were valid JSON."""

_seconds_by_cause = msgspec.json.Decoder(dict[str, float]).decode

_NAMED = 5  # rows that a message names

ReadItems = Callable[[], Iterator[Item]]


class OwnRow(Struct, frozen=True):
    """A row of the input, read anew.

    Attributes:
        index: its place in the input, from 0.
        at: its place in words.
        fingerprint: the fingerprint of its question; see `flatout.durable.records.fingerprint`.
        columns: its values, as JSON has them.
    """

    index: int
    at: str
    fingerprint: bytes
    columns: Mapping[str, Any]


OwnRows = Callable[[], Iterator[OwnRow]]
"""Reads the input anew, in order."""


def export(
    run_file: str | os.PathLike[str],
    output: str,
    *,
    select: Choice = "all",
    columns: Sequence[str] | None = None,
    at_least: int = 0,
    own: OwnRows | None = None,
    types: str | None = None,
    format: str | None = None,
    delimiter: str | None = None,
    neutralise: bool = False,
    salvaged: bool = False,
    claim: Claim | None = None,
    warn: Callable[[str], None] | None = None,
    before: Callable[[], object] = lambda: None,
) -> int:
    """Write a run's finished rows, in input order, and return their number.

    A row that cannot be read does not stop the others. A reader of ``output`` never sees half a file, and the run is
    not disturbed. If the run file has no prompts, a row is shown by its number, and by its id if it has one.

    Args:
        run_file: the run.
        output: a file whose suffix names the format, or ``-`` for JSONL on standard output.
        select: all finished rows, the answered or the failed ones.
        columns: the input's columns, if known.
        at_least: how many results the run file must have; for a caller that has just written them.
        own: reads the input's own rows if the run file does not keep them.
        types: the input's types; None for those in the run file.
        format: the output's format; overrides the suffix.
        delimiter: what stands between the cells of CSV; a comma by default.
        neutralise: see `flatout.runs.output.write.write`.
        salvaged: write everything that can still be read from a damaged run file.
        claim: what the output may replace; None for only what the run itself wrote.
        warn: told, after the output is written, which rows could not be read.
        before: called before each row; what it raises ends the writing, and nothing is replaced.

    Raises:
        ConfigError: the output cannot be written there.
        RunMismatch: a row of the input asks something other than the row that was answered.
        RunDamaged: rows could not be read, and there is no ``warn``; all others are written.
        StoreError: the run file cannot be read, or the output cannot be written.
    """
    claim = claim or Claim.of(run_file)
    check_output(output, format=format, claim=claim)
    damage = _Damage()
    with _opened(run_file, select, at_least, salvaged, damage) as source:
        settled = _Settled(source.look)

        def shown() -> Iterator[AnsweredRow]:
            items = settled()
            rows = _read(items, damage) if own is None else _beside(items, own(), run_file, damage)
            for row in rows:
                before()
                yield row

        written = write(
            output,
            shown,
            columns,
            format=format,
            delimiter=delimiter,
            neutralise=neutralise,
            routed=source.routed(),
            cached=select != "failed" and source.cached(),
            parsed=source.parsed,
            raw=select != "answered" and source.unusable(),
            types=types or source.types,
            claim=claim,
        )
    if damage.rows and warn is None:
        raise RunDamaged(f"{run_file} is damaged: {damage}; all others are written")
    if damage.rows and warn is not None:
        warn(str(damage))
    return written


class _Damage:
    """The indices of the rows that could not be read."""

    def __init__(self) -> None:
        self.rows: set[int] = set()

    def __str__(self) -> str:
        first = ", ".join(f"{index + 1:,}" for index in sorted(self.rows)[:_NAMED])
        more = f" and {len(self.rows) - _NAMED:,} more" if len(self.rows) > _NAMED else ""
        return f"{len(self.rows):,} {'row' if len(self.rows) == 1 else 'rows'} could not be read: {first}{more}"

    def __call__(self, index: int) -> None:
        self.rows.add(index)


class _Source(NamedTuple):
    """A run file that is open for an export.

    Attributes:
        look: reads its items.
        unusable: whether some answers were unusable.
        cached: whether some come from a cache.
        routed: whether some calls had a choice of targets.
        parsed: whether answers were to be parsed.
        types: the types of the rows' columns; None if it does not say.
    """

    look: ReadItems
    unusable: Callable[[], bool]
    cached: Callable[[], bool]
    routed: Callable[[], bool]
    parsed: bool = False
    types: str | None = None


@contextmanager
def _opened(
    run_file: str | os.PathLike[str], select: Choice, at_least: int, salvaged: bool, damage: _Damage
) -> Iterator[_Source]:
    if salvaged:
        states = ("answered",) if select == "answered" else ("failed", "unsent") if select == "failed" else None
        yield _Source(
            lambda: (item for item in salvage(run_file, damage) if states is None or item.state in states),
            lambda: any(item.state != "answered" and item.answer is not None for item in salvage(run_file)),
            lambda: any(map(is_cached, salvage(run_file))),
            lambda: any(item.trail for item in salvage(run_file)),
        )
        return
    with RunReader.open(run_file) as reader:
        if at_least and (found := reader.counts().finished) < at_least:
            raise RunDamaged(
                f"{run_file} has {found:,} of this run's {at_least:,} results: another program replaced it"
            )
        parsed = "output" in (reader.info().job.get("params") or {})
        look = partial(reader.items, select, damaged=damage)
        yield _Source(look, reader.unusable, reader.has_cached, reader.has_trails, parsed, reader.fact(TYPES))


class _Settled:
    """The rows of a run that may still be going on. Every pass yields the rows of the first pass and no others.

    Some outputs take two passes. A row that finishes in between might have a column that the first pass did not see.
    One bit a row remembers.
    """

    def __init__(self, look: ReadItems) -> None:
        self._look = look
        self._met: bytearray | None = None

    def __call__(self) -> Iterator[Item]:
        met = self._met
        if met is None:
            return self._first()
        return (
            item for item in self._look() if len(met) > item.index >> 3 and met[item.index >> 3] >> (item.index & 7) & 1
        )

    def _first(self) -> Iterator[Item]:
        met = bytearray()
        for item in self._look():
            byte = item.index >> 3
            if byte >= len(met):
                met.extend(bytes(byte + 1 - len(met)))
            met[byte] |= 1 << (item.index & 7)
            yield item
        self._met = met


def _read(items: Iterator[Item], damage: _Damage) -> Iterator[AnsweredRow]:
    """Items as rows of the output. Items whose JSON is damaged are noted in ``damage``."""
    for item in items:
        try:
            yield _answered(item)
        except _UNREADABLE:
            damage(item.index)


def _beside(
    items: Iterator[Item], rows: Iterator[OwnRow], run_file: str | os.PathLike[str], damage: _Damage
) -> Iterator[AnsweredRow]:
    """Items beside their rows of the input, both in order.

    Raises:
        RunMismatch: the input has changed, and an answer would stand beside another question.
    """
    kept = f"the answers are kept in {os.fspath(run_file)}; put the input back as it was and run the command again"
    for item in items:
        row = next((row for row in rows if row.index == item.index), None)
        if row is None:
            raise RunMismatch(f"the input has become shorter: row {item.index + 1} is gone; {kept}")
        if row.fingerprint != item.fingerprint:
            raise RunMismatch(f"{row.at} has changed since it was asked; {kept}")
        try:
            yield _answered(item, row.columns)
        except _UNREADABLE:
            damage(item.index)


def _columns(item: Item) -> dict[str, Any]:
    if item.input is not None:
        return restored(item.input)
    known: dict[str, Any] = {"row": item.index + 1} if item.prompt is None else {}
    if item.id is not None:
        known["id"] = item.id
    if item.prompt is not None:
        asked = restored(item.prompt)
        known |= {name: asked[name] for name in ("system", "prompt", "messages") if name in asked}
    return known


def _answered(item: Item, columns: Mapping[str, Any] | None = None) -> AnsweredRow:
    trail = trail_of(item)
    unusable = item.answer if item.state != "answered" else None
    answer: Any = msgspec.json.decode(item.output) if item.output is not None else item.answer
    return AnsweredRow(
        columns=_columns(item) if columns is None else columns,
        answer=answer if unusable is None else None,
        error=named_error(item.error, item.error_message or "") if item.error is not None else None,
        finish_reason=item.finish_reason,
        model=item.model,
        input_tokens=item.input_tokens,
        output_tokens=item.output_tokens,
        cost=item.cost,
        attempts=item.attempts,
        seconds=_rounded(item.seconds),
        provider_seconds=_rounded(item.provider_seconds),
        queued_seconds=_rounded(_queued(item)),
        target=trail[-1].target if trail else None,
        cached=is_cached(item),
        repaired=bool(item.repaired),
        raw_answer=unusable,
    )


def _queued(item: Item) -> float | None:
    """Seconds in which no attempt was on the wire; None if they are not known."""
    if item.waits is None:
        return None if item.seconds is None else 0.0
    try:
        return queued(_seconds_by_cause(item.waits))
    except msgspec.DecodeError:  # the answer beside them may be good
        return None


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
