"""What was learnt about a target, kept for the next run: its rate if it tells no limit, and how it counts tokens.

Each target has one small JSON file in the user's cache folder. A digest is its name, so that the name shows neither key
nor model. The memory only makes starts quicker: files that are too old, damaged or unwritable are ignored.
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
"""Seconds after which nothing is believed any longer."""

Rate = Annotated[float, Meta(ge=1e-3, le=1e6)]
"""Requests per second. The bounds reject damaged files: a rate of 0 would admit nothing."""

Weight = Annotated[float, Meta(ge=-10.0, le=10.0)]
"""Tokens. The bounds reject damaged files: with a weight of 1000, no call would fit any limit."""

Seconds = Annotated[float, Meta(ge=0.0, le=60.0)]
"""Seconds of a limit per minute, so at most a minute."""


class Learnt(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was learnt about one target.

    Attributes:
        at: when, in seconds since the epoch.
        rate: requests per second that the target accepted; None if it tells its limits, or if no limit was met.
        told: requests per second that the target says it allows; None if it does not say.
        even: whether it refused requests that were sent ahead of known limits.
        depths: seconds of each of these limits that it accepted ahead.
        owes: seconds from `at` on until all that was sent is earned.
        charges: the rule by which it charges tokens.
        weights: tokens per character, extra byte, digit and white space.
        seen: answers from which the weights were learnt.
    """

    at: float
    rate: Rate | None = None
    told: Rate | None = None
    even: bool = False
    depths: dict[str, Seconds] = {}
    owes: Annotated[float, Meta(ge=0.0)] = 0.0
    charges: Reserve | None = None
    weights: tuple[Weight, Weight, Weight, Weight] | None = None
    seen: Annotated[int, Meta(ge=0)] = 0


class Memory:
    """Remembers what was learnt about targets, by their keys."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def recall(self, target: str) -> Learnt | None:
        """What is known about a target; None if nothing is, or if it is too old."""
        try:
            learnt = msgspec.json.decode(self._place(target).read_bytes(), type=Learnt)
        except (OSError, msgspec.MsgspecError):
            return None
        return learnt if 0 <= time.time() - learnt.at < KEEP else None

    def keep(self, target: str, learnt: Learnt) -> None:
        """Remember a target. A failure to write is not an error."""
        place = self._place(target)
        new = place.with_suffix(f".{os.getpid()}.new")
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            new.write_bytes(msgspec.json.encode(learnt))
            new.replace(place)

    def _place(self, target: str) -> Path:
        return self._folder / f"{hashlib.sha256(target.encode()).hexdigest()[:24]}.json"
