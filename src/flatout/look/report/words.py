"""The first lines of a report: what came of a run, what held it up, what it cost, and what needs attention."""

from __future__ import annotations

from flatout.look.course import Course, rates
from flatout.policies.failures.decision import advice_on
from flatout.store import RunInfo, RunReader, Summary, Unsettled
from flatout.text import figures

from .model import Attention
from .sums import Histogram
from .tally import Tally
from .timeline import cause_in_words

_WORTH_TELLING = 0.05
"""A cause that held the queue for a smaller share of the time is not named first."""

_EXAMPLE = 400  # characters of an error's example
_MOST = 8
_NO_COURSE = "An earlier flatout wrote this file, without the run's course: it is not known what held the queue."


def state_of(info: RunInfo, *, held: bool) -> str:
    """How the run stands."""
    return "broken off" if info.state == "running" and not held else info.state


def headline(info: RunInfo, summary: Summary, seconds: float) -> str:
    """``9,997 of 10,000 rows answered in 41 min 03 s``."""
    whole = info.total if info.total is not None else summary.finished
    cached = f" ({figures.count(summary.cached)} of them from the cache)" if summary.cached else ""
    took = f" in {figures.duration(seconds)}" if summary.finished else ""
    return f"{summary.answered:,} of {figures.counted(whole, 'row')} answered{took}{cached}"


def sentences(info: RunInfo, summary: Summary, state: str, course: Course, tally: Tally) -> tuple[str, ...]:
    """What to know first, the most important first."""
    said = [
        _standing(info, summary, state),
        _binding(course),
        _latency(tally.seconds, tally.provider),
        _money(summary),
    ]
    return tuple(filter(None, said))


def _standing(info: RunInfo, summary: Summary, state: str) -> str:
    left = None if info.total is None else max(0, info.total - summary.answered - summary.failed)
    rest = f", {figures.counted(left, 'row')} left" if left else ""
    if state == "running":
        return f"The run is going on{rest}."
    if state == "broken off":
        return f"The run broke off: its process has gone{rest}. The same command continues it."
    if state == "interrupted":
        return f"The run was interrupted{rest}. The same command continues it."
    return ""


def _binding(course: Course) -> str:
    """What held the queue, by the share of the time."""
    if not course.targets:
        return "" if course.happenings else _NO_COURSE
    found = rates(course.whole())
    held = sorted((found.held if found else {}).items(), key=lambda each: -each[1])
    told = [(cause, share) for cause, share in held if share >= _WORTH_TELLING][:3]
    if not told:
        return "No limit held the queue for long: the provider's time for its answers decided."
    (first, share), *others = told
    rest = "".join(f"; {cause_in_words(cause)} {100 * part:.0f} %" for cause, part in others)
    return f"The queue was held by {cause_in_words(first)} {100 * share:.0f} % of the time{rest}."


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


def _money(summary: Summary) -> str:
    if not summary.finished:
        return ""
    return f"Cost: {figures.cost_in_words(summary.cost, summary.unknown_costs, 'row')}."


def attention(reader: RunReader, summary: Summary, tally: Tally, damaged: int) -> tuple[Attention, ...]:
    """What a person should look at, the most frequent first."""
    found = [
        Attention(
            title=f"{figures.counted(each.count, 'row')} failed: {each.error}",
            example=(each.message or "")[:_EXAMPLE],
            row=each.first_index + 1,
            advice=advice_on(each.error),
            filter=f"error:{each.error}",
        )
        for each in reader.errors()[:_MOST]
    ]
    found += _cut_off(summary) + _repaired(tally) + _unsettled(reader.unsettled())
    if damaged:
        found.append(Attention(title=f"{figures.counted(damaged, 'row')} cannot be read: the file is damaged there"))
    return tuple(found)


def _cut_off(summary: Summary) -> list[Attention]:
    if not summary.cut_off:
        return []
    title = f"{figures.counted(summary.cut_off, 'answer')} cut off at the token limit"
    return [Attention(title=title, advice="raise max_tokens, or ask for less", filter="cut off")]


def _repaired(tally: Tally) -> list[Attention]:
    if not tally.repaired:
        return []
    title = f"{figures.counted(tally.repaired, 'answer')} recovered from JSON that was not quite valid"
    return [Attention(title=title, advice="look at some of them; a stricter schema or another model avoids it")]


def _unsettled(unsettled: Unsettled) -> list[Attention]:
    if not unsettled.attempts:
        return []
    known = len(unsettled.attempts) > unsettled.unknown_costs
    cost = f"at most {figures.dollars(unsettled.cost)}" if known else "at unknown cost"
    title = f"{figures.counted(len(unsettled.attempts), 'attempt')} perhaps paid for nothing ({cost})"
    return [Attention(title=title, example="Its process died or stopped before it kept an answer.")]
