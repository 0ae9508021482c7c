"""The course of a run in its run file: what each target did in each stretch of time, and what happened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import Struct

from flatout.events import WAITS

from .queries import queries

if TYPE_CHECKING:
    from .reader import RunReader

Kind = Literal["begin", "end", "pause", "stop", "down", "full", "back", "crowded", "capped", "change"]
"""What can happen: a process takes up the run or leaves it; a target is paused, stopped, down, without room, or back;
its limits seem to be used by others too; the open files bound the calls in flight; a person changes something."""

CAUSES: Mapping[str, str] = {**WAITS, "input": "more input", "function": "the program's own functions"}
"""What may hold calls up, with a description for people."""

TRIED = "tried"
"""Stands among the limits of a stretch if its concurrency was found by trying, and not given."""

TOLD = "told "
"""Begins a name that stands among the limits of a stretch if the user did not give that limit: ``told rpm``. The
provider named it, and no larger one that the user gives raises it."""

SHARED = "shared"
"""Stands among the limits of a stretch if other programs use them together with the run."""

Deed = Literal["pause", "resume", "stop", "drain"]
"""What a change can do to the whole run. The last two end it: it waits a while for what is in flight, or as long as
that takes."""

_SQL = queries("course")
_TOGETHER = 2_000
"""Rows that are read at once."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, float]).decode


class Stretch(Struct, frozen=True, kw_only=True):
    """What one target did in a stretch of time, for one process.

    Attributes:
        began_at: Unix time, a multiple of ``seconds``; so the stretches of several processes cover each other.
        seconds: its length. A run's stretches get longer as it goes on; see `flatout.durable.course`.
        target: the target's name.
        sent: attempts that began.
        answered: attempts that ended with an answer.
        refused: attempts that were refused for their rate (429).
        failed: attempts that failed otherwise.
        in_flight: attempts on the wire at its end.
        waiting: calls that wait for the target at its end.
        held: the seconds for which the queue was held, by cause; see `CAUSES`. The other seconds are divided among the
            calls that wait elsewhere, such as for the prompt cache, and those on the wire, which are left out.
        allows: the limits in force at its end, by their names in `flatout.Limits`, per minute; ``concurrency`` as it
            is, and `TRIED` beside it if it was found by trying. `TOLD` and its name beside one that the provider named.
            `SHARED` if others use them, too. A limit that is not known is left out.
        pace: requests per second, while the limit is searched; None if there is no search.
        input_tokens, output_tokens: of the calls that ended.
        cost: US dollars of those calls, as far as they are known.
        latency_p50, latency_p95: seconds that their last attempts took; None if none was answered.
    """

    began_at: float
    seconds: float
    target: str
    sent: int
    answered: int
    refused: int
    failed: int
    in_flight: int
    waiting: int
    held: Mapping[str, float]
    allows: Mapping[str, float]
    pace: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    latency_p50: float | None = None
    latency_p95: float | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing was done, and nothing waited."""
        ended = self.answered + self.refused + self.failed
        return not (self.sent or ended or self.in_flight or self.waiting or self.held)

    def row(self) -> tuple[Any, ...]:
        """Its values as the file keeps them."""
        fields = msgspec.structs.asdict(self) | {"held": _encode(self.held), "allows": _encode(self.allows)}
        return tuple(fields.values())


class CallSums(Struct, frozen=True):
    """What calls have cost together.

    Attributes:
        cost: US dollars, as far as they are known.
        input_tokens, output_tokens: of the calls that ended, as far as the provider told.
    """

    cost: float
    input_tokens: int
    output_tokens: int


class Happening(Struct, frozen=True, kw_only=True):
    """Something that happened in a run.

    Attributes:
        at: Unix time.
        until: when it is over, as far as that is known in advance; None for a moment, or if it is not known.
        kind: see `Kind`.
        target: the target's name; None for the whole run.
        what: the reason or the change, for people.
        by: who made a change.
        does: what a change does to the whole run; None for something else, such as another limit.
    """

    at: float
    until: float | None = None
    kind: Kind
    target: str | None = None
    what: str = ""
    by: str | None = None
    does: Deed | None = None


class CourseReader:
    """Reads the course in a run file.

    Each method takes the number after which to read, and gives each value with its own number. So whoever watches a
    run reads only what is new.

    Args:
        reader: of the run file.
        former: whether only the words of a change say there what it does.
    """

    def __init__(self, reader: RunReader, *, former: bool = False) -> None:
        self._reader = reader
        self._happenings = "former_happenings" if former else "happenings"

    def stretches(self, after: int = 0) -> Iterator[tuple[int, Stretch]]:
        """The stretches that were written after one of them, in order; constant memory."""
        for number, *values in self._read("stretches", after):
            fields = dict(zip(Stretch.__struct_fields__, values, strict=True))
            yield number, Stretch(**fields | {"held": _decode(fields["held"]), "allows": _decode(fields["allows"])})

    def happenings(self, after: int = 0) -> Iterator[tuple[int, Happening]]:
        """What happened after something that happened, in order; constant memory."""
        for number, *values in self._read(self._happenings, after):
            yield number, Happening(**dict(zip(Happening.__struct_fields__, values, strict=True)))

    def sums(self) -> CallSums:
        """What all calls have cost together."""
        return CallSums(*self._reader.select(_SQL["sums"])[0])

    def _read(self, statement: str, after: int) -> Iterator[tuple[Any, ...]]:
        while rows := self._reader.select(_SQL[statement], (after, _TOGETHER)):
            yield from rows
            after = rows[-1][0]


def changes() -> Mapping[Any, str]:
    """The statements that write."""
    return {name: _SQL[name] for name in ("stretch", "happening")}
