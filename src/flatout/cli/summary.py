"""The summary at the end of a run: answers, failures with advice, and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from flatout.progress._line import failed_or_skipped, in_class
from flatout.text import figures

from .terminal import Fact, clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Set

    from flatout.progress._counters import Failure, Progress, PromptCacheUse
    from flatout.runs.job import RunEnd
    from flatout.values.budget import Standing
    from flatout.values.route import Share

_MOST_TARGETS = 8
_EXAMPLE = 160  # characters of an error's example
_MOST_CLASSES = 8
_SHARES = 3
_WORTH_TELLING = 1.5  # times faster than one call after another; a smaller factor says nothing


def headline(progress: Progress, outcome: RunEnd) -> str:
    """How the run ended, in one line: ``Done in 1 min 02 s: 9,997 answered, 3 failed.``, for example.

    A run is done if nothing is left to do, whether or not rows failed.

    Args:
        progress: the run's numbers.
        outcome: how the run ended.
    """
    counts = []
    if progress.answered or not progress.resumed:
        cached = f" ({figures.count(progress.cached)} from the cache)" if progress.cached else ""
        counts.append(f"{figures.count(progress.answered)} answered{cached}")
    counts += failed_or_skipped(progress.failed, progress.failures)
    if progress.resumed:
        failed = progress.failed_before
        without = f" ({figures.count(failed)} of them failed)" if failed else ""
        counts.append(f"{figures.count(progress.resumed)} finished before{without}")
    if outcome.unfinished:
        counts.append(_still_to_do(outcome.unfinished, progress.held))
    how = "Interrupted after" if outcome.interrupted else "Stopped after" if outcome.unfinished else "Done in"
    how = "Detached after" if outcome.under_way else how
    how = f"{how} {figures.duration(progress.elapsed)}"
    if not (outcome.interrupted or outcome.unfinished or progress.answered or progress.failed):
        how = "Nothing left to do"
    return f"{how}: {', '.join(counts)}."


def _still_to_do(rows: int, held: int) -> str:
    """The rows without a result; those that are held back are told as `flatout status` tells them."""
    if held >= rows:
        return f"{figures.count(rows)} held back"
    return f"{figures.count(rows)} still to do" + (f", {figures.count(held)} of them held back" if held else "")


def details(progress: Progress, outcome: RunEnd, pace: str = "") -> list[Fact]:
    """Everything else that is worth a line. ``pace`` says why the run was not faster."""
    lines = [
        *failures(progress),
        *_batches(progress),
        *_cut_off(progress),
        *_money(progress),
        *_left_to_pay(progress, outcome),
        *_effort(progress),
        *([("pace", clean(pace))] if pace else []),
    ]
    if outcome.output is not None and not (outcome.interrupted or outcome.under_way):
        lines.append(("answers", outcome.output))
    return [*lines, ("run file", outcome.run_file)]


def failures(progress: Progress) -> list[Fact]:
    """Why targets were stopped, whose limits others use too, and the errors by class, each with advice."""
    lines = [("stopped", f"{clean(target)}: {clean(why, _EXAMPLE)}") for target, why in progress.stopped.items()]
    lines += [("limits", f"{clean(target)} {clean(why, 2 * _EXAMPLE)}") for target, why in progress.crowded.items()]
    ranked = sorted(progress.failures.items(), key=lambda item: (-item[1].count, item[1].row or 0))
    return lines + by_class((name, _without_echo(failure, progress.stopped.values())) for name, failure in ranked)


def _without_echo(failure: Failure, reasons: Iterable[str]) -> Failure:
    """The failure, without its example if the reason of a stopped target says the same."""
    if not any(reason in failure.example for reason in reasons):
        return failure
    return structs.replace(failure, example="")


def by_class(ranked: Iterable[tuple[str, Failure]]) -> list[Fact]:
    """The classes of errors, most frequent first."""
    lines: list[Fact] = []
    for place, (name, failure) in enumerate(ranked):
        if place == _MOST_CLASSES:
            lines.append(("", "… and others: see the column error of the answers"))
            break
        where = f"row {figures.count(failure.row)}: " if failure.row is not None else ""
        lines.append(("" if lines else "no answer", in_class(name, failure.count, failure.held)))
        if failure.example:
            lines.append(("", f"  {where}{clean(failure.example, _EXAMPLE)}"))
        if failure.advice:
            lines.append(("", f"  → {failure.advice}"))
    return lines


def _batches(progress: Progress) -> list[Fact]:
    found, lines = progress.batches, []
    if found.ended and found.took is not None:
        words = f"{figures.counted(found.ended, 'batch')} with {figures.counted(found.ended_rows, 'row')} collected"
        shortest, longest = map(figures.duration, found.took)
        lines.append(f"{words} after {longest if shortest == longest else f'{shortest} to {longest}'}")
    if found.open:
        words = f"{figures.counted(found.open, 'batch')} with {figures.counted(found.rows, 'row')}"
        lines.append(", ".join(filter(None, (words, clean(found.states, 80)))))
    return [("" if place else "batches", line) for place, line in enumerate(lines)]


def _cut_off(progress: Progress) -> list[Fact]:
    if not (cut_off := progress.whole.cut_off):
        return []
    what = f"{figures.counted(cut_off, 'answer')} at the token limit: their beginnings are kept"
    todo = "  → start over (--fresh) with a higher --param max_tokens=…, or with --fail-truncated to have them fail"
    return [("cut off", what), ("", todo)]


def _money(progress: Progress) -> list[Fact]:
    """Tokens and cost of the whole run, and this process's part of the cost if there were others."""
    lines: list[Fact] = []
    whole = progress.whole
    if whole.input_tokens or whole.output_tokens:
        lines.append(("tokens", f"{figures.count(whole.input_tokens)} in, {figures.count(whole.output_tokens)} out"))
    elif progress.answered > progress.cached:
        lines.append(("tokens", "unknown: the provider did not tell"))
    if whole.prompt_cache:
        lines.append(("from cache", prompt_cache(whole.prompt_cache, whole.input_tokens)))
    lines += targets(whole.shares)
    if progress.answered or whole.cost or whole.unpriced:
        own = figures.cost(progress.cost, progress.unpriced)
        others = progress.earlier.cost or progress.earlier.unpriced
        cost = figures.cost_in_words(whole.cost, whole.unpriced, "attempt")
        saved = figures.saved(progress.batches.saved)
        lines.append(("cost", cost + (f" (this time: {own})" if others else "") + saved + (saved and " by batches")))
    if progress.budget is not None:
        unknown = whole.unpriced and not whole.cost and progress.budget.scope is None
        standing = structs.replace(progress.budget, left=None) if unknown else progress.budget
        lines.append(("budget", _budget(standing, goes_on=progress.batches.open > 0)))
    if progress.cached:
        then = f", which had cost {figures.cost(progress.saved, 0)}" if progress.saved else ""
        lines.append(("cached", f"{figures.counted(progress.cached, 'answer')}{then}"))
    return lines


