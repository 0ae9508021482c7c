"""From typed text to values. Each unusable value is one sentence of error before anything is sent."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flatout.errors import ConfigError
from flatout.text.numbers import number_in

if TYPE_CHECKING:
    from flatout.values.budget import Budget

CALL_PARAMETERS = (
    "max_tokens",
    "temperature",
    "top_p",
    "stop",
    "seed",
    "logprobs",
    "reasoning_effort",
    "service_tier",
    "tool_choice",
    "tools",
)
"""The ``--param`` names that are parameters of a Call. All others are sent as they are, in ``extra``."""

CACHE_FOLDER = "the cache folder"
"""The value of ``--cache`` without a file."""

_OWN_OPTION = {
    "prompt": "--prompt",
    "messages": "--prompt",
    "system": "--system",
    "model": "--model",
    "timeout": "--timeout",
    "deadline": "--deadline",
}
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
}
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110


def with_cache_folder(arguments: Sequence[str]) -> list[str]:
    """The arguments, in which a ``--cache`` without a file has a value: Typer knows no options with optional values."""
    following = [*arguments, "-"][1:]
    return [
        f"{argument}={CACHE_FOLDER}" if argument == "--cache" and after.startswith("-") else argument
        for argument, after in zip(arguments, following, strict=True)
    ]


def number(option: str, text: str | None) -> float | None:
    """A number as people write it: ``500``, ``10_000``, ``10,000``, ``10k``, ``2.5M``.

    Raises:
        ConfigError: the text is not a number, or not above 0.
    """
    if text is None:
        return None
    value = number_in(text)
    if value is None or value <= 0:
        raise ConfigError(f"{option} is a number above 0, such as 500, 10_000, 10k or 2M, not {text!r}")
    return value


def budget_of(text: str | None) -> float | Budget | None:
    """The budget as people write it: ``5``, ``20/day``, ``100/month:team``.

    Raises:
        ConfigError: the amount, the period or the scope is wrong.
    """
    if text is None:
        return None
    amount, colon, scope = text.partition(":")
    amount, slash, per = amount.partition("/")
    usd = _float(amount.strip().removeprefix("$").replace("_", "").replace(",", ""))
    if usd is None or usd <= 0 or (slash and per not in ("run", "day", "month")) or (colon and not scope.strip()):
        raise ConfigError(f"--budget is a number above 0, such as 5, 20/day, 100/month or 20/day:team, not {text!r}")
    if not slash and not colon:
        return usd
    from flatout.values.budget import Budget

    return Budget(usd, per or "run", scope or None)  # type: ignore[arg-type]


def share(option: str, text: str | None) -> float | None:
    """A probability: ``0.02`` or ``2%``.

    Raises:
        ConfigError: it is not from 0 to 1.
    """
    if text is None:
        return None
    bare = text.strip()
    value = _float(bare.removesuffix("%"))
    if value is not None and bare.endswith("%"):
        value /= 100
    if value is None or not 0 <= value <= 1:
        raise ConfigError(f"{option} is a share from 0 to 1, such as 0.02 or 2%, not {text!r}")
    return value


def port(option: str, value: int | None) -> int | None:
    """A port to serve on. 0, which means any free port, is refused, because nobody would learn which.

    Raises:
        ConfigError: there is no such port.
    """
    if value is not None and not 1 <= value <= 65_535:
        raise ConfigError(f"{option} is a port from 1 to 65535, not {value}")
    return value


def text_or_file(option: str, value: str | None) -> str | None:
    """The text itself, or after ``@`` the content of that file. ``@@`` begins a text that starts with ``@``.

    Raises:
        ConfigError: the file cannot be read, or is not UTF-8.
    """
    if value is None or not value.startswith("@"):
        return value
    return value[1:] if value.startswith("@@") else _text_of(value[1:], f"{option} {value}")


def params(given: Sequence[str]) -> dict[str, Any]:
    """The parameters of every call, from ``name=value`` texts. Names that a Call does not know go into ``extra``.

    Raises:
        ConfigError: there is no ``=``, the name has an option of its own, or the value has the wrong type.
    """
    known: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ConfigError(f"--param takes name=value, such as temperature=0, not {text!r}")
        if name in _OWN_OPTION:
            raise ConfigError(f"--param {name}: use {_OWN_OPTION[name]} instead")
        if name in CALL_PARAMETERS:
            known[name] = _typed(name, value)
        else:
            extra[name] = _json(value)
    return {**known, "extra": extra} if extra else known


def output_of(schema: str | None, choices: str | None) -> dict[str, Any]:
    """The answer's form that ``--schema FILE`` or ``--choices A,B`` asks for, as the Call's ``output``.

    Raises:
        ConfigError: both are given, the file holds no JSON schema, or there are no two different choices.
    """
    if schema is not None and choices is not None:
        raise ConfigError("--schema and --choices: give only one of them")
    if choices is not None:
        words = tuple(dict.fromkeys(word.strip() for word in choices.split(",") if word.strip()))
        if len(words) < 2:
            raise ConfigError(f"--choices takes the answers to choose from, such as spam,ham, not {choices!r}")
        return {"output": Literal[words]}
    return {} if schema is None else {"output": _schema(schema)}


def _schema(path: str) -> dict[str, Any]:
    import msgspec

    from flatout.errors import InvalidRequest
    from flatout.providers.schemas.structured import validator_of

    try:
        found = msgspec.json.decode(_text_of(path, f"--schema {path}"))
    except (msgspec.DecodeError, RecursionError) as error:
        raise ConfigError(f"--schema {path}: not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"--schema {path}: a JSON schema is an object, not a {type(found).__name__}")
    try:
        validator_of(found, f"--schema {path}")
    except InvalidRequest as error:
        raise ConfigError(str(error)) from None
    return found


def headers(given: Sequence[str]) -> dict[str, str]:
    """Headers from ``Name: value`` texts.

    Raises:
        ConfigError: a text has another form. The message does not repeat it, because it may be a key.
    """
    found: dict[str, str] = {}
    for text in given:
        name, colon, value = text.partition(":")
        name, value = name.strip(), value.strip()
        if not colon or not _HEADER_NAME.fullmatch(name) or not value.isprintable():
            raise ConfigError("--header takes 'Name: value'")
        found[name] = value
    return found


_OF_A_PLAN = {"--sample": True, "--sample-budget": True, "--confirm-above": True, "--dry-run": False, "--yes": False}
"""The options that only a plan has, and whether each takes a value."""


def as_run(arguments: Sequence[str]) -> list[str]:
    """The arguments of the run that a plan is about; those of any other command as they are."""
    if not arguments or arguments[0] != "plan":
        return list(arguments)
    kept, value = ["run"], False
    for argument in arguments[1:]:
        name, equals, _ = argument.partition("=")
        if value:
            value = False
        elif name in _OF_A_PLAN or argument == "--json":
            value = not equals and _OF_A_PLAN.get(name, False)
        else:
            kept.append(argument)
    return kept


def command_line(arguments: Sequence[str]) -> str:
    """The command to type again to continue the run: quoted, without ``--fresh``, and without keys.

    It is printed and kept in the run file. So it leaves out header values, passwords in addresses, parameters whose
    names mean secrets, and everything that looks like a key.
    """
    from flatout.runs.input.names import is_elsewhere
    from flatout.text.redact import redact, redact_url

    shown: list[str] = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals and name in _VEILS:
            argument = f"{name}={_VEILS[name](value)}"
        elif shown and shown[-1] in _VEILS:
            argument = _VEILS[shown[-1]](argument)
        elif is_elsewhere(argument):
            argument = redact_url(argument)
        if argument != "--fresh":
            shown.append(argument)
    return redact(shlex.join(["flatout", *shown]))


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Only the options with a value; the library's own defaults hold for the rest."""
    return {name: value for name, value in values.items() if value is not None}


