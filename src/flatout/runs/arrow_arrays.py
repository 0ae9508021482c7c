"""Arrow arrays of plain values, built from their buffers, and the types that such values have.

``pyarrow.array`` and ``pyarrow.infer_type`` import pandas wherever that is installed: 45 MB and a third of a second,
for programs that do not use it. So arrays of what JSON has, of bytes and of dates are built here.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from itertools import accumulate, chain
from typing import Any

import pyarrow as pa

_NONE = type(None)
_EPOCH = date(1970, 1, 1).toordinal()
_SMALL = "i", pa.int32(), pa.ListArray  # how a list's places are counted, if it is not of the large kind
_EXACT = 2**53
"""Whole numbers beyond this, either way, may be other numbers as doubles."""


def built(values: Sequence[Any], kind: Any) -> Any:
    """An array of some values; None may be among them.

    Raises:
        ValueError, TypeError, OverflowError, pyarrow.ArrowException: a value is of another type.
    """
    types = set(map(type, values)) - {_NONE}
    if not types:
        return pa.nulls(len(values), kind)
    if types == {dict} and pa.types.is_struct(kind):
        return _structs(values, kind)
    if types == {list} and (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return _lists(values, kind)
    own, buffers = _BUILT.get(kind, (None, None))
    if buffers is None or not (types == {own} or _are_floats(types, values, own)):
        return pa.array(values, kind)
    try:
        made = buffers(values)
    except OverflowError:  # pyarrow says it better
        return pa.array(values, kind)
    lacks = None in values
    present = _bits([value is not None for value in values]) if lacks else None
    return pa.Array.from_buffers(kind, len(values), [present, *made])


def type_of(values: Iterable[Any]) -> Any:
    """The type that ``pyarrow.infer_type`` finds for values as JSON has them, and for bytes and dates.

    None may be among them.

    Raises:
        ValueError: they have no type in common, or one that no array has.
    """
    found = [value for value in values if value is not None]
    types = set(map(type, found))
    if not types:
        return pa.null()
    if types == {dict}:
        names = dict.fromkeys(chain.from_iterable(found))
        return pa.struct([(name, type_of(value.get(name) for value in found)) for name in names])
    if types == {list}:
        return pa.list_(type_of(chain.from_iterable(found)))
    if types == {int} and min(found) >= -(2**63) and max(found) < 2**63:
        return pa.int64()
    if _are_floats(types, found, float):
        return pa.float64()
    if len(types) == 1 and (kind := _TYPES.get(*types)) is not None:
        return kind
    raise ValueError(f"no type for {', '.join(sorted(each.__name__ for each in types))}")


_TYPES = {str: pa.string(), bool: pa.bool_(), bytes: pa.binary(), date: pa.date32()}


def _are_floats(types: set[type], values: Sequence[Any], own: type | None) -> bool:
    """Whether values are floats, or whole numbers among them that are the same number as floats."""
    if own is not float or not types <= {int, float}:
        return False
    return types == {float} or all(type(value) is not int or -_EXACT <= value <= _EXACT for value in values)


def _structs(values: Sequence[Any], kind: Any) -> Any:
    fields = [kind.field(index) for index in range(kind.num_fields)]
    children = [
        built([None if value is None else value.get(field.name) for value in values], field.type) for field in fields
    ]
    lacks = [value is None for value in values]
    return pa.StructArray.from_arrays(children, fields=fields, mask=_flag_array(lacks))


def _lists(values: Sequence[Any], kind: Any) -> Any:
    code, whole, lists = ("q", pa.int64(), pa.LargeListArray) if pa.types.is_large_list(kind) else _SMALL
    ends = array(code, accumulate((0 if value is None else len(value) for value in values), initial=0))
    starts = pa.Array.from_buffers(whole, len(ends), [None, pa.py_buffer(ends)])
    items = built([item for value in values if value is not None for item in value], kind.value_type)
    lacks = _flag_array([value is None for value in values])
    return lists.from_arrays(starts, items, type=kind, mask=lacks)


def _flag_array(flags: Sequence[bool]) -> Any:
    return pa.Array.from_buffers(pa.bool_(), len(flags), [None, _bits(flags)])


def _texts(code: str) -> Callable[[Sequence[Any]], list[Any]]:
    in_bytes = _bytes(code)
    return lambda values: in_bytes([None if value is None else value.encode() for value in values])


def _bytes(code: str) -> Callable[[Sequence[Any]], list[Any]]:
    def buffers(values: Sequence[bytes | None]) -> list[Any]:
        parts = [value or b"" for value in values]
        ends = array(code, accumulate(map(len, parts), initial=0))
        return [pa.py_buffer(ends), pa.py_buffer(b"".join(parts))]

    return buffers


def _numbers(code: str) -> Callable[[Sequence[Any]], list[Any]]:
    return lambda values: [pa.py_buffer(array(code, [0 if value is None else value for value in values]))]


def _days(values: Sequence[date | None]) -> list[Any]:
    return [pa.py_buffer(array("i", [0 if value is None else value.toordinal() - _EPOCH for value in values]))]


def _flags(values: Sequence[bool | None]) -> list[Any]:
    return [_bits([value is True for value in values])]


def _bits(flags: Sequence[bool]) -> Any:
    """A bitmap: the first flag is the lowest bit of the first byte."""
    digits = "".join("1" if flag else "0" for flag in reversed(flags))
    return pa.py_buffer(int(digits or "0", 2).to_bytes((len(flags) + 7) // 8, "little"))


_BUILT: dict[Any, tuple[type, Callable[[Sequence[Any]], list[Any]]]] = {
    pa.string(): (str, _texts("i")),
    pa.large_string(): (str, _texts("q")),
    pa.binary(): (bytes, _bytes("i")),
    pa.large_binary(): (bytes, _bytes("q")),
    pa.int8(): (int, _numbers("b")),
    pa.int16(): (int, _numbers("h")),
    pa.int32(): (int, _numbers("i")),
    pa.int64(): (int, _numbers("q")),
    pa.uint8(): (int, _numbers("B")),
    pa.uint16(): (int, _numbers("H")),
    pa.uint32(): (int, _numbers("I")),
    pa.uint64(): (int, _numbers("Q")),
    pa.float64(): (float, _numbers("d")),
    pa.bool_(): (bool, _flags),
    pa.date32(): (date, _days),
}
