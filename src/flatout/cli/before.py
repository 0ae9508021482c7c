"""What a run has behind it when the command is given once more."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from flatout.errors import StoreError

if TYPE_CHECKING:
    from flatout.runs.job import RunOptions
    from flatout.runs.runner import Runner


class Before(NamedTuple):
    """What earlier processes have done of this run: rows that need no asking, and those of them that failed."""

    finished: int = 0
    failed: int = 0

    @classmethod
    def of(cls, runner: Runner, options: RunOptions) -> Before:
        """Look into the run file. The runner counts on its way; this is wanted beforehand, and by outcome."""
        from flatout.store import RunReader

        again = ("unsent", "failed") if options.retry_failed else ("unsent",)
        try:
            with RunReader.open(runner.run_file) as reader:
                if options.limit is None:
                    counts = reader.counts()
                    failed = 0 if options.retry_failed else counts.failed
                    return cls(counts.answered + failed, failed)
                last = options.limit - 1
                states = [row.state for row in takewhile(lambda row: row.index <= last, reader.finished())]
        except StoreError:
            return cls()  # not worth ending the run for
        kept = [state for state in states if state not in again]
        return cls(len(kept), kept.count("failed"))
