"""The request of another program, as a call."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from flatout.errors import CallError
from flatout.layer import Response
from flatout.values import Call, OutputT, Target
from flatout.values.secret import Secret, Veiled


class Wire(Struct, eq=False):
    """A request of another program, and what its answer has shown so far.

    Attributes:
        dialect: the wire format of the request and of its answer: that of an `flatout.values.Endpoint`, or
            ``embeddings``.
        body: the request's body.
        streams: whether it asks for a streamed answer.
        url: where the program itself sends it; None if it goes to the target's own address, with the target's key.
        headers: the headers that the program itself sends there; without ``url`` they are not used.
        at: the target that the program itself has chosen, with its key; None if the call's model names it.
        headers_back: the headers of the streamed answer that has begun; None before.
        refusal: the last answer that reports a failure; None if there was none.
        error: the failure that the program was told in its provider's own words. None without such a failure.
        translated: whether the answer that has come, or begun, is another one than its provider wrote.
        doubtful: whether the answer that has come is one that the model might do better: refused, cut off or empty. It
            is the program's all the same.
    """

    dialect: str
    body: bytes
    streams: bool = False
    url: Secret | None = None
    headers: Veiled = Veiled({})
    at: Target | None = None
    headers_back: Mapping[str, str] | None = None
    refusal: Response | None = None
    error: CallError | None = None
    translated: bool = False
    doubtful: bool = False

    @property
    def path(self) -> tuple[str, str]:
        """Calls with the same one go the same way: their format, and the program's own target."""
        return self.dialect, "" if self.at is None else f"{self.at.key} {self.at.endpoint.name}"


class Relayed(Call[OutputT], frozen=True, kw_only=True):
    """A call that another program makes. Its parameters are what flatout could read of the request.

    Attributes:
        wire: the request.
    """

    wire: Wire


def wire_of(call: Call) -> Wire:
    """The request of a relayed call."""
    assert isinstance(call, Relayed), "only relayed calls take this path"
    return call.wire
