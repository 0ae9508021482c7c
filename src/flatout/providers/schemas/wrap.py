"""Schemas of what is no object (a label, a list): wrapped in an object, since providers take objects alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .strict import root_of

WRAPPED = "answer"
"""The property that holds the answer where its schema describes no object."""

_OF_THE_ROOT = ("$schema", "$id", "$defs", "definitions")
"""What stays at the root: references lead there, and the dialect is told there."""

_OF_OBJECTS = frozenset({"properties", "required", "additionalProperties", "patternProperties"})
"""Keywords that mean an object where no type is named."""


def is_object(schema: Mapping[str, Any]) -> bool:
    """Whether a schema describes an object, and nothing else, so that its answers need not be wrapped."""
    root = root_of(schema)
    return root["type"] == "object" if "type" in root else not _OF_OBJECTS.isdisjoint(root)


def wrap(schema: Mapping[str, Any], title: str) -> dict[str, Any]:
    """The schema of an object whose only property has a schema. References within still lead where they led."""
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
    """Where a reference leads, once the schema is a property; definitions stay where they are."""
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        return reference
    if reference.startswith(("#/$defs/", "#/definitions/")):
        return reference
    return f"#/properties/{WRAPPED}{reference[1:]}"
