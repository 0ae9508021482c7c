"""An answer as a cache keeps it: what the model said, and what it cost when it was asked."""

from __future__ import annotations

import sys
from array import array
from operator import attrgetter

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from .reply import Cached, Reply, ToolCall, Usage


class Kept(Struct, frozen=True, kw_only=True, gc=False):
    """One kept answer.

    Attributes:
        at: when it was given, in Unix seconds.
        cost: US dollars that it cost, with all its attempts; None if unknown.
        said: the answer itself, as JSON.
    """

    at: float
    cost: float | None
    said: bytes

    @classmethod
    def of(cls, reply: Reply, *, at: float, cost: float | None, whole: bool) -> Kept:
        """Keep a reply, without its output, which is validated anew for each call that gets it.

        Args:
            reply: the reply.
            at: the time now, in Unix seconds.
            cost: US dollars.
            whole: keep the provider's own answer too, for calls that ask for tokens' probabilities.
        """
        return cls(at=at, cost=cost, said=_encoded(_Said(*_KEPT[whole](reply))))

    def reply(self) -> Reply:
        """The reply, still without its output.

        Raises:
            msgspec.MsgspecError: the bytes are not those of a kept answer.
        """
        said = _decoded(self.said)
        return Reply(cached=self.cached(), **asdict(said))

    @classmethod
    def of_vector(cls, vector: array[float], *, at: float, cost: float | None) -> Kept:
        """Keep the vector of a text; see `of`."""
        return cls(at=at, cost=cost, said=_encoded(_Vector(vector=_swapped(vector).tobytes())))

    def vector(self) -> array[float] | None:
        """The vector; None if the bytes are not those of one."""
        vector = array("f")
        try:
            vector.frombytes(msgspec.json.decode(self.said, type=_Vector).vector)
        except (msgspec.MsgspecError, ValueError):
            return None
        return _swapped(vector)

    def cached(self) -> Cached:
        """What a reply says of it."""
        return Cached(at=self.at, cost=self.cost)


class _Vector(Struct, frozen=True):
    """Single-precision floats, little-endian: on every machine the same."""

    vector: bytes


def _swapped(vector: array[float]) -> array[float]:
    if sys.byteorder == "big":
        vector = vector[:]
        vector.byteswap()
    return vector


class _Said(Struct, frozen=True, omit_defaults=True):
    text: str
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    usage: Usage = Usage()
    service_tier: str | None = None
    model: str | None = None
    request_id: str | None = None
    native: bytes = b""
    body: bytes = b""


_KEPT = {True: attrgetter(*_Said.__struct_fields__), False: attrgetter(*_Said.__struct_fields__[:-1])}
_encoded = msgspec.json.Encoder().encode
_decoded = msgspec.json.Decoder(_Said).decode
