"""What the rows of a run ask for, and in which wire format they are written and read."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from flatout.lanes.offers import Kind
from flatout.layer import Codec
from flatout.providers import codec_for
from flatout.providers.formats.embeddings import Vectors
from flatout.values import Target


class Form(Struct, frozen=True):
    """The form of rows.

    Attributes:
        kind: what the rows of a target ask for; None for what its endpoint's calls are.
        codec: writes and reads the rows of a target.
        cached: whether answers are looked up in the cache, and kept there: it knows the questions of calls only.
    """

    kind: Callable[[Target], Kind | None]
    codec: Callable[[Target], Codec]
    cached: bool = False


def _usual(_: Target) -> None:
    return None


def _embeddings(_: Target) -> Kind:
    return "embeddings"


CALLS = Form(_usual, codec_for, cached=True)
"""The form of calls."""

VECTORS = Form(_embeddings, Vectors)
"""The form of texts whose vectors are wanted."""
