"""What the parent and a worker say to each other. Pure: nothing here reads or writes a socket.

A message is a length of four bytes, then MessagePack. Each side gathers what it has to say for a moment, so that one
message carries many rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from flatout import errors
from flatout.client.change import Change
from flatout.errors import FlatoutError
from flatout.progress._counters import Progress
from flatout.runs.skips import Skip
from flatout.store.course import Happening, Stretch
from flatout.text.halves import readable

from .outset import Outset

_LENGTH = 4  # bytes of a message's length


class Order(Struct, array_like=True, omit_defaults=True):
    """What the parent tells a worker.

    Attributes:
        outset: how to begin; in the first message only.
        calls: rows to ask: the row's index, and its call as JSON.
        noted: the indices of rows whose attempt is in the run file now, and may be sent.
        granted: the tickets of reservations that the budget has room for.
        refused: the tickets of those that it has no room for, and why.
        stops: how often the run was told to stop.
        last: whether no more rows will come.
        changes: what a person changes while the run goes.
        window: the most rows under way at once from now on; 0 leaves that.
        drains: whether a run that stops waits for its attempts in flight, however long they take.
        skips: rows that it has, or that come with this order, and that are not to be asked.
        at_end: whether the input was read to its end; rows that are asked again may still come.
    """

    outset: Outset | None = None
    calls: list[tuple[int, bytes]] = []
    noted: list[int] = []
    granted: list[int] = []
    refused: list[tuple[int, str]] = []
    stops: int = 0
    last: bool = False
    changes: list[Change] = []
    window: int = 0
    drains: bool = False
    skips: list[Skip] = []
    at_end: bool = False


Note = tuple[int, int, str, float, float | None, str | None, str | None]
"""The parameters of `flatout.store.RunFile.note_attempt`."""


class Account(Struct, array_like=True, frozen=True):
    """What a worker has spent so far; see `flatout.money.purse.Purse`."""

    spent: float = 0.0
    unknown: int = 0
    reckoned: float = 0.0


class Report(Struct, array_like=True, omit_defaults=True):
    """What a worker tells the parent.

    Attributes:
        account: what it has spent so far.
        notes: attempts that wait to be sent until the run file has them.
        failed: attempts that failed: the row's index, the attempt's number, and whether it may be paid for.
        items: finished rows: the values of an `flatout.store.Item`, without what the parent knows itself.
        dropped: the indices of rows that were given and will not be asked, because the run is stopping.
        reserves: reservations: a ticket, the kind of attempt, and the most US dollars that it may cost.
        released: reservations that ended: the ticket, and what the attempt cost; None if that is unknown.
        progress: the worker's counters, with ``items`` counted.
        stretches: what its targets did in stretches of time.
        happenings: what happened to them.
        metrics: its metrics, as Prometheus' text.
        logged: lines of the log: the level, and the text.
        failure: what ended the worker: the error's class and message.
    """

    account: Account = Account()
    notes: list[Note] = []
    failed: list[tuple[int, int, bool]] = []
    items: list[list[Any]] = []
    dropped: list[int] = []
    reserves: list[tuple[int, str, float]] = []
    released: list[tuple[int, float | None]] = []
    progress: Progress | None = None
    logged: list[tuple[int, str]] = []
    failure: tuple[str, str] | None = None
    metrics: bytes = b""
    stretches: list[Stretch] = []
    happenings: list[Happening] = []


def fault(name: str, message: str) -> FlatoutError:
    """The error that ended a worker, from its class and message."""
    kind = getattr(errors, name, None)
    return kind(message) if isinstance(kind, type) and issubclass(kind, FlatoutError) else FlatoutError(message)


_encoder = msgspec.msgpack.Encoder()
_orders = msgspec.msgpack.Decoder(Order)
_reports = msgspec.msgpack.Decoder(Report)

decode_order = _orders.decode
decode_report = _reports.decode


def encode(message: Order | Report) -> bytes:
    """A message as it goes over the socket."""
    try:
        body = _encoder.encode(message)
    except UnicodeEncodeError:  # half of a surrogate pair, which some JSON decoders let in
        body = _encoder.encode(_whole(msgspec.to_builtins(message, builtin_types=(bytes,))))
    return len(body).to_bytes(_LENGTH, "big") + body


def _whole(value: Any) -> Any:
    """A copy of a value in which UTF-8 can encode every text."""
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    return [_whole(item) for item in value] if isinstance(value, list | tuple) else value


class Incoming:
    """Cuts what arrives into messages."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def take(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete with ``data``, without their lengths."""
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _LENGTH:
            end = start + _LENGTH + int.from_bytes(buffer[start : start + _LENGTH], "big")
            if len(buffer) < end:
                break
            yield bytes(buffer[start + _LENGTH : end])
            start = end
        del buffer[:start]
