"""What ``flatout status`` and ``flatout watch`` say of the workers that share limits on several machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flatout.text import figures

from .terminal import Fact, clean, lay_out

if TYPE_CHECKING:
    from flatout.look.team import LimitNow, TargetNow, TeamNow, WorkerNow

NAME = 29
"""Columns of a worker's name."""

MOST = 64
"""Most workers that are listed."""


def lines(team: TeamNow) -> list[str]:
    """A team in lines of at most 80 columns."""
    workers = {worker.name for target in team.targets for worker in target.workers}
    found = [f"{clean(team.place)}: {figures.counted(len(workers), 'worker')} now"]
    for target in team.targets:
        doing = f"{figures.rate(target.sent)} sent" if target.workers else "no worker is there now"
        found += ["", f"{clean(target.target)}: {doing}", *lay_out(_facts(target, team.at))]
        found += _table(target)
    return found


def _facts(target: TargetNow, now: float) -> list[Fact]:
    from flatout.look.view import clock
    from flatout.store.course import CAUSES

    held = CAUSES.get(target.binds, clean(target.binds))
    facts = [("" if place else "limits", _limit(each)) for place, each in enumerate(target.limits)]
    if target.pace is not None:
        found = "still rising" if target.rising else "found by trying"
        facts.append(("" if facts else "limits", f"{figures.rate(target.pace)}, {found}"))
    if not facts and target.workers:
        facts.append(("limits", "unknown"))
    if target.since is not None:
        facts.append(("binds", f"{held}, for {figures.duration(now - target.since)}"))
    elif target.workers:
        facts.append(("binds", "nothing holds the calls back"))
    if target.paused:
        facts.append(("paused", f"for {figures.duration(target.paused)} more"))
    sums = target.sums
    failed = f", {sums.failed:,} failed" if sums.failed else ""
    facts.append(("calls", f"{sums.answered:,} answered{failed}, since {clock(sums.since, now)}"))
    facts.append(("tokens", _tokens(target)))
    sent = sums.answered or sums.failed or sums.unpriced
    cost = figures.cost_in_words(sums.cost, sums.unpriced, "call") if sent else "nothing spent yet"
    facts.append(("cost", cost))
    return facts


def _limit(limit: LimitNow) -> str:
    from flatout.look.view import NAMES

    what = "in flight" if limit.name == "concurrency" else NAMES[limit.name][1] if limit.name in NAMES else limit.name
    used = "" if limit.used is None else f", {figures.percent(limit.used, 1)} used"
    told = ", as the provider says" if limit.told else ""
    return f"{limit.limit:,.0f} {what}{used}{told}"


def _tokens(target: TargetNow) -> str:
    sums = target.sums
    if sums.input_tokens is None or sums.output_tokens is None:
        return figures.UNKNOWN
    rest = f", and those of {figures.counted(sums.uncounted, 'call')} unknown" if sums.uncounted else ""
    return f"{sums.input_tokens:,} in, {sums.output_tokens:,} out{rest}"


def _table(target: TargetNow) -> list[str]:
    if not target.workers:
        return []
    head = f"  {'worker':<{NAME}}{'share':>7}{'calls/s':>9}{'in flight':>11}{'waiting':>9}{'heard':>9}"
    rest = len(target.workers) - MOST
    more = [f"  and {figures.counted(rest, 'worker')} more, with fewer calls"] if rest > 0 else []
    return [head, *(_row(each) for each in target.workers[:MOST]), *more]


def _row(worker: WorkerNow) -> str:
    share = "" if worker.share is None else figures.percent(worker.share, 1)
    heard = f"{worker.heard:.0f} s ago"
    name = clean(worker.name)
    shown = name if len(name) < NAME else f"…{name[2 - NAME :]}"
    return f"  {shown:<{NAME}}{share:>7}{worker.sent:>9,.1f}{worker.in_flight:>11,}{worker.waiting:>9,}{heard:>9}"
