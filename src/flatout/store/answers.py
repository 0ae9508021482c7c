"""The cache of answers, for one event loop. Where the answers are is its shelf: a file, or a server of Redis.

The event loop never waits for the shelf. Lookups of one turn of the loop go to a thread together. New answers are
gathered and written behind the calls, because losing the last of them in a crash costs only asking again. For the same
reason a shelf that fails is left alone, with one warning, and never fails a call.

A server may be away for a moment only. To ask without it then would pay for what another process asks, or has asked. So
lookups wait at the beginning of an outage, and only a longer one sends calls without an answer or a claim.

Such calls may wait for their turn long after the server is back, and claims may have ended meanwhile. So all questions
that are being asked are then looked up again. A call that has not been sent gives up its turn if there is an answer, or
if another process has the claim.

A question without an answer is claimed by the first process that looks it up, where the shelf has claims. The others
look again every now and then. They find the answer, or that the claim is free: then its process has ended, or had no
answer.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

from flatout.tasks.loop import thread_begins, thread_ends
from flatout.values.answers import Found, New, Shelf, Wanted
from flatout.values.kept import Kept

MOST = 500
"""New answers that are written at once."""

LOOKED_UP = 500
"""Questions that are looked up at once. With more, the event loop would stand still while all their calls go on."""

AGAIN = 0.8
"""The share of them that may be what is being asked. New questions have the rest: claims may end all the time, where a
server is short of memory."""

HELD = 10_000
"""New answers that are held while the shelf is left alone. Those beyond are not kept."""

PATIENCE = 300.0
"""Seconds after which a question is asked although another process asks it: the usual timeout of an attempt. The other
process may be stopped, or far slower."""

UNHURRIED = 30.0
"""Seconds for which a lookup waits for a shelf that is away, if its question can wait: a batch takes hours."""

_log = logging.getLogger("flatout")


class Asked(NamedTuple):
    """A question that is looked up.

    Attributes:
        wanted: the question.
        until: when it no longer waits for another process, on the event loop's clock.
        found: receives the answer.
        patient: whether it waits for longer than a hiccup.
        waits: called when it waits for another process; None if nobody asks.
    """

    wanted: Wanted
    until: float
    found: asyncio.Future[Kept | None]
    patient: bool
    waits: Callable[[], object] | None


class Asking(NamedTuple):
    """A question that this process asks.

    Attributes:
        wanted: the question.
        needless: called if it need not be asked.
    """

    wanted: Wanted
    needless: Callable[[], object]


class Answers:
    """A cache of answers, for one event loop.

    Args:
        shelf: where they are kept.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._thread = ThreadPoolExecutor(1, "flatout cache")
        self._rests_until = -math.inf  # on the event loop's clock
        self._failing = False
        self._fails_since = -math.inf  # on the same clock; of the last time that it failed
        self._lost = 0  # new answers that it did not get
        self._closed = False
        self._asked: list[Asked] = []
        self._reading = False
        self._waiting: list[Asked] = []  # for another process, or for the end of a hiccup
        self._asking: dict[bytes, Asking] = {}
        self._again: deque[bytes] = deque()  # what is asked and is to be looked up again
        self._polling: asyncio.TimerHandle | None = None
        self._holding: asyncio.TimerHandle | None = None
        self._new: list[New] = []
        self._writing = False
        self._waits: asyncio.TimerHandle | None = None  # until new answers are written
        self._unwritten: dict[bytes, Kept] = {}

    def __repr__(self) -> str:
        return f"Answers({self._shelf.name!r})"

    def check(self) -> None:
        """Find out whether the shelf can be used, before the first lookup. Blocks. Any thread may call this.

        Raises:
            ConfigError: it cannot.
        """
        self._shelf.check()

    def get(
        self,
        key: bytes,
        since: float = -math.inf,
        *,
        claims: bool = True,
        patient: bool = False,
        waits: Callable[[], object] | None = None,
    ) -> asyncio.Future[Kept | None]:
        """The answer of a key; None if there is none, or if it cannot be read.

        None with ``claims`` means that the caller asks, and ends that with `put` or `let_go`. Other processes wait for
        it. While another process asks, this waits.

        Args:
            key: the digest of the question.
            since: answers from before that are not wanted, in Unix seconds.
            claims: whether to claim the question. Whoever waits for several answers at once must not: two processes
                could wait for each other.
            patient: whether to wait `UNHURRIED` for a shelf that is away, instead of its `hiccup`.
            waits: called when it waits for another process.
        """
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Kept | None] = loop.create_future()
        if key in self._unwritten:
            found.set_result(self._unwritten[key])
            return found
        if not self._asked and not self._reading:
            loop.call_soon(self._look_up, loop)
        self._asked.append(Asked(Wanted(key, since, claims), loop.time() + PATIENCE, found, patient, waits))
        return found

    def asks(self, key: bytes, since: float, needless: Callable[[], object]) -> None:
        """Note that the caller asks from now on, until `put` or `let_go`.

        ``needless`` is called, in the event loop, when the shelf comes back, and if it turns out that it has an answer,
        or that another process asks.
        """
        self._asking[key] = Asking(Wanted(key, since, claims=True, reads=False), needless)
        if self._failing:
            self._look_again_soon(asyncio.get_running_loop())

    def let_go(self, key: bytes) -> None:
        """Give up a question that has no answer to keep. The next process asks it."""
        self._asking.pop(key, None)
        self._shelf.free(key)

    def put(self, key: bytes, kept: Kept, describe: Callable[[], bytes]) -> None:
        """Keep an answer, soon. ``describe`` is called in the cache's thread."""
        self._asking.pop(key, None)
        loop = asyncio.get_running_loop()
        if self._rests(loop) and (self._rests_until == math.inf or len(self._new) >= HELD):
            self._lost += 1
            self._shelf.free(key)
            return
        self._unwritten[key] = kept
        self._new.append(New(key, kept, describe))
        self._write_soon(loop)

    async def close(self) -> None:
        """Write what is not written yet, and close the shelf. Says how many answers it did not get."""
        loop = asyncio.get_running_loop()
        self._closed = True
        if math.isfinite(self._rests_until):
            self._rests_until = -math.inf  # what is held has its last chance
        self._write(loop)
        for timer in (self._polling, self._holding):
            if timer is not None:
                timer.cancel()
        await loop.run_in_executor(self._thread, self._shelf.close)
        self._thread.shutdown(wait=False)
        if self._lost and self._rests_until != math.inf:
            said = "new answers that the cache %s did not get, because it was away: %d"
            _log.warning(said, self._shelf.name, self._lost)

    # Looking up

    def _look_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give the thread what is to be looked up, and is not yet.

        Mostly what is being asked: each call that is sent before its look may be paid twice. New questions lose nothing
        but time, and those that wait for other processes come again and again.
        """
        if self._reading or self._closed or not (self._asked or self._again):
            return
        again: list[Wanted] = []
        while self._again and len(again) < AGAIN * LOOKED_UP:
            if (asking := self._asking.get(self._again.popleft())) is not None:
                again.append(asking.wanted)
        most, found = LOOKED_UP - len(again), Found()
        asked, self._asked = self._asked[:most], self._asked[most:]
        if self._rests(loop):
            self._again.clear()
            self._hand_out(asked, found)
            loop.call_soon(self._look_up, loop)
            return
        self._reading = True

        def done(reading: asyncio.Future[None]) -> None:
            self._reading = False
            self._judge(None if reading.cancelled() else reading.exception(), loop)
            self._hand_out(asked, found)
            self._spare(again, found)
            if self._shelf.lapsed():
                self._look_all_up_again(loop)
            self._hold_soon(loop)
            self._look_up(loop)

        wanted = [*(one.wanted for one in asked), *again]
        loop.run_in_executor(self._thread, self._shelf.look, wanted, found).add_done_callback(done)

    def _hand_out(self, asked: Sequence[Asked], found: Found) -> None:
        """Give each caller its answer, or None. Some are looked up again later."""
        loop = asyncio.get_running_loop()
        away = loop.time() - self._fails_since if self._failing and self._rests_until != math.inf else math.inf
        for one in asked:
            key, claims = one.wanted.key, one.wanted.claims
            kept = one.wanted.fresh(found.kept.get(key))
            hopes = away < (UNHURRIED if one.patient else self._shelf.hiccup)
            if kept is None and claims and key in found.elsewhere:
                if one.waits is not None and not one.found.done():
                    one.waits()
                self._waiting.append(one)
            elif not one.found.done() and (kept is not None or not hopes):
                one.found.set_result(kept)
            elif kept is None:
                if claims:
                    self._shelf.free(key)  # its caller was cancelled, or may be before the next look
                self._waiting.append(one)
        self._look_again_soon(loop)

    def _spare(self, again: Sequence[Wanted], found: Found) -> None:
        """Tell those who ask what need not be asked."""
        spared = found.elsewhere | found.answered
        for wanted in again:
            asking = self._asking.get(wanted.key)
            if asking is None:
                self._shelf.free(wanted.key)  # it has been asked meanwhile
            elif wanted.key in spared or wanted.fresh(found.kept.get(wanted.key)) is not None:
                asking.needless()

    def _look_again_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look again later if somebody waits; and if the shelf is away, as long as it might spare a call."""
        final = self._rests_until == math.inf
        if self._polling is None and (self._waiting or (self._asking and self._failing and not final)):
            soon = loop.time() + self._shelf.poll
            self._polling = loop.call_at(soon if final else max(soon, self._rests_until), self._look_again)

    def _look_again(self) -> None:
        """Look up what other processes were asking, and let those ask that have waited long enough."""
        self._polling = None
        loop = asyncio.get_running_loop()
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if one.found.done():
                continue
            if loop.time() < one.until:
                self._asked.append(one)
            else:
                one.found.set_result(None)
        if self._asking and self._failing:
            self._again.append(next(iter(self._asking)))  # if the shelf is back, all the others follow
        self._look_up(loop)

    def _look_all_up_again(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look up, and claim, all that is being asked."""
        self._again = deque(self._asking)
        loop.call_soon(self._look_up, loop)

    def _hold_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._holding is None and math.isfinite(self._shelf.beat) and not self._closed:
            self._holding = loop.call_later(self._shelf.beat, self._hold, loop)

    def _hold(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hold the claims, as long as there are any. If that fails, others may ask the same."""

        def done(holding: asyncio.Future[bool]) -> None:
            self._holding = None
            if holding.cancelled():
                return
            failed = holding.exception() is not None
            if failed or holding.result():
                self._hold_soon(loop)
            if not failed and holding.result():
                self._judge(None, loop)
            if self._shelf.lapsed():
                self._look_all_up_again(loop)

        loop.run_in_executor(self._thread, self._shelf.hold).add_done_callback(done)

    # Writing

    def _write_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write the new answers when enough are gathered, the thread has written others, and the shelf may be used."""
        if self._writing or not self._new:
            return
        if len(self._new) >= MOST and not self._rests(loop):
            self._write(loop)
        elif self._waits is None:
            self._waits = loop.call_at(max(self._rests_until, loop.time() + self._shelf.gather), self._write, loop)

    def _write(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give the thread the new answers."""
        if self._waits is not None:
            self._waits.cancel()
            self._waits = None
        if not self._new:
            return
        new, self._new = self._new, []
        self._writing = True

        def done(writing: Future[None]) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._written, new, writing.exception(), loop)

        thread_begins(loop)
        self._thread.submit(self._shelf.keep, new).add_done_callback(done)

    def _written(self, new: list[New], error: BaseException | None, loop: asyncio.AbstractEventLoop) -> None:
        thread_ends(loop)
        self._writing = False
        self._judge(error, loop)
        if error is not None:
            most, pending = 0 if self._closed or self._rests_until == math.inf else HELD, [*new, *self._new]
            self._new, new = pending[:most], pending[most:]
            self._lost += len(new)
            for lost in new:
                self._shelf.free(lost.key)
        for key, kept, _ in new:
            if self._unwritten.get(key) is kept:
                del self._unwritten[key]
        self._write_soon(loop)

    # Failures

    def _make_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """The shelf is back: write what is held, and look up what is asked, until others have written theirs, too.

        All that waits for its turn gives it up at once, and is looked up as a new question: thousands are sent faster
        than they are looked up.
        """
        if self._waits is not None:
            self._waits.cancel()
            self._waits = None
        self._write_soon(loop)
        for asking in tuple(self._asking.values()):
            asking.needless()
        for seconds in (self._shelf.poll, self._shelf.poll + self._shelf.rest):
            loop.call_later(seconds, self._look_all_up_again, loop)

    def _rests(self, loop: asyncio.AbstractEventLoop) -> bool:
        return loop.time() < self._rests_until

    def _judge(self, error: BaseException | None, loop: asyncio.AbstractEventLoop) -> None:
        """Leave the shelf alone after a failure. Say once that it fails, and that it works again."""
        name, failing, now = self._shelf.name, self._failing, loop.time()
        self._failing = error is not None
        if error is None:
            if failing and math.isfinite(self._rests_until):
                self._rests_until = -math.inf
                _log.warning("the cache %s answers again", name)
                self._make_up(loop)
            return
        if not failing:
            self._fails_since = now
        in_hiccup = now < self._fails_since + self._shelf.hiccup
        self._rests_until = now + (self._shelf.poll if in_hiccup else self._shelf.rest)
        self._look_again_soon(loop)
        if failing:
            return
        why = self._shelf.reason(error) if isinstance(error, Exception) else repr(error)
        if self._rests_until == math.inf:
            _log.warning("the cache %s is not used any more: %s", name, why)
        else:
            said = "the cache %s is away (%s): after %g s calls are made without it, and it is tried again every %g s"
            _log.warning(said, name, why, self._shelf.hiccup, self._shelf.rest)
