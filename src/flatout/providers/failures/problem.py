"""Read an error from an answer's body, whatever shape the provider gives it.

The shapes differ, but the facts do not: a message, a few words that name the kind of error, sometimes a status and a
wait. `flatout.providers.failures.naming` decides what the words mean.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

SAID = 2_000
"""Characters of each message that are read. Providers put what matters at the start."""

_LENIENT = 1024 * 1024
"""The largest body, in bytes, for which a slower and more lenient JSON parser gets a second try."""


class Problem(Struct, frozen=True, kw_only=True):
    """What an error body says.

    Attributes:
        message: the start of the provider's own words, including those of its upstream; "" if there are none.
        code: the provider's own code, as it writes it.
        words: its codes, types and reasons, in lower case.
        status: the status that the body claims, if any.
        quotas: names of the exceeded quotas, with their values if the body has them (Gemini).
        retry_after: seconds that the body asks to wait (Gemini's ``RetryInfo``).
        request_id: the provider's id for the request, if the body has it.
        html: whether the body is a web page, and so not the API's own answer.
    """

    message: str = ""
    code: str | None = None
    words: frozenset[str] = frozenset()
    status: int | None = None
    quotas: tuple[tuple[str, str | None], ...] = ()
    retry_after: float | None = None
    request_id: str | None = None
    html: bool = False


def decode_json(body: bytes, *, lenient: bool = True) -> Any:
    """A JSON body as Python values.

    msgspec is strict and fast. If it rejects the body (a byte order mark, a lone surrogate, vLLM's NaN), the standard
    library gets a second try: such an answer is complete, and it was paid for.

    Args:
        body: the body.
        lenient: whether to allow the second try.

    Raises:
        ValueError: the body is not JSON, or it is cut off.
    """
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        if not lenient:
            raise ValueError("not JSON, or half of it") from None
    try:
        text = body.decode("utf-8-sig", "replace")
        return clean(json.loads(text, parse_constant=lambda _: None, parse_float=_finite))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def clean(value: Any) -> Any:
    """A copy in which every string can be encoded: surrogate pairs are joined, lone surrogates replaced.

    Raises:
        RecursionError: the value is nested too deeply, or contains itself.
    """
    return joined(value, "replace")


def joined(value: Any, errors: str = "strict") -> Any:
    """A copy whose surrogate pairs are joined.

    Raises:
        UnicodeDecodeError: a surrogate has no partner, and ``errors`` is strict.
        RecursionError: the value is nested too deeply, or contains itself.
    """
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", errors)
    if isinstance(value, Mapping):
        return {joined(key, errors): joined(item, errors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [joined(item, errors) for item in value]
    return value


def read(body: bytes) -> Problem:
    """What the body of an unsuccessful answer says, whether it is JSON, a web page, plain text or empty."""
    try:
        data = decode_json(body, lenient=len(body) <= _LENIENT)
    except ValueError:
        return _of_text(body[: 10 * SAID].decode("utf-8", "replace"))
    return of_json(data)


def _of_text(text: str) -> Problem:
    # A gateway's page can be long; its title is at the start.
    text = text.strip()
    if not text.startswith("<"):
        return Problem(message=text[:SAID])
    title = _TITLE.search(text) or _HEADING.search(text)
    return Problem(message=title[1] if title else "", html=True)


_TITLE = re.compile(r"<title[^<>]*>([^<]{1,300})", re.IGNORECASE)
_HEADING = re.compile(r"<h1[^<>]*>([^<]{1,300})", re.IGNORECASE)

_ANSWERS = frozenset({"choices", "content", "candidates", "output", "data"})
"""Names of the field that holds the answer, in any format."""


def is_problem(data: Mapping[str, Any]) -> bool:
    """Whether the JSON of a successful answer, or one of its events, is an error after all."""
    if data.get("error") or "error" in (data.get("object"), data.get("type")):
        return True
    said = isinstance(data.get("message"), str) or isinstance(data.get("detail"), str)
    return said and _ANSWERS.isdisjoint(data)


def of_json(data: Any) -> Problem:
    """What an error body's JSON says."""
    if isinstance(data, list):  # Gemini wraps its error in a list if the answer would have been one
        data = next((item for item in data if isinstance(item, dict)), {})
    if not isinstance(data, dict):
        return Problem(message=_sentence(data) if isinstance(data, str) else "")
    error = data.get("error")
    inner = error if isinstance(error, dict) else {}
    sources = [inner, data]
    details = [entry for entry in _list(inner.get("details")) if isinstance(entry, dict)]
    own = [_text(source.get("code")) for source in sources]
    return Problem(
        message=_message(data, error),
        code=next((code for code in (*own, _text(inner.get("type"))) if code), None),
        words=frozenset(word.lower() for word in _words(sources, details) if word),
        status=_status(sources),
        quotas=tuple(_quotas(details)),
        retry_after=_retry_delay(details),
        request_id=next((_text(source.get("request_id")) for source in sources if source.get("request_id")), None),
    )


def _message(data: dict[str, Any], error: Any) -> str:
    inner = error if isinstance(error, dict) else {}
    candidates = (inner.get("message"), error, data.get("message"), data.get("Message"), data.get("detail"))
    message = next((text for value in candidates if (text := _sentence(value))), "")
    upstream = _sentence(_dict(inner.get("metadata")).get("raw"))  # OpenRouter quotes its upstream's body there
    return f"{message}: {upstream}" if upstream else message


def _sentence(value: Any) -> str:
    """The words in a message of any shape: a string, FastAPI's list of complaints, Mistral's ``{"detail": …}``."""
    if isinstance(value, str):
        return value[:SAID].strip()
    if isinstance(value, list):
        return "; ".join(text for item in value[:3] if (text := _sentence(item)))
    if isinstance(value, dict):
        where = value.get("loc")
        place = ".".join(_text(part) or "" for part in where[:10]) + ": " if isinstance(where, list) and where else ""
        text = next((t for name in ("message", "msg", "detail") if (t := _shallow(value.get(name)))), "")
        return f"{place}{text}" if text else ""
    return ""


def _shallow(value: Any) -> str:
    """One more level, and no further: a body may be nested arbitrarily deep."""
    if isinstance(value, list):
        return "; ".join(
            _text(item.get("msg") or item.get("message") if isinstance(item, dict) else item) or ""
            for item in value[:3]
        )
    return value[:SAID].strip() if isinstance(value, str) else ""


def _words(sources: list[dict[str, Any]], details: list[dict[str, Any]]) -> Iterator[str | None]:
    for source in sources:
        for name in ("code", "type", "status", "reason"):
            yield _text(source.get(name))
        yield _text(_dict(source.get("innererror")).get("code"))
        yield (_text(source.get("__type")) or "").rpartition("#")[2]
        if _list(_dict(source.get("metadata")).get("reasons")):
            yield "moderation"  # OpenRouter gives its moderation's reasons but has no code for it
    for detail in details:
        yield _text(detail.get("reason"))


def _status(sources: list[dict[str, Any]]) -> int | None:
    for source in sources:
        for name in ("code", "status", "statusCode", "status_code"):
            text = _text(source.get(name)) or ""
            if len(text) == 3 and text.isascii() and text.isdigit() and 400 <= int(text) <= 599:
                return int(text)
    return None


def _quotas(details: list[dict[str, Any]]) -> Iterator[tuple[str, str | None]]:
    for detail in details:
        for violation in _list(detail.get("violations")):
            if quota := _text(_dict(violation).get("quotaId")):
                yield quota, _text(violation.get("quotaValue"))


def _retry_delay(details: list[dict[str, Any]]) -> float | None:
    """Gemini's ``google.rpc.RetryInfo``: ``{"retryDelay": "34.07s"}``."""
    for detail in details:
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)s", _text(detail.get("retryDelay")) or "", re.ASCII)
        if match:
            return float(match[1])
    return None


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value[:SAID].strip()[:200] or None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**9:
        return str(value)
    return None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
