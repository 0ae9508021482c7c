"""The progress of a run: the numbers behind the live line and the summary. Nothing here prints."""

from __future__ import annotations

from collections.abc import Mapping, Set

from msgspec import Struct

from flatout.layers.limit import TargetNow
from flatout.values.budget import Standing
from flatout.values.route import Share, added

PROMPT_CACHE = "prompt_cache"
"""The name under which the run file keeps the `PromptCacheUse` of a run."""

SKIPPED = "Skipped"
"""The class of a row that somebody skipped: it is finished, and nothing has failed."""

COST = "cost"
"""The name under which the run file keeps what is known to be spent on a run, in US dollars, when a process has ended.
Its rows know less: one attempt of unknown cost makes that of its row unknown."""


class Failure(Struct):
    """All failures of one class.

    Attributes:
        count: how many calls failed this way.
        example: the message of the first.
        row: the input row (from 1) of the first; None if unknown.
        advice: what a user can do about it.
        held: how many of them are held back: they are asked again when the run continues.
    """

    count: int
    example: str
    row: int | None
    advice: str
    held: int = 0


class Longest(Struct, frozen=True):
    """The attempt that has been on the wire longest.

    Attributes:
        row: its row, from 1.
        seconds: how long it has been on the wire.
        left: seconds until it times out.
    """

    row: int
    seconds: float
    left: float


class PromptCacheUse(Struct, frozen=True, kw_only=True):
    """What a run took from the providers' prompt caches, and what that saved.

    Attributes:
        read: tokens that were read from them.
        written: tokens that were written to them.
        saved: US dollars, less what writing cost more than sending; as far as the prices are known.
    """

    read: int = 0
    written: int = 0
    saved: float = 0.0

    def __bool__(self) -> bool:
        return self.read > 0 or self.written > 0

    def __add__(self, other: PromptCacheUse) -> PromptCacheUse:
        return PromptCacheUse(
            read=self.read + other.read, written=self.written + other.written, saved=self.saved + other.saved
        )


class Batches(Struct, frozen=True):
    """The batches that providers have of a run, or may have.

    Attributes:
        open: how many.
        rows: the rows in them.
        done: how many of these rows the providers say are finished; 0 if they do not say.
        oldest: when the oldest of them was made; Unix time.
        states: how they are, as the providers say: ``2 in progress, 1 validating``.
        short: rows that no money is left for while these are open.
        past: how long batches took, in words; "" if not known yet.
        saved: how much less the run's batches have cost than live calls, in US dollars; as far as it is known.
        ended: how many batches this process has collected.
        ended_rows: the rows in those.
        took: how long the shortest and the longest of those took, in seconds; None if there were none.
    """

    open: int = 0
    rows: int = 0
    done: int = 0
    oldest: float | None = None
    states: str = ""
    short: int = 0
    past: str = ""
    saved: float = 0.0
    ended: int = 0
    ended_rows: int = 0
    took: tuple[float, float] | None = None


