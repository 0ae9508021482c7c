"""Short reprs of values: one or two lines, with the known fields only."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

MOST = 60
"""Characters of a text that a repr shows."""


class Bare(str):
    """Words that a repr shows without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def shown(name: str, fields: Iterable[tuple[str, Any]]) -> str:
    """A repr of named fields."""
    return f"{name}({', '.join(f'{field}={value!r}' for field, value in fields)})"


def beginning(value: Any) -> Any:
    """For a repr: the first characters of a text, or of the repr of anything else."""
    if isinstance(value, str):
        return value if len(value) <= MOST else f"{value[: MOST - 1]}…"
    if isinstance(value, BaseException):
        return Bare(f"{type(value).__name__}({beginning(str(value))!r})")
    return Bare(beginning(" ".join(repr(value).split())))


def dollars(cost: float) -> Bare:
    """US dollars, to four digits, without an exponent."""
    return Bare(f"{Decimal(f'{cost:.4g}'):f}")


def lasting(seconds: float) -> str:
    """A duration in the largest unit that leaves two digits: ``45 s``, ``12 min``, ``30 h``."""
    for size, unit in ((3_600.0, "h"), (60.0, "min")):
        if seconds >= 10 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:,.0f} s"
