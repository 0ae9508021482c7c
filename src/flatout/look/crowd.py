"""What to say where the calls in flight are bounded: whether more of them would be faster, and what would bind then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flatout.store.course import CAUSES, TRIED, Stretch
from flatout.text import figures

from .course import latency, rates
from .view import LATELY, MINUTE, NAMES, RISING, View, When, use

WORTH = 1.25
"""A change is advised if it would be this many times as fast."""

TIMES = 4
"""How many times the concurrency an advice says at most: a server rarely bears more in one step."""

FIRST = 10
"""The fewest answers at the beginning of a run with which later ones are compared."""

QUICK = 0.25
"""The share of the first answers that hardly waited at the server, if it takes only some of them at once."""

MORE = 1.5
"""The factor by which the calls in flight must have grown before their rates are compared."""

GROWN = 1.8
"""Answers that take this many times what the quick ones of the first took have waited at the server."""

LATE = 4.0
"""Times as long as the quick ones of the first answers took: by then, most of the calls that went at first have ended,
unless they wait at the server."""

FEW = 0.25
"""The share of them up to which most still wait."""

ALIKE = 0.8
"""The least share of the calls that may be in flight with which as many are said to be in flight."""

_TIMES: Mapping[float, str] = {2: "twice", 3: "three times", 4: "four times"}


def concurrency(when: When, view: View) -> str:
    """What to say where the calls in flight are bounded.

    Args:
        when: since when, or for how much of the time.
        view: the target.
    """
    if (slower := _slower(view)) is not None:
        return slower
    text = _bounded(When(share=when.share), view)
    return f"{text} It has been so {when.since}." if when.since else text


def _slower(view: View) -> str | None:
    """What to say of a provider that answered as many calls in flight faster before; None if it did not."""
    bound = view.stretches[-1].allows
    if "concurrency" not in bound or TRIED in bound:
        return None
    most = bound["concurrency"]
    median, once = latency(_at(most, view).stretches, 0.5), _once(most, view)
    if median is None or once is None or median <= GROWN * once:
        return None
    took = f"it answers in {figures.duration(median)}, and took {figures.duration(once)} before"
    return f"The provider is slower than it was: {took}, with as many calls in flight."


def _bounded(when: When, view: View) -> str:
    bounded = [each for each in view.stretches if "concurrency" in each.allows]
    if not bounded:
        return f"Calls {view.said('wait', 'waited')} for {CAUSES['concurrency']}{when}."
    most = bounded[-1].allows["concurrency"]
    if TRIED in bounded[-1].allows:
        return _tried([each.allows["concurrency"] for each in bounded], when, view)
    view = _at(most, view)
    median = latency(view.stretches, 0.5)
    if median is None:
        return f"{most:,.0f} calls may be in flight, and none {view.said('is', 'was')} answered yet{when}."
    bound = view.said(f"{most:,.0f} may be", f"at most {most:,.0f} were")
    answers = f"The server {view.said('answers', 'answered')} in {figures.duration(median)} and {bound} in flight{when}"
    quick = _quick(view)
    if quick is None:
        return f"{answers}."
    if median > GROWN * quick:
        took = _among_first(FIRST, view) or quick
        return f"{answers}; at first it took {figures.duration(took)}, so more would only wait there."
    if _more_was_no_faster(most, view):
        return f"{answers}; with more in flight it {view.said('was', 'had been')} no faster."
    wanted, bound = _wanted(most, median, view)
    if wanted < WORTH * most:
        return f"{answers}. More in flight would hardly be faster{f': {bound}' if bound else ''}."
    factor = wanted / most
    times = _TIMES.get(factor, f"{factor:.1f} times")
    then = f"; then {bound}" if bound else ""
    return f"{answers}: --concurrency {wanted:,.0f} would be {times} as fast, if the server bears it{then}."


def _tried(bounds: Sequence[float], when: When, view: View) -> str:
    """What to say of a concurrency that the user has not given."""
    most = bounds[-1]
    begin = f"How many calls the server takes at once {view.said('is', 'was')}"
    tries = f"{begin} {view.said('not found yet', 'not found')}: {most:,.0f} {view.said('are', 'were')} tried{when}"
    quick, median = _quick(view), latency(view.stretches, 0.5)
    if quick is None or median is None:
        return f"{tries}, and too few answers {view.said('have come', 'came')} to judge that."
    if median > GROWN * quick:
        return f"{tries}, but most of them {view.said('wait', 'waited')} there: {_at_work(median, view)}."
    state = "rising" if most > RISING * bounds[-LATELY:][0] else "as many as it takes well"
    return (
        f"{begin} found by trying: {most:,.0f}{', ' + state if view.live else ' at last'}{when}. "
        "--concurrency says it from the start."
    )


def _at_work(median: float, view: View) -> str:
    """How many calls a server works on that lets the others wait: as many as it answers in the time of a quick one."""
    quick = _among_first(FIRST, view) or median
    working = max(1.0, view.rates.answered * quick)
    took, at_first = figures.duration(median), figures.duration(quick)
    return (
        f"an answer {view.said('takes', 'took')} {took}, and {at_first} at first, as if the server worked on about "
        f"{working:,.0f} at a time"
    )


def _at(most: float, view: View) -> View:
    """The stretches in which that many calls were allowed in flight: what others show is no evidence for it."""
    return view.only([each for each in view.stretches if each.allows.get("concurrency") == most])


def _quick(view: View) -> float | None:
    """Seconds that the quick ones of a target's first answers took; None while too few of its first calls ended.

    A server that works on fewer calls than are in flight lets the others wait. So its later answers take longer, and
    more in flight would bring no more of them. All calls that went at first are compared: those that ended first say
    only how quick an answer can be, unless most others are far too late.
    """
    whole = view.whole or view.stretches
    went = max(FIRST, whole[0].answered + whole[0].in_flight)
    quick, first = _among_first(went, view), _among_first(FIRST, view)
    if quick is None and first is not None:
        late = whole[0].began_at + LATE * first
        by_then = sum(each.answered for each in whole if each.began_at < late)
        if whole[-1].began_at >= late and by_then <= FEW * went:
            return first
    return quick


def _once(most: float, view: View) -> float | None:
    """Seconds that half of the answers took at the best time before, with as many in flight; None if there was none.

    Answers to the calls that went at first do not count: at a server with a queue, the queue was still filling. After
    that, only the server itself makes answers slower.
    """
    best: float | None = None
    some: list[Stretch] = []
    ended, whole = 0, view.whole if view.live else ()
    for each in whole:
        if each.began_at >= view.stretches[0].began_at:
            break
        filled = ended >= whole[0].answered + whole[0].in_flight
        ended += each.answered
        some = [*some, each] if filled and each.in_flight >= ALIKE * most else []
        if sum(one.answered for one in some) >= max(FIRST, most):
            took, some = latency(some, 0.5), []
            best = took if best is None or took is None else min(best, took)
    return best


def _among_first(answers: int, view: View) -> float | None:
    """Seconds that the quick ones of the first ``answers`` took; None if there are fewer."""
    first: list[Stretch] = []
    answered = 0
    for each in view.whole or view.stretches:
        first.append(each)
        answered += each.answered
        if answered >= answers:
            return latency(first, QUICK)
    return None


def _more_was_no_faster(most: float, view: View) -> bool:
    """Whether the same target answered as many a second at most when many more were in flight."""
    more = rates([each for each in view.whole if each.in_flight >= MORE * most])
    return more is not None and more.answered * more.seconds >= FIRST and more.answered < WORTH * view.rates.answered


def _wanted(most: float, median: float, view: View) -> tuple[float, str]:
    """How many calls in flight to advise, and what binds then; "" for the server itself.

    They are a few times as many, but no more than there is to do, or limits allow.
    """
    last = view.stretches[-1]
    bounds = [(most * TIMES, "")]
    if view.live and view.left is not None:
        bounds.append((view.left, "no more rows are left"))
    if (rpm := last.allows.get("rpm")) is not None:
        bounds.append((rpm / MINUTE * max(median, 1e-3), f"{NAMES['rpm'][1]} bind ({rpm:,.0f})"))
    used = {name: use(name, last.allows[name], view) for name in ("tpm", "itpm", "otpm") if name in last.allows}
    bounds += [
        (most / share, f"{NAMES[name][1]} bind ({last.allows[name]:,.0f})") for name, share in used.items() if share
    ]
    wanted, bound = min(bounds, key=lambda each: each[0])
    return float(int(wanted)), bound
