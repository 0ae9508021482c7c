"""How the open batches of a run stand, in words: for the live line, ``flatout batch ls``, status, watch and reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from flatout.store.ledger import Batch, Seen

UNSEEN = "at the provider"
"""The state of a batch as long as the provider has told none."""

UPLOADING = "uploading"
"""The state of a batch whose rows are on their way to the provider, which takes minutes for a large one."""

UNSENT = "being submitted"
"""The state of a batch whose rows the provider has as a file, and which is not known to be created yet."""


def state_of(batch: Batch, seen: Seen | None) -> str:
    """How an open batch is: in the provider's own word, if it has one. It may hold anything."""
    if batch.state == "intended":
        return UPLOADING if batch.input_file is None else UNSENT
    return (seen.state if seen is not None else "") or UNSEEN


def states(batches: Iterable[tuple[Batch, Seen | None]]) -> str:
    """How open batches are: ``in progress``, or ``2 in progress, 1 validating``. It may hold anything."""
    counts = Counter(state_of(batch, seen) for batch, seen in batches)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{count:,} {state}" for state, count in counts.most_common())


def done_rows(batches: Sequence[Batch], seen: Mapping[int, Seen]) -> int:
    """How many rows of open batches the providers say are finished. A count of theirs never exceeds a batch's rows."""
    return sum(min(batch.rows, seen[batch.number].done or 0) for batch in batches if batch.number in seen)