def _text_of(path: str, shown: str) -> str:
    """The content of a file. ``shown`` is the user's text, for messages."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{shown}: the file is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{shown}: {getattr(error, 'strerror', None) or error}") from None


def _without_value(header: str) -> str:
    return f"{header.partition(':')[0]}: …"


def _without_login(url: str) -> str:
    from flatout.text.redact import redact_url

    return redact_url(url)


def _without_secret(param: str) -> str:
    """A ``name=value`` without the value if its name means a secret. A number is not a secret (``max_tokens=60``)."""
    from flatout.text.redact import mask

    name, equals, text = param.partition("=")
    value = _json(text)
    masked = mask({name: value})[name]
    return param if masked == value else f"{name}{equals}{masked if isinstance(masked, str) else json.dumps(masked)}"


_VEILS = {
    "--header": _without_value,
    "--otlp": _without_login,
    "--base-url": _without_login,
    "--image": _without_login,
    "--param": _without_secret,
}
"""How the command line shows the options that may hold keys."""


def _float(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _json(text: str) -> Any:
    import msgspec

    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


def _typed(name: str, text: str) -> Any:
    """The value, checked against the Call's own type. ``stop=5`` can only mean the text."""
    import msgspec

    from flatout.runs.prompts.recipe import Parameters
    from flatout.values import Call

    why = ""
    for value in (_json(text), text):
        try:
            return getattr(Call("", **{name: getattr(msgspec.convert({name: value}, Parameters), name)}), name)
        except (msgspec.ValidationError, ConfigError) as error:
            why = why or str(error)
    raise ConfigError(f"--param {name} takes {_in_plain_words(name, why)}, not {text!r}")


def _in_plain_words(name: str, message: str) -> str:
    """The type that msgspec expected: ``a whole number`` for ``Expected `int | null`, got `str```."""
    found = re.search(r"Expected `([^`]+)`", message)
    if found is None:  # the Call's own message, which ends with the value, too
        return message.removeprefix(f"{name} is ").partition(", not ")[0]
    return " or ".join(_KINDS.get(kind, kind) for kind in found[1].split(" | ") if kind != "null")
