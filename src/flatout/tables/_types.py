"""The Arrow type of an answer, found from its JSON schema before there is an answer.

Engines fix a column's type first and fill it later, so a type that has no fixed form in Arrow (a union of a text and a
number, an object with any keys, a type that contains itself) becomes text: JSON, or the text itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from flatout.durable.as_json import jsonable
from flatout.errors import ConfigError, InvalidRequest
from flatout.providers.schemas.structured import schema_of, wrapped_choices
from flatout.providers.schemas.wrap import WRAPPED
from flatout.text.halves import to_json

from ._arrow import arrow

Convert = Callable[[Any], Any]


class Kind(NamedTuple):
    """The Arrow type of a value, and how a value as JSON has it fits in.

    Attributes:
        type: the type.
        convert: changes a value to what the type takes; None if it is that already.
    """

    type: Any
    convert: Convert | None = None


def kind_of(output: Any) -> Kind:
    """The type of the answers that ``output`` asks for; text without one.

    Raises:
        ConfigError: ``output`` is no type and no JSON schema.
    """
    pa = arrow()
    if output is None:
        return Kind(pa.string(), _text)
    try:
        whole = schema_of(output, None).schema
        wrapped, _ = wrapped_choices(output)
    except InvalidRequest as error:
        raise ConfigError(str(error)) from None
    return _Reader(whole).kind(whole["properties"][WRAPPED] if wrapped else whole)


def plain(value: Any) -> Any:
    """A validated answer (a model, an Enum's member, a date) as JSON has it."""
    return value if value is None or type(value) in _PLAIN else jsonable(value)


_PLAIN = frozenset({str, int, float, bool})


def _text(value: Any) -> str:
    """A value as text: JSON, unless it is a text already."""
    return value if isinstance(value, str) else to_json(value).decode()


def _instant(text: str) -> str:
    """A time with its zone: UTC if it names none."""
    found = datetime.fromisoformat(text)
    return text if found.tzinfo is not None else found.replace(tzinfo=UTC).isoformat()


class _Reader:
    """Reads one JSON schema.

    Args:
        root: the whole schema, to which references lead.
    """

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._open: list[str] = []
        self._pa = arrow()

    def kind(self, schema: Any) -> Kind:
        if not isinstance(schema, Mapping):
            return self._as_text()
        if isinstance(reference := schema.get("$ref"), str):
            return self._referred(reference)
        if (choices := _choices(schema)) is not None:
            return self._of_values(choices)
        for word in ("anyOf", "oneOf", "allOf"):
            if isinstance(parts := schema.get(word), list):
                return self._one_of([part for part in parts if part != {"type": "null"}])
        types = schema.get("type")
        names = [types] if isinstance(types, str) else [name for name in types or () if name != "null"]
        return self._named(names[0], schema) if len(names) == 1 else self._numbers(names)

    def _named(self, name: str, schema: Mapping[str, Any]) -> Kind:
        pa = self._pa
        if name == "object":
            return self._struct(schema)
        if name == "array" and "prefixItems" not in schema and isinstance(schema.get("items"), Mapping):
            item = self.kind(schema["items"])
            return Kind(pa.list_(item.type), _each(item.convert))
        if name == "string" and schema.get("format") == "date":
            return Kind(pa.date32())
        if name == "string" and schema.get("format") == "date-time":
            return Kind(pa.timestamp("us", "UTC"), _instant)
        found = {"integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}.get(name)
        return self._as_text() if found is None else Kind(found)

    def _struct(self, schema: Mapping[str, Any]) -> Kind:
        properties = schema.get("properties")
        if (
            not isinstance(properties, Mapping)
            or not properties
            or isinstance(schema.get("additionalProperties"), Mapping)
        ):
            return self._as_text()
        fields = {name: self.kind(part) for name, part in properties.items()}
        converts = {name: field.convert for name, field in fields.items() if field.convert is not None}
        kind = self._pa.struct([(name, field.type) for name, field in fields.items()])
        return Kind(kind, _by_name(converts) if converts else None)

    def _referred(self, reference: str) -> Kind:
        """What a reference leads to; text if it leads back to where it comes from."""
        target: Any = self._root
        for part in reference.removeprefix("#").strip("/").split("/"):
            target = target.get(part) if part and isinstance(target, Mapping) else target
        if reference in self._open or target is self._root or not reference.startswith("#"):
            return self._as_text()
        self._open.append(reference)
        found = self.kind(target)
        self._open.pop()
        return found

    def _one_of(self, parts: list[Any]) -> Kind:
        kinds = [self.kind(part) for part in parts]
        if kinds and all(kind.type == kinds[0].type for kind in kinds):
            return kinds[0]
        return self._number(kind.type for kind in kinds)

    def _numbers(self, names: list[str]) -> Kind:
        return self._number(self._named(name, {}).type for name in names)

    def _number(self, types: Any) -> Kind:
        """A type for several: a float for numbers of both kinds, else text."""
        pa, found = self._pa, set(types)
        return Kind(pa.float64()) if found == {pa.int64(), pa.float64()} else self._as_text()

    def _of_values(self, values: list[Any]) -> Kind:
        pa, types = self._pa, {type(value) for value in values if value is not None}
        if types == {bool}:
            return Kind(pa.bool_())
        if types == {int}:
            return Kind(pa.int64())
        return Kind(pa.float64()) if types and types <= {int, float} else self._as_text()

    def _as_text(self) -> Kind:
        return Kind(self._pa.string(), _text)


def _choices(schema: Mapping[str, Any]) -> list[Any] | None:
    """The values that a schema allows, if it lists them."""
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    return values if isinstance(values, list) else None


def _each(convert: Convert | None) -> Convert | None:
    if convert is None:
        return None
    return lambda found: [None if value is None else convert(value) for value in found]


def _by_name(converts: Mapping[str, Convert]) -> Convert:
    def convert(found: Mapping[str, Any]) -> dict[str, Any]:
        changed = {name: to(found[name]) for name, to in converts.items() if found.get(name) is not None}
        return {**found, **changed}

    return convert
