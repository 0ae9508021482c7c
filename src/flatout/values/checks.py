"""Checks of values that users give."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

MOST_COUNT = 2**53
"""The largest count. A float holds larger whole numbers only roughly, and the largest of them not at all."""


def is_count(value: Any) -> bool:
    """Whether a value is a whole number from 1 to `MOST_COUNT`, of any integer type except bool."""
    return not isinstance(value, bool) and isinstance(value, Integral) and 0 < int(value) <= MOST_COUNT


def is_positive(value: Any) -> bool:
    """Whether a value is a finite number above 0, and not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
