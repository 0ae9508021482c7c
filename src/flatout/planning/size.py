"""How large a sample is: a number of calls, or a share of them."""

from __future__ import annotations

import math
from typing import Any

from msgspec import Struct

from flatout.errors import ConfigError

MOST = 10_000
"""The most calls of a sample. A larger one is no forecast any more, but a part of the job."""


class SampleSize(Struct, frozen=True):
    """A number of calls of each model, or a share of them.

    Attributes:
        calls: the number; `MOST` for a share.
        share: the share, above 0 and up to 1; None for a number.
    """

    calls: int
    share: float | None = None

    @classmethod
    def of(cls, given: Any) -> SampleSize:
        """Read what a user gave: 50, or "2%".

        Raises:
            ConfigError: it is neither, or 0.
        """
        text = str(given).strip()
        if text.endswith("%"):
            share = _number(text[:-1]) / 100.0
            if not 0.0 < share <= 1.0:
                raise ConfigError(f"a sample is a number of calls or a share of them such as 2%, not {text!r}")
            return cls(MOST, share)
        calls = _number(text)
        if isinstance(given, bool) or calls != int(calls if math.isfinite(calls) else 0):
            raise ConfigError(f"a sample is a number of calls or a share of them such as 2%, not {text!r}")
        if calls < 1:
            raise ConfigError("a sample has at least one call; to forecast without asking, use a dry run")
        return cls(min(MOST, int(calls)))

    def among(self, calls: int) -> int:
        """How many of these calls are the sample."""
        wanted = self.calls if self.share is None else math.ceil(self.share * calls)
        return min(wanted, MOST, calls)


def _number(text: str) -> float:
    try:
        return float(text.replace(",", "").replace("_", ""))
    except ValueError:
        return math.nan
