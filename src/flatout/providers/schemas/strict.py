"""The strict form of a JSON schema: the narrow kind for which hosted providers guarantee a fitting answer.

Strict modes support a part of JSON Schema, and refuse requests that use more. Nothing that a schema says may get lost
on the way. So a schema that says more than a mode supports has no strict form there, and this module names the places
that are in the way. It rewrites only two things, without changing their meaning: a tagged union becomes an ``anyOf``
(the tags tell the alternatives apart), and keywords beside a reference move around it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

_EVERYWHERE = frozenset({
    *("type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "$ref", "$defs"),
    *("title", "description"),
})  # fmt: skip

_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})

_LOOKAROUNDS = ("(?=", "(?!", "(?<=", "(?<!")
"""Pattern syntax that the grammars behind strict modes do not support."""


class Mode(Struct, frozen=True):
    """What one provider's strict mode supports.

    Attributes:
        keywords: the supported keywords.
        formats: the supported formats of strings.
        most_min_items: the largest supported ``minItems``; None for any.
    """

    keywords: frozenset[str]
    formats: frozenset[str] = _FORMATS
    most_min_items: int | None = None


OPENAI = Mode(
    _EVERYWHERE
    | {"pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
    | {"minItems", "maxItems"}
)
"""OpenAI's, also used by those who copied its API (its documentation of structured outputs, 2026)."""

ANTHROPIC = Mode(_EVERYWHERE | {"format", "minItems"}, _FORMATS | {"uri"}, most_min_items=1)
"""Anthropic's, which does not support bounds of numbers (its documentation of structured outputs, 2026)."""


class Strict(Struct, frozen=True):
    """The result of bringing a schema into its strict form.

    Attributes:
        schema: the strict form; None if there is none.
        loose: what is in the way, as paths and keywords, such as ``$.homes[*].zip: maxLength``.
        tightened: optional fields that the strict form requires.
    """

    schema: Mapping[str, Any] | None
    loose: tuple[str, ...] = ()
    tightened: tuple[str, ...] = ()


def strict_form(schema: Mapping[str, Any], mode: Mode) -> Strict:
    """The strict form of a schema that pydantic made, if it has one.

    Strict modes want every field required. That narrows the schema, and whatever fits the narrow schema fits the user's
    type. So an optional field becomes required if the answer can still say "nothing" (null, an empty list), or if the
    type has a default, since any valid value may replace a default. OpenAI's documentation advises the same;
    ``tightened`` lists these fields. Requiring any other optional field would force the model to invent something,
    which is worse than no guarantee: then there is no strict form. A type that does not mention other fields ignores
    them, so forbidding them loses nothing.
    """
    rewrite = _Rewrite(mode, _mapping(schema.get("$defs")))
    root = root_of(schema)
    if root is not schema:  # the root must be an object, not a reference to one (for a recursive type)
        schema = {**root, "$defs": schema.get("$defs")}
    if schema.get("type") != "object":
        return Strict(None, ("$: its root is not an object",))
    strict = rewrite.part(schema, "$")
    return Strict(None, tuple(rewrite.loose)) if rewrite.loose else Strict(strict, (), tuple(rewrite.tightened))


def why_loose(schema: Mapping[str, Any], mode: Mode) -> tuple[str, ...]:
    """What keeps a user's own schema from being strict; empty if it is strict. Such a schema is sent unchanged."""
    if schema.get("type") != "object":
        return ("$: its root is not an object",)
    rewrite = _Rewrite(mode, _mapping(schema.get("$defs")), own=True)
    try:
        rewrite.part(schema, "$")
        return tuple(rewrite.loose)
    except (RecursionError, TypeError, ValueError, AttributeError):
        return ("$: flatout does not understand this schema",)  # the provider can say better what is wrong with it


