"""Answers that fit a schema: what to ask for, and how to read what came back.

A pydantic model is validated in full. A JSON schema given as a dict is sent to the provider, but on the way back the
answer is only checked to be JSON: validation against the dict may come later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from flatout.errors import InvalidRequest, SchemaMismatch
from flatout.values import Call, Reply

_STRICT_KEYWORDS = frozenset(
    {"type", "properties", "items", "enum", "const", "anyOf", "$ref", "$defs", "title", "description"}
)
"""What strict modes understand everywhere. Other keywords that only narrow a value are left out when a schema is made
strict: the answer is validated here anyway."""

_WIDENING = frozenset({"allOf", "not", "if", "then", "else", "prefixItems", "patternProperties", "oneOf"})
"""Keywords that cannot be left out without changing what a schema means."""


class _NotStrict(Exception):
    """The schema has no strict form."""


def response_format(output: Any, *, self_hosted: bool = False) -> dict[str, Any]:
    """The ``response_format`` that asks for an answer of a schema.

    Strict mode makes hosted providers guarantee the schema, but only schemas of a narrow form are taken: every field
    required, no others allowed. A pydantic model is brought into that form where it can be; a dict is sent as it is,
    and strictly only when it has that form. Servers of one's own take any schema.

    Raises:
        InvalidRequest: ``output`` is neither a pydantic model class nor a dict with a JSON schema.
    """
    if isinstance(output, Mapping):
        return _format(output, strict=self_hosted or _is_strict(output))
    if isinstance(output, type) and hasattr(output, "model_json_schema"):
        return _of_model(output, self_hosted)
    shown = getattr(output, "__name__", type(output).__name__)
    raise InvalidRequest(f"output takes a pydantic model class or a dict with a JSON schema, not {shown}")


def parse_output(call: Call, reply: Reply) -> Any:
    """The answer as the object that ``call.output`` asks for: a model's instance, or decoded JSON for a dict schema.

    None when the call asks for no schema, or when the model asks for tools instead of answering.

    Raises:
        SchemaMismatch: the answer is not JSON, or does not fit the model. ``reply`` is attached: it was paid for.
    """
    if call.output is None or (reply.tool_calls and not reply.text.strip()):
        return None
    text = _unfenced(reply.text)
    try:
        if hasattr(call.output, "model_validate_json"):
            return call.output.model_validate_json(text)
        return msgspec.json.decode(text)
    except Exception as error:  # a user's own validator may raise anything, and that too is a mismatch
        raise SchemaMismatch(
            f"the answer does not fit the schema: {_reason(error)}", request_id=reply.request_id, reply=reply
        ) from error


_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL | re.IGNORECASE)


def _unfenced(text: str) -> str:
    """Without the Markdown fence that models put around JSON when nothing forces them not to."""
    match = _FENCE.fullmatch(text)
    return match[1] if match else text


def _reason(error: Exception) -> str:
    """The first complaint, with its place but without the answer's text, which may be long or private."""
    complaints = getattr(error, "errors", None)
    if not callable(complaints):
        return str(error)[:200]
    try:
        first = complaints(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{place}: {first['msg']}" if place else str(first["msg"])
    except (TypeError, LookupError):
        return type(error).__name__


@lru_cache(maxsize=128)
def _of_model(model: Any, self_hosted: bool) -> dict[str, Any]:
    try:
        schema = model.model_json_schema()
    except Exception as error:  # pydantic raises several kinds of its own for what JSON cannot describe
        raise InvalidRequest(f"output: {model.__name__} has no JSON schema: {str(error)[:200]}") from error
    if self_hosted:
        return _format(schema, strict=True)
    try:
        return _format(_strict_root(schema), strict=True)
    except _NotStrict:
        return _format(schema, strict=False)


def _format(schema: Mapping[str, Any], *, strict: bool) -> dict[str, Any]:
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", str(schema.get("title") or "answer"))[:64] or "answer"
    described: dict[str, Any] = {"name": name, "schema": schema}
    if strict:
        described["strict"] = True
    return {"type": "json_schema", "json_schema": described}


def _is_strict(schema: Mapping[str, Any]) -> bool:
    try:
        return bool(_strict_root(schema) == schema)
    except (_NotStrict, RecursionError, TypeError, ValueError, AttributeError):
        return False  # whatever is wrong with a user's schema, the provider can say it better


def _strict_root(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The strict form of a whole schema, whose root must be an object, not a reference to one."""
    root = schema.get("$ref")
    if isinstance(root, str):
        named = _mapping(schema.get("$defs")).get(root.removeprefix("#/$defs/"))
        schema = {**_mapping(named), "$defs": schema.get("$defs")}
    if schema.get("type") != "object":
        raise _NotStrict
    return _strict(schema)


def _strict(schema: Any) -> dict[str, Any]:
    if not isinstance(schema, Mapping):
        raise _NotStrict
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    if "oneOf" in schema and "discriminator" in schema:  # a tagged union: its tags tell the alternatives apart
        schema = {("anyOf" if name == "oneOf" else name): value for name, value in schema.items()}
    if _WIDENING & schema.keys() or not {"type", "anyOf", "enum", "const"} & schema.keys():
        raise _NotStrict
    strict = {name: value for name, value in schema.items() if name in _STRICT_KEYWORDS}
    if "anyOf" in schema:
        strict["anyOf"] = [_strict(part) for part in schema["anyOf"]]
    if "$defs" in schema:
        strict["$defs"] = {name: _strict(part) for name, part in schema["$defs"].items()}
    if schema.get("type") == "array":
        strict["items"] = _strict(schema.get("items"))
    if schema.get("type") == "object":
        strict.update(_strict_object(schema))
    return strict


def _strict_object(schema: Mapping[str, Any]) -> dict[str, Any]:
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or schema.get("additionalProperties", False) is not False:
        raise _NotStrict
    required = schema.get("required", [])
    return {
        "properties": {name: _strict(part) for name, part in properties.items()},
        "required": required if set(required) == set(properties) else list(properties),
        "additionalProperties": False,
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
