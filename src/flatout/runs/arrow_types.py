"""Conversion between Arrow's types and Python's values, so that a Parquet file's columns keep their types.

A value travels from a column of the input into a template, as JSON into the run file, and from there into a column of
the output. Python's own values serve most types. Where they are too coarse (times finer than a microsecond), the value
travels as text, so nothing is rounded. On the way back every value comes from JSON.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import pyarrow as pa

from .arrow_arrays import built

Convert = Callable[[Any], Any]

_A_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_SECOND = timedelta(seconds=1)
_DURATION = re.compile(r"(?P<sign>-?)P(?:(?P<days>\d+)D)?(?:T(?P<seconds>\d+)(?:\.(?P<fraction>\d+))?S)?")
_FRACTION = re.compile(r"\.(\d+)")
_MIDNIGHT = datetime(1970, 1, 1)  # only to compute times of day, so it has no zone


class Form(NamedTuple):
    """How the values of one Arrow type are carried.

    Attributes:
        bare: the type between Arrow and Python; Arrow casts to it and from it without loss.
        out: converts a bare value to Python's; None if it needs no conversion.
        back: converts a value from JSON to a bare one; None if it needs no conversion.
    """

    bare: Any
    out: Convert | None = None
    back: Convert | None = None


def values(column: Any) -> list[Any]:
    """The values of an array, in Python's types.

    Raises:
        ValueError, OverflowError, pyarrow.ArrowException: Python has no such value; the year 12000, for example.
    """
    form = form_of(column.type)
    bare = _cast(column, form.bare)
    found: list[Any] = bare.to_pylist()
    return found if form.out is None else [None if value is None else form.out(value) for value in found]


def array(found: list[Any], kind: Any) -> Any:
    """An array of a type, built from values as JSON has them.

    Raises:
        ValueError, TypeError, OverflowError, pyarrow.ArrowException: a value is of another type.
    """
    if pa.types.is_dictionary(kind):  # Arrow cannot build or cast every type to a dictionary of that type
        return array(found, kind.value_type).dictionary_encode().cast(kind)
    form = form_of(kind)
    if form.back is not None:
        found = [None if value is None else form.back(value) for value in found]
    bare = built(found, form.bare)
    return _cast(bare, kind)


def _cast(column: Any, kind: Any) -> Any:
    """An array as another type. A time only takes another name: a cast would load all functions of Arrow, and numpy."""
    if column.type == kind:
        return column
    if pa.types.is_temporal(column.type) or pa.types.is_temporal(kind):
        return column.view(kind)
    return column.cast(kind)


def form_of(kind: Any) -> Form:
    """How values of a type are carried."""
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _uuid() if kind.extension_name == "arrow.uuid" else form_of(kind.storage_type)
    if types.is_dictionary(kind):
        item = form_of(kind.value_type)
        plain = item.bare == kind.value_type  # Arrow looks the values up itself; it cannot cast all of them
        return Form(kind, item.out, item.back) if plain else item
    if types.is_union(kind):
        return Form(kind)
    if types.is_nested(kind):
        return _nested(kind)
    if types.is_timestamp(kind):
        return _instant(kind)
    if types.is_duration(kind):
        return Form(pa.int64(), _lasting(kind.unit), _count_of_duration(kind.unit))
    if types.is_time(kind):
        return _time_of_day(kind)
    if types.is_date(kind):
        return Form(kind, back=date.fromisoformat)
    if types.is_decimal(kind):
        return Form(kind, back=Decimal)
    if types.is_float16(kind):
        return Form(pa.float32())
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind) or _is_view(kind):
        return Form(kind, back=b64decode)
    return Form(kind)


def _is_view(kind: Any) -> bool:
    return bool(pa.types.is_binary_view(kind))


def _uuid() -> Form:
    return Form(pa.binary(16), lambda value: UUID(bytes=value), lambda text: UUID(text).bytes)


# Nested types


def _nested(kind: Any) -> Form:
    types = pa.types
    if types.is_struct(kind):
        return _struct(kind)
    if types.is_map(kind):
        return _map(kind)
    item = form_of(kind.value_type)
    if item.bare == kind.value_type:
        bare = kind
    elif types.is_fixed_size_list(kind):
        bare = pa.list_(kind.value_field.with_type(item.bare), kind.list_size)
    elif types.is_large_list(kind):
        bare = pa.large_list(kind.value_field.with_type(item.bare))
    else:
        bare = pa.list_(kind.value_field.with_type(item.bare))
    return Form(bare, _each(item.out), _each(item.back))


def _struct(kind: Any) -> Form:
    fields = [kind.field(index) for index in range(kind.num_fields)]
    forms = {field.name: form_of(field.type) for field in fields}
    bare = pa.struct([field.with_type(forms[field.name].bare) for field in fields])
    out = {name: form.out for name, form in forms.items() if form.out is not None}
    back = {name: form.back for name, form in forms.items() if form.back is not None}
    return Form(bare, _by_name(out), _by_name(back))


def _map(kind: Any) -> Form:
    key, item = form_of(kind.key_type), form_of(kind.item_type)
    bare = pa.map_(kind.key_field.with_type(key.bare), kind.item_field.with_type(item.bare), kind.keys_sorted)
    changes = key.out is not None or item.out is not None
    return Form(bare, _pairs(key.out, item.out) if changes else None, _pairs(key.back, item.back))


def _pairs(key: Convert | None, item: Convert | None) -> Convert:
    """Turns JSON's lists into the pairs that Arrow wants."""
    key, item = _optional(key), _optional(item)
    return lambda pairs: [(key(each), item(value)) for each, value in pairs]


