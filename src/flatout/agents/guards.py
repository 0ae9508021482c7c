"""The built-in guardrails: schema, length, banned patterns, personal data, secrets, grounded in sources.

Plain patterns find personal data, with checksums if the data has them (Luhn, IBAN). The best library for it (presidio)
would bring a language model of hundreds of megabytes, for names and places. So names and addresses are not found here;
a `Judge` finds them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from flatout.errors import ConfigError
from flatout.providers.schemas.structured import MISFITS, reason
from flatout.text.redact import redact

from ._guard import PASSED, At, Checked, Guardrail, Verdict
from ._guard import fail as failed
from ._guard import stop as stopped
from ._json import check_kind, read
from ._stages import Judge

OUTPUT: tuple[At, ...] = ("output",)


def schema(kind: Any, *, at: tuple[At, ...] = OUTPUT, stop: bool = False) -> Guardrail:
    """The text is JSON that fits a type which pydantic can describe, or a dict with a JSON schema.

    It is for texts and for tools' results; an agent's ``output`` already does the same for its answers.

    Raises:
        ConfigError: the dict is not a JSON schema.
    """
    check_kind("schema", kind)

    def check(checked: Checked) -> Verdict:
        try:
            read(kind, checked.text)
        except MISFITS as error:
            return _no(f"it does not fit: {reason(error)}", stop)
        return PASSED

    return Guardrail(check, at, "schema", pure=True)


def length(most: int | None = None, least: int = 0, *, at: tuple[At, ...] = OUTPUT, stop: bool = False) -> Guardrail:
    """The text has at most ``most`` and at least ``least`` characters."""

    def check(checked: Checked) -> Verdict:
        size = len(checked.text)
        if most is not None and size > most:
            return _no(f"it has {size:,} characters; at most {most:,} are allowed", stop)
        return _no(f"it has {size:,} characters; at least {least:,} are needed", stop) if size < least else PASSED

    return Guardrail(check, at, "length", pure=True)


def banned(*patterns: str | Iterable[str], at: tuple[At, ...] = OUTPUT, stop: bool = False) -> Guardrail:
    """The text matches none of these regular expressions, whatever the case. Lists of them are accepted too.

    Raises:
        ConfigError: no pattern is given, or one is not a regular expression.
    """
    given = [pattern for each in patterns for pattern in ([each] if isinstance(each, str) else each)]
    if not given or not all(isinstance(pattern, str) for pattern in given):
        raise ConfigError('banned takes at least one pattern: banned("foo", "ba+r")')
    try:
        found = [re.compile(pattern, re.IGNORECASE) for pattern in given]
    except re.error as error:
        raise ConfigError(f"banned: {error.pattern!r} is not a regular expression: {error}") from error

    def check(checked: Checked) -> Verdict:
        hit = next((pattern for pattern in found if pattern.search(checked.text)), None)
        return PASSED if hit is None else _no(f"it holds what is banned: {hit.pattern}", stop)

    return Guardrail(check, at, "banned", pure=True)


def personal_data(
    kinds: str | Iterable[str] | None = None, *, at: tuple[At, ...] = OUTPUT, stop: bool = False
) -> Guardrail:
    """The text contains no personal data: ``card``, ``iban``, ``email``, ``phone``, ``ssn``.

    Args:
        kinds: the kinds to look for, one or several; all of them when None.
        at: the places.
        stop: end the run instead of sending the answer back.

    Raises:
        ConfigError: a kind is unknown.
    """
    kinds = [kinds] if isinstance(kinds, str) else kinds
    chosen = list(kinds) if kinds is not None else list(_FINDERS)
    if unknown := [kind for kind in chosen if kind not in _FINDERS]:
        raise ConfigError(f"the kinds of personal data are {', '.join(_FINDERS)}; not {', '.join(map(str, unknown))}")

    def check(checked: Checked) -> Verdict:
        found = [kind for kind in chosen if _FINDERS[kind](checked.text)]
        return _no(f"it holds personal data: {', '.join(found)}", stop) if found else PASSED

    return Guardrail(check, at, "personal_data", pure=True)


def secrets(*, at: tuple[At, ...] = OUTPUT, stop: bool = False) -> Guardrail:
    """The text contains nothing that looks like a key, a token or a password."""

    def check(checked: Checked) -> Verdict:
        text = checked.text
        if _SECRET.search(text) or redact(text) != text:
            return _no("it holds what looks like a key or a password", stop)
        return PASSED

    return Guardrail(check, at, "secrets", pure=True)


def grounded(model: str | None = None) -> Guardrail:
    """A model finds every claim of the answer in the tools' results.

    Args:
        model: the model that judges; the agent's model when None.
    """
    judge = Judge("every claim in it is supported by the sources", model=model, sources=True, name="grounded")
    return Guardrail(judge, OUTPUT, "grounded", pure=True)


def _no(reason: str, stop: bool) -> Verdict:
    return stopped(reason) if stop else failed(reason)


# -- finders: whether a text contains one; each takes time in proportion to the text -----------------------------------

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b")
_PHONE = re.compile(
    r"(?<![\w+])(?<!\d )(?:\+|00)[1-9](?:[ ()./-]{0,2}\d){7,14}(?!\d)|(?<![\d-])\(\d{3}\) ?\d{3}[-. ]\d{4}(?!\d)"
)
_SSN = re.compile(r"(?<![\d-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])")
_DIGITS = re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d.]\d)")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b")
_SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}"
    r"|\bxox[abprs]-[\w-]{10,}|\b(?:sk|rk)_(?:live|test)_\w{10,}"
)


def is_card(digits: str) -> bool:
    """Whether a card number's check digit is right (Luhn, ISO/IEC 7812-1)."""
    if not 13 <= len(digits) <= 19 or digits[0] not in "23456":
        return False
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(number - 9 if number > 9 else number for number in doubled) % 10 == 0


def is_iban(text: str) -> bool:
    """Whether an account number's check digits are right (ISO 13616, modulo 97)."""
    turned = text[4:] + text[:4]
    return 15 <= len(text) <= 34 and int("".join(str(int(character, 36)) for character in turned)) % 97 == 1


def _has_card(text: str) -> bool:
    return any(is_card(re.sub(r"\D", "", match[0])) for match in _DIGITS.finditer(text))


def _has_iban(text: str) -> bool:
    for match in _IBAN.finditer(text):
        compact = match[0].replace(" ", "")
        # The words after the number may look like more of it.
        if any(is_iban(compact[:size]) for size in range(15, min(len(compact), 34) + 1)):
            return True
    return False


_FINDERS: dict[str, Callable[[str], bool]] = {
    "card": _has_card,
    "iban": _has_iban,
    "email": lambda text: _EMAIL.search(text) is not None,
    "phone": lambda text: _PHONE.search(text) is not None,
    "ssn": lambda text: _SSN.search(text) is not None,
}
