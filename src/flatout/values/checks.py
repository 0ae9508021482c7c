"""Checks of values that users give."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any


def is_count(value: Any) -> bool:
    """Whether a value is a whole number above 0, of any integer type except bool."""
    return not isinstance(value, bool) and isinstance(value, Integral) and int(value) > 0


def is_positive(value: Any) -> bool:
    """Whether a value is a finite number above 0, and not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
