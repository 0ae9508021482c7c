"""Estimates how much text an operation of a template makes, before it makes it.

Covers the operations whose result can be much larger than their input, such as padding and repeating.
"""

from __future__ import annotations

import codecs
import re
import string
from collections.abc import Callable, Mapping
from typing import Any

TEXTS = (str, bytes)

_MOST_BITS = 100_000
"""Bits of the largest number that a template may compute."""

_SLOW_CODECS = frozenset({"idna", "punycode"})  # their time is quadratic in the text's length
_WIDE = 100  # the most characters that an error handler makes of one
_PERCENT = re.compile(rb"%(?:\([^)]*\))?[#0 +-]*(\*|\d*)(?:\.(\*|\d*))?")
_NUMBER = re.compile(r"\d+")


def check_operands(operator: str, left: Any, right: Any, most_items: int, most_characters: int) -> None:
    """Refuse an operation on two values whose result would be too large.

    Raises:
        OverflowError: saying what is too large.
    """
    if operator == "*":
        for value, times in ((left, right), (right, left)):
            if isinstance(times, int) and isinstance(value, (*TEXTS, list, tuple)):
                most = most_characters if isinstance(value, TEXTS) else most_items
                if len(value) * times > most:
                    raise OverflowError(f"it repeats something to more than {most:,} items")
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
        if bits > _MOST_BITS:
            raise OverflowError("it computes too large a number")


def percents_made(text: str | bytes) -> int:
    """The characters that a ``%`` format adds by the widths of its fields.

    Raises:
        OverflowError: a width comes from a value.
    """
    found = _PERCENT.findall(text.encode(errors="replace") if isinstance(text, str) else text)
    widths = [width for field in found for width in field if width]
    if b"*" in widths:
        raise OverflowError("the width of a field must be in the format itself")
    return _sum(width.decode() for width in widths)


def _sum(numbers: Any) -> int:
    """The sum of numbers in decimal notation. A number of more than 18 digits counts as 10**18."""
    return sum(int(number) if len(number) <= 18 else 10**18 for number in numbers)


def _padding(_: Any, width: int = 80, *__: Any, **___: Any) -> int:
    return max(0, width)


def _tabs(value: Any, tabsize: int = 8) -> int:
    return len(value) * max(0, tabsize)


def _indentation(value: Any, width: int | str = 4, *_: Any, **__: Any) -> int:
    return (_text(value).count("\n") + 1) * (width if isinstance(width, int) else len(width))


def _wrapping(value: Any, width: int = 79, _: bool = True, wrapstring: str | None = None, *__: Any, **___: Any) -> int:
    text = _text(value)
    return (len(text) // max(1, width) + text.count("\n") + 1) * len(wrapstring or "\n")


def _replacements(value: Any, old: Any = "", new: Any = "", *_: Any, **__: Any) -> int:
    if isinstance(value, bytes):
        return value.count(old) * len(new)
    return _text(value).count(str(old)) * len(str(new))


def _separators(value: Any, items: Any = (), *_: Any) -> int:
    return len(value) * len(items) if isinstance(value, TEXTS) else 0


def _translations(value: Any, table: Any, *_: Any) -> int:
    made = table.values() if isinstance(table, Mapping) else ()
    return len(value) * max((len(each) for each in made if isinstance(each, TEXTS)), default=1)


def _code(value: Any, encoding: str = "utf-8", errors: str = "strict") -> int:
    if codecs.lookup(encoding).name in _SLOW_CODECS:
        raise OverflowError(f"the encoding {encoding} is too slow")
    return len(value) * (_WIDE if errors not in ("strict", "ignore", "replace") else 4)


def _fields(value: Any, *_: Any, **__: Any) -> int:
    """The widths of all fields of a format string for ``str.format``."""
    specs = [spec for _, _, spec, _ in string.Formatter().parse(value) if spec]
    if any("{" in spec for spec in specs):
        raise OverflowError("the width of a field must be in the format itself")
    return _sum(number for spec in specs for number in _NUMBER.findall(spec))


def _percents(value: Any, *_: Any, **__: Any) -> int:
    return percents_made(value) if isinstance(value, TEXTS) else 0


def _pieces(value: Any, *_: Any, **__: Any) -> int:
    """Each piece, even of two characters, takes about 60 bytes of memory."""
    return len(value) * 10


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _start(_: Any, attribute: Any = None, start: Any = 0) -> int:
    if not isinstance(start, int | float):
        raise TypeError("sum is for numbers")
    return 0


FILTER_STEPS: dict[str, Callable[..., int]] = {
    "batch": lambda value, linecount=0, *_, **__: linecount,
    "round": lambda value, precision=0, *_, **__: abs(precision),
    "slice": lambda value, slices=0, *_, **__: slices,
    "sum": _start,
}
"""Steps that filters take in addition to reading their input."""

FILTERS: dict[str, Callable[..., int]] = {
    "center": _padding,
    "format": _percents,
    "indent": _indentation,
    "replace": _replacements,
    "wordwrap": _wrapping,
}
"""The most characters that each filter adds to a text."""

METHODS: dict[str, Callable[..., int]] = {
    "center": _padding,
    "decode": _code,
    "encode": _code,
    "expandtabs": _tabs,
    "format": _fields,
    "format_map": _fields,
    "join": _separators,
    "ljust": _padding,
    "replace": _replacements,
    "rjust": _padding,
    "rsplit": _pieces,
    "split": _pieces,
    "splitlines": _pieces,
    "to_bytes": _padding,
    "translate": _translations,
    "zfill": _padding,
}
"""The most characters that each method of text, bytes and whole numbers adds."""
