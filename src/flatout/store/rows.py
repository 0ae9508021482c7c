"""The content of a run file as values: a finished item, an attempt, the run itself, and their sums.

Fields are named as the file's columns, except that an item's ``item_index`` is ``index`` here. What is unknown is None,
never 0. Times are Unix seconds, durations seconds, money US dollars. JSON stays the bytes that the caller gave: nothing
here parses it.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

ItemState = Literal["answered", "failed", "unsent"]
RunState = Literal["running", "interrupted", "finished"]
Choice = Literal["all", "answered", "failed"]
Ranking = Literal["slowest", "longest", "failed", "costliest"]


class Item(Struct, frozen=True, kw_only=True, array_like=True):
    """One finished row. It is an array for msgspec, as the file's rows are.

    Attributes:
        index: the call's place in the input, from 0.
        id: the call's own name, if it has one.
        fingerprint: a digest of the call's content, 16 bytes, made by the caller.
        input: the input's own row, as a JSON object.
        prompt: the rendered call (messages and parameters), as JSON.
        state: ``answered``, ``failed`` or ``unsent``. Unsent means that nothing was sent, or that the whole target
            failed; a resumed run tries it again.
        answer: the answer's text. If there is no usable answer: what the model said, if anything.
        output: the parsed answer, as JSON, if an output schema was given.
        error, error_message: the error's class and sentence, if there is no answer.
        finish_reason, model, input_tokens, output_tokens: as the provider reported them.
        cost: US dollars for all attempts.
        attempts: how many times the call was tried.
        seconds: from the call's start to its end.
        provider_seconds: how long its last attempt took.
        waits: where those seconds went, as a JSON object of seconds by cause.
        tool_calls: the tools that the model asked for, as a JSON list. If the provider's own form of the model's turn
            holds more than that, the first element carries that form.
        repaired: 1 if the parsed answer was recovered from not quite valid JSON, else 0.
        trail: the targets of its route that it was sent to, as a JSON list of `flatout.values.route.Leg`.
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
    provider_seconds: float | None = None
    waits: bytes | None = None
    tool_calls: bytes | None = None
    repaired: int = 0
    trail: bytes | None = None
    finished_at: float


class Finished(Struct, frozen=True):
    """The light view of an item that resuming needs for every row.

    Attributes:
        input: the input's own row, as a JSON object; None if it is not stored, or was not asked for.
    """

    index: int
    fingerprint: bytes
    state: ItemState
    input: bytes | None = None


class BegunAttempt(Struct, frozen=True):
    """An attempt that was about to be sent."""

    index: int
    attempt: int
    target: str
    started_at: float
    estimated_cost: float | None


class Tried(BegunAttempt, frozen=True):
    """An attempt, with what is known about its end.

    Attributes:
        place: the step of a durable function that it was for.
        outcome: None while it is in flight; ``lost`` if its process died; ``failed`` if it failed at no cost;
            ``retried``; otherwise the final state of its item or step.
        after: why the attempt before it failed: the error's class and words, redacted and cut.
    """

    place: str | None
    outcome: str | None
    after: str | None


class Unsettled(Struct, frozen=True):
    """Attempts whose end nobody saw. They may have been paid for nothing.

    Attributes:
        attempts: the attempts, oldest first.
        cost: US dollars that they cost, as far as there are estimates.
        unknown_costs: how many of them have no estimate.
    """

    attempts: tuple[BegunAttempt, ...]

    @property
    def cost(self) -> float:
        return sum(a.estimated_cost for a in self.attempts if a.estimated_cost is not None)

    @property
    def unknown_costs(self) -> int:
        return sum(a.estimated_cost is None for a in self.attempts)


class Counts(Struct, frozen=True):
    """How many items ended in each state."""

    answered: int
    failed: int
    unsent: int

    @property
    def finished(self) -> int:
        """Their sum."""
        return self.answered + self.failed + self.unsent


class Summary(Counts, frozen=True):
    """The sums over all finished items.

    Attributes:
        input_tokens, output_tokens, cost: sums of the known values; None if none is known.
        unknown_tokens: answered items whose tokens the provider did not report.
        unknown_costs: sent items whose cost is unknown; ``cost`` is too low by theirs.
        cut_off: answered items whose answer was cut off at the token limit.
        cached: answered items whose answer came from a cache.
        last_finished_at: when the latest item finished.
        rate: items per second since the latest process took up the run.
    """

    input_tokens: int | None
    output_tokens: int | None
    cost: float | None
    unknown_tokens: int
    unknown_costs: int
    cut_off: int
    cached: int
    last_finished_at: float | None
    rate: float | None


class AskedAgain(Struct, frozen=True):
    """The items without an answer that a process is asking again: those that ended before a time.

    Attributes:
        unsent, failed: the time for each state; Unix time; 0 for none of them.
    """

    unsent: float = 0.0
    failed: float = 0.0


NONE_AGAIN = AskedAgain()


class ErrorCount(Struct, frozen=True):
    """A class of error: how often it happened, its first example, and how many of these items are unsent."""

    error: str
    count: int
    first_index: int
    message: str | None
    held: int = 0


class RunInfo(Struct, frozen=True, kw_only=True):
    """The run itself.

    Attributes:
        job: what makes two answers comparable, as given to `RunFile.open`.
        command: the command line that continues the run; None if a program made it.
        state: ``running``, ``interrupted`` or ``finished``. A run whose process was killed still says ``running``;
            see `RunReader.holder`.
        total: items of the input, if known.
        keep_prompts: whether rendered calls are stored.
        created_at, opened_at, ended_at: when the run began, when the latest process took it up, when it ended.
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
    """A journalled step, with its place in the function, and when it was last written."""

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
    provider_seconds: float | None = None


class History(Struct, frozen=True, kw_only=True):
    """Everything that a run file knows about one item: its result, the attempts of all processes, its journal.

    Attributes:
        index: the item's index.
        item: None until it is finished.
        attempts, journal: in the order in which they were written.
    """

    index: int
    item: Item | None = None
    attempts: tuple[Tried, ...] = ()
    journal: tuple[Noted, ...] = ()