def _budget(standing: Standing, *, goes_on: bool) -> str:
    """How the budget stands: ``$0.0130 of $5 left``, for example. Batches at a provider go on without this process."""
    whole = standing.budget if standing.left is None else f"{figures.dollars(standing.left)} of {standing.budget} left"
    return "; ".join(filter(None, (whole, figures.overshoot(standing.over, standing.exposed, goes_on=goes_on))))


def targets(shares: Mapping[str, Share]) -> list[Fact]:
    """What each target of a route answered, one a line, if there were several."""
    if len(shares) < 2:
        return []
    whole = sum(share.answered for share in shares.values())
    ranked = sorted(shares.items(), key=lambda item: (-item[1].answered, item[0]))[:_MOST_TARGETS]
    width = max(len(clean(target)) for target, _ in ranked)
    words = [f"{clean(target):<{width}}  {_share(share, whole)}" for target, share in ranked]
    more = ["… and others"] if len(shares) > len(ranked) else []
    return [("" if place else "targets", line) for place, line in enumerate([*words, *more])]


def _share(share: Share, whole: int) -> str:
    percent = f" ({figures.percent(share.answered, whole)})" if whole else ""
    words = f"{figures.counted(share.answered, 'answer')}{percent}"
    if share.attempts != share.answered:
        words += f" in {figures.counted(share.attempts, 'attempt')}"
    return f"{words}, {figures.cost(share.cost, share.unknown_costs)}"


def prompt_cache(use: PromptCacheUse, tokens: int) -> str:
    """What came from the providers' prompt caches, and what that saved.

    Args:
        use: the tokens and the money.
        tokens: tokens of all prompts.
    """
    share = f" ({figures.percent(use.read, tokens)})" if tokens >= use.read > 0 else ""
    words = f"{figures.count(use.read)} tokens of prompts{share}"
    if use.written:
        words += f", {figures.count(use.written)} written"
    if use.saved > 0:
        words += f"; saved {figures.dollars(use.saved)}"
    elif use.saved < 0:
        words += f"; cost {figures.dollars(-use.saved)} more than it saved"
    return words


def _left_to_pay(progress: Progress, outcome: RunEnd) -> list[Fact]:
    """What the rows that a used-up budget held back would cost, if they cost what the others did."""
    whole, done = progress.whole, progress.answered + progress.failed + progress.resumed
    if "BudgetExceeded" not in progress.failures or not outcome.unfinished:
        return []
    rows = figures.counted(outcome.unfinished, "row")
    if not (whole.cost and done):
        return [("left to do", rows)]
    return [("left to do", f"{rows}, for about {figures.dollars(whole.cost / done * outcome.unfinished)} more")]


def _effort(progress: Progress) -> list[Fact]:
    lines: list[Fact] = []
    if progress.retries or progress.throttled:
        throttled = f", {figures.count(progress.throttled)} throttled (429)" if progress.throttled else ""
        lines.append(("retries", f"{figures.count(progress.retries)}{throttled}"))
    if progress.rate is not None and progress.answered:
        lines.append(("speed", f"{figures.rate(progress.rate)}{_factor(progress)}"))
    if progress.answered and (where := shares(progress.waits, progress.searched)):
        lines.append(("waited for", where))
    return lines


def _factor(progress: Progress) -> str:
    factor = progress.call_seconds / progress.elapsed
    if factor < _WORTH_TELLING or not progress.hosted:
        return ""
    times = f"{factor:,.0f}" if factor >= 10 else f"{factor:.1f}"
    return f"; one after another: {figures.duration(progress.call_seconds)}, {times} times as long"


def shares(waits: dict[str, float], searched: Set[str] = frozenset()) -> str:
    """Where the calls' time went: the three largest causes.

    Args:
        waits: seconds by cause.
        searched: the causes whose limit was unknown.
    """
    from flatout.events import SEARCHED, WAITS

    whole = sum(waits.values())
    ranked = sorted(waits.items(), key=lambda item: -item[1])[:_SHARES]
    told = [
        f"{(SEARCHED if cause in searched else WAITS).get(cause, cause)} {figures.percent(seconds, whole)}"
        for cause, seconds in ranked
        if seconds >= 0.01 * whole > 0
    ]
    return ", ".join(told)
