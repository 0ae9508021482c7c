"""The strict form of a JSON schema: the narrow kind in which hosted providers guarantee an answer.

Strict modes take a part of JSON Schema, and refuse a request that uses more. What a schema says must not get lost on
the way, so nothing here is left out of it: a schema that says more than a mode understands has no strict form there,
and the places that are in the way are named. Only these things are written otherwise, since they mean the same: a
tagged union as an ``anyOf`` (its tags tell the alternatives apart), and words beside a reference around it.
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
"""What the grammars behind strict modes cannot follow in a pattern."""


class Mode(Struct, frozen=True):
    """What one provider's strict mode understands.

    Attributes:
        keywords: the keywords that it takes.
        formats: the formats of strings that it takes.
        most_min_items: the largest ``minItems`` that it takes; None for any.
    """

    keywords: frozenset[str]
    formats: frozenset[str] = _FORMATS
    most_min_items: int | None = None


OPENAI = Mode(
    _EVERYWHERE
    | {"pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
    | {"minItems", "maxItems"}
)
"""OpenAI's, and that of those who copied its API (its documentation of structured outputs, 2026)."""

ANTHROPIC = Mode(_EVERYWHERE | {"format", "minItems"}, _FORMATS | {"uri"}, most_min_items=1)
"""Anthropic's, which knows no bounds of numbers (its documentation of structured outputs, 2026)."""


class Strict(Struct, frozen=True):
    """What became of a schema.

    Attributes:
        schema: its strict form; None when it has none.
        loose: what is in the way: paths and keywords, such as ``$.homes[*].zip: maxLength``.
        tightened: the fields that may be left out, and that the strict form asks for all the same.
    """

    schema: Mapping[str, Any] | None
    loose: tuple[str, ...] = ()
    tightened: tuple[str, ...] = ()


def strict_form(schema: Mapping[str, Any], mode: Mode) -> Strict:
    """A schema that pydantic made, in the form that a strict mode takes, as far as it has one.

    Strict modes want every field required. That narrows the schema, and whatever fits the narrow one fits the user's
    type. So a field that may be left out becomes required where the answer can still say "nothing" (null, an empty
    list) or where the type has a default, whose place any value takes; that is OpenAI's own advice, and it is told in
    ``tightened``. Any other field that may be left out would force the model to invent something, which is worse than
    no guarantee: then there is no strict form. A model without a word on other fields ignores these, so that
    forbidding them loses nothing.
    """
    rewrite = _Rewrite(mode, _mapping(schema.get("$defs")))
    root = root_of(schema)
    if root is not schema:  # the root must be an object, not a reference to one (a type that holds itself)
        schema = {**root, "$defs": schema.get("$defs")}
    if schema.get("type") != "object":
        return Strict(None, ("$: its root is no object",))
    made = rewrite.part(schema, "$")
    return Strict(None, tuple(rewrite.loose)) if rewrite.loose else Strict(made, (), tuple(rewrite.tightened))


def why_loose(schema: Mapping[str, Any], mode: Mode) -> tuple[str, ...]:
    """What keeps a user's own schema, which is sent as it is, from being strict; nothing when it is strict already."""
    if schema.get("type") != "object":
        return ("$: its root is no object",)
    rewrite = _Rewrite(mode, _mapping(schema.get("$defs")), own=True)
    try:
        rewrite.part(schema, "$")
        return tuple(rewrite.loose)
    except (RecursionError, TypeError, ValueError, AttributeError):
        return ("$: it is no schema that flatout understands",)  # the provider can say better what is wrong with it


def root_of(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the root of a schema says, also where it is a reference (a type that holds itself)."""
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    where, _, name = reference.removeprefix("#/").partition("/")
    return _mapping(_mapping(schema.get(where)).get(name))


class _Rewrite:
    """One walk through a schema, collecting what is in the way; in a user's ``own`` schema, all that would change."""

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
        self._look_at_keywords(schema, path)
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
        self._look_at_keywords(schema, path)
        beside = {name: value for name, value in schema.items() if name not in ("$ref", "default")}
        if beside and self._own:
            self.loose.append(f"{path}: {', '.join(map(str, beside))} beside a $ref")
        reference = {"$ref": schema["$ref"]}
        return {"anyOf": [reference], **beside} if beside else reference

    def _look_at_keywords(self, schema: Mapping[str, Any], path: str) -> None:
        """Note what the mode does not know. A type's ``default`` is looked at where its field is (`_absent`)."""
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
        """Note a field that may be left out."""
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
