"""Turns the results of one row's batches into its Result, as the live call path would have.

A row may have several results: an answer that did not fit, and the answer to the follow-up. They are given to the same
layers that a live call passes, in their order. If the layers want one answer more, the row's next question is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from flatout.config.settings import Settings
from flatout.edge.fan_out import as_error, outcome
from flatout.errors import CallError
from flatout.events import CallFinished, Events
from flatout.journey import Journey, reset_journey, set_journey
from flatout.layer import CallNext, Codec, Layer, Response
from flatout.layers.cache import Cache
from flatout.layers.reask import Reask
from flatout.layers.whole import Whole
from flatout.policies.failures.decision import Decision, Repeats, decide, may_have_billed
from flatout.prices import Prices
from flatout.providers.schemas.salvage import salvage
from flatout.purse import Purse
from flatout.stack import compose
from flatout.store.ledger import Told
from flatout.values import Call, Reply, Result, Target
from flatout.values.reply import without_raw

TIER = "batch"
"""The name of the lane's price; see `flatout.prices.Prices.cost`."""

_AGAIN = {Decision.RETRY, Decision.THROTTLE, Decision.OVERLOADED}


class Bill:
    """What the answers to a row have cost.

    Attributes:
        answers: how many were billed.
        cost: US dollars; None if unknown.
        saved: how much less that is than the live price, in US dollars; as far as it is known.
        longest: tokens of the longest.
    """

    __slots__ = ("answers", "cost", "longest", "saved")

    def __init__(self) -> None:
        self.answers = 0
        self.cost: float | None = 0.0
        self.saved = 0.0
        self.longest = 0

    def add(self, cost: float | None, live: float | None, tokens: int | None) -> None:
        """Add an answer: its cost, what it would have cost live, and its length."""
        self.answers += 1
        self.longest = max(self.longest, tokens or 0)
        if cost is None or self.cost is None:
            self.cost = None
        else:
            self.cost += cost
            self.saved += max(0.0, (live or 0.0) - cost)


class Unanswered(Exception):
    """The results of a row are used up, and a question is open: ``call``. ``bill`` is for the results so far."""

    def __init__(self, call: Call) -> None:
        super().__init__("a question is open")
        self.call = call
        self.bill = Bill()


class Replay:
    """Reads results of one target.

    Args:
        target: where the batches went.
        codec: its wire format.
        settings: of the call path: how often a row is asked again.
        prices: the price list.
        purse: what is spent is added to it.
        events: subscribers hear of every finished row.
        cache: answers are kept in it; None for nowhere.
    """

    def __init__(
        self,
        target: Target,
        codec: Codec,
        settings: Settings,
        prices: Prices,
        purse: Purse,
        events: Events,
        cache: Cache | None = None,
    ) -> None:
        self._cache = cache
        self._target = target
        self._codec = codec
        self._settings = settings
        self._prices = prices
        self._purse = purse
        self._events = events
        self._layers: list[Layer] = [*([Whole()] if settings.fail_truncated else []), Reask(settings.reasks, salvage)]

    async def of(self, index: int, call: Call, told: Sequence[Told], seconds: float = 0.0) -> tuple[Result[Any], Bill]:
        """The result of a row, and its bill. A failure is part of it.

        Args:
            index: the row's index.
            call: the row's call.
            told: its results, the oldest first; at least one.
            seconds: since its batch was made.

        Raises:
            Unanswered: the row has to be asked (again); the error has the question.
        """
        journey = Journey(asyncio.get_running_loop().time() - seconds)
        journey.account.waited("batch", seconds)
        answers = _Answers(told, partial(self._read, journey, bill := Bill()), self._settings)
        answer: CallNext = compose(self._layers, answers.next)
        reply: Reply | None = None
        error: Exception | None = None
        token = set_journey(journey)
        try:
            reply = await answer(call)
            if self._cache is not None:
                await self._cache.keep(call, reply, bill.cost)
            reply = without_raw(reply)
        except Unanswered as question:
            question.bill = bill
            raise
        except Exception as caught:  # a user's own validator may raise anything
            error = as_error(caught)
        finally:
            reset_journey(token)
        self._settle(journey)
        self._tell(call, reply, error, journey)
        output = reply and reply.output
        return outcome(index, journey, call=call, reply=reply, output=output, error=error), bill

    async def leaves(self, call: Call, told: Sequence[Told]) -> Bill:
        """Pay for the results of a row that is asked elsewhere, for none of them is its answer. Returns the bill."""
        journey, bill = Journey(asyncio.get_running_loop().time()), Bill()
        answers = _Answers(told, partial(self._read, journey, bill), self._settings)
        token = set_journey(journey)
        try:
            await compose(self._layers, answers.next)(call)
        except Exception:  # the question that is open, or the last failure: only the bill counts
            self._settle(journey)
        finally:
            reset_journey(token)
        return bill

    def kept(self, index: int, call: Call, reply: Reply) -> Result[Any]:
        """The result of a row whose answer comes from a cache."""
        journey = Journey(asyncio.get_running_loop().time())
        self._tell(call, reply, None, journey)
        return outcome(index, journey, call=call, reply=without_raw(reply), output=reply.output)

    def failed(self, index: int, call: Call, error: CallError, tries: int = 0) -> Result[Any]:
        """The result of a row that has no answer."""
        journey = Journey(asyncio.get_running_loop().time())
        journey.account.attempts = error.attempts = tries
        self._tell(call, None, error, journey)
        return outcome(index, journey, call=call, error=error)

    def _read(self, journey: Journey, bill: Bill, call: Call, told: Told) -> Reply:
        """Decode a result, and count it with its cost."""
        journey.account.attempts += 1
        try:
            reply = self._codec.decode(call, Response(told.status, {}, told.body))
        except CallError as error:
            if error.reply is not None or may_have_billed(error):
                journey.account.spent(self._cost(error.reply, bill))
            journey.failed(error)
            error.attempts = journey.attempts
            raise
        journey.account.spent(self._cost(reply, bill))
        return reply

    def _cost(self, reply: Reply | None, bill: Bill) -> float | None:
        if reply is None:
            return 0.0  # a row of a batch that failed is not charged
        live, cost = (
            self._prices.cost(self._target, reply.usage, reply.model, service_tier=tier) for tier in (None, TIER)
        )
        bill.add(cost, live, reply.usage.output_tokens)
        return cost

    def _settle(self, journey: Journey) -> None:
        if journey.cost is None:
            self._purse.pay_unknown(0.0)
        else:
            self._purse.pay(journey.cost)

    def _tell(self, call: Call, reply: Reply | None, error: Exception | None, journey: Journey) -> None:
        if self._events:
            now = asyncio.get_running_loop().time()
            self._events.emit(CallFinished(at=now, call=call, reply=reply, error=error, journey=journey))


class _Answers:
    """The results in place of a provider, and in place of the layer that tries again."""

    def __init__(self, told: Sequence[Told], read: Any, settings: Settings) -> None:
        self._told = iter(told)
        self._read = read
        self._attempts = settings.attempts
        self._repeats = Repeats(settings.repeats)
        self._spent = 0

    async def next(self, call: Call) -> Reply:
        """The next answer, or the error if another attempt at the same question is pointless."""
        while (told := next(self._told, None)) is not None:
            try:
                reply: Reply = self._read(call, told)
            except CallError as error:
                self._spent += 1
                if decide(error) not in _AGAIN or self._repeats.final(error) or self._spent >= self._attempts:
                    raise
            else:
                return reply
        raise Unanswered(call)
