"""The settings of a simulated provider's batches, and their faults."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from flatout.errors import ConfigError

_ABOVE_ZERO = ("window", "enqueued_tokens", "most_rows", "most_bytes")
_FROM_ZERO = ("time", "validating", "finalizing", "cancelling", "failed_counts")


class BatchFaults(Struct, frozen=True, kw_only=True):
    """The probability, from 0 to 1, of each fault of batches.

    Requests about batches also meet the faults of `Faults` that are drawn for each request. Rows have ``invalid`` and
    ``schema``, as other prompts do.

    Args:
        lost: a request to upload, create, cancel or delete is done, but its answer is lost.
        failed: the answer to a row is a 500. It is drawn for each row of each batch.
        missing: a row is in neither file of results. It is drawn for each row of each batch.
        expires: a batch takes longer than its window; the rows that were finished until then are kept.
        stuck: a batch stays in progress for ever.
        poison: a request makes the validation of its whole batch fail, drawn for each text of a row: the same row fails
            every time.
        unknown_state: a batch is described with a state that no documentation names, drawn for each description of a
            batch in progress.
        cut: a download of results breaks off in the middle.
        short: a download of a file of results lacks the last half of its lines, as if that were all.

    Raises:
        ConfigError: a value is not a probability, or batches both expire and are stuck in more than all cases.
    """

    lost: float = 0.0
    failed: float = 0.0
    missing: float = 0.0
    expires: float = 0.0
    stuck: float = 0.0
    poison: float = 0.0
    unknown_state: float = 0.0
    cut: float = 0.0
    short: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"the fault {name} is a probability from 0 to 1, not {getattr(self, name)!r}")
        if self.expires + self.stuck > 1:
            raise ConfigError("the faults expires and stuck add up to more than 1")


class BatchSettings(Struct, frozen=True, kw_only=True):
    """How a simulated provider runs batches. All times are seconds.

    Args:
        time: the median time from the end of a batch's validation until all its rows are answered.
        time_p99: its 99th percentile; None for three times the median.
        validating: how long a batch is validated, where that takes time.
        finalizing: the time between its last answer and its results.
        cancelling: the time from the request to cancel to the end.
        window: after which a batch expires; None for the vendor's.
        enqueued_tokens: the most prompt tokens of one model in open batches; None for no bound.
        when_full: what happens to a batch above that: it ``fails`` in its validation (OpenAI), it is ``refused`` with a
            429 when it is created (Gemini), or it ``waits`` (some regions of Azure); "" for the vendor's way. A batch
            that could never fit is refused or fails in all cases.
        failed_counts: how long a batch that failed counts among the open ones.
        most_rows: the most rows of a batch; None for the vendor's.
        most_bytes: the most bytes of a batch; None for the vendor's.
        names_lines: whether a failed validation names the lines that made it fail.
        no_file: how OpenAI's format says that a batch has no file of results or errors.
        in_order: whether results come in the order of the rows.
        dialect: who writes OpenAI's format: OpenAI itself; Azure, whose paths have no ``/v1`` and whose batches do not
            expire; Together, whose states are in upper case; or xAI, whose batches have counts instead of states.
        faults: the faults and their probabilities.

    Raises:
        ConfigError: a value makes no sense.
    """

    time: float = 1_200.0
    time_p99: float | None = None
    validating: float = 5.0
    finalizing: float = 10.0
    cancelling: float = 30.0
    window: float | None = None
    enqueued_tokens: int | None = None
    when_full: Literal["", "fails", "refused", "waits"] = ""
    failed_counts: float = 0.0
    most_rows: int | None = None
    most_bytes: int | None = None
    names_lines: bool = True
    no_file: Literal["null", "empty", "absent"] = "null"
    in_order: bool = False
    dialect: Literal["openai", "azure", "together", "xai"] = "openai"
    faults: BatchFaults = BatchFaults()

    def __post_init__(self) -> None:
        for name in _ABOVE_ZERO:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} of batches is a number above 0, not {value!r}")
        for name in _FROM_ZERO:
            value = getattr(self, name)
            if not value >= 0:
                raise ConfigError(f"{name} of batches must not be negative, and {value!r} is")
        if self.time_p99 is not None and self.time_p99 < self.time:
            raise ConfigError(f"time_p99 of batches must not be below the median of {self.time!r}")