def _each(convert: Convert | None) -> Convert | None:
    if convert is None:
        return None
    one = _optional(convert)
    return lambda found: [one(value) for value in found]


def _by_name(converts: dict[str, Convert]) -> Convert | None:
    if not converts:
        return None
    by_name = {name: _optional(convert) for name, convert in converts.items()}
    return lambda found: found | {name: one(found.get(name)) for name, one in by_name.items()}


def _optional(convert: Convert | None) -> Convert:
    if convert is None:
        return lambda value: value
    return lambda value: None if value is None else convert(value)


# Times, as counts of a unit


def _instant(kind: Any) -> Form:
    zone: tzinfo | None = None if kind.tz is None else pa.lib.string_to_tzinfo(kind.tz)
    epoch = datetime(1970, 1, 1, tzinfo=None if zone is None else UTC)
    per_second = _A_SECOND[kind.unit]

    def out(count: int) -> Any:
        seconds, rest = divmod(count, per_second)
        nanoseconds = rest * (1_000_000_000 // per_second)
        found = epoch + timedelta(seconds=seconds, microseconds=nanoseconds // 1_000)
        return _exact(found if zone is None else _in_zone(found, zone), nanoseconds)

    def back(text: str) -> int:
        found = datetime.fromisoformat(_FRACTION.sub("", text, count=1))
        return (found - epoch) // _SECOND * per_second + _fraction(text, per_second)

    return Form(pa.int64(), out, back)


def _in_zone(found: datetime, zone: tzinfo) -> datetime:
    """The instant in its zone; in UTC if the zone's offset has seconds, which JSON's form cannot express."""
    there = found.astimezone(zone)
    offset = there.utcoffset()
    return found if offset is not None and offset % timedelta(minutes=1) else there


def _time_of_day(kind: Any) -> Form:
    per_second = _A_SECOND[kind.unit]

    def out(count: int) -> Any:
        seconds, rest = divmod(count, per_second)
        nanoseconds = rest * (1_000_000_000 // per_second)
        return _exact((_MIDNIGHT + timedelta(seconds=seconds, microseconds=nanoseconds // 1_000)).time(), nanoseconds)

    def back(text: str) -> int:
        found = time.fromisoformat(_FRACTION.sub("", text, count=1))
        return (found.hour * 3_600 + found.minute * 60 + found.second) * per_second + _fraction(text, per_second)

    return Form(pa.int32() if pa.types.is_time32(kind) else pa.int64(), out, back)


def _exact(found: Any, nanoseconds: int) -> Any:
    """The time itself, or its text if it is finer than Python's times."""
    if nanoseconds % 1_000 == 0:
        return found
    whole = found.replace(microsecond=1).isoformat(*(" " if isinstance(found, datetime) else ()))
    return whole.replace(".000001", f".{nanoseconds:09d}")


def _fraction(text: str, per_second: int) -> int:
    """The digits after the decimal point, as a count of units."""
    found = _FRACTION.search(text)
    return 0 if found is None else int(found[1][:9].ljust(9, "0")) * per_second // 1_000_000_000


def _lasting(unit: str) -> Convert:
    per_second = _A_SECOND[unit]

    def out(count: int) -> timedelta | str:
        seconds, rest = divmod(abs(count), per_second)
        nanoseconds = rest * (1_000_000_000 // per_second)
        if nanoseconds % 1_000:
            return f"{'-' if count < 0 else ''}PT{seconds}.{nanoseconds:09d}S"
        found = timedelta(seconds=seconds, microseconds=nanoseconds // 1_000)
        return -found if count < 0 else found

    return out


def _count_of_duration(unit: str) -> Convert:
    per_second = _A_SECOND[unit]

    def back(text: str) -> int:
        found = _DURATION.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is not a duration")
        seconds = int(found["days"] or 0) * 86_400 + int(found["seconds"] or 0)
        count = seconds * per_second + _fraction(text, per_second)
        return -count if found["sign"] else count

    return back
