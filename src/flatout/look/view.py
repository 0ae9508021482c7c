"""One target over the time that is looked at, and how much of its limits it uses."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Self

from msgspec import Struct
from msgspec.structs import replace

from flatout.store.course import Stretch

from .course import Rates, rates

RECENT = 30.0
"""Seconds that count as now, or two stretches if those are longer."""

MOSTLY = 0.5
"""The share of the time from which on a cause is said to bind, without a figure."""

RISING = 1.05
"""A search is rising if it went up by this factor in the last `LATELY` stretches."""

LATELY = 4
"""Stretches."""

MINUTE = 60.0
_DAY = 86_400.0

NAMES = {
    "rpm": ("requests", "requests per minute", "minute"),
    "rpd": ("requests", "requests per day", "day"),
    "tpm": ("tokens", "tokens per minute", "minute"),
    "itpm": ("tokens", "input tokens per minute", "minute"),
    "otpm": ("tokens", "output tokens per minute", "minute"),
}
"""The limits per time: the cause that calls wait for, the name, the period."""


class When(Struct, frozen=True):
    """When a cause held calls up, as a sentence goes on: ``, since 12:04`` or `` 93 % of the time``.

    Attributes:
        since: ``since 12:04``, of a cause that holds them up now; "" if that is not known.
        share: ``93 % of the time``, of any other; "" for a cause that holds them up now.
    """

    since: str = ""
    share: str = ""

    def __str__(self) -> str:
        return f", {self.since}" if self.since else f" {self.share}" if self.share else ""


class View(Struct, frozen=True):
    """One target over the time that is looked at.

    Attributes:
        target: its name.
        stretches: what it did, in order of time; at least one.
        rates: the same per second.
        live: whether the run goes on. Otherwise the sentences are in the past tense.
        now: the time of the look; Unix time.
        left: rows that are not finished; None if unknown.
        lane: how the rows are asked; None if the run does not say.
        command: whether the command asks them, and not a program.
        name: what `flatout ctl` calls the run.
        whole: what the target did since the run began, in order of time.
        took: seconds within which half and 95 % of all its answers came, from the rows; None if those were not read.
    """

    target: str
    stretches: Sequence[Stretch]
    rates: Rates
    live: bool
    now: float
    left: int | None = None
    lane: str | None = None
    command: bool = True
    name: str = "FILE"
    whole: Sequence[Stretch] = ()
    took: tuple[float, float] | None = None

    def only(self, stretches: Sequence[Stretch]) -> Self:
        """This view, limited to some stretches. Without any, this view itself."""
        over = rates(stretches)
        return self if over is None else replace(self, stretches=stretches, rates=over)

    def since(self, cause: str) -> float | None:
        """Since when a cause has held the queue most of the time; None if it does not now."""
        began: float | None = None
        for each in reversed(self.stretches):
            gap = began is not None and began - each.began_at > 2 * max(each.seconds, 1.0)
            if gap or each.held.get(cause, 0.0) < MOSTLY * each.seconds:
                break
            began = each.began_at
        return began

    def said(self, live: str, past: str) -> str:
        """One of two forms of a verb."""
        return live if self.live else past


def recent(stretches: Sequence[Stretch], seconds: float, now: float) -> list[Stretch]:
    """The stretches of the last seconds, or the last two if those are longer."""
    since = now - max(seconds, 2 * stretches[-1].seconds) if stretches else 0.0
    return [each for each in stretches[-int(seconds) - 2 :] if each.began_at + each.seconds > since]


def units(name: str, sent: float, input_tokens: float, output_tokens: float) -> float:
    """What counts against a limit per time: the requests that were sent, or the tokens of the calls that ended."""
    tokens = {"tpm": input_tokens + output_tokens, "itpm": input_tokens, "otpm": output_tokens}
    return tokens.get(name, sent)


def use(name: str, limit: float, view: View) -> float:
    """How much of a limit is used."""
    input_tokens = sum(each.input_tokens for each in view.stretches)
    output_tokens = sum(each.output_tokens for each in view.stretches)
    used = units(name, view.rates.sent * view.rates.seconds, input_tokens, output_tokens)
    return used / view.rates.seconds * (_DAY if name == "rpd" else MINUTE) / limit


def clock(at: float, now: float) -> str:
    """A time of the day: ``12:04``; with its date if it is another day's."""
    then = time.localtime(at)
    today = then[:3] == time.localtime(now)[:3]
    return time.strftime("%H:%M" if today else "%Y-%m-%d %H:%M", then)
