"""What a run file holds, as values: a finished item, an attempt, the run itself, and what they add up to.

Field names are the file's column names, except that an item's ``item_index`` is ``index`` here. What is not known
is None, never 0. Times are Unix seconds, durations seconds, money US dollars. JSON is kept as the bytes that the
caller gave: nothing here parses it.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

ItemState = Literal["answered", "failed", "unsent"]
RunState = Literal["running", "interrupted", "finished"]
Choice = Literal["all", "answered", "failed"]
Ranking = Literal["slowest", "failed", "costliest"]


class Item(Struct, frozen=True, kw_only=True):
    """One finished row.

    Attributes:
        index: the call's place in the input, from 0.
        id: the call's own name, if it has one.
        fingerprint: a digest of the call's content, 16 bytes, made by the caller.
        input: the input's own row, as a JSON object.
        prompt: the rendered call (messages and parameters), as JSON.
        state: ``answered``, ``failed``, or ``unsent``: nothing was sent, or what failed was the whole target, so it is
            tried again on resume.
        answer: the answer's text; of an item without a usable answer, what the model said, if it said anything.
        output: the parsed answer, as JSON, when an output schema was asked for.
        error, error_message: the error's class and its sentence, when there is no answer.
        finish_reason, model, input_tokens, output_tokens: as the provider told.
        cost: US dollars for all attempts.
        attempts: how many times the call was tried.
        seconds: from the call's entry to its end.
        waits: where those seconds went, as a JSON object of seconds by cause.
        tool_calls: the tools that the model asked for, as a JSON list; the first one bears the model's whole turn in
            the form of its provider, where that holds more.
        repaired: 1 where the parsed answer was got out of one that was not quite JSON, else 0.
        finished_at: Unix time.
    """

    index: int
    id: str | None = None
    fingerprint: bytes
    input: bytes | None = None
    prompt: bytes | None = None
    state: ItemState
    answer: str | None = None
    output: bytes | None = None
    error: str | None = None
    error_message: str | None = None
    finish_reason: str | None = None
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None
    attempts: int = 0
    seconds: float | None = None
    waits: bytes | None = None
    tool_calls: bytes | None = None
    repaired: int = 0
    finished_at: float


class Finished(Struct, frozen=True):
    """The light view of an item that resuming needs for every row.

    Attributes:
        input: the input's own row, as a JSON object; None where it is not kept, or was not asked for.
    """

    index: int
    fingerprint: bytes
    state: ItemState
    input: bytes | None = None


class Attempt(Struct, frozen=True):
    """One try that was about to be sent."""

    index: int
    attempt: int
    target: str
    started_at: float
    estimated_cost: float | None


class Tried(Attempt, frozen=True):
    """An attempt, with what is known of its end.

    Attributes:
        place: in a durable function, the step that it was for.
        outcome: None while it is in flight; ``lost``: its process died; ``failed``: at no cost; ``retried``; or what
            became of its item, or of its step, in the end.
        after: what the attempt before it failed of: the error's class and words, redacted and cut.
    """

    place: str | None
    outcome: str | None
    after: str | None


class Unsettled(Struct, frozen=True):
    """Attempts whose end nobody saw: they may have been paid for nothing.

    Attributes:
        attempts: the attempts, oldest first.
        cost: US dollars that they cost, as far as estimated.
        unknown_costs: how many of them have no estimate.
    """

    attempts: tuple[Attempt, ...]

    @property
    def cost(self) -> float:
        return sum(a.estimated_cost for a in self.attempts if a.estimated_cost is not None)

    @property
    def unknown_costs(self) -> int:
        return sum(a.estimated_cost is None for a in self.attempts)


class Counts(Struct, frozen=True):
    """How many items became what."""

    answered: int
    failed: int
    unsent: int

    @property
    def finished(self) -> int:
        """All of them together."""
        return self.answered + self.failed + self.unsent


class Summary(Counts, frozen=True):
    """What the finished items add up to.

    Attributes:
        input_tokens, output_tokens, cost: sums of what is known; None when nothing is.
        unknown_tokens: answered items whose tokens the provider did not tell.
        unknown_costs: sent items whose cost is not known; ``cost`` is too low by theirs.
        cut_off: answered items whose answer was cut off at the token limit.
        last_finished_at: when the latest item was finished.
        rate: items a second since the latest process took up the run.
    """

    input_tokens: int | None
    output_tokens: int | None
    cost: float | None
    unknown_tokens: int
    unknown_costs: int
    cut_off: int
    last_finished_at: float | None
    rate: float | None


class ErrorCount(Struct, frozen=True):
    """One class of error: how often, and its first example."""

    error: str
    count: int
    first_index: int
    message: str | None


class RunInfo(Struct, frozen=True, kw_only=True):
    """The run itself.

    Attributes:
        job: what makes two answers comparable, as given to `RunFile.open`.
        command: the command line that began it.
        state: ``running``, ``interrupted`` or ``finished``. A run whose process was killed still says ``running``;
            see `RunReader.holder`.
        total: items of the input, when known.
        keep_prompts: whether the rendered calls are kept.
        created_at, opened_at, ended_at: when it began, when the latest process took it up, when it ended.
    """

    job: dict[str, Any]
    command: str | None
    state: RunState
    total: int | None
    keep_prompts: bool
    created_at: float
    opened_at: float
    ended_at: float | None


class JournalEntry(Struct, frozen=True):
    """One journalled step of a durable function. ``value`` is JSON."""

    fingerprint: bytes
    kind: str
    value: bytes


class Noted(JournalEntry, frozen=True):
    """A journalled step, with where in the function it was, and when it was noted last."""

    place: str
    at: float


class Ranked(Struct, frozen=True):
    """The light view of a finished item, for a list of them."""

    index: int
    id: str | None
    state: ItemState
    seconds: float | None
    attempts: int
    cost: float | None
    error: str | None
    error_message: str | None


class History(Struct, frozen=True, kw_only=True):
    """All that a run file knows of one item: what became of it, every attempt of every process, its journal.

    Attributes:
        index: the item's.
        item: None while it is not finished.
        attempts, journal: in the order in which they were noted.
    """

    index: int
    item: Item | None = None
    attempts: tuple[Tried, ...] = ()
    journal: tuple[Noted, ...] = ()
