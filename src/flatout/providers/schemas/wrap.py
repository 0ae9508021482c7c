"""Wrap schemas that do not describe an object (a label, a list) in an object: providers accept only objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .strict import root_of

WRAPPED = "answer"
"""The property that holds the answer if its schema does not describe an object."""

_OF_THE_ROOT = ("$schema", "$id", "$defs", "definitions")
"""Keywords that stay at the root: references lead to them, or they name the dialect."""

_OF_OBJECTS = frozenset({"properties", "required", "additionalProperties", "patternProperties"})
"""Keywords that imply an object if no type is named."""


def is_object(schema: Mapping[str, Any]) -> bool:
    """Whether a schema describes only objects, so that its answers need no wrapper."""
    root = root_of(schema)
    return root["type"] == "object" if "type" in root else not _OF_OBJECTS.isdisjoint(root)


def wrap(schema: Mapping[str, Any], title: str) -> dict[str, Any]:
    """An object schema with one property, which has the given schema. References inside keep their meaning."""
    root = {name: _moved(schema[name]) for name in _OF_THE_ROOT if name in schema}
    inner = {name: _moved(part) if name != "$ref" else _led(part) for name, part in schema.items() if name not in root}
    return {
        "title": title,
        "type": "object",
        "properties": {WRAPPED: inner},
        "required": [WRAPPED],
        "additionalProperties": False,
        **root,
    }


def _moved(part: Any) -> Any:
    if isinstance(part, list):
        return [_moved(each) for each in part]
    if not isinstance(part, dict):
        return part
    return {name: _led(value) if name == "$ref" else _moved(value) for name, value in part.items()}


def _led(reference: Any) -> Any:
    """A reference, adjusted to the schema's new place in a property. Definitions stay at the root."""
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        return reference
    if reference.startswith(("#/$defs/", "#/definitions/")):
        return reference
    return f"#/properties/{WRAPPED}{reference[1:]}"
