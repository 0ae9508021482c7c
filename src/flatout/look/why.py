"""Why a run is not faster, in sentences: what binds, since when, how much of it is used, and what would help."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from flatout.errors import BudgetExceeded, DeadlineExceeded
from flatout.store import RunReader
from flatout.store.course import Happening, Stretch
from flatout.text import figures

from .batches import waiting
from .changes import changed_at, paused_since
from .course import Course, latency, rates
from .facts import Facts, retried, workers_of
from .gateway import held
from .held import BUSY, by_you, sentence
from .view import MOSTLY, RECENT, View, When, clock, recent

PARTLY = 0.2
"""The least share of the time from which on a cause is named."""

MANY = 0.1
"""The least share of the attempts from which on failures are named."""

LIMITS = ("requests", "tokens", "concurrency")
"""Causes that are limits, given or found by trying."""

SLOW = 5.0
"""Seconds for half of the answers from which on a provider is called slow; three times as many for the slowest 5 %."""

EVIDENCE = 10
"""The fewest answers of which is said how long half of them, or the slowest 5 %, took."""

WORTH_A_WORKER = 500
"""Rows that a process answers in the time in which it starts, about: half a second."""

SHORT = 10.0
"""Seconds of a run from which on the start of its workers does not count."""

REASON = 160
"""Most characters of a reason that is quoted."""


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that slows a run.

    Attributes:
        cause: a key of `flatout.store.course.CAUSES`, or ``stopped``, ``down``, ``paused``, ``retries``, ``provider``,
            ``computer``, ``batch``, ``crowded``, ``capped``, ``deadline``, ``money``, ``workers``, ``caller``.
        target: whose; None for the whole run.
        since: since when; Unix time; None if unknown, or of a run that is over.
        used: how much of the limit is used, 0 to 1; None if there is none, or if it is unknown.
        text: a sentence or two. They may quote what a provider said, which may hold anything.
    """

    cause: str
    target: str | None = None
    since: float | None = None
    used: float | None = None
    text: str


def sentences(course: Course, facts: Facts, now: float, took: tuple[float, float] | None = None) -> list[str]:
    """Why a run is not faster, or was not; the most important first. Empty if nothing is known.

    Args:
        course: what its targets did.
        facts: its other facts.
        now: Unix time.
        took: seconds within which half and 95 % of all answers came, if the rows were read; the course says it about.
    """
    return [finding.text for finding in findings(course, facts, now, took)]


def afterwards(reader: RunReader, now: float) -> list[Finding]:
    """Why a run that has just ended was not faster, from its course alone: its rows are not read."""
    course = Course()
    course.refresh(reader)
    info = reader.info()
    facts = Facts(
        state=info.state,
        command=info.command,
        total=info.total,
        left=0,
        workers=workers_of(reader),
        retried=retried(reader),
    )
    return findings(course, facts, now)


def findings(course: Course, facts: Facts, now: float, took: tuple[float, float] | None = None) -> list[Finding]:
    """Why a run is not faster, or was not, as values; see `sentences`."""
    troubles = _troubles(course.happenings, now, live=facts.running)
    views = list(_views(course, facts, now))
    if took is not None and len(views) == 1 and not facts.running:
        views = [replace(views[0], took=took)]
    paused = paused_since(course.happenings) if facts.running else None
    if paused is not None:  # the stretches tell it later
        text = by_you(When(since=f"since {clock(paused, now)}"), _name(facts) if facts.command is not None else None)
        return [Finding(cause="paused", since=paused, text=text)]
    by_target = [_of_target(view, facts, course, view.target in troubles) for view in views]
    found = [each for rank in zip_longest(*by_target) for each in rank if each is not None]  # one of each in turn
    found = _batches(facts, now) + found
    blocked = [each for _, each in sorted(troubles.items())]
    whole = [*_unanswered(facts), *_whole(course.happenings), *_workers(course, facts)]
    if len(course.targets) > 1:
        found = [_named(each) for each in found]
    found = _of_callers(facts) + found
    if any(view.rates.answered and view.target not in troubles for view in views):
        return [*found, *blocked, *whole]  # a target of its route is at work
    return [*blocked, *found, *whole]


def _of_callers(facts: Facts) -> list[Finding]:
    """Which callers of a gateway are held by a limit of their own."""
    if facts.gateway is None or not facts.running:
        return []
    return [Finding(cause="caller", text=text) for text in held(facts.gateway)]


def _named(finding: Finding) -> Finding:
    """A finding of one of several targets: it begins with the target's name."""
    return finding if finding.target is None else replace(finding, text=f"{finding.target}: {finding.text}")


def _views(course: Course, facts: Facts, now: float) -> Iterator[View]:
    """What is looked at of each target: the last half minute of a run that goes on, else all; the busiest first."""
    found, known, live = [], read_by_then(course, facts), facts.running
    for target, stretches in course.targets.items():
        read = [_without_input(each) if each.began_at >= known else each for each in stretches]
        seen = _recent(facts.own(read), changed_at(course.happenings), now) if live else read
        over = rates(seen)
        if over is not None:
            told: dict[str, Any] = {"left": facts.left, "lane": facts.lane, "command": facts.command is not None}
            found.append(View(target, seen, over, live=live, now=now, **told, name=_name(facts), whole=read))
    return iter(sorted(found, key=lambda view: -view.rates.sent))


