"""The ledger of the batch lane: what was handed to a provider's batch endpoint, and what became of each row.

It answers one question reliably: may this row be sent? A row stands in the ledger before its batch is sent, so after a
crash at any instant it is known which rows a provider may have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec
from msgspec import Struct

from .queries import queries

if TYPE_CHECKING:
    from .reader import RunReader
    from .rows import Item
    from .writer import Writer

BatchState = Literal["intended", "open", "ended", "dropped"]
RowState = Literal["sent", "answered", "expired", "cancelled", "missing", "back", "kept"]
LedgerChange = Literal[
    "uploaded", "open", "result", "unrun", "miss", "back", "end", "drop", "intend", "place", "tell", "reopen", "clear"
]
"""The kinds of changes, in the order of execution within a commit."""

MONEY = "batch_money"
"""The fact in the run file that holds what is known of the money of its batches (a
`flatout.lanes.batch.money.Record`)."""

LANE = "lane"
"""The fact in the run file that names the lane of its rows."""

SEEN = "batches_seen"
"""The fact in the run file that holds what providers last said of the open batches: a `Seen` by the batch's number."""

_SQL = queries("ledger")
_TOGETHER = 1_000
"""Rows that are read at once, with their results."""

_LONG = (6, 8)
"""The columns of ``rows`` that may be long: the results."""

_encode = msgspec.msgpack.Encoder().encode


class Told(Struct, frozen=True, array_like=True, gc=False):
    """What the live endpoint would have answered to a row: its HTTP status and body."""

    status: int
    body: bytes


_decode = msgspec.msgpack.Decoder(tuple[Told, ...]).decode


class Batch(Struct, frozen=True, kw_only=True):
    """One batch.

    Attributes:
        number: from 1.
        target: ``endpoint/model``.
        key: distinguishes keys and addresses without showing them; see `flatout.values.Target.key`.
        stamp: our label at the provider; each row's id begins with it.
        state: ``intended``: it may have been created; ``open``: the provider has it; ``ended``: its results are here;
            ``dropped``: it was never run.
        rows: how many rows stand in it.
        size: bytes of their requests.
        intended_at: before anything was sent; Unix time.
        input_file: the uploaded file, at the provider.
        job: the provider's name for it.
        opened_at: when the provider had taken it.
        ended_at: when its results were here, or it was dropped.
        files: the files of results, at the provider, as JSON.
        reason: why it was dropped.
        cleared_at: when its files at the provider were deleted.
    """

    number: int
    target: str
    key: str
    stamp: str
    state: BatchState
    rows: int
    size: int
    intended_at: float
    input_file: str | None = None
    job: str | None = None
    opened_at: float | None = None
    ended_at: float | None = None
    files: bytes | None = None
    reason: str | None = None
    cleared_at: float | None = None

    @property
    def all_files(self) -> list[str]:
        """The names of its files at the provider."""
        found = self.result_files
        return found if self.input_file is None else [self.input_file, *found]

    @property
    def result_files(self) -> list[str]:
        """The names of its files of results at the provider."""
        return [] if self.files is None else msgspec.json.decode(self.files, type=list[str])


class Seen(Struct, frozen=True, gc=False):
    """What a provider said of a batch at the last look.

    Attributes:
        at: when that was; Unix time.
        state: the provider's own word, such as ``in progress``; "" if it has none.
        done: how many rows it says are finished; None if it does not say. Such counts drift.
    """

    at: float
    state: str = ""
    done: int | None = None


