"""Answers that fit a schema: what to ask for, and how to read the answer.

A schema is any Python type that pydantic can describe (a model, a dataclass, a TypedDict, a Literal, an Enum, a
``list[…]`` of one), or a dict with a JSON schema. Every answer is validated in full, whatever the provider promised.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import GenericAlias, UnionType
from typing import TYPE_CHECKING, Any, get_origin

import msgspec
from msgspec import Struct, structs

from flatout.errors import InvalidRequest
from flatout.providers.wire.payload import plain
from flatout.text.once import Once

from .strict import OPENAI, Mode, root_of, strict_form, why_loose
from .wrap import WRAPPED, is_object, wrap

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_log = logging.getLogger("flatout")

MISFITS = (ValueError, AssertionError, RecursionError)
"""Exceptions that say that an answer does not fit. Any other exception is a fault of the validator itself."""


class Schema(Struct, frozen=True):
    """What to ask a provider for.

    Attributes:
        name: a name in the form that all providers accept.
        schema: the JSON schema; its root is an object.
        strict: whether the schema has the narrow form that strict modes support (every field required, no others
            allowed), for which hosted providers guarantee the answer.
        loose: why it is not strict: the paths and keywords that such a mode does not support.
        tightened: the fields that the strict form requires although the user's type makes them optional.
    """

    name: str
    schema: Mapping[str, Any]
    strict: bool
    loose: tuple[str, ...] = ()
    tightened: tuple[str, ...] = ()


def schema_of(output: Any, mode: Mode | None = OPENAI) -> Schema:
    """The schema that ``call.output`` asks for.

    A Python type gets its strict form if it has one; otherwise its schema stays complete. A dict is sent unchanged. The
    difference from the user's schema is logged once.

    Args:
        output: a type that pydantic can describe, or a dict with a JSON schema.
        mode: what the provider's strict mode supports; None for providers without one, which get the whole schema.

    Raises:
        InvalidRequest: ``output`` is neither, its type has no JSON schema, or the dict is not a valid schema.
    """
    if isinstance(output, Mapping):
        schema = _own(output, mode)
    else:
        _refuse_values(output)
        typed = _typed(output)
        schema = typed.forms.get(mode) or typed.forms.setdefault(mode, _strict(typed.whole, mode))
    if schema.loose or schema.tightened:
        _log_once(schema.name, schema.loose, schema.tightened)
    return schema


_first_time = Once()


def _log_once(name: str, loose: tuple[str, ...], tightened: tuple[str, ...]) -> None:
    """Tell the user how a schema is used, once per schema."""
    if not _first_time(name, loose, tightened):
        return
    if loose:
        _log.info("the schema %s is not strict, so no provider guarantees it: %s", name, "; ".join(loose))
    else:
        _log.info("the strict form of the schema %s asks for every field: %s", name, "; ".join(tightened))


def instructions(output: Any) -> str:
    """The part of a system prompt that describes a schema, for providers without a schema parameter.

    Raises:
        InvalidRequest: ``output`` is neither a type nor a dict with a JSON schema.
    """
    described = _encoded(schema_of(output, None).schema, "output").decode()
    return f"Answer with JSON only: one object that fits this JSON schema, and no word beside it.\n{described}"


def response_format(output: Any, *, self_hosted: bool = False) -> dict[str, Any]:
    """The ``response_format`` with which chat completions ask for an answer that fits a schema.

    Self-hosted servers accept any schema, and enforce all of it.

    Raises:
        InvalidRequest: ``output`` is neither a type nor a dict with a JSON schema.
    """
    schema = schema_of(output, None if self_hosted else OPENAI)
    described: dict[str, Any] = {"name": schema.name, "schema": schema.schema}
    if schema.strict or self_hosted:
        described["strict"] = True
    return {"type": "json_schema", "json_schema": described}


def reader_of(output: Any) -> Callable[[str], Any]:
    """A function that turns an answer's JSON into the requested object, and raises `MISFITS` if it does not fit."""
    return _dict_reader(output) if isinstance(output, Mapping) else _type_reader(output)


