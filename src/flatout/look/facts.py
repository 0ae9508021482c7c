"""The facts about a run, from its run file alone: how far it is, what failed, what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import msgspec
from msgspec import Struct, structs

from flatout.budgets import account
from flatout.errors import ConfigError
from flatout.policies.failures.decision import advice_on
from flatout.progress._counters import COST, PROMPT_CACHE, SKIPPED, PromptCacheUse
from flatout.runs.job import AGAIN, BUDGET, CANCELLED, WORKERS
from flatout.store import ErrorCount, RunInfo, RunReader, Summary, Unsettled
from flatout.store.course import CallSums, Stretch
from flatout.store.gateway import JOB, Served, served_by
from flatout.store.ledger import LANE
from flatout.store.rows import NONE_AGAIN, AskedAgain
from flatout.text import figures
from flatout.values.budget import Standing
from flatout.values.route import Share

from .batches import BatchCounts, batches_of


class FailedClass(Struct, frozen=True):
    """The rows that failed with one class of error.

    Attributes:
        error: the class.
        count: how many rows.
        row: the first of them, from 1.
        example: its message. It comes from outside and may hold anything.
        advice: what a user can do about it.
        held: how many of them are held back.
    """

    error: str
    count: int
    row: int
    example: str | None
    advice: str
    held: int = 0


class PerhapsPaid(Struct, frozen=True):
    """Attempts whose process stopped or died before it kept an answer.

    Attributes:
        attempts: how many.
        cost: US dollars that they may have cost; None if unknown.
        unknown_costs: how many of them have no estimate.
    """

    attempts: int = 0
    cost: float | None = None
    unknown_costs: int = 0


class Reason(Struct, frozen=True):
    """Why attempts failed that were followed by others.

    Attributes:
        what: the error's class and words. They come from outside and may hold anything.
        count: how many, of the latest attempts.
    """

    what: str
    count: int


class Facts(Struct, frozen=True, kw_only=True):
    """The facts about a run. What is unknown is None.

    Attributes:
        state: ``running``; ``interrupted``; ``cancelled``, if its batches were; ``detached``, if it
            left its batches at their providers; ``finished``; or ``broken off`` if its process has gone.
        run_file: the run file, as it was named.
        writer: the process that writes the run now.
        command: the command line that continues the run; None for a run of the library.
        total: rows of the input.
        finished, answered, failed: rows that are finished; with an answer; without one. A row that the process at work
            asks again is not finished.
        unsent: rows that were held back, to be sent when the run continues.
        left: rows that are not finished.
        rate: rows finished per second, while the run goes.
        seconds_left: how long the rows that are left take at that rate.
        paused: whether somebody has paused it.
        stopping: whether somebody stops the process that is at work.
        ends_by: when that ends at the latest then; Unix time.
        input_tokens, output_tokens: of all answers.
        unknown_tokens: rows whose tokens the provider did not report.
        cost: US dollars known to be spent.
        unknown_costs: rows of unknown cost.
        cut_off: answers that were cut off at the token limit.
        cached: answers that came from a cache.
        budget: how the budget stands; None without one.
        prompt_cache: what came from the providers' prompt caches.
        workers: how many processes ask the rows.
        lane: how the rows are asked: ``live``, ``flex``, ``batch`` or ``auto``.
        batches: the batches; None if there never was one.
        targets: what each target of a route did, by its name.
        gateway: what a gateway did, whose calls then count as rows; None for a run.
        errors: failures by class, most frequent first.
        retried: the most frequent reason for a retry; None if there was none lately.
        unsettled: what a process that died may have paid for.
        created_at, opened_at, ended_at, last_finished_at: when the run began, when the latest process took it up, when
            it ended, and when the latest row was finished; Unix time.
    """

    state: str = "running"
    run_file: str | None = None
    writer: str | None = None
    command: str | None = None
    total: int | None = None
    finished: int = 0
    answered: int = 0
    failed: int = 0
    unsent: int = 0
    left: int | None = None
    rate: float | None = None
    seconds_left: float | None = None
    paused: bool = False
    stopping: bool = False
    ends_by: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    unknown_tokens: int = 0
    cost: float | None = None
    unknown_costs: int = 0
    cut_off: int = 0
    cached: int = 0
    budget: Standing | None = None
    prompt_cache: PromptCacheUse = PromptCacheUse()
    workers: int = 1
    lane: str | None = None
    batches: BatchCounts | None = None
    targets: dict[str, Share] = {}
    gateway: Served | None = None
    errors: list[FailedClass] = []
    retried: Reason | None = None
    unsettled: PerhapsPaid = PerhapsPaid()
    created_at: float = 0.0
    opened_at: float = 0.0
    ended_at: float | None = None
    last_finished_at: float | None = None

    @property
    def skipped(self) -> int:
        """The failed rows that somebody skipped."""
        return sum(each.count for each in self.errors if each.error == SKIPPED)

    @property
    def ending(self) -> str:
        """``, stopping, ends by 16:04:35 at the latest`` if somebody stops it, or ``, paused``; otherwise ""."""
        return (
            f", stopping{figures.at_the_latest(self.ends_by)}" if self.stopping else ", paused" if self.paused else ""
        )

    def own(self, stretches: Sequence[Stretch]) -> list[Stretch]:
        """The stretches of the latest process: what an earlier one did, or was held up by, may have changed."""
        return [each for each in stretches if each.began_at + each.seconds > self.opened_at]

    @property
    def running(self) -> bool:
        """Whether a process is at work on the run."""
        return self.writer is not None


def facts_of(reader: RunReader) -> Facts:
    """The facts about a run. Reads the whole file: about a second for a million rows."""
    summary, batches = spent_in_all(reader), batches_of(reader)
    counted = Facts(
        run_file=reader.name,
        rate=summary.rate,
        input_tokens=summary.input_tokens,
        output_tokens=summary.output_tokens,
        unknown_tokens=summary.unknown_tokens,
        cost=_with(summary.cost, batches),
        unknown_costs=summary.unknown_costs + (0 if batches is None else batches.unread_unknown),
        cut_off=summary.cut_off,
        cached=summary.cached,
        prompt_cache=prompt_cache_of(reader),
        batches=batches,
        targets=reader.shares(),
        retried=retried(reader),
        unsettled=_perhaps_paid(reader.unsettled()),
        last_finished_at=summary.last_finished_at,
    )
    return renewed(counted, reader)


def renewed(facts: Facts, reader: RunReader) -> Facts:
    """Facts whose sums were read before, with what is read at once: counts, who is at work, the state, the times."""
    info, holder, lane = reader.info(), reader.holder(), reader.fact(LANE)
    again = NONE_AGAIN if holder is None else _again(reader.fact(AGAIN), info.opened_at)
    counts = reader.ended(again)
    finished = counts.answered + counts.failed
    waits = facts.batches is not None and facts.batches.open > 0
    left = None if info.total is None else max(0, info.total - finished)
    rate = facts.rate if holder is not None and not waits else None  # rows of batches are kept many at a time
    facts = structs.replace(
        facts,
        finished=finished,
        answered=counts.answered,
        failed=counts.failed,
        unsent=counts.unsent,
        errors=[_failed(error) for error in reader.errors(again)],
    )
    if info.job == JOB:
        served = served_by(reader)
        facts = _of_gateway(facts, served if holder is not None else served.settled())
    return structs.replace(
        facts,
        state=_state(info, reader.fact(CANCELLED), running=holder is not None, waits=waits),
        writer=str(holder) if holder is not None else None,
        command=info.command,
        total=info.total,
        left=left,
        rate=rate,
        seconds_left=left / rate if rate and left is not None else None,
        budget=_standing(reader.fact(BUDGET)),
        workers=workers_of(reader),
        lane=lane if isinstance(lane, str) else None,
        created_at=info.created_at,
        opened_at=info.opened_at,
        ended_at=info.ended_at,
    )


def _of_gateway(facts: Facts, served: Served) -> Facts:
    return structs.replace(
        facts,
        gateway=served,
        finished=served.answered + served.failed,
        answered=served.answered,
        failed=served.failed,
        cost=served.spent,
        unknown_costs=served.unpriced,
    )


def _state(info: RunInfo, cancelled: object, *, running: bool, waits: bool) -> str:
    if info.state == "running" and not running:
        return "broken off"
    if info.state == "interrupted" and not waits and isinstance(cancelled, int | float):
        return "cancelled" if cancelled >= info.opened_at else info.state
    return "detached" if info.state == "interrupted" and waits else info.state


def _with(cost: float | None, batches: BatchCounts | None) -> float | None:
    """The cost of a run with that of the answers which batches have left and nobody has kept yet."""
    unread = 0.0 if batches is None else batches.unread
    return (cost or 0.0) + unread or cost


def prompt_cache_of(reader: RunReader) -> PromptCacheUse:
    """What the finished processes of a run took from the providers' prompt caches."""
    try:
        return msgspec.convert(reader.fact(PROMPT_CACHE) or {}, PromptCacheUse)
    except msgspec.ValidationError:  # from another version
        return PromptCacheUse()


