"""The rows that a person has skipped while the run goes."""

from __future__ import annotations

from msgspec import Struct


class Skip(Struct, frozen=True, kw_only=True, array_like=True):
    """A row that is not to be asked.

    Attributes:
        index: its place in the input, from 0; None if it is named by its id.
        id: its id.
        by: who skips it.
    """

    index: int | None = None
    id: str | None = None
    by: str

    def __str__(self) -> str:
        return f"row {self.id if self.index is None else self.index + 1}"


class Skips:
    """The rows of a run that are not to be asked."""

    def __init__(self) -> None:
        self._by: dict[int | str, str] = {}  # an index is an int, an id a text

    def add(self, skip: Skip) -> None:
        """Skip a row from now on."""
        name = skip.id if skip.index is None else skip.index
        if name is not None:
            self._by[name] = skip.by

    def by(self, index: int, id: str | None) -> str | None:
        """Who has skipped a row; None if nobody has."""
        if not self._by:
            return None
        return self._by.get(index) or (self._by.get(id) if id is not None else None)

    def forget(self, index: int, id: str | None) -> None:
        """Ask a row again."""
        if self._by:
            self._by.pop(index, None)
            if id is not None:
                self._by.pop(id, None)
