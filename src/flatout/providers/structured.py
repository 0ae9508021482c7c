"""Answers that fit a schema: what to ask for, and how to read what came back.

Whatever Python type pydantic can describe is a schema: a model, a dataclass, a TypedDict, a Literal, an Enum, a
``list[…]`` of one; and so is a dict with a JSON schema. The answer is validated in full, whatever the provider
promised.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import GenericAlias, UnionType
from typing import TYPE_CHECKING, Any, get_origin

import msgspec
from msgspec import Struct

from flatout.errors import InvalidRequest, SchemaMismatch
from flatout.values import Call, Reply

from .payload import plain

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_WRAPPED = "answer"
"""The property that holds the answer where its schema describes no object, since providers take objects alone."""

_STRICT_KEYWORDS = frozenset(
    {"type", "properties", "items", "enum", "const", "anyOf", "$ref", "$defs", "title", "description"}
)
"""What strict modes understand everywhere. Other keywords that only narrow a value are left out when a schema is made
strict: the answer is validated here anyway."""

_WIDENING = frozenset({"allOf", "not", "if", "then", "else", "prefixItems", "patternProperties", "oneOf"})
"""Keywords that cannot be left out without changing what a schema means."""


class _NotStrict(Exception):
    """The schema has no strict form."""


class Schema(Struct, frozen=True):
    """What to ask a provider for.

    Attributes:
        name: a name of the form that all providers take.
        schema: the JSON schema; its root is an object.
        strict: whether it has the narrow form that strict modes take (every field required, no others allowed), in
            which hosted providers guarantee it.
    """

    name: str
    schema: Mapping[str, Any]
    strict: bool


def schema_of(output: Any, *, whole: bool = False) -> Schema:
    """The schema that ``call.output`` asks for.

    A Python type is brought into the strict form where it can be; a dict is sent as it is.

    Args:
        output: a type that pydantic can describe, or a dict with a JSON schema.
        whole: whether to keep the keywords that strict modes do not take, for providers without such a mode.

    Raises:
        InvalidRequest: ``output`` is neither, or its type has no JSON schema.
    """
    if isinstance(output, Mapping):
        return _named(output, strict=_is_strict(output))
    _refuse_values(output)
    typed = _typed(output)
    return typed.whole if whole else typed.strict


def response_format(output: Any, *, self_hosted: bool = False) -> dict[str, Any]:
    """The ``response_format`` with which chat completions ask for an answer of a schema.

    Servers of one's own take any schema, and enforce all of it.

    Raises:
        InvalidRequest: ``output`` is neither a type nor a dict with a JSON schema.
    """
    schema = schema_of(output, whole=self_hosted)
    described: dict[str, Any] = {"name": schema.name, "schema": schema.schema}
    if schema.strict or self_hosted:
        described["strict"] = True
    return {"type": "json_schema", "json_schema": described}


def parse_output(call: Call, reply: Reply) -> Any:
    """The answer as the object that ``call.output`` asks for: of its type, or decoded JSON for a dict schema.

    None when the call asks for no schema, or when the model asks for tools instead of answering.

    Raises:
        SchemaMismatch: the answer is not JSON, or does not fit. ``reply`` is attached: it was paid for.
    """
    if call.output is None or (reply.tool_calls and not reply.text.strip()):
        return None
    read = _dict_reader(call.output) if isinstance(call.output, Mapping) else _type_reader(call.output)
    try:
        return read(_unfenced(reply.text))
    except Exception as error:  # a user's own validator may raise anything, and that too is a mismatch
        raise SchemaMismatch(
            f"the answer does not fit the schema: {reason(error)}", request_id=reply.request_id, reply=reply
        ) from error


_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL | re.IGNORECASE)


def _unfenced(text: str) -> str:
    """Without the Markdown fence that models put around JSON when nothing forces them not to."""
    match = _FENCE.fullmatch(text)
    return match[1] if match else text


def reason(error: Exception) -> str:
    """A validator's first complaint, with its place but without the value, which may be long or private."""
    path = getattr(error, "instance_path", None)
    if isinstance(path, list):  # jsonschema_rs
        return _placed(path, str(getattr(error, "message", ""))[:200])
    complaints = getattr(error, "errors", None)
    if not callable(complaints):
        return str(error)[:200]
    try:
        first = complaints(include_url=False, include_context=False, include_input=False)[0]
        return _placed(first["loc"], str(first["msg"]))
    except (TypeError, LookupError):
        return type(error).__name__


def _placed(path: Any, text: str) -> str:
    place = ".".join(str(part) for part in path)
    return f"{place}: {text}" if place else text


# -- Python types -----------------------------------------------------------------------------------------------------


def _refuse_values(output: Any) -> None:
    """Refuse what is no type before pydantic sees it, since it would take some values for one."""
    if isinstance(output, type | GenericAlias | UnionType) or get_origin(output) is not None:
        return
    if type(output).__module__ in ("typing", "typing_extensions"):  # NewType, TypeAliasType, Any …
        return
    raise InvalidRequest(f"output takes a type or a dict with a JSON schema, not a {type(output).__name__}")


