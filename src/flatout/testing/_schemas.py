"""Makes up JSON that fits a schema, as a model with structured output would write it, and JSON that does not fit.

It respects types, ``enum``, ``const``, bounds, lengths, required properties and references. It ignores ``pattern``,
``not`` and ``if``, for which only a person could find values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import count
from random import Random
from typing import Any
from urllib.parse import unquote

DEPTH = 5
"""Levels of nesting after which only required parts are written, so that recursive schemas end."""

BOTTOM = 40
"""The deepest level of nesting that is written."""

LONGEST = 10_000
"""Most characters of a string, and most values in all."""

_WORDS = ("river", "stone", "amber", "cloud", "lantern", "orchard", "signal", "harbour", "meadow", "copper")
_TYPE_OF_KEYWORD = {
    "properties": "object",
    "required": "object",
    "additionalProperties": "object",
    "items": "array",
    "prefixItems": "array",
    "minItems": "array",
    "minimum": "number",
    "maximum": "number",
}
_WRONG_TEXT = "not what was asked for"


class BadSchema(ValueError):
    """The schema is invalid, or asks for the impossible."""


def fitting(schema: Any, random: Random) -> Any:
    """A value that fits a JSON schema.

    Raises:
        BadSchema: the schema makes no sense, or nothing of a reasonable size fits it.
    """
    try:
        return _Maker(schema, random).value(schema, 0)
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        raise BadSchema(f"the schema cannot be followed: {error}") from error


def misfitting(value: Any) -> Any:
    """A value of the same shape with wrong types, which does not fit the same schema."""
    if isinstance(value, dict) and value:
        return {name: _wrong(part) for name, part in value.items()}
    return _wrong(value)


def _wrong(value: Any) -> Any:
    return _WRONG_TEXT if isinstance(value, dict | list) else [_WRONG_TEXT]


class _Maker:
    """Makes the values of one schema. ``root`` is the schema that references point into."""

    def __init__(self, root: Any, random: Random) -> None:
        self._root = root
        self._random = random
        self._left = LONGEST

    def value(self, schema: Any, depth: int) -> Any:
        self._left -= 1
        if self._left < 0:
            raise BadSchema("it wants more than can be written")
        if isinstance(schema, bool):
            if not schema:
                raise BadSchema("a part of it allows nothing")
            return self._words(2)
        schema = self._resolved(schema, depth)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._random.choice(schema["enum"])
        return getattr(self, f"_{_type_of(schema, depth)}")(schema, depth)

    def _resolved(self, schema: Any, depth: int) -> Mapping[str, Any]:
        """The schema with references and alternatives resolved."""
        for _ in range(BOTTOM - depth):
            if not isinstance(schema, Mapping):
                raise BadSchema("a part of it is no object")
            if "$ref" in schema:
                found, key = self._referred(schema["$ref"]), "$ref"
            elif "anyOf" in schema or "oneOf" in schema:
                key = "anyOf" if "anyOf" in schema else "oneOf"
                found = _alternative(schema[key], depth)
            elif schema.get("allOf"):
                found, key = _merged(self._resolved(part, depth + 1) for part in schema["allOf"]), "allOf"
            else:
                return schema
            rest = {name: part for name, part in schema.items() if name != key}
            schema = _merged((found if isinstance(found, Mapping) else {}, rest))
        raise BadSchema("it never ends")

    def _referred(self, pointer: str) -> Any:
        found = self._root
        if not pointer.startswith("#"):
            raise BadSchema("it refers to another document")
        for step in pointer[1:].split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            found = found[int(name)] if isinstance(found, list) else found[name]
        return found

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties, required = schema.get("properties", {}), schema.get("required", ())
        others = schema.get("additionalProperties", True)
        wanted = [
            name for name, part in properties.items() if name in required or (depth < DEPTH and part is not False)
        ]
        made = {name: self.value(properties[name], depth + 1) for name in wanted}
        made |= {name: self.value(others, depth + 1) for name in required if name not in properties}
        is_map = isinstance(others, Mapping) and not properties and depth < DEPTH
        fewest = max(schema.get("minProperties", 0), 1 if is_map and schema.get("maxProperties") != 0 else 0)
        spare = (name for number in count(1) if (name := f"{_WORDS[number % len(_WORDS)]}_{number}") not in made)
        while len(made) < fewest:
            name = next(spare)
            made[name] = self.value(others, depth + 1)
        return made

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        made = [self.value(part, depth + 1) for part in schema.get("prefixItems", ())]
        each = schema.get("items", True)
        fewest, most = schema.get("minItems", 0), schema.get("maxItems", LONGEST)
        size = self._random.randint(1, 3) if depth < DEPTH and not made else len(made)
        size = min(max(size, fewest), most)
        if each is False:
            return made
        tries = 0
        while len(made) < size and tries < size * 20:
            tries += 1
            value = self.value(each, depth + 1)
            if not (schema.get("uniqueItems") and value in made):
                made.append(value)
        if len(made) < fewest:
            raise BadSchema("it wants more elements than there are")
        return made[:size]

    def _string(self, schema: Mapping[str, Any], _depth: int) -> str:
        shortest, longest = schema.get("minLength", 0), schema.get("maxLength", LONGEST)
        if shortest > min(longest, LONGEST):
            raise BadSchema("it wants a string longer than it may be")
        text = self._words(self._random.randint(2, 4))
        while len(text) < shortest:
            text += " " + self._words(1)
        return text[:longest]

    def _integer(self, schema: Mapping[str, Any], _depth: int) -> int:
        step = schema.get("multipleOf", 1)
        step = int(step) if step == int(step) and step > 0 else 1
        low, high = _bounds(schema)
        first = low // step + 1 if low == schema.get("exclusiveMinimum") else -(-low // step)
        last = -(-high // step) - 1 if high == schema.get("exclusiveMaximum") else high // step
        return self._random.randint(int(first), int(last)) * step

    def _number(self, schema: Mapping[str, Any], depth: int) -> float:
        low, high = _bounds(schema)
        if step := schema.get("multipleOf"):
            whole = {"minimum": math.ceil(low / step), "maximum": math.floor(high / step)}
            return self._integer(whole, depth) * float(step)
        if low > high:
            raise BadSchema("its bounds leave no number")
        within = low + (high - low) * (0.05 + 0.9 * self._random.random())
        rounded = round(within, 2)
        return rounded if low < rounded < high else within

    def _boolean(self, _schema: Mapping[str, Any], _depth: int) -> bool:
        return self._random.random() < 0.5

    def _null(self, _schema: Mapping[str, Any], _depth: int) -> None:
        return None

    def _words(self, number: int) -> str:
        return " ".join(self._random.choice(_WORDS) for _ in range(number))


def _type_of(schema: Mapping[str, Any], depth: int) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        others = [each for each in kind if each != "null"]
        kind = others[0] if others and (depth < DEPTH or "null" not in kind) else "null"
    if kind is None:
        kind = next((kind for keyword, kind in _TYPE_OF_KEYWORD.items() if keyword in schema), "string")
    if kind not in ("object", "array", "string", "integer", "number", "boolean", "null"):
        raise BadSchema(f"no type is called {kind!r}")
    return str(kind)


def _alternative(parts: list[Any], depth: int) -> Any:
    """The first alternative; at great depth the first that nests no deeper, if there is one."""
    if depth >= DEPTH:
        for part in parts:
            if isinstance(part, Mapping) and not part.keys() & {"$ref", "properties", "items", "anyOf", "oneOf"}:
                return part
    return parts[0]


def _merged(parts: Any) -> dict[str, Any]:
    """Several schemas that must all hold, merged into one."""
    merged: dict[str, Any] = {}
    for part in parts:
        both = {**merged, **part}
        if "properties" in merged and "properties" in part:
            both["properties"] = {**merged["properties"], **part["properties"]}
        if "required" in merged and "required" in part:
            both["required"] = [*merged["required"], *part["required"]]
        merged = both
    return merged


def _bounds(schema: Mapping[str, Any]) -> tuple[float, float]:
    lows = list(_numbers(schema, "minimum", "exclusiveMinimum"))
    highs = list(_numbers(schema, "maximum", "exclusiveMaximum"))
    if highs:
        high = min(highs)
        return (max(lows) if lows else 0 if high > 0 else high - 100), high
    low = max(lows) if lows else 0
    return low, max(100, low + 100)


def _numbers(schema: Mapping[str, Any], *names: str) -> Iterator[float]:
    for name in names:
        bound = schema.get(name)
        if isinstance(bound, int | float) and not isinstance(bound, bool):
            yield bound
