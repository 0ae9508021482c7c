"""The state of a run before this process, for a command that is given again."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from flatout.errors import StoreError
from flatout.progress._counters import Spent

if TYPE_CHECKING:
    from flatout.runs.job import RunOptions
    from flatout.runs.runner import Runner
    from flatout.store import RunReader, Summary


class Before(NamedTuple):
    """The work of earlier processes: rows that need no asking, and the cost.

    Rows beyond the limit count apart: they are neither asked nor reported as failed.
    """

    finished: int = 0
    spent: Spent = Spent()
    unfit: int = 0  # answers that were cut off, if those count as failures
    beyond: int = 0  # rows beyond the limit that are answered or failed

    @classmethod
    def of(cls, runner: Runner, options: RunOptions, *, fail_truncated: bool = False) -> Before:
        """Read the run file. The runner counts as it goes; this is needed before it starts, and by outcome."""
        from flatout.look.facts import spent_in_all
        from flatout.runs.input.variants import Variants
        from flatout.store import RunReader

        again = ("unsent", "failed") if options.retry_failed else ("unsent",)
        try:
            with RunReader.open(runner.job.run_file) as reader:
                summary = spent_in_all(reader)
                spent = _spent(reader, summary)
                unfit = spent.cut_off if fail_truncated else 0
                if options.limit is None:
                    failed = 0 if options.retry_failed else summary.failed
                    return cls(summary.answered + failed, spent, unfit)
                limit = options.limit * Variants(models=options.models, samples=options.samples).count
                states = [row.state for row in takewhile(lambda row: row.index < limit, reader.finished())]
                beyond = reader.ended_from(limit)
        except StoreError:
            return cls()  # not worth ending the run for
        kept = [state for state in states if state not in again]
        return cls(len(kept), spent, unfit, beyond)


def _spent(reader: RunReader, summary: Summary) -> Spent:
    from flatout.look.facts import prompt_cache_of

    return Spent(
        input_tokens=summary.input_tokens or 0,
        output_tokens=summary.output_tokens or 0,
        cost=summary.cost or 0.0,
        unpriced=summary.unknown_costs + len(reader.unsettled().attempts),
        cut_off=summary.cut_off,
        prompt_cache=prompt_cache_of(reader),
        shares=reader.shares(),
    )
