"""Answers the calls of the gateway's clients, whole or streamed, in the format in which they ask."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from flatout.edge.relay import RelayedStream, relayed, whole
from flatout.errors import BudgetExceeded, CallError, ConfigError, DeadlineExceeded, InvalidRequest
from flatout.http_server.answer import Answer
from flatout.http_server.requests import Request
from flatout.journey import AttemptNotes, Journey
from flatout.layer import Response
from flatout.money.attempt import Money
from flatout.providers.relay import Inbound, Relayed, Wire, inbound_for
from flatout.providers.relay.inbound import JSON, read_object, refusal_of

from .callers import Caller
from .gate import Gate, KeyRemoved, Place, QueueFull
from .models import Models, UnknownModel

if TYPE_CHECKING:
    from flatout.engine import Engine

DEADLINE = b"x-flatout-deadline"
PRIORITY = b"x-flatout-priority"

AHEAD = 64 * 1024
"""Bytes of a streamed answer that wait for a slow client. With more, the provider is not read, until the client is cut
off: a sum over all clients would be the gateway's memory. Most answers fit into the system's own buffers."""

PRIORITIES = {"high": 1.0, "normal": 0.0, "low": -1.0}
MOST_PRIORITY = 9.0

_OWN = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding", "set-cookie", "server"}
    | {"date", "trailer", "upgrade", "alt-svc", "strict-transport-security", "proxy-authenticate", "via"}
    | {"openai-organization", "anthropic-organization-id"}
)
"""Headers of a provider's answer that mean its connection, or its customer."""

_UNPRICED = (
    "not sent: the price of {name} is not known, so the budget of this key cannot be kept; "
    'whoever runs the gateway can give it in flatout.toml under [prices."{name}"], 0 for a server of their own'
)
"""To a client, which cannot set options of flatout."""

_FINAL = {"x-should-retry": "false"}
"""A header of failures: flatout has retried already, so a vendor's SDK need not."""


class Asking:
    """A call that a client asks for, as far as it is known before it waits for its turn."""

    __slots__ = ("call", "inbound", "priority", "size", "until")

    def __init__(self, call: Relayed[Any], inbound: Inbound, priority: float, size: int, until: float) -> None:
        self.call = call
        self.inbound = inbound
        self.priority = priority
        self.size = size
        self.until = until


class Both:
    """Notes when a call is sent, and its attempts where they are noted anyway; see `flatout.journey.AttemptNotes`."""

    def __init__(self, place: Place, notes: AttemptNotes) -> None:
        self._place = place
        self._notes = notes

    async def begins(self, attempt: int, target: str, estimate: float | None, after: Exception | None, /) -> None:
        """An attempt is sent."""
        await self._notes.begins(attempt, target, estimate, after)
        self._place.sent()

    def failed(self, attempt: int, error: CallError, /) -> None:
        """An attempt failed."""
        self._notes.failed(attempt, error)


class Calls:
    """Answers calls.

    Args:
        engine: sends them.
        models: says which model a name means.
        gate: where they wait for their turn.
    """

    def __init__(self, engine: Engine, models: Models, gate: Gate) -> None:
        self._engine = engine
        self._models = models
        self._gate = gate

    async def answer(self, request: Request, answer: Answer, dialect: str, caller: Caller) -> None:
        """Answer a call. If the client hangs up, this is cancelled, and the call with it."""
        caller.calls += 1
        inbound = inbound_for(dialect)
        failure: Exception | None
        try:
            asking = self._asking(request, dialect, inbound)
            async with self.placed(asking, caller) as journey:
                if asking.call.wire.streams:
                    failure = await self._stream(asking, journey, answer)
                else:
                    _send(answer, await whole(self._engine, asking.call, journey), inbound)
                    failure = asking.call.wire.error
        except asyncio.CancelledError:
            caller.hung_up += 1
            raise
        except Exception as error:
            refuse(answer, error, inbound)
            failure = error
        if failure is not None:
            caller.fails(failure)

    def _asking(self, request: Request, dialect: str, inbound: Inbound) -> Asking:
        """What a request asks.

        Raises:
            InvalidRequest: the request cannot be answered.
            UnknownModel: its model is not served.
        """
        headers = request.headers
        seconds = _deadline(headers) or self._engine.stack.deadline.seconds
        priority = priority_of(headers.get(PRIORITY, b"").decode("latin-1"))
        asked = inbound.read(read_object(request.body))
        if asked.call["extra"].get("background"):
            raise InvalidRequest("background: the gateway keeps no answers that could be fetched later")
        model = self._models.find(asked.model)
        call = relayed(asked, Wire(dialect, request.body, asked.streams), model, deadline=seconds)
        until = asyncio.get_running_loop().time() + seconds
        return Asking(call, inbound, priority, len(request.body), until)

    @asynccontextmanager
    async def placed(self, asking: Asking, caller: Caller, journey: Journey | None = None) -> AsyncIterator[Journey]:
        """A block in which a call has its turn, and its money if its caller has a budget.

        Args:
            asking: the call.
            caller: whose it is.
            journey: its journey, if it has one already.

        Raises:
            QueueFull: there is no room to wait.
            CallError: its turn did not come in time, or would cost more than is left.
            KeyRemoved: its caller's key was removed meanwhile.
        """
        began, removals = asyncio.get_running_loop().time(), caller.removals
        call = asking.call
        assert isinstance(call.model, str), "it was found"
        place = await self._gate.enter(
            caller, call.model, priority=asking.priority, size=asking.size, until=asking.until
        )
        if journey is None:
            journey = Journey(began, tells_cost=caller.purse is not None)
        journey.notes = place if journey.notes is None else Both(place, journey.notes)
        journey.aside = place.steps_aside
        try:
            if caller.purse is not None:
                await self._load_prices(call.model)
            _check_removed(caller, removals)
            if caller.purse is None:
                yield journey
            else:
                async with self._paid(asking, place, journey):
                    _check_removed(caller, removals)  # it may have waited for long
                    yield journey
        finally:
            _left(place, caller, journey)

    async def _load_prices(self, model: str) -> None:
        prices = self._engine.stack.prices
        if not all(map(prices.ready, self._engine.targets_of(model))):
            await prices.load()

    @asynccontextmanager
    async def _paid(self, asking: Asking, place: Place, journey: Journey) -> AsyncIterator[None]:
        """A block for which a call's worst case is reserved from its caller's budget."""
        call, purse, prices = asking.call, place.caller.purse, self._engine.stack.prices
        assert purse is not None, "the caller has a budget"
        targets = self._engine.targets_of(str(call.model))
        try:
            worst = max(purse.worst_cases.of(target, call, prices) for target in targets)
        except ConfigError:
            name = next((each.name for each in targets if prices.worst_case(each, 0, 0) is None), call.model)
            raise BudgetExceeded(_UNPRICED.format(name=name)) from None
        money = Money(purse, (call.model, call.max_tokens), worst)
        if not money.take():
            place.steps_aside()
            await _in_time(money, asking.until)
        try:
            yield
        finally:
            account = journey.account
            purse.pay(account.known)
            for _ in range(account.unknown):
                purse.pay_unknown(worst)
            money.release(account.cost)

    async def _stream(self, asking: Asking, journey: Journey, answer: Answer) -> CallError | None:
        """Stream an answer. Returns why it failed; None if it did not."""
        async with RelayedStream(self._engine, asking.call, journey, ahead=AHEAD) as stream:
            if stream.status >= 400:
                body = b"".join([piece async for piece in stream.pieces()])
                _send(answer, Response(stream.status, stream.headers, body), asking.inbound)
                return asking.call.wire.error
            answer.begin(stream.status, _passed_on(stream.headers))
            try:
                async for piece in stream.pieces():
                    await answer.write(piece)
            except CallError as error:
                refusal = refusal_of(error, asking.inbound)
                await answer.write(b"event: error\ndata: %b\n\n" % refusal.body)
                answer.break_off()
                return error
        return asking.call.wire.error


