"""How fast a run goes, and how long the rows that are left will take, reckoned from its course."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from flatout.errors import BudgetExceeded
from flatout.progress._pace import affordable, allowed, ending
from flatout.store.course import SHARED, Stretch
from flatout.text import figures

from .changes import changed_at, paused_since, stopped_by
from .course import Course, rates
from .facts import Facts
from .view import MOSTLY, RECENT, recent

TYPICAL = 60.0
"""Seconds whose rate the rows that are left are expected to keep, if no limit binds."""

SETTLED = 10.0
"""Seconds over which trouble is looked for: those of one answer more or less tell nothing."""

FEW = 2
"""Failed attempts in that time up to which they may be chance."""


def paced(facts: Facts, course: Course, now: float) -> Facts:
    """Facts with the rate of the last half minute and the time left, as far as the course tells them.

    The time left is what the limit on requests in force allows where that binds, with as many retries as before: a
    burst before says nothing of what comes. Of a limit that others use, too, nobody knows which part will be the run's,
    so its own pace counts. Else it is what the last minute promises, but no more than the limits: where tokens bind,
    fewer calls may go than they allow, because as many are kept free as answers may be long. While somebody has paused
    the run, nothing is answered, or most attempts fail, nobody knows it, and what went before such a time tells
    nothing. A run that is stopped has no time left, but perhaps an end. A paused one has no rate.
    """
    if facts.running and paused_since(course.happenings) is not None:
        facts = replace(facts, paused=True, rate=None, seconds_left=None)
    stop = stopped_by(course.happenings) if facts.running else None
    if stop is not None:
        facts = replace(facts, seconds_left=None, stopping=True, ends_by=stop.until)
    if not facts.running or not course.targets or (facts.batches is not None and facts.batches.open):
        return facts
    own = [found for stretches in course.targets.values() if (found := facts.own(stretches))]
    if not own:  # it has only begun: what an earlier process did says nothing of it
        return replace(facts, rate=None, seconds_left=None)
    rate = None if facts.paused else recent_rate(own, now)
    unknown = stop is not None or facts.paused
    expected = None if unknown else _expected(own, changed_at(course.happenings), facts, now)
    left = facts.left / expected if facts.left is not None and expected else None
    return replace(facts, rate=rate, seconds_left=left)


def left_of_budget(facts: Facts) -> float | None:
    """US dollars that are left of the budget; None without one, or if it is not known.

    A run's own budget is written down as it stood when the process began: since then the run has spent more.
    """
    budget = facts.budget
    if budget is None or facts.state == "detached" or (facts.unknown_costs and not facts.cost and budget.scope is None):
        return None  # it is as if nothing had been spent
    if budget.scope is not None or facts.ended_at is not None:
        return budget.left
    if budget.usd is None or facts.cost is None or facts.unknown_costs:
        return None
    return max(0.0, budget.usd - facts.cost)


def holds_rows_back(facts: Facts) -> bool:
    """Whether the budget has held rows back."""
    return facts.budget is not None and any(each.error == BudgetExceeded.__name__ for each in facts.errors)


def how_to_continue(facts: Facts) -> str:
    """What must change before the same command goes on: ``with a larger --budget``; "" if nothing."""
    return figures.larger_budget(facts.budget.per) if facts.budget is not None and holds_rows_back(facts) else ""


def rows_of_budget(facts: Facts) -> int | None:
    """How many more rows the budget lasts for, at the mean cost of those before; None if for all, or if not known.

    Once it has held rows back, it lasts for none that may cost as much: the mean says nothing then.
    """
    if holds_rows_back(facts):
        return None
    left, rows = left_of_budget(facts), facts.finished - facts.cached
    if left is None or not facts.cost or rows <= 0 or facts.unknown_costs or not facts.left:
        return None
    lasts = affordable(left, facts.cost, rows)
    return lasts if lasts < facts.left else None


def _expected(own: Iterable[Sequence[Stretch]], changed: float, facts: Facts, now: float) -> float | None:
    """Rows per second that are to be expected; None if nothing is known."""
    found = [_of_target(each, changed, now) for each in own]
    known = sum(each for each in found if each is not None)
    return known or (facts.rate if not changed and None not in found else None)


def _of_target(stretches: Sequence[Stretch], changed: float, now: float) -> float | None:
    """Rows per second to expect of one target; 0 if it answers nothing, None if it is in trouble."""
    seen = _since_trouble([each for each in recent(stretches, TYPICAL, now) if each.began_at >= changed])
    if seen is None:
        return None
    over, last = rates(seen), stretches[-1]
    if over is None:
        return 0.0
    answered = sum(each.answered for each in seen)
    input_tokens, output_tokens = sum(each.input_tokens for each in seen), sum(each.output_tokens for each in seen)
    ends = ending(over.answered, over.refused + over.failed)
    most = allowed(last.allows, answered, input_tokens, output_tokens, ends)
    if most is None:
        return over.answered
    binds = last.held.get("requests", 0.0) >= MOSTLY * last.seconds
    return most if binds and SHARED not in last.allows else min(most, over.answered)


def _since_trouble(stretches: Sequence[Stretch]) -> Sequence[Stretch] | None:
    """The stretches after a time in which most attempts failed, or waited for a server that is down.

    It is None if that time is not over for `SETTLED` seconds.
    """
    end = place = len(stretches)
    while place > 0:
        begin, seconds = place, 0.0
        while begin > 0 and seconds < SETTLED:
            begin -= 1
            seconds += stretches[begin].seconds
        if _in_trouble(stretches[begin:place], seconds):
            return stretches[place:] if place < end else None
        place = begin
    return stretches


def _in_trouble(stretches: Sequence[Stretch], seconds: float) -> bool:
    failed, answered = sum(each.failed for each in stretches), sum(each.answered for each in stretches)
    down = sum(each.held.get("outage", 0.0) for each in stretches)
    return failed > max(answered, FEW) or down >= MOSTLY * seconds


def recent_rate(targets: Iterable[Sequence[Stretch]], now: float) -> float | None:
    """Answers per second in the last half minute; None if nothing is known of it."""
    found = [_rate(stretches, now) for stretches in targets if stretches]
    return sum(found) if found else None


def _rate(stretches: Sequence[Stretch], now: float) -> float:
    seen = recent(stretches, RECENT, now)
    until = max(now - 2 * stretches[-1].seconds - 1.0, stretches[-1].began_at + stretches[-1].seconds)
    length = min(now, until) - min((each.began_at for each in seen), default=now)
    return sum(each.answered for each in seen) / max(length, 1.0)