class BatchRow(Struct, frozen=True, gc=False):
    """One row that stands in a batch, or stood in one.

    Attributes:
        index: its place in the input, from 0.
        batch: the number of the latest batch.
        state: ``sent``: a provider may have it; ``answered``: its result is here; ``expired``, ``cancelled``,
            ``missing`` (the results did not mention it) and ``back`` (the batch was refused): it was not run;
            ``kept``: its answer or error stands among the items.
        tries: how many batches it stood in.
        most: the most rows of its next batch; None for as many as fit.
        fingerprint: a digest of the call's content, as in `flatout.store.Item`.
        earlier: MessagePack of the results before this one, after which the model was asked again.
        status, body: the result.
    """

    index: int
    batch: int
    state: RowState
    tries: int
    most: int | None
    fingerprint: bytes
    earlier: bytes | None = None
    status: int | None = None
    body: bytes | None = None

    @property
    def told(self) -> tuple[Told, ...]:
        """All its results, the oldest first."""
        before = () if self.earlier is None else _decode(self.earlier)
        return before if self.status is None else (*before, Told(self.status, self.body or b""))


class Placed(Struct, frozen=True, gc=False):
    """A row that is about to stand in a batch; see `BatchRow`.

    Attributes:
        told: the results to which the model is asked again.
    """

    index: int
    tries: int
    most: int | None
    fingerprint: bytes
    told: Sequence[Told] = ()


class LedgerReader:
    """Reads the ledger in a run file.

    Args:
        reader: of the file.
        former: whether the file is of a version before there was a table of answers. Then only `batches`, `row` and
            `counts` can be read, which is all that anyone wants who does not go on with the run.
    """

    def __init__(self, reader: RunReader, *, former: bool = False) -> None:
        self._reader = reader
        self._former = former

    @property
    def run(self) -> str:
        """Eight digits that tell runs apart. Copies of a run file have the same."""
        return blake2b(repr(self.began).encode(), digest_size=4).hexdigest()

    @property
    def began(self) -> float:
        """When the run began; Unix time."""
        return self._reader.info().created_at

    def batches(self) -> list[Batch]:
        """All batches, in order."""
        return [
            Batch(**dict(zip(Batch.__struct_fields__, row, strict=True)))
            for row in self._reader.select(_SQL["batches"])
        ]

    def rows(self) -> Iterator[BatchRow]:
        """All rows that ever stood in a batch, in index order, with their results; constant memory."""
        start = 0
        while batch := self._reader.select(_SQL["rows"], (start, _TOGETHER), long=_LONG):
            for row in batch:
                yield BatchRow(*row)
            start = batch[-1][0] + 1

    def answers(self) -> int:
        """How many rows have a result that is not among the items yet. Reads all rows."""
        return sum(states.get("answered", 0) for states in self.counts().values())

    def seen(self) -> dict[int, Seen]:
        """What providers last said of the open batches, by number; of no batch that nobody has looked at."""
        try:
            return msgspec.convert(self._reader.fact(SEEN) or {}, dict[int, Seen], strict=False)
        except msgspec.ValidationError:  # from another version
            return {}

    def has_results(self) -> bool:
        """Whether a row has a result that is not among the items yet."""
        return bool(self._reader.select(_SQL["has_results"])[0][0])

    def unread(self) -> set[int]:
        """The batches with results that are not among the items yet."""
        return {number for (number,) in self._reader.select(_SQL["unread"])}

    def index_asked(self) -> None:
        """Prepare for `is_asked`. The list is temporary: nothing is written to the file."""
        for statement in ("forget_asked", "list_asked", "add_asked"):
            self._reader.select(_SQL[statement])

    def index_answered(self) -> None:
        """Prepare for `answered`, as `index_asked` does."""
        for statement in ("forget_kept", "list_kept", "add_kept"):
            self._reader.select(_SQL[statement])

    def is_asked(self, fingerprint: bytes) -> bool:
        """Whether a call of this content stood in a batch, without a result among the items, or was noted since."""
        return bool(self._reader.select(_SQL["is_asked"], (fingerprint,)))

    def answered(self, fingerprint: bytes) -> Item | None:
        """The first answered item of this content whose call stood in a batch; None if there is none."""
        found = self._reader.select(_SQL["answered"], (fingerprint,))
        return self._reader.item(found[0][0]) if found else None

    def note_asked(self, fingerprints: Iterable[bytes]) -> None:
        """Add calls to the list that `is_asked` looks at."""
        for each in fingerprints:
            self._reader.select(_SQL["note_asked"], (each,))

    def row(self, index: int) -> BatchRow | None:
        """One row, without its results; None if it never stood in a batch."""
        found = self._reader.select(_SQL["former_row" if self._former else "row"], (index,))
        return BatchRow(*found[0]) if found else None

    def members(self, number: int) -> list[int]:
        """The indices of a batch's rows, in order."""
        return [index for (index,) in self._reader.select(_SQL["members"], (number,))]

    def counts(self) -> dict[int, dict[RowState, int]]:
        """How many rows of each batch are in each state. Reads all rows."""
        found: dict[int, dict[RowState, int]] = {}
        for number, state, count in self._reader.select(_SQL["former_counts" if self._former else "counts"]):
            found.setdefault(number, {})[state] = count
        return found


