"""The first lines of a report: what came of a run, what held it up, what it cost, and what needs attention."""

from __future__ import annotations

from flatout.look import gateway
from flatout.look.course import Course
from flatout.look.facts import Facts, FailedClass, PerhapsPaid
from flatout.look.left import how_to_continue
from flatout.look.why import sentences as why_slow
from flatout.progress._counters import SKIPPED
from flatout.progress._line import in_class
from flatout.text import figures

from .model import Attention
from .sums import Histogram
from .tally import Tally

_EXAMPLE = 400  # characters of an error's example
_MOST = 8
_GATEWAY = {"running": "serves", "broken off": "broke off: its process has gone"}
_NO_COURSE = "An earlier flatout wrote this file, without the run's course: it is not known what held calls up."


def headline(facts: Facts, seconds: float) -> str:
    """``9,997 of 10,000 rows answered in 41 min 03 s``; for a gateway ``310 calls, 2 failed, in 41 min 03 s``."""
    if facts.gateway is not None:
        return f"{gateway.calls(facts.gateway)}, in {figures.duration(seconds)}"
    whole = facts.total if facts.total is not None else facts.finished + facts.unsent
    cached = f" ({figures.count(facts.cached)} of them from the cache)" if facts.cached else ""
    took = f" in {figures.duration(seconds)}" if facts.finished or facts.unsent else ""
    skipped = f", {figures.count(facts.skipped)} skipped" if facts.skipped else ""
    return f"{facts.answered:,} of {figures.counted(whole, 'row')} answered{took}{cached}{skipped}"


def sentences(facts: Facts, course: Course, tally: Tally, now: float) -> tuple[str, ...]:
    """What to know first, the most important first."""
    half, most = tally.provider.quantile(0.5), tally.provider.quantile(0.95)
    took = None if half is None or most is None else (half, most)
    why = why_slow(course, facts, now, took) if course.happenings or course.targets else [_NO_COURSE]
    return tuple(filter(None, [_standing(facts), *why[:_MOST], _latency(tally.seconds, tally.provider), _money(facts)]))


def _standing(facts: Facts) -> str:
    if facts.gateway is not None:
        return f"The gateway {_GATEWAY.get(facts.state, 'has stopped')}."
    rest = f", {figures.counted(facts.left, 'row')} left" if facts.left else ""
    if facts.state == "running":
        speed = f" at {figures.rate(facts.rate)}" if facts.rate else ""
        time_left = f", about {figures.duration(facts.seconds_left)}" if facts.seconds_left else ""
        going = facts.ending.removeprefix(", ") or "going on"
        return f"The run is {going}{speed}{rest}{time_left}."
    if facts.state == "broken off":
        return f"The run broke off: its process has gone{rest}. The same command continues it."
    if facts.state == "detached":
        return f"The run has left its batches at their providers{rest}. The same command collects them."
    if facts.state in ("interrupted", "cancelled"):
        what = "was interrupted" if facts.state == "interrupted" else "had its batches cancelled"
        changed = how_to_continue(facts)
        return f"The run {what}{rest}. The same command continues it{changed and f', {changed}'}."
    return ""


def _latency(seconds: Histogram, provider: Histogram) -> str:
    if not seconds.count:
        return ""
    whole = f"median {_quantile(seconds, 0.5)}, 95 % within {_quantile(seconds, 0.95)}"
    if not provider.count:
        return f"A row took, queueing included: {whole}."
    own = f"{_quantile(provider, 0.5)} (median; 95 % within {_quantile(provider, 0.95)})"
    return f"The provider took {own} for an answer; with our queue and retries: {whole}."


def _quantile(histogram: Histogram, share: float) -> str:
    value = histogram.quantile(share)
    return figures.UNKNOWN if value is None else figures.elapsed(value)


def _money(facts: Facts) -> str:
    if not facts.finished:
        return ""
    if facts.gateway is not None:
        return f"Cost: {gateway.cost(facts.gateway)}."
    return f"Cost: {figures.cost_in_words(facts.cost, facts.unknown_costs, 'row')}."


def attention(facts: Facts, tally: Tally, damaged: int) -> tuple[Attention, ...]:
    """What a person should look at, the most frequent first."""
    found = [
        Attention(
            title=_in_class(each),
            example=(each.example or "")[:_EXAMPLE],
            row=each.row,
            advice=each.advice,
            filter=f"error:{each.error}",
        )
        for each in facts.errors[:_MOST]
        if each.error != SKIPPED  # somebody has looked at those
    ]
    found += _refused(facts) + _left(facts) + _cut_off(facts) + _repaired(tally) + _unsettled(facts.unsettled)
    if damaged:
        found.append(Attention(title=f"{figures.counted(damaged, 'row')} cannot be read: the file is damaged there"))
    return tuple(found)


def _in_class(each: FailedClass) -> str:
    if each.held:
        return in_class(each.error, each.count, each.held)
    return f"{figures.counted(each.count, 'row')} failed: {each.error}"


def _refused(facts: Facts) -> list[Attention]:
    """Why calls of a gateway failed."""
    return [
        Attention(title=f"{figures.counted(each.calls, 'call')} failed: {each.error}", example=each.example[:_EXAMPLE])
        for each in (gateway.failures(facts.gateway) if facts.gateway is not None else ())
    ]


def _left(facts: Facts) -> list[Attention]:
    """The rows that a run has left, and why the latest attempts failed."""
    if facts.state in ("running", "detached") or not facts.left:
        return []
    held = f", {facts.unsent:,} of them held back" if facts.unsent else ""
    title = f"{figures.counted(facts.left, 'row')} left without an answer{held}"
    example = "" if facts.retried is None else facts.retried.what[:_EXAMPLE]
    return [Attention(title=title, example=example, advice="the run's command, given again, asks them")]


def _cut_off(facts: Facts) -> list[Attention]:
    if not facts.cut_off:
        return []
    title = f"{figures.counted(facts.cut_off, 'answer')} cut off at the token limit"
    return [Attention(title=title, advice="raise max_tokens, or ask for less", filter="cut off")]


def _repaired(tally: Tally) -> list[Attention]:
    if not tally.repaired:
        return []
    title = f"{figures.counted(tally.repaired, 'answer')} recovered from JSON that was not quite valid"
    return [Attention(title=title, advice="look at some of them; a stricter schema or another model avoids it")]


def _unsettled(unsettled: PerhapsPaid) -> list[Attention]:
    if not unsettled.attempts:
        return []
    cost = "at unknown cost" if unsettled.cost is None else f"at most {figures.dollars(unsettled.cost)}"
    title = f"{figures.counted(unsettled.attempts, 'attempt')} perhaps paid for nothing ({cost})"
    return [Attention(title=title, example="Its process died or stopped before it kept an answer.")]
