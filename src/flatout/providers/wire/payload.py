"""A request's body and headers, for every wire format. Values that JSON cannot hold are refused by name.

Requests are built with care, since a wrong one costs a round trip. NaN is not sent as null. A lone surrogate in one row
of a million fails only that row. A parameter that cannot be sent is named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any
from urllib.parse import urlencode

import msgspec

from flatout._version import __version__
from flatout.errors import ConfigError, InvalidRequest
from flatout.providers.failures.problem import joined
from flatout.values import Call, Endpoint
from flatout.values.secret import Veiled

from .hints import hint_at


def encode_json(payload: dict[str, Any]) -> bytes:
    """A payload as JSON.

    Raises:
        InvalidRequest: a parameter cannot be sent; the message begins with its name.
    """
    try:
        body = _encoder.encode(payload)
    except (ValueError, TypeError, OverflowError, RecursionError):
        payload, body = _encode_each(payload)
    # msgspec writes NaN as null. Only a body with a null can hide one, so only such a body is searched.
    if b"null" in body:
        _refuse_nan(payload)
    return body


def add_extra(
    payload: dict[str, Any],
    call: Call,
    nested: frozenset[str] = frozenset(),
    translated: frozenset[str] = frozenset(),
) -> None:
    """Add ``call.extra`` to the payload, last, so that it wins. None removes a parameter.

    Args:
        payload: made from the call's own parameters.
        call: the call.
        nested: names of objects that are merged instead of replaced, because they also hold the call's parameters.
        translated: names that are skipped, because the payload has them under another name.

    Raises:
        InvalidRequest: a name in ``extra`` is not a string, or ``extra`` asks for a stream.
    """
    extra = call.extra
    if not extra:
        return
    for name in extra:
        if not isinstance(name, str):
            raise InvalidRequest(f"extra takes parameters by their names, not by {shown(name)}")
    if extra.get("stream"):
        raise InvalidRequest("extra.stream: whether an answer is streamed is not a parameter of the call")
    for name, value in extra.items():
        if name in translated:
            continue
        hint_at(name)
        if value is None and name in payload:
            del payload[name]
            continue
        here = payload.get(name) if name in nested else None
        payload[name] = {**here, **value} if isinstance(here, dict) and isinstance(value, Mapping) else value


def refuse(call: Call, provider: str, **advice: str) -> None:
    """Refuse parameters that a provider does not have, before anything is sent.

    Args:
        call: the call.
        provider: the name of the wire format.
        advice: what to do instead, by the names of the missing parameters.

    Raises:
        InvalidRequest: the call uses one of them.
    """
    for name, instead in advice.items():
        value = getattr(call, name)
        if value is not None and value is not False:
            raise InvalidRequest(f"{name}: {provider} has none; {instead}")


def stop_list(stop: Any) -> list[Any]:
    """The stop sequences as a list, for formats that do not take a single string."""
    if isinstance(stop, str):
        return [stop]
    if not is_list(stop):
        raise InvalidRequest(f"stop takes a string or a list of strings, not {type(stop).__name__}")
    return list(stop)


def headers_of(endpoint: Endpoint, **more: str) -> Veiled:
    """The headers of every request to an endpoint, including its key; names in lower case.

    Args:
        endpoint: the endpoint; its own headers win.
        more: headers that the wire format needs, with ``_`` for ``-``.

    Raises:
        ConfigError: a header cannot be sent. The message omits its value, which may be the key.
    """
    own = {"content-type": "application/json", "accept": "application/json", "user-agent": f"flatout/{__version__}"}
    own.update((name.replace("_", "-"), value) for name, value in more.items())
    headers = Veiled({**own, **_key_of(endpoint), **{name.lower(): it for name, it in endpoint.headers.items()}})
    check_headers(headers, endpoint.name)
    return headers


def _key_of(endpoint: Endpoint) -> dict[str, str]:
    """The header that carries the key."""
    if endpoint.api_key is None:
        return {}
    name = endpoint.key_header.lower()
    return {name: f"Bearer {endpoint.api_key.reveal()}" if name == "authorization" else endpoint.api_key.reveal()}


def check_headers(headers: Mapping[Any, Any], of: str) -> None:
    """Refuse headers that cannot be sent.

    Args:
        headers: the headers.
        of: whose headers they are, for people.

    Raises:
        ConfigError: a header holds unsendable characters, or is not a string. The message omits its value, which may
            be the key.
    """
    faults = (_fault(name, value) for name, value in headers.items())
    if fault := next(filter(None, faults), None):
        raise ConfigError(f"{of}: {fault}")


def _fault(name: Any, value: Any) -> str | None:
    """Why a header cannot be sent. A separate function, so that no traceback's variables hold the value."""
    if not (isinstance(name, str) and isinstance(value, str)):
        return f"headers are strings by their names, not a {type(value).__name__} by {shown(name)}"
    if not (can_be_sent(name) and can_be_sent(value)):
        shown_name = f"the header {name!r}" if can_be_sent(name) else "the name of a header"
        return f"{shown_name} holds {UNSENDABLE}"
    return None