class Spent(Struct, frozen=True, kw_only=True):
    """What some of the run's processes have spent together, as far as it is known.

    Attributes:
        input_tokens: tokens of prompts.
        output_tokens: tokens of answers.
        cost: US dollars.
        unpriced: rows of unknown cost, and attempts of unknown cost from processes that died.
        cut_off: answers that were cut off at the token limit.
        prompt_cache: what was taken from the providers' prompt caches.
        shares: what each target did, by its name, if a route has several.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    unpriced: int = 0
    cut_off: int = 0
    prompt_cache: PromptCacheUse = PromptCacheUse()
    shares: Mapping[str, Share] = {}


class Progress(Struct):
    """A run's counters. The runner changes them; readers may look at any time in the event loop.

    Attributes:
        counts: what a row is, for people: a call, or a text that is embedded.
        total: rows of the input; None while unknown (standard input).
        resumed: rows that were finished before this process started.
        failed_before: how many of those failed.
        earlier: what those rows cost.
        answered, failed: rows finished by this process.
        cached: how many of the answered rows came from a cache.
        saved: US dollars that those answers had cost when they were asked, as far as it is known.
        held: rows left unfinished because their target was unusable: it stopped them, or they were never sent. They are
            asked again when the run continues.
        in_flight: attempts on the wire now.
        longest: the oldest of those attempts.
        waiting: attempts that wait for admission now.
        holds: what they wait for (a key of `flatout.events.WAITS`); "" if nothing waits.
        pace: requests per second, while the limit is searched; None if the limit is known.
        rising: whether the search has not met the limit yet.
        input_tokens, output_tokens: of this process, as far as providers report them.
        prompt_cache: what this process took from the providers' prompt caches.
        shares: what each target did for this process, by its name, if a route has several.
        cost: US dollars that this process is known to have spent.
        unpriced: attempts that may have been billed an unknown amount.
        budget: how the budget stands; None without one.
        retries: attempts beyond each call's first.
        throttled: attempts refused for their rate (429).
        started, elapsed: the event loop's clock at the start, and seconds since.
        call_seconds: the sum of the calls' own times on the wire: how long they would have taken one after another, if
            the server's speed did not depend on its load.
        hosted: whether all targets are providers', whose speed does not depend on their load.
        waits: seconds by cause over all calls (see `flatout.events.WAITS`).
        failures: by the error's class name.
        stopped: why a target was stopped, by its name.
        paused: the targets that are paused now, with the reason.
        capped: the most calls that can be in flight, if that holds calls up.
        down: the targets that answer nothing now, with the reason.
        no_room: since when a provider's flex service has no room, by its name; Unix time.
        others_go: whether another target takes calls now, while some are down or stopped.
        crowded: the targets that refuse calls within the given limits, with the likely cause.
        stood: seconds for which no call could go: all targets in use were down, or a person had paused them.
        searched: the causes of waiting whose limit is unknown and found by trying.
        batches: what providers have in batches.
        targets: what each target is doing now, by its name.
        stopping: whether somebody stops the run.
        ends_by: when it ends at the latest then; Unix time; None if it waits for all that is in flight.
    """

    counts: str = "call"
    total: int | None = None
    resumed: int = 0
    failed_before: int = 0
    earlier: Spent = Spent()
    answered: int = 0
    cached: int = 0
    saved: float = 0.0
    cut_off: int = 0
    failed: int = 0
    held: int = 0
    in_flight: int = 0
    longest: Longest | None = None
    waiting: int = 0
    holds: str = ""
    pace: float | None = None
    rising: bool = False
    input_tokens: int = 0
    output_tokens: int = 0
    prompt_cache: PromptCacheUse = PromptCacheUse()
    shares: dict[str, Share] = {}
    cost: float = 0.0
    unpriced: int = 0
    budget: Standing | None = None
    retries: int = 0
    throttled: int = 0
    started: float = 0.0
    elapsed: float = 0.0
    call_seconds: float = 0.0
    hosted: bool = True
    waits: dict[str, float] = {}
    failures: dict[str, Failure] = {}
    stopped: dict[str, str] = {}
    paused: dict[str, str] = {}
    capped: int | None = None
    down: dict[str, str] = {}
    no_room: dict[str, float] = {}
    others_go: bool = False
    crowded: dict[str, str] = {}
    stood: float = 0.0
    searched: Set[str] = frozenset()
    batches: Batches = Batches()
    targets: dict[str, TargetNow] = {}
    stopping: bool = False
    ends_by: float | None = None

    @property
    def finished(self) -> int:
        """Rows finished, by this process or an earlier one."""
        return self.resumed + self.answered + self.failed

    def take_back(self, state: str, error: str | None) -> None:
        """Count a row no longer that ended in a state, as `flatout.store.ItemState` names it, and is asked again."""
        held = int(state == "unsent")
        self.held -= held
        self.failed -= 1 - held
        forget(self.failures, error or "", 1, held)

    @property
    def whole(self) -> Spent:
        """What the run has spent, over all its processes."""
        before = self.earlier
        return Spent(
            input_tokens=before.input_tokens + self.input_tokens,
            output_tokens=before.output_tokens + self.output_tokens,
            cost=before.cost + self.cost,
            unpriced=before.unpriced + self.unpriced,
            cut_off=before.cut_off + self.cut_off,
            prompt_cache=before.prompt_cache + self.prompt_cache,
            shares=added(before.shares, self.shares),
        )

    @property
    def rate(self) -> float | None:
        """Calls finished per second by this process; None before the first, and with batches."""
        if self.batches.open or self.batches.ended:
            return None
        done = self.answered + self.failed
        return done / self.elapsed if done and self.elapsed > 0 else None


def forget(failures: dict[str, Failure], name: str, count: int, held: int = 0) -> None:
    """Count some failures of a class no longer; some of them were held back."""
    failure = failures.get(name)
    if failure is not None:
        failure.count -= count
        failure.held -= held
        if failure.count <= 0:
            del failures[name]
