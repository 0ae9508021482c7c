"""What a run has done so far: the numbers behind the live line and the summary. Nothing here prints."""

from __future__ import annotations

from collections.abc import Set

from msgspec import Struct


class Failure(Struct):
    """All failures of one class.

    Attributes:
        count: how many calls failed so.
        example: the message of the first.
        row: the input row (from 1) of the first; None when it is not known.
        advice: what a user can do about it.
    """

    count: int
    example: str
    row: int | None
    advice: str


class Longest(Struct, frozen=True):
    """The attempt that has been on the wire longest.

    Attributes:
        row: its row, from 1.
        seconds: how long it has been.
        left: seconds after which it is given up.
    """

    row: int
    seconds: float
    left: float


class Spent(Struct, frozen=True, kw_only=True):
    """What a run has come to over some of its processes, as far as it is known, and what of it is not.

    Attributes:
        input_tokens: tokens of prompts.
        output_tokens: tokens of answers.
        cost: US dollars.
        unpriced: rows, and attempts of processes that died, that cost an amount that is not known.
        cut_off: answers that were cut off at the token limit.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    unpriced: int = 0
    cut_off: int = 0


class Progress(Struct):
    """A run's counters. The runner changes them; readers look whenever they like, in the event loop.

    Attributes:
        total: rows of the input; None while that is not known (standard input).
        resumed: rows that were finished before this process started.
        earlier: what those have cost.
        answered, failed: rows finished by this process.
        held: rows left unfinished because their target was of no use: it stopped them, or they were never sent. They
            are asked again when the run goes on.
        in_flight: attempts on the wire now.
        longest: the one of them that was sent first.
        waiting: attempts that wait for admission now.
        holds: what they wait for (a key of `flatout.events.WAITS`); "" when nothing waits.
        use: how much of that limit is used, 0 to 1; None when it is not known.
        pace: requests per second that are let go while their limit is found by trying; None when it is known.
        rising: whether that limit was not met yet.
        input_tokens, output_tokens: of this process, as far as providers told.
        cost: US dollars known to be spent by this process.
        unpriced: attempts that may have been billed an amount that is not known.
        retries: attempts beyond each call's first.
        throttled: attempts refused for their rate (429).
        started, elapsed: the event loop's clock at the start, and seconds since.
        call_seconds: the calls' own times on the wire added up: what one after another would have taken, were the
            server not slower the more it is asked.
        hosted: whether all targets are providers', which are not.
        waits: seconds by cause over all calls (see `flatout.events.WAITS`).
        failures: by the error's class name.
        stopped: why a target was stopped, by its name.
        paused: the targets that are paused now, with why.
        capped: the most calls in flight that there can be, when that holds calls up.
        down: the targets that answer nothing now, with why.
        crowded: the targets that refuse what the given limits allow, with what that looks like.
        searched: the causes of waiting whose limit nobody gave or told: it is found by trying.
    """

    total: int | None = None
    resumed: int = 0
    earlier: Spent = Spent()
    answered: int = 0
    cut_off: int = 0
    failed: int = 0
    held: int = 0
    in_flight: int = 0
    longest: Longest | None = None
    waiting: int = 0
    holds: str = ""
    use: float | None = None
    pace: float | None = None
    rising: bool = False
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    unpriced: int = 0
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
    crowded: dict[str, str] = {}
    searched: Set[str] = frozenset()

    @property
    def finished(self) -> int:
        """Rows finished, by this process or an earlier one."""
        return self.resumed + self.answered + self.failed

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
        )

    @property
    def rate(self) -> float | None:
        """Calls finished per second by this process; None before there is one."""
        done = self.answered + self.failed
        return done / self.elapsed if done and self.elapsed > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the end at the present rate; None when it cannot be told."""
        if self.total is None or not self.rate:
            return None
        return max(0, self.total - self.finished) / self.rate