def _name(facts: Facts) -> str:
    """What `flatout ctl` calls a run, as a shell reads it."""
    return "FILE" if facts.run_file is None else shlex.quote(facts.run_file)


def read_by_then(course: Course, facts: Facts) -> float:
    """Since when all rows that were not finished were under way: the input was at its end. Unix time; else infinity."""
    under_way: Counter[float] = Counter()
    answered: Counter[float] = Counter()
    for stretches in course.targets.values():
        for each in stretches:
            under_way[each.began_at] += each.in_flight + each.waiting
            answered[each.began_at] += each.answered
    since, later = math.inf, facts.left if facts.running else 0
    for at in sorted(under_way, reverse=True):
        if later is None or later > under_way[at]:
            break
        since, later = at, later + answered[at]
    return since


def _without_input(stretch: Stretch) -> Stretch:
    held = {cause: seconds for cause, seconds in stretch.held.items() if cause != "input"}
    return replace(stretch, held=held) if len(held) < len(stretch.held) else stretch


def _recent(stretches: list[Stretch], changed: float, now: float) -> list[Stretch]:
    """The last half minute, but nothing before a person changed something; the last stretch in any case."""
    seen = recent(stretches, RECENT, now)
    return [each for each in seen if each.began_at >= changed] or seen[-1:]


def _of_target(view: View, facts: Facts, course: Course, blocked: bool) -> list[Finding]:
    """What slows one target, the most important first. One that is in trouble is held by that.

    Limits say nothing of a target that never answered.
    """
    silent = not view.live and not any(each.answered for each in view.stretches)
    blocked = blocked and view.live
    held = sorted(((share, cause) for cause, share in view.rates.held.items() if share >= PARTLY), reverse=True)
    held = [each for each in held if not (silent and each[1] in LIMITS)]
    found = [] if blocked else [_held(cause, share, view, facts, course) for share, cause in held]
    retries = _retries(view, facts)
    free = 1.0 - min(1.0, sum(view.rates.held.values()))
    if free > MOSTLY and not blocked and not silent and not (retries and found):
        idle = [*retries, *_free(view, facts, bound=bool(found or _of_callers(facts)))]
        return [*idle, *found]
    return [*found, *retries]


def _held(cause: str, share: float, view: View, facts: Facts, course: Course) -> Finding:
    since = replace(view, stretches=facts.own(course.targets[view.target])).since(cause) if view.live else None
    text, used = sentence(cause, share, view, since)
    computer = cause == "input" and view.rates.answered >= BUSY
    return Finding(cause="computer" if computer else cause, target=view.target, since=since, used=used, text=text)


# Where nothing holds the queue


def _free(view: View, facts: Facts, *, bound: bool) -> list[Finding]:
    """What a target is busy with whose queue is empty most of the time. Something may have bound it now and then."""
    if sum(view.rates.held.values()) > MOSTLY or (facts.batches is not None and facts.batches.open):
        return []
    median, slowest = view.took or (latency(view.stretches, 0.5), latency(view.stretches, 0.95))
    last = _last(view, facts)
    if median is None or slowest is None:
        text = f"{last}; {_silent(view)}."
        return [Finding(cause="provider", target=view.target, text=text)] if last else []
    slow = median >= SLOW or slowest >= 3 * SLOW
    takes = _takes(view, median, slowest, slow)
    begin = ""
    if bound and not slow and not last:
        return []
    if last and not slow:
        begin = f"{last}, and " if takes else last
    elif takes:
        begin = f"The provider {view.said('is', 'was')} slow: " if slow else "Nothing held the calls back: "
        begin = begin.replace("held", "holds") if view.live else begin
        begin += f"{last[0].lower()}{last[1:]}, and " if last else ""
    return [Finding(cause="provider", target=view.target, text=f"{begin}{takes}.")] if begin else []


def _silent(view: View) -> str:
    """How long no answer has come, and what would help, if that is long."""
    before = [each for each in view.whole if each.answered]
    if not before:
        return "none is answered yet"
    seconds = view.now - before[-1].began_at - before[-1].seconds
    sooner = "a lower --timeout" if view.command else "a lower timeout"
    return f"no answer has come for {figures.duration(seconds)}; {sooner} tries them again sooner"


def _takes(view: View, median: float, slowest: float, slow: bool) -> str:
    """How long answers take, as far as their number tells; "" for a few that were quick."""
    answers = sum(each.answered for each in view.stretches)
    take, half, most = view.said("take", "took"), figures.duration(median), figures.duration(slowest)
    if answers < EVIDENCE:
        few = "its answer" if answers == 1 else f"its {answers} answers"
        return f"{few} took up to {most}" if slow else ""
    return f"half of the answers {take} {half}, 5 % more than {most}" if half != most else f"answers {take} {half}"


