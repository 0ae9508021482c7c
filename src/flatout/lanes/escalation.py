"""Decides in which lane rows are asked, so that all have their answers within a time, at the lowest price.

It is pure. A row is asked in the cheapest lane that will be in time. While it waits in a batch, the time that is left
shrinks, until it just covers what the next faster lane needs: then the row leaves, and is asked there. So a row moves
from batch to flex to live, never back, and the live lane is what makes the deadline sure.

How long a batch takes is learnt from past batches of the same target (`flatout.lanes.past`). Until there are enough,
the provider's own word counts, which is a day. A guess would be worth little: the same batch took 14 minutes at one
hour of a day and 84 at another, and one tiny request more than half an hour.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from .offers import Lane

SETTLE = 900.0
"""Seconds from asking a provider to cancel a batch until its finished rows are here: OpenAI takes up to 10 minutes."""

FLEX_ANSWER = 900.0
"""Seconds that one flex call may take: OpenAI says to allow 15 minutes, Gemini names 1 to 15 minutes. Rows leave the
lane so long before they must: what is on its way then is answered there, and not paid twice."""

LIVE_ANSWER = 120.0
"""Seconds that one live call may take, with its retries."""

FIRST_RATE = 1.0
"""Rows a second of a live lane whose speed nobody knows. A new account allows a few hundred a minute."""

SLACK = 1.5
"""How much longer than expected rows may take live: the limits may be shared, and answers differ in length."""


class Way(Struct, frozen=True):
    """A lane for the rows that are left.

    Attributes:
        lane: its name.
        seconds: the time in which it will have answered them all.
        share: its price as a share of the live one; None if that is not known.
        why: where the seconds come from, in words.
    """

    lane: Lane
    seconds: float
    share: float | None
    why: str


class Choice(Struct, frozen=True):
    """The lane for rows.

    Attributes:
        lane: its name; None if none will be in time.
        reason: why, in words.
    """

    lane: Lane | None
    reason: str


def at_rate(per_second: float | None, source: str) -> str:
    """In words, how many rows the live lane answers, and who says so.

    Args:
        per_second: None if nobody knows.
        source: such as "as an earlier run has learnt".
    """
    return f"at {60 * (per_second or FIRST_RATE):,.0f} rows a minute, {source or 'assumed because no limit is known'}"


def live_seconds(rows: int, per_second: float | None) -> float:
    """The time that rows need in the live lane.

    Args:
        rows: how many are left.
        per_second: how many it answers in a second, from its limits or as measured; None if that is not known.
    """
    return LIVE_ANSWER + SLACK * rows / (per_second or FIRST_RATE)


def flex_seconds(rows: int, per_second: float | None) -> float:
    """The time that rows need in the flex lane, which shares the live lane's limits: each is tried there once. For the
    worst case that it has no room, the time that they then need in the live lane is part of it.
    """
    return FLEX_ANSWER + SLACK * rows / (per_second or FIRST_RATE) + live_seconds(rows, per_second)


def choose(ways: Sequence[Way], left: float) -> Choice:
    """The cheapest lane that is in time; of two at the same price, the slower one, which leaves the live limits alone.

    An unknown price counts as the live one: no provider sells a slower lane for more. A batch that is known to cost as
    much as live calls comes last: it only takes longer.

    Args:
        ways: the lanes that there are.
        left: seconds until all answers are wanted.
    """
    for way in _cheapest_first(ways):
        if way.seconds <= left:
            return Choice(way.lane, f"{_price(way)}; {way.why}, and {spoken(left)} are left")
    if not ways:
        return Choice(None, "there is no lane")
    fastest = min(ways, key=lambda way: way.seconds)
    return Choice(
        None,
        f"no lane is in time: {fastest.lane} needs {spoken(fastest.seconds)} ({fastest.why}), "
        f"and {spoken(left)} are left",
    )


def leaves_at(lane: Lane, ways: Sequence[Way]) -> float:
    """The seconds before the deadline at which rows leave a lane for the next faster one.

    Args:
        lane: where they are.
        ways: the lanes that there are.

    Returns:
        0 if there is no faster lane, so that they stay to the end.
    """
    here = next((way.seconds for way in ways if way.lane == lane), float("inf"))
    settle = {"batch": SETTLE, "flex": FLEX_ANSWER}.get(lane, 0.0)
    faster = [way.seconds for way in ways if way.lane != lane and way.seconds < here and _is_step(lane, way.lane)]
    return max(faster) + settle if faster else 0.0


def on_the_way(ways: Sequence[Way], whole: float) -> list[Way]:
    """The lanes that a row passes if it begins in a batch. Flex is left out if it would take time that the batch needs.

    Args:
        ways: the lanes that there are.
        whole: seconds from the first command until all answers are wanted.
    """
    batch = next((way.seconds for way in ways if way.lane == "batch"), 0.0)
    fits = whole >= batch + leaves_at("batch", ways)
    return [way for way in ways if fits or way.lane != "flex"]


def stays(lane: Lane, ways: Sequence[Way], left: float) -> bool:
    """Whether rows stay in their lane, with ``left`` seconds until their answers are wanted."""
    return left > leaves_at(lane, ways)


_ORDER: tuple[Lane, ...] = ("batch", "flex", "live")


def _is_step(lane: Lane, other: Lane) -> bool:
    """Whether rows may go from one lane to the other: never back."""
    return _ORDER.index(other) > _ORDER.index(lane)


def _cheapest_first(ways: Sequence[Way]) -> list[Way]:
    def rank(way: Way) -> tuple[bool, float, int]:
        saves_nothing = way.lane == "batch" and way.share == 1.0
        return saves_nothing, round(1.0 if way.share is None else way.share, 3), _ORDER.index(way.lane)

    return sorted(ways, key=rank)


def _price(way: Way) -> str:
    if way.share is None:
        return f"what {way.lane} costs is not known, and counts as the live price"
    if round(way.share, 3) == 0.5:
        return f"{way.lane} costs half of the live price"
    return (
        f"{way.lane} costs {way.share:.0%} of the live price"
        if round(way.share, 3) != 1.0
        else f"{way.lane} costs the live price"
    )


def spoken(seconds: float) -> str:
    """A duration in words: ``40 s``, ``12 min``, ``2 h``, ``3 h 20 min``, ``2 d 4 h``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
