"""A few calls of a durable run, asked before the others: their results are in the run file when the run begins."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from flatout.store import RunFile, RunReader
from flatout.tasks.closing import reading
from flatout.values import Call, Result

from .calls import CallStep, DurableCalls
from .mismatch import mismatch
from .opening import StorePath
from .records import content, fingerprint, makes_no_call, result_of
from .run import Asker, run_durably


class Chosen(Struct, frozen=True, gc=False):
    """A call of the sample, and its place in the run."""

    index: int
    call: Call


class _Sample(DurableCalls[Chosen]):
    """Asks single calls of a run that have no result."""

    async def steps(self, values: Iterable[Chosen] | AsyncIterable[Chosen]) -> AsyncIterator[CallStep]:
        async with reading(values) as chosen:
            async for each in chosen:
                yield CallStep(each.index, each.call, each.call, content(each.call))


def sample_durably(
    chosen: AsyncIterable[Chosen], place: StorePath, *, asker: Asker, job: Mapping[str, Any]
) -> AsyncGenerator[Result[Any], None]:
    """Ask some calls of a run, and keep their results in its file, where the run itself will find them."""

    def begin(store: RunFile, name: str) -> _Sample:
        return _Sample(store, name, False, asker)

    return run_durably(begin, chosen, place, job=job, asker=asker, leaves="interrupted")


def finished_in(place: StorePath, job: Mapping[str, Any]) -> dict[int, bytes]:
    """The fingerprints of the calls that have a result in a run file, by their places. The file need not exist.

    Raises:
        RunMismatch: it belongs to another job.
        StoreError: it is no run file, or is damaged.
    """
    if not Path(place).exists():
        return {}
    with RunReader.open(place) as reader:
        reader.check_job(job)
        found = (each for each in reader.finished() if each.state != "unsent" and not makes_no_call(each))
        return {each.index: each.fingerprint for each in found}


def check_same_call(place: StorePath, index: int, call: Call, known: bytes) -> None:
    """Compare a call with the fingerprint of the one that has a result in its place.

    Raises:
        RunMismatch: it is another call.
        StoreError: as for `finished_in`.
    """
    if known != fingerprint(made := content(call)):
        with RunReader.open(place) as reader:
            raise mismatch(str(place), f"row {index + 1}", reader.item(index), made, None)


def results_in(place: StorePath, chosen: Sequence[Chosen]) -> list[Result[Any]]:
    """The results of some calls in a run file.

    Raises:
        StoreError: as for `finished_in`.
    """
    if not chosen:
        return []
    with RunReader.open(place) as reader:
        items = [(each, item) for each in chosen if (item := reader.item(each.index)) is not None]
    return [result_of(item, each.call) for each, item in items]
