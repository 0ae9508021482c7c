"""`Answers` at the workers of an engine: what may be sent to them, and how many batches each takes at once."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

from flatout.errors import ConfigError
from flatout.extras import package
from flatout.values import Limits
from flatout.values.checks import is_count

from ._arrow import first_line
from ._flow import rows_in_hand
from ._keys import concealed, without_keys

MORE = 2
"""Batches at once beyond a full window: one ends with its slowest rows while the next ones begin."""

MOST = 256
"""Batches at once in one worker, at most: each may hold a thread."""


def batches_at_once(limits: Limits | None, rows: int, workers: int = 1) -> int:
    """How many batches a worker takes at once, so that all of them together keep the limits used.

    Engines take one batch after another unless they are told otherwise. Then the limits idle whenever a batch waits for
    its slowest rows, which is most of the time.

    Args:
        limits: the limits, as far as they are known.
        rows: the rows of a batch.
        workers: the workers that share the limits.
    """
    return min(MOST, MORE + math.ceil(rows_in_hand(limits or Limits()) / (rows * workers)))


def engine(module: str, extra: str) -> Any:
    """The module of an engine.

    Raises:
        ConfigError: it is not installed.
    """
    return package(module, needs=f"flatout.{extra} needs", extra=extra)


def check_counts(**counts: Any) -> None:
    """Check that the options are whole numbers above 0.

    Raises:
        ConfigError: one is not; the message names it.
    """
    for name, value in counts.items():
        if not is_count(value):
            raise ConfigError(f"{name} is a whole number above 0, not {value!r}")


def keyless(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as workers are sent them.

    Raises:
        ConfigError: one of them is a key.
    """
    held = dict(options)
    concealed(held)
    return without_keys(held)


def check_travels(options: Mapping[str, Any], dumps: Callable[[Any], Any]) -> None:
    """Check that workers can be sent these options.

    Raises:
        ConfigError: one is a key, or cannot be pickled; the message names it.
    """
    for name, value in keyless(options).items():
        try:
            dumps(value)
        except Exception as error:  # a user's class may raise anything
            raise ConfigError(f"{name} cannot be sent to the workers: {first_line(error)}") from None


def for_all_workers(cache: Any) -> Any:
    """A cache as workers name it: they may have another working directory."""
    is_path = isinstance(cache, str | os.PathLike) and "://" not in os.fspath(cache)
    return os.path.abspath(cache) if is_path else cache  # noqa: PTH100 - a text stays a text
