"""What was learnt of a target, kept for the next run: its rate where it tells no limit, and how it counts tokens.

One small JSON file a target in the user's cache folder, named by a digest, so that neither key nor model stands in a
name. It only ever makes a start quicker: what is too old, damaged or unwritable is as if it were not there.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from flatout.policies.pacing.charge import Reserve

KEEP = 7 * 86_400.0
"""Seconds after which nothing is believed any more."""

Rate = Annotated[float, Meta(ge=1e-3, le=1e6)]
Weight = Annotated[float, Meta(ge=-10.0, le=10.0)]
Seconds = Annotated[float, Meta(ge=0.0, le=60.0)]
"""What a damaged file may not go beyond: a rate of 0 is none, and by a weight of 1000 no call fits any limit."""


class Learnt(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was learnt of one target.

    Attributes:
        at: when, in seconds since the epoch.
        rate: requests per second that it took; None when it tells its limits, or none was met.
        even: whether it refused what was tried ahead of known limits.
        depths: seconds of each of these that were taken ahead.
        owes: seconds from `at` on until all that was sent is earned.
        charges: by which rule it charges tokens.
        weights: tokens per character, extra byte, digit and white space.
        seen: answers from which these were learnt.
    """

    at: float
    rate: Rate | None = None
    even: bool = False
    depths: dict[str, Seconds] = {}
    owes: Annotated[float, Meta(ge=0.0)] = 0.0
    charges: Reserve | None = None
    weights: tuple[Weight, Weight, Weight, Weight] | None = None
    seen: Annotated[int, Meta(ge=0)] = 0


class Memory:
    """Remembers targets, by their keys."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def recall(self, target: str) -> Learnt | None:
        """What is known of a target; None when that is nothing, or too old."""
        try:
            learnt = msgspec.json.decode(self._place(target).read_bytes(), type=Learnt)
        except (OSError, msgspec.MsgspecError):
            return None
        return learnt if 0 <= time.time() - learnt.at < KEEP else None

    def keep(self, target: str, learnt: Learnt) -> None:
        """Remember a target. Failing to is no error."""
        place = self._place(target)
        new = place.with_suffix(f".{os.getpid()}.new")
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            new.write_bytes(msgspec.json.encode(learnt))
            new.replace(place)

    def _place(self, target: str) -> Path:
        return self._folder / f"{hashlib.sha256(target.encode()).hexdigest()[:24]}.json"
