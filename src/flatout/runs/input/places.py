"""Where the bytes of an input are, whatever they mean: a file on this machine, or one elsewhere."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Protocol, cast

from msgspec import Struct

from .decode import CHUNK


class Place(Protocol):
    """A file that can be read as often as needed."""

    @property
    def name(self) -> str:
        """How messages name it: without a password."""
        ...

    @property
    def path(self) -> Path | None:
        """The file, if it is on this machine."""
        ...

    def open(self, ahead: int | None = None) -> io.BufferedReader:
        """Its bytes, from the start.

        Args:
            ahead: how many are read at a time; None for what is best if all are read in order.
        """
        ...


class Here(Struct, frozen=True):
    """A file on this machine."""

    name: str
    path: Path

    def open(self, ahead: int | None = None) -> io.BufferedReader:
        """See `Place.open`."""
        return cast(io.BufferedReader, self.path.open("rb", buffering=ahead or CHUNK))
