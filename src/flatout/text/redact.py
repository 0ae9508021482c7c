"""Remove keys from a text before it reaches an error, a log line or a trace.

Servers quote keys, and people paste them into prompts. No text that is printed, stored or sent on may keep one: neither
a known secret, in whatever encoding it is quoted, nor anything else that looks like a key.

`redact` takes any text, `redact_url` an address, and `excerpt` a text that may be long.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from html import escape
from typing import Any
from urllib.parse import quote, unquote, unquote_plus

MARK = "…"
"""Replaces a key. It is not ASCII, so it cannot be part of a key."""

SHORTEST = 4
"""The fewest characters of a secret. Shorter ones protect nothing, and removing them would garble every text."""

LEAD = 12
"""Characters from a secret's start that identify a partial quote: servers show its start, or cut it in the middle."""

_SECRET_NAME = re.compile(r"auth|key|token|secret|password|cookie|signature|\bsig\b", re.IGNORECASE)

# Every branch consumes what it examined, or begins with its own word: so matching takes linear time at most.
_LOOKS_LIKE_A_KEY = re.compile(
    r"""
      \b(?:sk|rk|pk)[-_][\w*-]{8,}                      # OpenAI, Anthropic, OpenRouter, DeepSeek, Stripe-like
    | \b(?:gsk_|xai-|hf_|fw_|tgp_|pplx-|AIza|ya29\.)[\w.-]{8,}
    | \b(?:AKIA|ASIA)[A-Z0-9]{12,}                      # AWS
    | \beyJ[\w-]{8,}(?:\.[\w-]+){0,2}                   # JSON web tokens, whole or in part
    | (?P<scheme>\b(?:Bearer|Basic)\s{1,8})[\w.~+/=*-]{8,}
    | (?P<name>\b(?:x-|x-goog-)?api[-_ ]?key["']?\s{0,8}[=:]\s{0,8}["']?)[^\s"'&,;}]{4,}
    | (?P<pair>\b(?:key|token|secret|password|sig|signature)=)[^\s"'&,;}]+
    | (?P<login>://[^\s/?\#@:]{0,200}:)[^\s/?\#@]{1,200}(?=@)   # the password in an address
    """,
    re.VERBOSE | re.IGNORECASE,
)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """A text without the given secrets, in any encoding, and without anything that looks like a key.

    Every text passes through here before it is printed, logged, stored or raised. The time grows with the text's
    length, so cut long texts first: with `excerpt`.

    Args:
        text: the words of a server, a library or a person.
        secrets: what must not show, for example from `secrets_among`. They are found plain, in JSON, in HTML,
            percent-encoded or in base64; whole, or from their first 12 characters on.
    """
    return _LOOKS_LIKE_A_KEY.sub(_kept, without(text, secrets))


def redact_url(url: str) -> str:
    """An address without its password, and without the values of secret parameters in its query."""
    before, asked, query = url.partition("?")
    scheme, slashes, rest = before.partition("://")
    authority, slash, path = rest.partition("/")
    host = f"{MARK}@{authority.rpartition('@')[2]}" if "@" in authority else authority
    pairs = (pair.partition("=") for pair in query.split("&"))
    shown = "&".join(name + equals + (MARK if value and is_secret(name) else value) for name, equals, value in pairs)
    return redact(f"{scheme}{slashes}{host}{slash}{path}{asked}{shown}")


def excerpt(text: str, most: int, redact: Callable[[str], str] = redact) -> str:
    """The first ``most`` characters of a text, without keys.

    The text is cut twice, since redaction takes time: before it, to a bounded length, and after it, so that no part of
    a key remains.
    """
    looked_at = 2 * most + LEAD
    shown = redact(text[:looked_at])
    if len(text) > looked_at:
        shown = shown[:-LEAD]  # this may be the start of a key, too short to be recognised
    return shown[:most]


def without(text: str, secrets: Iterable[str]) -> str:
    """A text without the given secrets.

    All of them are looked for before any is removed: they may overlap, as copies of one secret do in ``aXaXa``.
    """
    found = sorted(span for secret in secrets for span in _spans(text, secret))
    return _masked(text, found) if found else text