def _last(view: View, facts: Facts) -> str:
    """``The last 3 rows are in flight``, or ``All 3 rows``, if that is so; else ""."""
    last = view.stretches[-1]
    if not view.live or not view.left or view.left > last.in_flight + last.waiting:
        return ""
    if view.left == facts.total and view.left > 1:
        return f"All {figures.count(view.left)} rows are in flight"
    return f"The last {'row is' if view.left == 1 else f'{figures.count(view.left)} rows are'} in flight"


# What goes wrong


def _retries(view: View, facts: Facts) -> list[Finding]:
    """How many attempts fail. While a limit is searched, a few refusals belong to it."""
    over = view.rates
    searched = any(each.pace is not None for each in view.stretches)
    lost = over.failed + (0.0 if searched else over.refused)
    ended = over.answered + over.failed + over.refused
    if not lost or lost < MANY * ended:
        return []
    why = f"; most retries {view.said('come', 'came')} after {_quoted(facts.retried.what)}" if facts.retried else ""
    text = f"{figures.percent(lost, ended)} of the attempts {view.said('fail', 'failed')}{why}."
    return [Finding(cause="retries", target=view.target, text=text)]


def _troubles(happenings: list[Happening], now: float, *, live: bool) -> dict[str, Finding]:
    """The targets that take no calls now, or took none at the end, by name."""
    found: dict[str, Happening] = {}
    for each in happenings:
        if each.kind == "begin":
            found.clear()
        elif each.target is not None and each.kind in ("stop", "down", "pause"):
            found[each.target] = each
        elif each.target is not None and each.kind == "back":
            found.pop(each.target, None)
    return {
        target: _trouble(target, each, now) if live else _was_trouble(target, each, now)
        for target, each in found.items()
        if each.kind != "pause" or (live and (each.until or 0.0) > now)
    }


def _was_trouble(target: str, each: Happening, now: float) -> Finding:
    cause: str = "stopped" if each.kind == "stop" else "down"
    text = f"{target} was {cause} from {clock(each.at, now)} to the end: {_quoted(each.what)}."
    return Finding(cause=cause, target=target, text=text)


def _trouble(target: str, each: Happening, now: float) -> Finding:
    why, since = _quoted(each.what), clock(each.at, now)
    if each.kind == "stop":
        cause, text = (
            "stopped",
            f"{target} is stopped since {since}: {why}. Its calls fail at once; one looks now and then.",
        )
    elif each.kind == "down":
        cause, text = "down", f"{target} is down since {since}: {why}. Its calls wait; one looks now and then."
    else:
        until = f"until {clock(each.until or now, now)}, for {figures.duration((each.until or now) - now)} more"
        cause, text = "paused", f"{target} is paused {until}: {why}."
    return Finding(cause=cause, target=target, since=each.at, text=text)


def _whole(happenings: list[Happening]) -> Iterator[Finding]:
    """What was noticed of the limits, of the targets and of this computer, each once."""
    told: set[str] = set()
    for each in happenings:
        if each.kind in ("crowded", "capped") and each.kind not in told:
            told.add(each.kind)
            who = f"{each.target} " if each.target is not None else "Calls in flight are bounded: "
            yield Finding(cause=each.kind, target=each.target, since=each.at, text=f"{who}{_quoted(each.what)}.")


def _unanswered(facts: Facts) -> Iterator[Finding]:
    """What the rows without an answer lacked, if they are many."""
    for each in facts.errors:
        if each.count < MANY * max(1, facts.finished):
            continue
        rows, command = figures.counted(each.count, "row"), facts.command is not None
        if each.error == DeadlineExceeded.__name__:
            longer = "--deadline" if command else "deadline"
            text = f"The deadline of {rows} passed before an answer came; a longer {longer} gives them more time."
            yield Finding(cause="deadline", text=text)
        elif each.error == BudgetExceeded.__name__:
            higher = "--budget" if command else "budget"
            yield Finding(cause="money", text=f"The budget had no room for {rows}; a higher {higher} lets them go.")


def _workers(course: Course, facts: Facts) -> Iterator[Finding]:
    """Whether workers took longer to start than they saved."""
    seconds = max((sum(each.seconds for each in stretches) for stretches in course.targets.values()), default=0.0)
    if facts.running or facts.total is None or facts.workers < 2 or seconds >= SHORT:
        return
    if facts.total < facts.workers * WORTH_A_WORKER:
        rows = figures.counted(facts.total, "row")
        text = f"{facts.workers} workers shared {rows}: one process answers as many while they start."
        yield Finding(cause="workers", text=text)


def _batches(facts: Facts, now: float) -> list[Finding]:
    if facts.batches is None or not facts.batches.open:
        return []
    text = waiting(facts.batches, now, running=facts.running, command=facts.command)
    return [Finding(cause="batch", since=facts.batches.oldest, text=text)]


def _quoted(words: str) -> str:
    """A reason on one line, not too long, without its full stop."""
    line = " ".join(words.split()).rstrip(".")
    return line if len(line) <= REASON else f"{line[: REASON - 1]}…"