def _check_removed(caller: Caller, removals: int) -> None:
    """Refuse a call whose caller's key was removed while it waited.

    Raises:
        KeyRemoved: it was.
    """
    if caller.removed or caller.removals != removals:
        raise KeyRemoved(caller.name)


async def _in_time(money: Money, until: float) -> None:
    """Reserve a call's money before its deadline: the server that keeps a shared budget may be away.

    Raises:
        DeadlineExceeded: there was none in time.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout_at(until):
            await money.wait()
    except TimeoutError:
        seconds = loop.time() - began
        raise DeadlineExceeded(f"not sent: its key's budget had no money for it within {seconds:.3g} s") from None


def _left(place: Place, caller: Caller, journey: Journey) -> None:
    account = journey.account
    caller.cost += account.cost or 0.0
    caller.unpriced += account.cost is None
    place.leave()


def _send(answer: Answer, response: Response, inbound: Inbound) -> None:
    """Send a whole answer."""
    failed = response.status >= 400
    if response.status == 401:  # it means the gateway's key, of which a client must learn nothing
        message = "the provider does not accept the gateway's key"
        response = Response(502, JSON, inbound.refusal(502, "api_error", message))
    headers = _passed_on(response.headers)
    answer.send(response.status, {**headers, **_FINAL} if failed else headers, response.body)


def refuse(answer: Answer, error: Exception, inbound: Inbound) -> None:
    """Send a refusal of the gateway's own, in words of the format.

    Raises:
        Exception: it is a fault of the gateway.
    """
    if isinstance(error, UnknownModel):
        answer.send(404, {**JSON, **_FINAL}, inbound.refusal(404, "model_not_found", str(error)))
    elif isinstance(error, QueueFull):
        headers = {**JSON, "retry-after": f"{math.ceil(error.retry_after)}"}
        answer.send(429, headers, inbound.refusal(429, "rate_limit_error", str(error)))
    elif isinstance(error, KeyRemoved):  # as of a call that comes after the removal
        answer.send(401, {**JSON, **_FINAL}, inbound.refusal(401, "authentication_error", str(error)))
    elif isinstance(error, CallError | ConfigError):
        _send(answer, refusal_of(error, inbound), inbound)
    else:
        raise error


def priority_of(text: str) -> float:
    """A priority: high, normal, low or a number; higher goes first. It is rounded to a tenth: each priority has a queue
    of its own, and those of all callers are looked through in each turn.

    Raises:
        InvalidRequest: it is none.
    """
    text = text.strip().lower()
    if not text:
        return 0.0
    if (named := PRIORITIES.get(text)) is not None:
        return named
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= MOST_PRIORITY:
        raise InvalidRequest(f"x-flatout-priority is high, normal, low or a number from -9 to 9, not {text[:40]!r}")
    return round(value, 1)


def _deadline(headers: Mapping[bytes, bytes]) -> float | None:
    """The deadline that a client sets; None if it sets none.

    Raises:
        InvalidRequest: it is no number of seconds.
    """
    given = headers.get(DEADLINE)
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < math.inf:
        raise InvalidRequest(f"x-flatout-deadline is seconds, such as 30, not {given[:40].decode('latin-1')!r}")
    return seconds


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a provider's answer that concern the client."""
    return {name: value for name, value in headers.items() if name not in _OWN}