UNSENDABLE = "a line break or a character beyond ASCII"
"""What a header cannot carry. Keys are often pasted with a line break."""


def can_be_sent(text: str) -> bool:
    """Whether a header can carry a text."""
    return text.isascii() and text.isprintable()


def split_address(endpoint: Endpoint) -> tuple[str, str]:
    """An endpoint's address without a final slash, and the query that all its URLs carry.

    Raises:
        ConfigError: the endpoint has no address.
    """
    base, _, query = endpoint.base_url.partition("?")
    if not base:
        raise ConfigError(f"{endpoint.name} needs a base_url: its address differs from account to account")
    return base.rstrip("/"), "&".join(part for part in (query, urlencode(endpoint.query)) if part)


def shown(value: Any) -> str:
    """A value as a message may show it: the start of a string, or the type of anything else."""
    return repr(value[:50]) if isinstance(value, str) else f"a {type(value).__name__}"


def is_list(value: Any) -> bool:
    """Whether a value is a sequence, but not a string."""
    if value is None or isinstance(value, str | bytes):  # the usual ones: that they are no Sequence takes long to find
        return False
    return isinstance(value, (list, tuple, Sequence))


def plain(value: Any) -> Any:
    """Convert what msgspec does not encode itself: mappings other than dicts, and subclasses such as numpy's numbers.

    Raises:
        TypeError: the value has no form in JSON.
    """
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"a {type(value).__name__} has no form in JSON")


_encoder = msgspec.json.Encoder(enc_hook=plain)


def _refuse_nan(payload: dict[str, Any]) -> None:
    for name, value in payload.items():
        try:
            finite = _is_finite(value)
        except RecursionError:
            raise InvalidRequest(f"{name} is nested too deeply") from None
        if not finite:
            raise InvalidRequest(f"{name} holds NaN or infinity, for which JSON has no form")


def _encode_each(payload: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Encode a payload with split surrogate pairs, or name the parameter that cannot be encoded."""
    cleaned: dict[str, Any] = {}
    for name, value in payload.items():
        try:
            cleaned[name] = joined(value)
            _encoder.encode(cleaned[name])
        except UnicodeError:
            raise InvalidRequest(f"{name} holds half of a surrogate pair, which is not a character") from None
        except RecursionError:
            raise InvalidRequest(f"{name} is nested too deeply, or contains itself") from None
        except (ValueError, TypeError, OverflowError) as error:
            raise InvalidRequest(f"{name} cannot be sent as JSON: {error}") from None
    try:
        cleaned = joined(cleaned)
        return cleaned, _encoder.encode(cleaned)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidRequest(f"the parameters cannot be sent as JSON: {error}") from None


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(_is_finite(item) for item in value.values())
    if isinstance(value, str | bytes):
        return True
    if isinstance(value, Sequence | set | frozenset):
        return all(_is_finite(item) for item in value)
    return True
