"""What people changed while a run went: who, what and when, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from flatout.store.course import Happening

from .view import clock

LONGEST = 200
"""Most characters of a change."""


def changes(happenings: Sequence[Happening], now: float, most: int) -> list[str]:
    """The latest changes, the last one first: ``14:02:05 ada: rpm 6,000``; and how many there were before.

    Args:
        happenings: what happened, in order of time.
        now: Unix time.
        most: how many.
    """
    found = [each for each in reversed(happenings) if each.kind == "change"]
    shown = [_words(each, now) for each in found[:most]]
    return [*shown, f"{len(found) - most:,} earlier"] if 1 < most < len(found) else shown


def changed_at(happenings: Sequence[Happening]) -> float:
    """When somebody changed something last, in the latest process; Unix time, 0 if nobody did."""
    last = next((each for each in reversed(happenings) if each.kind in ("change", "begin")), None)
    return last.at if last is not None and last.kind == "change" else 0.0


def stopped_by(happenings: Sequence[Happening]) -> Happening | None:
    """The change by which somebody ends the process that is at work; None if nobody does."""
    for each in reversed(happenings):
        if each.does in ("stop", "drain"):
            return each
        if each.kind in ("begin", "end"):
            return None
    return None


def paused_since(happenings: Sequence[Happening]) -> float | None:
    """Since when a run is paused by a person; Unix time; None if it is not."""
    pauses = list(pauses_by_hand(happenings))
    return pauses[-1].at if pauses and pauses[-1].until is None else None


def pauses_by_hand(happenings: Sequence[Happening]) -> Iterator[Happening]:
    """The pauses that people made, with their ends. A process that goes, or another that comes, ends one, too."""
    began: Happening | None = None
    for each in happenings:
        if each.does == "pause":
            began = began or each
        elif began is not None and (each.kind in ("begin", "end") or each.does == "resume"):
            yield replace(began, until=each.at)
            began = None
    if began is not None:
        yield began


def spells(happenings: Sequence[Happening], until: float) -> Iterator[Happening]:
    """The times in which a target took no calls, with their ends: it was paused, stopped, down, or without room.

    A process that goes, or another that comes, ends them. One that goes on lasts ``until`` then.
    """
    began: dict[str | None, Happening] = {}
    for each in happenings:
        if each.kind == "pause":
            yield each
        elif each.kind in ("down", "full", "stop"):
            began.setdefault(each.target, each)
        elif each.kind == "back" and each.target in began:
            yield replace(began.pop(each.target), until=each.at)
        elif each.kind in ("begin", "end"):
            yield from (replace(one, until=each.at) for one in began.values())
            began.clear()
    yield from (replace(one, until=until) for one in began.values())
    yield from (replace(one, until=until if one.until is None else one.until) for one in pauses_by_hand(happenings))


def _words(each: Happening, now: float) -> str:
    who = each.by or "the program"
    what = each.what if each.target is None else f"{each.what} for {each.target}"
    return f"{clock(each.at, now)} {who}: {what}"[:LONGEST]
