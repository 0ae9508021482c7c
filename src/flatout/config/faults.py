"""Says in a sentence what is wrong in a flatout.toml: which key, what stands there, and what may stand there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import msgspec
from msgspec import Struct, inspect

from flatout.errors import ConfigError
from flatout.text.shown import beginning
from flatout.values.secret import Reticent

_KINDS: Mapping[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "a table",
}
"""What values are called."""

_TYPES: Mapping[type, str] = {
    inspect.BoolType: _KINDS[bool],
    inspect.IntType: _KINDS[int],
    inspect.FloatType: _KINDS[float],
    inspect.StrType: _KINDS[str],
    inspect.ListType: "a list of texts",
    inspect.DictType: _KINDS[dict],
}
"""What is called so as a type."""


def first_fault(data: object, shape: type[Struct]) -> str | None:
    """The first thing that is wrong in a configuration; None if nothing is.

    Args:
        data: the tables as TOML gives them.
        shape: what they are to become.
    """
    return next(_faults(data, inspect.type_info(shape), (), shows=True), None)


def _faults(value: Any, type_: inspect.Type, path: tuple[str, ...], *, shows: bool) -> Iterator[str]:
    """What is wrong in a value.

    Args:
        value: the value.
        type_: what it is to be.
        path: where it stands.
        shows: whether the value may be shown: that of a header may be a key.
    """
    choices = _choices(type_)
    inner = next((each for each in choices if isinstance(each, inspect.StructType | inspect.DictType)), None)
    if inner is not None and isinstance(value, Mapping):
        yield from (
            _in_struct(value, inner, path)
            if isinstance(inner, inspect.StructType)
            else _in_table(value, inner, path, shows=shows)
        )
    elif not any(_fits(value, each) for each in choices):
        found = repr(beginning(value)) if shows else _KINDS.get(type(value), "that")
        yield f"{_at(path)} is {_or(map(_wanted, choices))}, not {found}"


def _in_struct(table: Mapping[str, Any], type_: inspect.StructType, path: tuple[str, ...]) -> Iterator[str]:
    fields = {field.encode_name: field for field in type_.fields}
    for key, value in table.items():
        if (field := fields.get(key)) is None:
            yield _unknown(key, path, list(fields))
        else:
            yield from _faults(value, field.type, (*path, key), shows=not issubclass(type_.cls, Reticent))
    for key, field in fields.items():
        if field.required and key not in table:
            yield f"{_table(path)} lacks {key}: give {_or(map(_wanted, _choices(field.type)))}"
    try:
        msgspec.convert(table, type_.cls)
    except (msgspec.ValidationError, ConfigError) as error:
        yield f"{_table(path)}: {error}" if path else str(error)


def _in_table(
    table: Mapping[str, Any], type_: inspect.DictType, path: tuple[str, ...], *, shows: bool
) -> Iterator[str]:
    for key, value in table.items():
        if not _fits(key, type_.key_type):
            yield f"{_at(path)} has {_wanted(type_.key_type)}, not {key!r}"
        yield from _faults(value, type_.value_type, (*path, key), shows=shows)


def _choices(type_: inspect.Type) -> list[inspect.Type]:
    """The types that a value may have. None is left out."""
    types = type_.types if isinstance(type_, inspect.UnionType) else (type_,)
    return [each for each in types if not isinstance(each, inspect.NoneType)]


def _fits(value: Any, type_: inspect.Type) -> bool:
    match type_:
        case inspect.LiteralType(values=values):
            return value in values
        case inspect.ListType(item_type=item):
            return isinstance(value, list) and all(_fits(each, item) for each in value)
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType():
            return isinstance(value, int) and not isinstance(value, bool)
        case inspect.FloatType():
            return isinstance(value, int | float) and not isinstance(value, bool)
        case _:
            return isinstance(value, str) and isinstance(type_, inspect.StrType)


def _wanted(type_: inspect.Type) -> str:
    match type_:
        case inspect.LiteralType(values=values):
            return _or(map(repr, values))
        case inspect.StructType(fields=fields):
            return f"a table with {', '.join(field.encode_name for field in fields)}"
        case _:
            return _TYPES.get(type(type_), "something else")


def _or(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def _unknown(key: str, path: tuple[str, ...], known: list[str]) -> str:
    """That there is no such setting, and which there are."""
    close = get_close_matches(key, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    where = f"{_table(path)} may have" if path else "there are"
    return f"no setting is named {key!r}{hint} ({where}: {', '.join(known)})"


def _at(path: tuple[str, ...]) -> str:
    """A place: ``timeout``, ``[limits.openai]: rpm``, ``[routes.fast]: fallback.down``."""
    if len(path) < 3:
        return ".".join(path) or "the configuration"
    return f"{_table(path[:2])}: {'.'.join(path[2:])}"


def _table(path: tuple[str, ...]) -> str:
    return f"[{'.'.join(path)}]"