def is_secret(name: str) -> bool:
    """Whether a header or a parameter of this name holds a secret."""
    return _SECRET_NAME.search(name[:200]) is not None


def mask(value: Any, by: Callable[[str], str] = lambda _: MARK) -> Any:
    """A JSON value in which every string under a secret's name is replaced, at any depth.

    Args:
        value: the value; anything but a dict or list is returned unchanged.
        by: makes the replacement for a secret.
    """
    if isinstance(value, Mapping):
        return {name: _masked_value(name, item, by) for name, item in value.items()}
    return [mask(item, by) for item in value] if isinstance(value, list | tuple) else value


def _masked_value(name: Any, value: Any, by: Callable[[str], str]) -> Any:
    if isinstance(name, str) and isinstance(value, str) and is_secret(name):
        return by(value)
    return mask(value, by)


def secrets_among(named: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """The secrets among headers or parameters, recognised by their names, longest first.

    In ``Bearer abcd``, both the whole and ``abcd`` are secret.
    """
    values = (value for name, value in named if is_secret(name))
    found = {part for value in values for part in (value, value.rpartition(" ")[2])}
    return tuple(sorted((secret for secret in found if len(secret) >= SHORTEST), key=len, reverse=True))


def secrets_in(url: str) -> tuple[str, ...]:
    """The secrets in an address: its password, and the values of secret parameters in its query."""
    before, _, query = url.partition("?")
    user = before.partition("://")[2].partition("/")[0].rpartition("@")[0]
    pairs = [(name, unquote_plus(value)) for name, _, value in (pair.partition("=") for pair in query.split("&"))]
    return secrets_among([("password", unquote(user.rpartition(":")[2])), *pairs])


@lru_cache(maxsize=256)
def _forms(secret: str) -> Mapping[str, Sequence[str]]:
    """All forms in which a text may quote a secret, grouped by their first `LEAD` characters; longest forms first."""
    if len(secret) < SHORTEST:
        return {}
    quoted = json.dumps(secret)[1:-1]
    percent = [quote(secret, safe=safe, errors="surrogatepass") for safe in ("", "/")]
    lower = (re.sub(r"%..", lambda code: code[0].lower(), text) for text in percent)
    forms = {secret, quoted, quoted.replace("/", "\\/"), escape(secret), *percent, *lower, *_base64(secret)}
    by_lead: dict[str, list[str]] = {}
    for form in sorted(forms, key=len, reverse=True):
        by_lead.setdefault(form[:LEAD], []).append(form)
    return by_lead


def _base64(secret: str) -> Iterator[str]:
    """The base64 forms of a secret, at any offset in the encoded text (as in ``user:secret``).

    Four letters encode three bytes, so a secret can start at three offsets. Letters that also hold bits of its
    neighbours are left out.
    """
    data = secret.encode("utf-8", "surrogatepass")
    for before in range(3):
        begin, end = -(-before * 8 // 6), (before + len(data)) * 8 // 6
        for encode in (b64encode, urlsafe_b64encode):
            yield encode(bytes(before) + data)[begin:end].decode()


def _spans(text: str, secret: str) -> Iterator[tuple[int, int]]:
    """Where a text quotes a secret in any form, complete or cut off: the start and the end of each quote."""
    for lead, forms in _forms(secret).items():
        at = text.find(lead)
        while at >= 0:
            begin = at + len(lead)
            yield at, begin + max(_in_common(text, begin, form, len(lead)) for form in forms)
            at = text.find(lead, at + 1)


def _masked(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """A text in which each of the spans is replaced by the mark, and those that overlap by one. They come in order."""
    pieces, shown_from = [], 0
    for begin, end in spans:
        if begin >= shown_from:
            pieces.append(text[shown_from:begin])
        shown_from = max(shown_from, end)
    return MARK.join([*pieces, text[shown_from:]])


def _in_common(text: str, start: int, form: str, known: int) -> int:
    """How many characters of ``text`` from ``start`` on are those of ``form`` from ``known`` on."""
    most = min(len(text) - start, len(form) - known)
    return next((at for at in range(most) if text[start + at] != form[known + at]), most)


def _kept(match: re.Match[str]) -> str:
    return (match["scheme"] or match["name"] or match["pair"] or match["login"] or "") + MARK
