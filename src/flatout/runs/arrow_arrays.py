"""Arrow arrays of plain values, built from their buffers.

``pyarrow.array`` imports pandas wherever that is installed: 45 MB and a third of a second, for programs that do not use
it. So arrays of texts, numbers and booleans, which most answers are, are built here.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import pyarrow as pa

_NONE = type(None)


def built(values: Sequence[Any], kind: Any) -> Any:
    """An array of some values; None may be among them.

    Raises:
        ValueError, TypeError, OverflowError, pyarrow.ArrowException: a value is of another type.
    """
    types = set(map(type, values)) - {_NONE}
    if not types:
        return pa.nulls(len(values), kind)
    own, buffers = _BUILT.get(kind, (None, None))
    if buffers is None or types != {own}:
        return pa.array(values, kind)
    try:
        made = buffers(values)
    except OverflowError:  # pyarrow says it better
        return pa.array(values, kind)
    lacks = None in values
    present = _bits([value is not None for value in values]) if lacks else None
    return pa.Array.from_buffers(kind, len(values), [present, *made])


def _texts(values: Sequence[str | None]) -> list[Any]:
    texts = [b"" if value is None else value.encode() for value in values]
    ends = array("i", accumulate(map(len, texts), initial=0))
    return [pa.py_buffer(ends), pa.py_buffer(b"".join(texts))]


def _numbers(code: str) -> Callable[[Sequence[Any]], list[Any]]:
    return lambda values: [pa.py_buffer(array(code, [value or 0 for value in values]))]


def _flags(values: Sequence[bool | None]) -> list[Any]:
    return [_bits([value is True for value in values])]


def _bits(flags: Sequence[bool]) -> Any:
    """A bitmap: the first flag is the lowest bit of the first byte."""
    digits = "".join("1" if flag else "0" for flag in reversed(flags))
    return pa.py_buffer(int(digits or "0", 2).to_bytes((len(flags) + 7) // 8, "little"))


_BUILT: dict[Any, tuple[type, Callable[[Sequence[Any]], list[Any]]]] = {
    pa.string(): (str, _texts),
    pa.int64(): (int, _numbers("q")),
    pa.float64(): (float, _numbers("d")),
    pa.bool_(): (bool, _flags),
}
