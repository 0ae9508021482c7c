"""Tools: describe Python functions to the model, and check its arguments before a function gets them.

A tool is a dict, in OpenAI's shape or in the provider's own, or a function, described by its signature and its
docstring.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Optional, get_type_hints

import msgspec

from flatout.errors import ConfigError, InvalidRequest, SchemaMismatch
from flatout.values import Reply, ToolCall

from .schemas.structured import MISFITS, reason, validator_of
from .wire.payload import is_list

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SECTION = re.compile(r"(?:Args|Arguments|Parameters|Returns|Yields|Raises|Examples?|Notes?|Attributes):")
_ON_ARGUMENTS = ("Args:", "Arguments:", "Parameters:")
_ENTRY = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*)")


class Described(dict[str, Any]):
    """A function's description in OpenAI's shape that remembers the function, so that it validates the arguments."""

    def __init__(self, function: Callable[..., Any], schema: Mapping[str, Any]) -> None:
        super().__init__(schema)
        self.function = function


def tool_schema(function: Callable[..., Any]) -> dict[str, Any]:
    """A function as a tool in OpenAI's shape: ``{"type": "function", "function": {"name", "description", …}}``.

    The description is the docstring up to its first section. An ``Args:`` section (Google's style) describes the
    parameters.

    Raises:
        ConfigError: a parameter has no type hint, or one that JSON cannot describe; or the function takes ``*args``,
            ``**kwargs`` or positional-only parameters, or has no name that a model can use.
    """
    schema = _described(function)[0]
    inner = schema["function"]
    return Described(function, {**schema, "function": {**inner, "parameters": dict(inner["parameters"])}})


def validate_arguments(function: Callable[..., Any], arguments: str | Mapping[str, Any]) -> dict[str, Any]:
    """A model's arguments for a function, converted to the types of its parameters, defaults included.

    Args:
        function: the function that was given as the tool.
        arguments: the JSON text of a `ToolCall`, or its decoded object.

    Raises:
        SchemaMismatch: they do not fit; the message says what is wrong and where, for the model to read.
        ConfigError: the function cannot be a tool.
    """
    _described(function)  # a fault of the function must not look like a fault of the arguments
    try:
        validated = _adapted(function, arguments)
    except MISFITS as error:
        raise SchemaMismatch(f"the arguments of {function.__name__} do not fit: {reason(error)}") from error
    return {field.name: getattr(validated, field.name) for field in dataclasses.fields(validated)}


def check_arguments(tools: Any, reply: Reply) -> None:
    """Refuse an answer with unusable tool arguments.

    They must be a JSON object that fits the tool's schema, and the types of a function's parameters. A call of a tool
    that was not offered is left to the caller. So is a tool whose input is free text (``custom``).

    Raises:
        SchemaMismatch: some do not fit; ``complaints`` says what is wrong with each, and ``reply`` is attached.
        Exception: raised by one of the user's validators, unless it says that the arguments do not fit.
    """
    offered = {name: tool for tool in tools if (name := _name_of(tool)) is not None}
    complaints: dict[str, str] = {}
    for call in reply.tool_calls:
        if call.name in offered and (complaint := _complaint(offered[call.name], call)) is not None:
            complaints[call.id] = f"the arguments of {call.name} do not fit: {complaint}"
    if complaints:
        message = "; ".join(complaints.values())
        raise SchemaMismatch(message, request_id=reply.request_id, reply=reply, complaints=complaints)


def tools_of(tools: Any) -> list[Mapping[str, Any]]:
    """A call's tools as dicts.

    Raises:
        InvalidRequest: one is neither a dict nor a usable function, or its schema makes no sense; or two have the same
            name.
    """
    if not is_list(tools):
        raise InvalidRequest(f"tools takes a list, not {type(tools).__name__}")
    for name, times in Counter(filter(None, map(_name_of, tools))).items():
        if times > 1:
            raise InvalidRequest(f"tools: {times} of them have the name {name}")
    return [_tool(tool) for tool in tools]


def function_of(tool: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The description of the function of a tool in OpenAI's shape; None for a tool of the provider's own.

    Raises:
        InvalidRequest: the function has no name.
    """
    if tool.get("type") != "function" or "function" not in tool:
        return None
    function = tool["function"]
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
        raise InvalidRequest("tools: a tool of type 'function' needs a function with a name")
    return function


def chosen_tool(choice: Any) -> str | None:
    """The function that a ``tool_choice`` in OpenAI's shape names; None for any other shape."""
    function = choice.get("function") if isinstance(choice, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else None


def wants_tool(choice: Any) -> bool:
    """Whether a ``tool_choice``, in any provider's shape, requires a tool call, so that text alone is not an answer."""
    if not isinstance(choice, Mapping):
        return choice in ("required", "any")
    return choice.get("type") in ("function", "tool", "any", "required")


def check_called(choice: Any, reply: Reply) -> None:
    """Refuse an answer without the tool call that ``tool_choice`` requires: not every server enforces it.

    Raises:
        SchemaMismatch: it has no tool call, or not the required one; ``reply`` is attached.
    """
    wanted = chosen_tool(choice) or (choice.get("name") if isinstance(choice, Mapping) else None)
    if (wanted is None and reply.tool_calls) or any(call.name == wanted for call in reply.tool_calls):
        return
    called = f"a call of {wanted}" if wanted else "a call of one of the tools"
    message = f"the answer is not what tool_choice asks for, {called}"
    raise SchemaMismatch(message, request_id=reply.request_id, reply=reply)


def _name_of(tool: Any) -> str | None:
    if not isinstance(tool, Mapping):
        return getattr(tool, "__name__", None)
    if tool.get("type") == "custom" and "input_schema" not in tool:
        return None
    name = _mapping(tool.get("function", tool)).get("name")
    return name if isinstance(name, str) else None


def _complaint(tool: Any, call: ToolCall) -> str | None:
    """What is wrong with a tool call's arguments; None if nothing is."""
    try:
        if (function := _function(tool)) is not None:
            _adapted(function, call.arguments)
            return None
        arguments = call.parsed()
        if not isinstance(arguments, dict):
            return f"they are not a JSON object, but a {type(arguments).__name__}"
        if (validate := _validator(tool)) is not None:
            validate(arguments)
    except (ConfigError, InvalidRequest):
        return None  # this tool is unusable, so it was never offered
    except MISFITS as error:
        return reason(error)
    return None


def _function(tool: Any) -> Callable[..., Any] | None:
    """The function that a tool is or describes; None for any other dict."""
    if isinstance(tool, Described):
        return tool.function
    return None if isinstance(tool, Mapping) else tool


def _validator(tool: Mapping[str, Any]) -> Callable[[Any], None] | None:
    """The validator for the arguments of a tool given as a dict; None if the tool has no schema.

    Raises:
        InvalidRequest: the schema makes no sense.
    """
    inner = _mapping(tool.get("function", tool))
    schema = inner.get("parameters") or inner.get("input_schema")
    return validator_of(schema, f"tools: {inner.get('name')}") if isinstance(schema, Mapping) else None


def _adapted(function: Callable[..., Any], arguments: str | Mapping[str, Any]) -> Any:
    """A function's arguments, validated, as an instance of the dataclass for its signature."""
    schema, adapter = _described(function)
    if isinstance(arguments, str):
        arguments = arguments or "{}"
        validated, decoded = adapter.validate_json(arguments), msgspec.json.decode(arguments)
    else:
        decoded = dict(arguments)
        validated = adapter.validate_python(decoded)
    # The types would accept "3" for a number, but readers of the ToolCall get the arguments as they came. Formats are
    # left to the types, which know more about them.
    validator_of(schema["function"]["parameters"], "tools", formats=False)(decoded)
    return validated


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _tool(tool: Any) -> Mapping[str, Any]:
    if isinstance(tool, Mapping):
        _validator(tool)  # checked before anything is paid for
        return tool
    if not callable(tool):
        raise InvalidRequest(f"tools takes dicts as the provider defines them, or functions, not {type(tool).__name__}")
    try:
        return _described(tool)[0]
    except ConfigError as error:
        raise InvalidRequest(f"tools: {error}") from error


def _described(function: Callable[..., Any]) -> tuple[dict[str, Any], TypeAdapter[Any]]:
    try:
        return _describe(function)
    except TypeError:  # not hashable, such as a method of an unhashable object
        return _describe.__wrapped__(function)


@lru_cache(maxsize=256)
def _describe(function: Callable[..., Any]) -> tuple[dict[str, Any], TypeAdapter[Any]]:
    name = getattr(function, "__name__", "")
    if not _NAME.fullmatch(name):
        raise ConfigError(f"a tool needs a name of letters, digits, _ and -, not {name or type(function).__name__!r}")
    about, entries = _docstring(inspect.getdoc(function) or "")
    adapter = _adapter(name, function, entries)
    try:
        parameters = adapter.json_schema()
    except Exception as error:  # pydantic raises several kinds of its own
        raise ConfigError(f"the tool {name} has a parameter that JSON cannot describe: {str(error)[:200]}") from error
    parameters.pop("title", None)
    try:
        validator_of(parameters, f"the tool {name}", formats=False)
    except InvalidRequest as error:
        raise ConfigError(str(error)) from error
    inner = {"name": name, "description": about, "parameters": parameters}
    if not about:
        del inner["description"]
    return {"type": "function", "function": inner}, adapter


def _adapter(name: str, function: Callable[..., Any], entries: Mapping[str, str]) -> TypeAdapter[Any]:
    """The validator for all arguments at once: a dataclass with a field for each parameter."""
    from pydantic import ConfigDict, Field, TypeAdapter  # slow to import, and only calls with functions need it

    hints = _hints(name, function)
    fields: list[tuple[str, Any, Any]] = []
    for parameter in _parameters(name, function):
        if parameter.name not in hints:
            raise ConfigError(f"the tool {name}: its parameter {parameter.name!r} has no type hint")
        hint = hints[parameter.name]
        if parameter.default is None:
            hint = Optional[hint]  # noqa: UP045  # ``hint | None`` fails, for example for a forward reference
        if about := entries.get(parameter.name):
            hint = Annotated[hint, Field(description=about)]
        fields.append((parameter.name, hint, _default(parameter)))
    try:
        signature = dataclasses.make_dataclass(
            name, fields, kw_only=True, namespace={"__pydantic_config__": ConfigDict(extra="forbid")}
        )
        return TypeAdapter(signature)
    except Exception as error:  # pydantic raises several kinds of its own
        raise ConfigError(f"the tool {name} has a parameter that JSON cannot describe: {str(error)[:200]}") from error


def _hints(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(inspect.unwrap(function), include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise ConfigError(f"the tool {name} has a type hint that cannot be read: {error}") from error


def _parameters(name: str, function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError) as error:
        raise ConfigError(f"the tool {name} has no signature that can be read: {error}") from error
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ConfigError(f"the tool {name}: its parameter {parameter.name!r} cannot be given by name")
    return parameters


def _default(parameter: inspect.Parameter) -> Any:
    if parameter.default is parameter.empty:
        return dataclasses.field()
    if type(parameter.default).__hash__ is None:  # a dataclass field does not accept a mutable default
        return dataclasses.field(default_factory=functools.partial(copy.deepcopy, parameter.default))
    return dataclasses.field(default=parameter.default)


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """A docstring's text before its first section, and the entries of its section on arguments."""
    about: list[str] = []
    entries: dict[str, str] = {}
    section = last = ""
    indent = 0
    for line in text.splitlines():
        words = line.strip()
        if _SECTION.fullmatch(words):
            section, last = words, ""
        elif not section:
            about.append(line)
        elif section in _ON_ARGUMENTS and words:
            depth = len(line) - len(line.lstrip())
            if (entry := _ENTRY.fullmatch(words)) and (not last or depth <= indent):
                last, indent = entry[1], depth
                entries[last] = entry[2]
            elif last:
                entries[last] = f"{entries[last]} {words}".strip()
    return "\n".join(about).strip(), entries