def root_of(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The root of a schema, resolved if it is a reference (for a recursive type)."""
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    where, _, name = reference.removeprefix("#/").partition("/")
    return _mapping(_mapping(schema.get(where)).get(name))


class _Rewrite:
    """One walk through a schema that collects what is in the way. In a user's ``own`` schema, any change is."""

    def __init__(self, mode: Mode, definitions: Mapping[str, Any], *, own: bool = False) -> None:
        self._mode = mode
        self._own = own
        self._definitions = definitions
        self.loose: list[str] = []
        self.tightened: list[str] = []

    def part(self, schema: Any, path: str) -> dict[str, Any]:
        if not isinstance(schema, Mapping):
            self.loose.append(f"{path}: anything goes there")
            return {}
        if "$ref" in schema:
            return self._reference(schema, path)
        if "oneOf" in schema and "discriminator" in schema and not self._own:
            schema = {
                ("anyOf" if name == "oneOf" else name): v for name, v in schema.items() if name != "discriminator"
            }
        if not {"type", "anyOf", "enum", "const"} & schema.keys():
            self.loose.append(f"{path}: anything goes there")
        self._check_keywords(schema, path)
        strict = {name: value for name, value in schema.items() if name != "default"}
        if "anyOf" in schema:
            strict["anyOf"] = [self.part(part, path) for part in schema["anyOf"]]
        if "$defs" in schema:
            strict["$defs"] = {name: self.part(part, f"$defs.{name}") for name, part in schema["$defs"].items()}
        kinds = _kinds(schema)
        if "array" in kinds:
            strict["items"] = self.part(schema.get("items"), f"{path}[*]")
        if "object" in kinds:
            strict.update(self._object(schema, path))
        return strict

    def _reference(self, schema: Mapping[str, Any], path: str) -> dict[str, Any]:
        self._check_keywords(schema, path)
        beside = {name: value for name, value in schema.items() if name not in ("$ref", "default")}
        if beside and self._own:
            self.loose.append(f"{path}: {', '.join(map(str, beside))} beside a $ref")
        reference = {"$ref": schema["$ref"]}
        return {"anyOf": [reference], **beside} if beside else reference

    def _check_keywords(self, schema: Mapping[str, Any], path: str) -> None:
        """Note what the mode does not support. `_absent` handles the ``default`` of a type's field."""
        known = self._mode.keywords if self._own else self._mode.keywords | {"default"}
        self.loose.extend(f"{path}: {name}" for name in schema if name not in known)
        if "format" in schema and "format" in self._mode.keywords and schema["format"] not in self._mode.formats:
            self.loose.append(f"{path}: format {schema['format']}")
        if any(mark in str(schema.get("pattern", "")) for mark in _LOOKAROUNDS):
            self.loose.append(f"{path}: pattern (it looks around)")
        most = self._mode.most_min_items
        if most is not None and schema.get("minItems", 0) > most:
            self.loose.append(f"{path}: minItems above {most}")

    def _object(self, schema: Mapping[str, Any], path: str) -> dict[str, Any]:
        properties = schema.get("properties", {})
        if not isinstance(properties, Mapping) or schema.get("additionalProperties", False) is not False:
            self.loose.append(f"{path}: additionalProperties (not false)")
            return {}
        if "properties" not in schema or (self._own and "additionalProperties" not in schema):
            self.loose.append(f"{path}: additionalProperties (not false)")
        required = schema.get("required", [])
        for name, part in properties.items():
            if name not in required:
                self._absent(part, f"{path}.{name}")
        return {
            "properties": {name: self.part(part, f"{path}.{name}") for name, part in properties.items()},
            "required": required if set(required) == set(properties) else list(properties),
            "additionalProperties": False,
        }

    def _absent(self, part: Any, path: str) -> None:
        """Note an optional field."""
        if not self._own and ("default" in _mapping(part) or self._can_be_empty(part)):
            self.tightened.append(f"{path}: required here")
        else:
            self.loose.append(f"{path}: not required")

    def _can_be_empty(self, part: Any) -> bool:
        if "$ref" in _mapping(part):
            part = self._definitions.get(str(part["$ref"]).removeprefix("#/$defs/"))
        part = _mapping(part)
        kinds = {kind for option in (part, *part.get("anyOf", ())) for kind in _kinds(option)}
        return "null" in kinds or ("array" in kinds and not part.get("minItems"))


def _kinds(schema: Any) -> Iterable[Any]:
    kind = _mapping(schema).get("type")
    return kind if isinstance(kind, list | tuple) else (kind,)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