class _Typed(Struct, frozen=True):
    """What is known of a type: what validates it, what to ask for, and whether the answer is wrapped in an object."""

    adapter: TypeAdapter[Any]
    strict: Schema
    whole: Schema
    wrapped: bool


def _typed(kind: Any) -> _Typed:
    try:
        return _cached(kind)
    except TypeError:  # not hashable, as an Annotated of odd values is not
        return _cached.__wrapped__(kind)


@lru_cache(maxsize=128)
def _cached(kind: Any) -> _Typed:
    from pydantic import TypeAdapter  # slow to import, and needed by calls with a schema alone

    try:
        adapter = TypeAdapter(kind)
        schema = adapter.json_schema()
    except Exception as error:  # pydantic raises several kinds of its own, and users' code runs in it
        raise InvalidRequest(f"output: {_title(kind)} has no JSON schema: {str(error)[:200]}") from error
    wrapped = _root(schema).get("type") != "object"
    if wrapped:
        schema = _wrap(schema, _title(kind))
    whole = _named(schema, strict=False)
    try:
        strict = _named(_strict_root(schema), strict=True)
    except _NotStrict:
        strict = whole
    return _Typed(adapter, strict, whole, wrapped)


def _wrap(schema: dict[str, Any], title: str) -> dict[str, Any]:
    definitions = schema.pop("$defs", None)
    wrapped: dict[str, Any] = {
        "title": title,
        "type": "object",
        "properties": {_WRAPPED: schema},
        "required": [_WRAPPED],
        "additionalProperties": False,
    }
    return wrapped | {"$defs": definitions} if definitions else wrapped


def _type_reader(kind: Any) -> Callable[[str], Any]:
    typed = _typed(kind)
    if not typed.wrapped:
        return typed.adapter.validate_json
    return lambda text: typed.adapter.validate_json(_unwrapped(text))


def _unwrapped(text: str) -> bytes:
    answer = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    if _WRAPPED not in answer:
        raise ValueError(f"it has no property {_WRAPPED!r}")
    return bytes(answer[_WRAPPED])


def _title(kind: Any) -> str:
    return str(getattr(kind, "__name__", None) or "answer")


# -- dicts with a JSON schema -----------------------------------------------------------------------------------------


def _dict_reader(schema: Mapping[str, Any]) -> Callable[[str], Any]:
    try:
        validate = _validator(msgspec.json.encode(schema, enc_hook=plain))
    except (ValueError, TypeError, OverflowError, RecursionError):
        validate = None  # it could not be sent either

    def read(text: str) -> Any:
        value = msgspec.json.decode(text)
        if validate is not None:
            validate(value)
        return value

    return read


@lru_cache(maxsize=128)
def _validator(schema: bytes) -> Callable[[Any], None] | None:
    """What validates against a JSON schema; None for a schema that makes no sense, which the provider says better.

    References to other servers are not followed.
    """
    import jsonschema_rs  # large, and needed by calls with such a schema alone

    try:
        return jsonschema_rs.validator_for(msgspec.json.decode(schema), offline=True, mask="the value").validate
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError):
        return None


def _named(schema: Mapping[str, Any], *, strict: bool) -> Schema:
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", str(schema.get("title") or "answer"))[:64] or "answer"
    return Schema(name, schema, strict)


def _is_strict(schema: Mapping[str, Any]) -> bool:
    try:
        return bool(_strict_root(schema) == schema)
    except (_NotStrict, RecursionError, TypeError, ValueError, AttributeError):
        return False  # whatever is wrong with a user's schema, the provider can say it better


def _strict_root(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The strict form of a whole schema, whose root must be an object, not a reference to one."""
    root = _root(schema)
    if root is not schema:
        schema = {**root, "$defs": schema.get("$defs")}
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


def _root(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the root of a schema says, also where it is a reference (a type that holds itself)."""
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    return _mapping(_mapping(schema.get("$defs")).get(reference.removeprefix("#/$defs/")))


def is_recursive(schema: Mapping[str, Any]) -> bool:
    """Whether a definition in a schema holds itself, which not every provider takes."""
    definitions = _mapping(schema.get("$defs"))
    open_names: list[str] = []

    def meets_itself(part: Any) -> bool:
        if isinstance(part, list | tuple):
            return any(map(meets_itself, part))
        if not isinstance(part, Mapping):
            return False
        reference = part.get("$ref")
        if not isinstance(reference, str):
            return any(map(meets_itself, part.values()))
        name = reference.removeprefix("#/$defs/")
        if reference == "#" or name in open_names:
            return True
        open_names.append(name)
        found = meets_itself(definitions.get(name))
        open_names.pop()
        return found

    return bool(definitions) and meets_itself({name: part for name, part in schema.items() if name != "$defs"})


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
