"""Turns the results of one row's batches into its Result, as the live call path would have.

A row may have several results: an answer that did not fit, and the answer to the follow-up. They are given to the same
layers that a live call passes, in their order. If the layers want one answer more, the row's next question is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

from flatout.config.settings import Settings
from flatout.edge.fan_out import as_error, outcome
from flatout.errors import CallError
from flatout.events import CallFinished, Events
from flatout.journey import Journey, current_journey, reset_journey, set_journey
from flatout.layer import Codec, Layer, Response
from flatout.layers.cache import Cache
from flatout.layers.reask import Reask
from flatout.layers.whole import Whole
from flatout.money.prices import Prices
from flatout.money.purse import Purse
from flatout.policies.failures.decision import Decision, Repeats, decide, may_have_billed
from flatout.providers.schemas.salvage import salvage
from flatout.stack import compose
from flatout.store.ledger import Told
from flatout.values import Call, Reply, Result, Target
from flatout.values.reply import without_raw

TIER = "batch"
"""The name of the lane's price; see `flatout.money.prices.Prices.cost`."""

_NO_HEADERS: Mapping[str, str] = {}

_ANY = Call("")
"""Stands for a call that is not at hand."""

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
        layers: list[Layer] = [*([Whole()] if settings.fail_truncated else []), Reask(settings.reasks, salvage)]
        self._ask = compose(layers, _next)

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
        bill = Bill()
        reply: Reply | None = None
        error: Exception | None = None
        try:
            reply = await self._answer(call, told, journey, bill)
            if self._cache is not None:
                await self._cache.keep(call, reply, bill.cost)
            reply = without_raw(reply)
        except Unanswered as question:
            question.bill = bill
            raise
        except Exception as caught:  # a user's own validator may raise anything
            error = as_error(caught)
        self._settle(journey)
        self._tell(call, reply, error, journey)
        output = reply and reply.output
        return outcome(index, journey, call=call, reply=reply, output=output, error=error), bill

    async def leaves(self, call: Call, told: Sequence[Told]) -> Bill:
        """Pay for the results of a row that is asked elsewhere, for none of them is its answer. Returns the bill."""
        journey, bill = Journey(asyncio.get_running_loop().time()), Bill()
        try:
            await self._answer(call, told, journey, bill)
        except Exception:  # the question that is open, or the last failure: only the bill counts
            self._settle(journey)
        return bill

    def bill(self, told: Sequence[Told]) -> Bill:
        """What the results of a row have cost, whatever it asked."""
        journey, bill = Journey(0.0), Bill()
        token = set_journey(journey)
        try:
            for each in told:
                with suppress(CallError):
                    self.read(_ANY, each, bill)
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

    async def _answer(self, call: Call, told: Sequence[Told], journey: Journey, bill: Bill) -> Reply:
        """What the layers make of a row's results."""
        answers = _answers.set(_Answers(self, told, bill, self._settings))
        token = set_journey(journey)
        try:
            return await self._ask(call)
        finally:
            reset_journey(token)
            _answers.reset(answers)

    def read(self, call: Call, told: Told, bill: Bill) -> Reply:
        """Decode a result, and count it with its cost.

        Raises:
            CallError: it is no usable answer.
        """
        journey = current_journey()
        journey.account.attempts += 1
        try:
            reply = self._codec.decode(call, Response(told.status, _NO_HEADERS, told.body))
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
        usage, model = reply.usage, reply.model
        cost = self._prices.cost(self._target, usage, model, service_tier=TIER)
        live = None if cost is None else self._prices.cost(self._target, usage, model)
        bill.add(cost, live, usage.output_tokens)
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

    __slots__ = ("_bill", "_repeats", "_replay", "_settings", "_spent", "_told")

    def __init__(self, replay: Replay, told: Sequence[Told], bill: Bill, settings: Settings) -> None:
        self._replay = replay
        self._told = iter(told)
        self._bill = bill
        self._settings = settings
        self._repeats: Repeats | None = None  # almost no row needs it
        self._spent = 0

    def next(self, call: Call) -> Reply:
        """The next answer, or the error if another attempt at the same question is pointless."""
        for told in self._told:
            try:
                return self._replay.read(call, told, self._bill)
            except CallError as error:
                if self._is_final(error):
                    raise
        raise Unanswered(call)

    def _is_final(self, error: CallError) -> bool:
        self._spent += 1
        if self._repeats is None:
            self._repeats = Repeats(self._settings.repeats)
        return decide(error) not in _AGAIN or self._repeats.final(error) or self._spent >= self._settings.attempts


_answers: ContextVar[_Answers] = ContextVar("flatout_answers")


async def _next(call: Call) -> Reply:
    """The innermost service of all rows: one nest of layers serves them all."""
    return _answers.get().next(call)