def restored(output: Any, kept: bytes) -> Any:
    """An already validated object from its JSON: of the type ``output``, or decoded for a dict schema."""
    return msgspec.json.decode(kept) if isinstance(output, Mapping) else _typed(output).adapter.validate_json(kept)


def wrapped_choices(output: Any) -> tuple[bool, Sequence[Any]]:
    """Whether the answer is wrapped in an object, and the values it may have, if it is one of several."""
    if isinstance(output, Mapping):
        return not is_object(output), _choices(output, output)
    typed = _typed(output)
    schema = typed.whole.schema
    return typed.wrapped, _choices(schema["properties"][WRAPPED], schema) if typed.wrapped else ()


def _choices(schema: Any, whole: Mapping[str, Any]) -> Sequence[Any]:
    schema = root_of({**_mapping(schema), "$defs": whole.get("$defs")})
    choices = schema.get("enum", [schema["const"]] if "const" in schema else ())
    return choices if isinstance(choices, list | tuple) else ()


def unfenced(text: str) -> str:
    """A text without the Markdown fence that models often put around JSON."""
    bare = text.strip()
    head, line_break, inner = bare[3:-3].partition("\n")
    fenced = bare.startswith("```") and bare.endswith("```") and line_break and head.strip().lower() in ("", "json")
    return inner if fenced else text


def reason(error: Exception) -> str:
    """A validator's first complaint, with its place, but without the value, which may be long or private."""
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
    """Refuse values that are not types. pydantic would take some of them for types."""
    if isinstance(output, type | GenericAlias | UnionType) or get_origin(output) is not None:
        return
    if type(output).__module__ in ("typing", "typing_extensions"):  # NewType, TypeAliasType, Any …
        return
    raise InvalidRequest(f"output takes a type or a dict with a JSON schema, not a {type(output).__name__}")


class _Typed(Struct, frozen=True):
    """What is known about a type: its validator, its schema, and whether its answers are wrapped in an object."""

    adapter: TypeAdapter[Any]
    whole: Schema
    wrapped: bool
    forms: dict[Mode | None, Schema]


def _typed(kind: Any) -> _Typed:
    try:
        return _cached(kind)
    except TypeError:  # not hashable, such as an Annotated with unhashable metadata
        return _cached.__wrapped__(kind)


@lru_cache(maxsize=128)
def _cached(kind: Any) -> _Typed:
    from pydantic import TypeAdapter  # slow to import, and only calls with a schema need it

    try:
        adapter = TypeAdapter(kind)
        schema = adapter.json_schema()
    except Exception as error:  # pydantic raises several kinds of its own, and runs users' code
        raise InvalidRequest(f"output: {_title(kind)} has no JSON schema: {str(error)[:200]}") from error
    wrapped = not is_object(schema)
    if wrapped:
        schema = wrap(schema, _title(kind))
    whole = Schema(_name(schema), schema, False)
    return _Typed(adapter, whole, wrapped, {None: whole})


def _strict(whole: Schema, mode: Mode | None) -> Schema:
    if mode is None:
        return whole
    form = strict_form(whole.schema, mode)
    if form.schema is None:
        return structs.replace(whole, loose=form.loose)
    return Schema(_name(form.schema), form.schema, True, (), form.tightened)


def _type_reader(kind: Any) -> Callable[[str], Any]:
    typed = _typed(kind)
    if not typed.wrapped:
        return typed.adapter.validate_json
    return lambda text: typed.adapter.validate_json(_unwrapped(text))


def _unwrapped(text: str) -> bytes:
    answer = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    if WRAPPED not in answer:
        raise ValueError(f"it has no property {WRAPPED!r}")
    return bytes(answer[WRAPPED])


def _title(kind: Any) -> str:
    return str(getattr(kind, "__name__", None) or "answer")


