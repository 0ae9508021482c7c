"""A budget in Redis or Valkey that workers on several machines share.

What the messages say, and what follows from them, is `flatout.policies.shared_money`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import msgspec

from flatout.errors import ConfigError
from flatout.money.lending import Borrower
from flatout.policies.shared_money import BEAT, SILENT, SOON, SPARE, Ask, Borrowing, Granted, Pot
from flatout.policies.spending import Loan
from flatout.presence import Presence
from flatout.values.budget import Budget
from flatout.values.place import Place

from .line import RedisLine
from .redis import FIRST_PATIENCE, cannot, timed, too_far, tried

FORMAT = 1
"""The version of the state and the messages. Raise it if either changes: programs with different versions use different
keys."""

PATIENCE = 1.0
"""Seconds to wait for the server, to connect and for each answer. An exchange over a new connection waits for eight of
them. So a worker that gets no answer gives up what it has not used before `SILENT` is over, and that is lent to others.
"""

SCRIPT = timed("money.lua")

_log = logging.getLogger("flatout")
_encode = msgspec.msgpack.Encoder().encode
_granted = msgspec.msgpack.Decoder(Granted).decode
_done = msgspec.msgpack.Decoder(bool).decode
_pot = msgspec.msgpack.Decoder(Pot).decode


class BudgetInRedis:
    """Lends money from a shared budget; see `flatout.money.lending.Lender`.

    While the server is away, what is borrowed may be spent. Then calls wait: nobody lets them go.

    Args:
        budget: the budget.
        place: where it is.
    """

    def __init__(self, budget: Budget, place: Place) -> None:
        self._budget = budget
        self._place = place
        self._presence = Presence(self._try)
        self._line = self._line_with(PATIENCE)
        self._run = self._line.script(SCRIPT)
        self._key = key(place, budget.per)
        self._own = Borrowing(uuid.uuid4().hex, f"{socket.gethostname()}:{os.getpid()}", budget.per, budget.usd)
        self._thread = ThreadPoolExecutor(1, "flatout budget")  # its own: a program may keep all others busy for long
        self._borrower: Borrower | None = None
        self._turn = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None  # until the next word, while something is borrowed
        self._speaking: asyncio.Task[None] | None = None
        self._spoke_at = 0.0  # on the event loop's clock
        self._began_at: float | None = None  # the same, of the last message that was answered
        self._left = budget.usd
        self._away = False

    def __repr__(self) -> str:
        return f"BudgetInRedis({self._budget}, borrowed=${self._own.lent:.4f})"

    def check(self) -> None:
        """See `flatout.money.lending.Lender`. The server must be there, let us in, and be able to keep a budget."""
        self._presence.check()

    @property
    def borrower(self) -> str:
        """The name under which this process borrows."""
        return self._own.worker

    def attend(self, borrower: Borrower) -> None:
        """Say who borrows."""
        self._borrower = borrower

    async def lend(self, need: float, used: float) -> Loan | None:
        """See `flatout.money.lending.Lender`. While the server is away, None comes once a second."""
        async with self._turn:
            granted = await self._exchange(self._own.ask(used, need=need))
        if granted is None:
            await asyncio.sleep(BEAT)
            return None
        return Loan(granted.usd, granted.left)

    async def take_over(self, usd: float, at: float) -> bool:
        """See `flatout.money.lending.Lender`. Waits for the server."""
        while True:
            async with self._turn:
                ask = self._own.ask(self._used(), more=usd, more_at=at)
                granted = await self._exchange(ask)
            if granted is not None:
                return granted.taken >= ask.taken
            await asyncio.sleep(BEAT)

    async def give_back(self, usd: float) -> bool:
        """See `flatout.money.lending.Lender`. The server hears of this with the next word."""
        if self._turn.locked():  # the answer under way would change what is lent, too
            return False
        self._own.lent -= usd
        self._lose(usd)
        return True

    async def close(self, used: float) -> None:
        """See `flatout.money.lending.Lender`. A budget from which nothing was lent is not touched."""
        if self._timer is not None:
            async with self._turn:
                await self._exchange(self._own.ask(used, leaves=True))
                self._timer.cancel()
                self._timer = None
        self._line.close()

    def left(self) -> float:
        """US dollars that nobody holds; if the server is away, those that were left last. Blocks."""
        with suppress(OSError):
            self._left = self._budget.usd - read_pot(self._line, self._key, self._budget.per).held()
        return self._left

    def take_back(self, borrower: str, spent: float) -> None:
        """See `flatout.money.lending.Lender`. Waits until the process counts as dead, for `SILENT` seconds.

        It does nothing if the process lives, or the server is away.
        """
        given = ["take_back", _encode((self._budget.per, borrower, spent))]
        with suppress(OSError):
            for waited in range(round(SILENT / BEAT) + 1):
                if _done(self._run([self._key], given)):
                    return
                if not waited:
                    said = (
                        "the budget of %s: in %g s at most it takes back what a killed process of this run had borrowed"
                    )
                    _log.warning(said, self._budget, SILENT)
                time.sleep(BEAT)

    def _line_with(self, patience: float) -> RedisLine:
        return RedisLine(self._place, f"the budget of {self._budget} needs", patience)

    def _try(self) -> None:
        """Do what is done all the time, in a key that nobody shares. A server may answer, and be read-only or full."""
        trial = key(self._place, "trial")
        with closing(self._line_with(FIRST_PATIENCE)) as line:
            run = line.script(SCRIPT)
            try:
                took = tried(lambda: run([trial], ["mend", _encode(("run", 0.0))]), PATIENCE)
                line.remove([trial])
            except OSError as error:
                why = f"{cannot(error.__cause__ or error)}, so nothing is sent: {error}"
                raise ConfigError(f"the budget of {self._budget} {why}") from None
        if took > PATIENCE:
            raise ConfigError(f"the budget of {self._budget} is {too_far(took, PATIENCE)}")

    def _used(self) -> float:
        return 0.0 if self._borrower is None else self._borrower.used()

    def _speak_in(self, seconds: float) -> None:
        """Set the time of the next word."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._speak)

    def _speak(self) -> None:
        self._speaking = asyncio.get_running_loop().create_task(self._tell())

    async def _tell(self) -> None:
        """Tell what is used, unless the budget was closed meanwhile."""
        async with self._turn:
            if self._timer is not None:
                await self._exchange(self._own.ask(self._used()))

    async def _exchange(self, ask: Ask) -> Granted | None:
        """One exchange, and another one when it is time. None if the server is away."""
        self._speak_in(BEAT)
        began = asyncio.get_running_loop().time()
        if self._began_at is not None:
            ask = msgspec.structs.replace(ask, since=began - self._began_at)
        try:
            loop = asyncio.get_running_loop()
            said = await loop.run_in_executor(self._thread, self._run, [self._key], ["exchange", _encode(ask)])
            granted = _granted(said)
        except OSError as error:
            self._tell_away(str(error))
            self._lose(self._own.cut())
            return None
        self._began_at, now = began, asyncio.get_running_loop().time()
        self._left = granted.left
        self._tell_back(forgot=ask.made not in (0.0, granted.made))
        self._lose(self._own.hear(ask, granted))
        self._speak_in(SOON if granted.usd else self._own.rests(now - self._spoke_at))
        self._spoke_at = now
        return granted

    def _lose(self, usd: float) -> None:
        if usd > 0.0 and self._borrower is not None:
            self._borrower.lose(usd)

    def _tell_away(self, reason: str) -> None:
        if not self._away:
            self._away = True
            said = "the budget of %s is away (%s): calls go on with %g %% of it at most, and then wait"
            _log.warning(said, self._budget, reason, 100.0 * SPARE)

    def _tell_back(self, *, forgot: bool) -> None:
        if self._away:
            self._away = False
            _log.warning("the budget of %s answers again", self._budget)
        if forgot:
            said = "the server has lost the budget of %s: it does not know what workers have spent that have ended"
            _log.warning(said, self._budget)


def key(place: Place, per: str) -> str:
    """Where the state is. The braces keep a team's keys together where a server is one of many."""
    return f"flatout:{{{place.name}}}:budget:{FORMAT}:{per}"


def read_pot(line: RedisLine, name: str, per: str) -> Pot:
    """The state as it is now.

    Raises:
        OSError: the server does not answer, or has something else there.
    """
    (state,) = line.read([name])
    try:
        pot = Pot() if state is None else _pot(state)
    except msgspec.MsgspecError as error:
        raise OSError(f"{name} is not the state of a budget: {error}") from None
    pot.turn(line.clock(), per)
    return pot