class Ledger(LedgerReader):
    """Writes the ledger in a run file. Every method returns once the disk has what it wrote.

    Raises:
        StoreError: the run file can no longer be written.
    """

    def __init__(self, reader: RunReader, writer: Writer) -> None:
        super().__init__(reader)
        self._writer = writer

    async def intend(self, batch: Batch, digest: bytes, rows: Sequence[Placed]) -> None:
        """Record a batch and its rows together, before anything is sent."""
        row = (batch.number, batch.target, batch.key, batch.stamp, batch.rows, batch.size, digest, batch.intended_at)
        number = batch.number
        placed = [(each.index, number, each.tries, each.most, each.fingerprint) for each in rows]
        told = [(each.index, _encode(each.told)) for each in rows if each.told]
        await self._writer.hand_in_together({"intend": [row], "place": placed, "tell": told, "reopen": [(number,)]})

    async def uploaded(self, number: int, file: str) -> None:
        """Record the name of a batch's input file."""
        await self._writer.hand_in("uploaded", (file, number))

    async def open(self, number: int, job: str, at: float) -> None:
        """Record the provider's name for a batch."""
        await self._writer.hand_in("open", (job, at, number))

    async def results(self, number: int, found: Sequence[tuple[int, RowState, int | None, bytes | None]]) -> None:
        """Record results of a batch: index, state, status and body. Those that are here already stay."""
        answered = [(status, body, index, number) for index, state, status, body in found if state == "answered"]
        others = [(state, index, number) for index, state, _, _ in found if state != "answered"]
        await self._writer.hand_in_together({"result": answered, "unrun": others})

    async def end(self, number: int, files: Sequence[str], at: float) -> None:
        """Record that all results of a batch are here. Its other rows are missing."""
        end = (at, msgspec.json.encode(list(files)), number)
        await self._writer.hand_in_together({"miss": [(number,)], "end": [end]})

    async def drop(self, number: int, reason: str, at: float, most: int | None = None) -> None:
        """Record that a batch was not run: its rows without a result go back.

        Args:
            number: the batch.
            reason: why, for people.
            at: Unix time.
            most: the most rows of their next batches; None for as many as fit.
        """
        await self._writer.hand_in_together({"back": [(most, number)], "drop": [(at, reason, number)]})

    async def clear(self, number: int, at: float) -> None:
        """Record that the files of a batch at the provider are deleted."""
        await self._writer.hand_in("clear", (at, number))

    def note_seen(self, seen: Mapping[int, Seen]) -> None:
        """Record what providers say of the open batches. It is written soon, and only for people."""
        self._writer.change("fact", (SEEN, msgspec.json.encode(seen)))

    async def read_members(self, number: int) -> list[int]:
        """`members`, in a thread."""
        return await asyncio.to_thread(self.members, number)


def changes() -> Mapping[Any, str]:
    """The statements that write, in the order of `LedgerChange`."""
    return {name: _SQL[name] for name in get_args(LedgerChange)}
