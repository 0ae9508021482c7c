"""Limits that workers on several machines share: carries the messages between a worker and its keeper.

What the messages say, and what follows from them, is `flatout.policies.pacing.team`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Protocol

from msgspec.structs import replace

from flatout.events import Event, KeeperAway, KeeperBack, LimitsDiffer
from flatout.policies.pacing.ahead import MINUTE
from flatout.policies.pacing.axis import DAY, USE
from flatout.policies.pacing.exchange import CONCURRENCY, Ask, Granted, News, Read
from flatout.policies.pacing.leased import ALONE
from flatout.policies.pacing.team import Team
from flatout.policies.pacing.tokens import Estimator
from flatout.values.limits import UNITS

from .reporter import Reporter

PATIENCE = 1.25
"""Seconds to wait for the keeper's answer before it counts as away. Where a round trip takes 0.3 s, one answer in 300
takes more than 0.75 s. Each worker that goes on alone for it costs a percent of half a minute's limit."""

LOOKS = 0.75
"""Seconds to wait for an answer while the keeper is away. It is less than `leases.RETURN`, in which all workers should
find the keeper again."""

_log = logging.getLogger("flatout")


class Keeper(Protocol):
    """Where the keeper is.

    Attributes:
        place: its address, for people.
    """

    place: str

    async def exchange(self, ask: Ask, news: News, /) -> tuple[Granted, Read]:
        """One exchange.

        Raises:
            OSError: the keeper does not answer.
        """
        ...


class Queue(Protocol):
    """The calls that wait for these limits."""

    @property
    def waiting(self) -> Sized:
        """The calls."""
        ...

    def costs(self, anew: bool, /) -> Iterable[Mapping[str, float]]:
        """What each of them takes of the target's limits, by name, the next one first.

        Args:
            anew: whether to guess their tokens again.
        """
        ...

    def look_again(self) -> None:
        """Let those go that may go now."""
        ...


class LeasedLimits(Team):
    """One target's limits, of which this worker has leases. It works in one event loop.

    Args:
        keeper: where the keeper is.
    """

    def __init__(self, keeper: Keeper) -> None:
        super().__init__(secrets.randbits(48), _present, self._ask_soon)
        self._keeper = keeper
        self._queue: Queue | None = None
        self._target = ""
        self._emit: Callable[[Event], None] = lambda event: None
        self._reporter: Reporter | None = None
        self._asks_soon = self._closed = False
        self._exchanging: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._said: set[str] = set()  # the limits that were said to differ

    def attend(
        self,
        target: str,
        queue: Queue,
        emit: Callable[[Event], None],
        reporter: Reporter,
        estimator: Estimator,
    ) -> None:
        """Serve the calls of one queue.

        Args:
            target: the target's name, for people.
            queue: the calls.
            emit: receives an event when the keeper is away or back.
            reporter: tells what comes of the calls.
            estimator: guesses their tokens.
        """
        self._target, self._queue, self._emit, self._reporter = target, queue, emit, reporter
        self.estimator = estimator
        self.waiting, self.costs = lambda: len(queue.waiting), queue.costs

    async def close(self) -> None:
        """Give back what is left, and leave."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._exchanging is not None:
            await asyncio.wait([self._exchanging])
        if self._known_at > 0.0 and not self.away:
            await self._exchange(leaves=True)

    def _ask_soon(self) -> None:
        """Begin an exchange at the loop's next turn, so that it speaks for all calls that begin in this one."""
        if not self._asks_soon and self._exchanging is None and not self._closed:
            self._asks_soon = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._asks_soon = False
        if self._exchanging is None and not self._closed and self.needs(_present()):
            self._exchanging = asyncio.get_running_loop().create_task(self._exchange_and_go_on())

    async def _exchange_and_go_on(self) -> None:
        try:
            await self._exchange()
        finally:
            self._exchanging = None
            if not self._closed:
                self._set_timer()
                if self._queue is not None:
                    self._queue.look_again()

    async def _exchange(self, *, leaves: bool = False) -> None:
        ask, news = self.ask(_present(), leaves=leaves)
        if self._reporter is not None:
            news = replace(news, report=self._reporter.report(last=leaves))
        was_away = self.away
        try:
            async with asyncio.timeout(LOOKS if was_away else PATIENCE):
                granted, read = await self._keeper.exchange(ask, news)
        except OSError as error:  # TimeoutError is one
            if self.failed(ask, _present()):
                self._tell_away(str(error) or "no answer in time")
            return
        self.granted(ask, granted, read, _present())
        if self._reporter is not None:
            self._reporter.heard(news.report)
        if was_away:
            self._tell_back()
        self._tell_differences()

    def _wake(self) -> None:
        self._begin()
        if self._exchanging is None:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(self.due_at(loop.time()), self._wake)

    # What the user should know. It is logged whatever the level, and an event for those who listen.

    def _tell_away(self, reason: str) -> None:
        place = self._keeper.place
        share = f"{100.0 * ALONE * self.share:.0f} % of the limits"
        _log.warning("%s: %s is away (%s); this worker goes on with %s", self._target, place, reason, share)
        self._emit(KeeperAway(at=_present(), target=self._target, place=place, reason=reason))

    def _tell_back(self) -> None:
        _log.warning("%s: %s answers again", self._target, self._keeper.place)
        self._emit(KeeperBack(at=_present(), target=self._target, place=self._keeper.place))

    def _tell_differences(self) -> None:
        """Say once of each limit that another worker was given a smaller one."""
        for name, rate in self.binding.items():
            if name not in self._said:
                self._said.add(name)
                said = "%s: another worker was given a smaller limit, which holds for all: %s"
                _log.warning(said, self._target, _limit(name, rate))
                self._emit(LimitsDiffer(at=_present(), target=self._target, limit=name, rate=rate))


def _limit(name: str, rate: float) -> str:
    """A limit in words, as users give it, from a worker's rate a second or number in flight."""
    if name == CONCURRENCY:
        return f"{rate:,.0f} requests in flight"
    return f"{round(rate / USE * (DAY if name == 'rpd' else MINUTE), 3):,.10g} {UNITS[name]}"


def _present() -> float:
    return asyncio.get_running_loop().time()
