"""The ids of an input, for the question whether a row has one: in constant memory, however many rows there are."""

from __future__ import annotations

_BITS = 23
"""Bits of each of the three places of an id in the filter, which has 8.4 million bits (1 MB). With a million ids in it,
3 % of other names get a wrong yes."""

_MASK = (1 << _BITS) - 1


class Ids:
    """A set of ids that never forgets one. It may take another for one of them; the more ids, the more often.

    This is the filter of Bloom (1970), with three places an id. An input without ids takes no memory.
    """

    __slots__ = ("_filter",)

    def __init__(self) -> None:
        self._filter: bytearray | None = None

    def add(self, digest: int) -> None:
        """Add an id by its hash, of 64 bits."""
        if self._filter is None:
            self._filter = bytearray(1 << (_BITS - 3))
        for place in _places(digest):
            self._filter[place >> 3] |= 1 << (place & 7)

    def may_have(self, id: str) -> bool:
        """Whether an id is among them: False is certain."""
        known = self._filter
        return known is not None and all(known[place >> 3] >> (place & 7) & 1 for place in _places(hash(id)))


def _places(digest: int) -> tuple[int, int, int]:
    return digest & _MASK, digest >> 20 & _MASK, digest >> 40 & _MASK