# -- dicts with a JSON schema -----------------------------------------------------------------------------------------


def _dict_reader(schema: Mapping[str, Any]) -> Callable[[str], Any]:
    validate = validator_of(schema, "output")
    wrapped = not is_object(schema)

    def read(text: str) -> Any:
        value = msgspec.json.decode(_unwrapped(text) if wrapped else text)
        validate(value)
        return value

    return read


def validator_of(schema: Mapping[str, Any], what: str, *, formats: bool | None = None) -> Callable[[Any], None]:
    """A function that validates a value against a JSON schema.

    References to other servers or to files are never followed. ``format`` is checked if the schema's dialect says so
    (drafts 4, 6 and 7), or if the schema names no dialect. Then the newest dialect that accepts the schema is used.

    Args:
        schema: the schema.
        what: what the schema is for, for the error.
        formats: whether to check ``format``; None for the rule above.

    Raises:
        InvalidRequest: the schema makes no sense. With a misspelt type, for example, every value would be valid.
    """
    return _validator(_encoded(schema, what), what, formats)


def _encoded(schema: Mapping[str, Any], what: str) -> bytes:
    try:
        return msgspec.json.encode(schema, enc_hook=plain)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidRequest(f"{what}: the schema cannot be sent as JSON: {str(error)[:200]}") from None


@lru_cache(maxsize=256)
def _validator(schema: bytes, what: str, formats: bool | None = None) -> Callable[[Any], None]:
    import jsonschema_rs  # large, and only calls with such a schema need it

    decoded = msgspec.json.decode(schema)
    names_dialect = "$schema" in decoded
    formats = True if formats is None and not names_dialect else formats
    dialects: list[Any] = [jsonschema_rs.validator_for]  # the newest if the schema names none
    if not names_dialect:  # many schemas follow drafts before 2019: a list of items, exclusiveMinimum beside minimum
        dialects += [jsonschema_rs.Draft7Validator, jsonschema_rs.Draft4Validator]
    for compile_ in dialects:
        try:
            validator = compile_(decoded, offline=True, mask="the value", validate_formats=formats)
        except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError):
            continue
        validate: Callable[[Any], None] = validator.validate
        return validate
    raise InvalidRequest(f"{what}: not a JSON schema: {_why_none(decoded)}")


def _why_none(schema: Any) -> str:
    """Why a schema does not compile, in full: unlike an answer, it is the user's own text."""
    import jsonschema_rs

    try:
        jsonschema_rs.validator_for(schema, offline=True)
    except Exception as error:  # the same error as with a mask, with more words
        return reason(error)
    return "it does not compile"


def _own(schema: Mapping[str, Any], mode: Mode | None) -> Schema:
    """A user's own schema, unchanged, except that it is wrapped if it does not describe an object."""
    encoded = _encoded(schema, "output")
    _validator(encoded, "output")  # checked before anything is paid for
    sent = schema if is_object(schema) else _own_wrapped(encoded)
    loose = () if mode is None else _known_loose(_encoded(sent, "output"), mode)
    return Schema(_name(sent), sent, mode is not None and not loose, loose)


@lru_cache(maxsize=256)
def _own_wrapped(schema: bytes) -> dict[str, Any]:
    decoded = msgspec.json.decode(schema)
    if not isinstance(decoded, dict):
        raise InvalidRequest("output takes a type or a dict with a JSON schema")
    return wrap(decoded, str(decoded.get("title") or WRAPPED))


@lru_cache(maxsize=256)
def _known_loose(schema: bytes, mode: Mode) -> tuple[str, ...]:
    return why_loose(msgspec.json.decode(schema), mode)


def _name(schema: Mapping[str, Any]) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", str(schema.get("title") or "answer"))[:64] or "answer"


def is_recursive(schema: Mapping[str, Any]) -> bool:
    """Whether a definition in a schema contains itself, which not every provider supports."""
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