def spent_in_all(reader: RunReader) -> Summary:
    """The sums of a run's rows, with what else is known to be spent on them.

    One attempt of unknown cost makes that of its row unknown, and a row that is asked again forgets what it cost
    before. The course knows both, but misses the last second of a process that was killed. What a process has told of
    the money at its end is complete.
    """
    summary, told = reader.summary(), reader.fact(COST)
    known = float(told) if isinstance(told, int | float) else 0.0
    course = reader.course if has_no_other_calls(reader.info()) else None
    sums = CallSums(0.0, 0, 0) if course is None else course.sums()
    return structs.replace(
        summary,
        cost=max(summary.cost or 0.0, known, sums.cost) or summary.cost,
        input_tokens=max(summary.input_tokens or 0, sums.input_tokens) or summary.input_tokens,
        output_tokens=max(summary.output_tokens or 0, sums.output_tokens) or summary.output_tokens,
    )


def has_no_other_calls(info: RunInfo) -> bool:
    """Whether all calls in a run's course are its own. A program's client may make others beside them."""
    return info.command is not None or info.job == JOB


def _standing(fact: object) -> Standing | None:
    """How the budget stood when the run file last said so; None if it does not say, or nothing of sense.

    What is left of a budget that processes share is looked up now.
    """
    try:
        standing = msgspec.convert(fact, Standing | None)
    except msgspec.ValidationError:
        return None
    if standing is not None and standing.per is not None and standing.scope is not None:
        with suppress(ConfigError):
            if (found := account(standing.per, standing.scope)) is not None:
                return structs.replace(standing, left=found.left)
    return standing


def workers_of(reader: RunReader) -> int:
    """How many processes ask the rows of a run. A program's run, and one of an earlier version, do not say so: one."""
    told = reader.fact(WORKERS)
    return told if isinstance(told, int) else 1


def _again(fact: object, opened_at: float) -> AskedAgain:
    """Which rows the process that holds the run asks again. What an earlier process has said does not count."""
    with suppress(msgspec.ValidationError):  # from another version
        told = msgspec.convert(fact or {}, AskedAgain)
        return told if max(told.unsent, told.failed) >= opened_at else NONE_AGAIN
    return NONE_AGAIN


def _failed(error: ErrorCount) -> FailedClass:
    return FailedClass(
        error.error, error.count, error.first_index + 1, error.message, advice_on(error.error), error.held
    )


def retried(reader: RunReader) -> Reason | None:
    """The most frequent reason for a retry, of the latest attempts; None if there was none."""
    found = reader.reasons()
    return Reason(*found[0]) if found else None


def _perhaps_paid(unsettled: Unsettled) -> PerhapsPaid:
    known = len(unsettled.attempts) > unsettled.unknown_costs
    return PerhapsPaid(len(unsettled.attempts), unsettled.cost if known else None, unsettled.unknown_costs)
