"""Numbers as people write them."""

from __future__ import annotations

import math

_TIMES = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


def number_in(text: str) -> float | None:
    """A number such as ``500``, ``10_000``, ``10,000``, ``10k`` or ``2.5M``; None if the text is none."""
    bare = text.strip().replace("_", "").replace(",", "").lower()
    suffix = bare[-1:] if bare[-1:] in _TIMES else ""
    try:
        value = float(bare.removesuffix(suffix)) * _TIMES[suffix]
    except ValueError:
        return None
    return value if math.isfinite(value) else None
