"""The call path: its layers, their order, and the reason for each place.

Outer to inner::

    observe      sees every call once, with its outcome
    whole        only on request: an answer that was cut off is a failure, however it was read
    deadline     bounds queueing and retries too
    cache        only on request: a hit costs nothing, not even budget; equal calls are asked once
    fallback     another model is another call, with its own reasks and attempts
    reask        an answer that does not fit is asked for again, as another question
    retry        outside the limiter: a sleeping retry holds no permit, and every attempt is paced anew
    flex         only on request: each attempt chooses its service anew, the cheaper one as long as there is time for it
    route        picks the target (endpoint, key, model) of each attempt: the first that has a permit now
    hedge        only on request: it begins when the attempt has its permit, and its second attempt needs one too
    ── below, one stack per target ──
    prompt cache only on request: outside the limit, so a call that waits for another to fill the cache holds no permit
    health       fails calls at once while the target refuses all of them
    room         only for a cheaper service: calls wait for room there, and hold neither money nor a permit
    budget       every attempt may bill: tells the worst case, and settles by usage, whatever happens further in
    limit        one pacer and one health per target; sees every outcome and every header; calls wait here while the
                 target is down; money is reserved here, for those that go: what waits holds none; permits and money
                 are returned on any exit
    sockets      outside the timeout: a call that waits for a connection is not sent, and its time has not begun
    timeout      bounds one attempt
    endpoint     a codec (pure) over the transport

With the limiter outside the retry, retries would not be paced. A simulated provider of 50 requests a second then
refused 5,786 requests and lost 41 of 2,000 calls; in this order it refused none and lost none.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 - otherwise asyncio loads it in the event loop, for the first thread
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from . import budgets
from .config.settings import Settings
from .events import Events
from .layer import CallNext, Codec, Layer, Transport
from .layers.budget import Budget
from .layers.cache import Answers, Cache, KeyOf, Older, is_whole
from .layers.deadline import Deadline
from .layers.endpoint import Send
from .layers.fallback import Fallback
from .layers.flex import Choose, Room, Tiers
from .layers.health import Health
from .layers.hedge import Hedge
from .layers.observe import Observe
from .layers.reask import Reask
from .layers.retry import Retry
from .layers.route import Routed, Router
from .layers.sockets import Sockets
from .layers.timeout import Timeout
from .layers.whole import Whole
from .limiters import Limiters
from .money.lending import Lender
from .money.prices import Prices
from .money.purse import Purse
from .policies.pacing.tokens import Estimator
from .policies.routing import Lane
from .providers import codec_for, unasked_tokens
from .providers.formats.embeddings import EmbeddingCalls
from .providers.kept import read_again
from .providers.question import Questions
from .providers.schemas.salvage import salvage
from .store.memory import Memory
from .values import Call, Limits, Reply, Route, Target, Usage
from .values.budget import Budget as Allowed

if TYPE_CHECKING:
    from .layers.prompt_cache import PromptCache


_MORE = frozenset({"n", "modalities", "audio", "functions"})
"""Parameters with which an answer may be more than one text, or something else than it."""


def compose(layers: Sequence[Layer], innermost: CallNext) -> CallNext:
    """Nest layers, outermost first, around the innermost service."""
    call_next = innermost
    for layer in reversed(layers):
        call_next = _bind(layer, call_next)
    return call_next


def _bind(layer: Layer, call_next: CallNext) -> CallNext:
    own = layer.__call__  # Python calls a method faster than an object

    def answer(call: Call) -> Awaitable[Reply]:
        return own(call, call_next)

    return answer


class KeptAnswers(NamedTuple):
    """The answers that a call path may use again.

    Attributes:
        answers: the cache; None for none.
        older: the answers of an earlier run; None for none.
        describe: says what a call asks, for people, as JSON.
    """

    answers: Answers | None
    older: Older | None
    describe: Callable[[Call], bytes]

    def closing(self) -> Iterator[Callable[[], Awaitable[object]]]:
        """What closes their files."""
        return (part.close for part in (self.answers, self.older) if part is not None)


class Stack:
    """The whole call path of one Client.

    Attributes:
        answer: the call path as one function.
        answer_in_tier: the same for calls that name a service tier, or go to the cheaper one.
        embed: the same for embeddings; see `flatout.providers.formats.embeddings.EmbeddingCalls`.
        purse: the money spent and reserved.
        limiters: the limiters of the targets in use.
        prices: the price list.
        cache: looks calls up before they are asked; None if the user wants no cache.
        deadline: bounds every call.
    """

    def __init__(
        self,
        resolve: Callable[[str, Call], Awaitable[Target]],
        route: Callable[[Call], Route | None],
        model: Callable[[Call], str],
        transport: Transport,
        *,
        settings: Settings,
        limits: Callable[[Target], Limits],
        prices: Prices,
        events: Events,
        random: Random,
        memory: Memory | None = None,
        kept: KeptAnswers | None = None,
    ) -> None:
        self._resolve = resolve
        self._route = route
        self._model = model
        self._lanes: dict[tuple[str, str, str, bool], Lane] = {}  # by the kind of request, the target, and the service
        self._looking: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(
            asyncio.Lock
        )  # by what limits belong to
        self._transport = transport
        self._sockets: list[Layer] | None = None  # made with the first target's stack, when all files are open
        self._making = threading.Lock()
        self._settings = settings
        self.prices = prices
        self._events = events
        self.purse = Purse(
            settings.budget, lender=_lender(settings.budget), allow_unknown_price=settings.allow_unknown_price
        )
        self.limiters = Limiters(limits, settings, events, memory)
        retry = Retry(settings.attempts, random, events, repeats=settings.repeats)
        observe, deadline = Observe(events), Deadline(settings.deadline)
        self.deadline = deadline
        whole = [Whole()] if settings.fail_truncated else []
        self.cache = None if kept is None else self._cache(kept, settings.cache_max_age)
        cache = [] if self.cache is None else [self.cache]
        outer: list[Layer] = [
            observe,
            *whole,
            deadline,
            *cache,
            Fallback(route),
            Reask(settings.reasks, salvage),
            retry,
        ]
        way = partial(self._way, "chat", codec_for)
        self.answer = compose(outer, Router(way))
        self.answer_in_tier = compose([*outer, Choose()], Tiers(lambda tier: Router(partial(way, tier=tier))))
        self.embed = compose(
            [observe, deadline, Fallback(route), retry],
            Router(partial(self._way, "embeddings", EmbeddingCalls)),
        )
        self._kept = kept
        self._relays: dict[tuple[str, str], CallNext] = {}  # by the requests' format and the target they name
        self._around_relays: Sequence[Layer] = (observe, deadline, Fallback(route), retry)

    def relay(self, call: Call) -> Awaitable[Reply]:
        """Answer a call that another program makes; see `flatout.providers.relay`."""
        from .providers.relay.relayed import wire_of

        wire = wire_of(call)
        path = self._relays.get(wire.path)
        if path is None:
            path = self._relays[wire.path] = self._relay(wire.dialect)
        return path(call)

    def _relay(self, dialect: str) -> CallNext:
        """The call path for requests of one format: without reasks, since the program itself judges the answers."""
        from .providers.relay import RelayCodec, declined

        def codec(target: Target) -> Codec:
            return RelayCodec(target, dialect, self.prices.wall)

        observe, deadline, *inner = self._around_relays
        cache: list[Layer] = []
        if self._kept is not None and dialect != "embeddings":
            cache.append(self._cache(self._kept, self._settings.cache_max_age, codec))
        way = Router(partial(self._way, f"relayed {dialect}", codec))
        return compose([observe, deadline, *cache, declined, *inner], way)

    def _cache(self, kept: KeptAnswers, max_age: float | None, codec: Callable[[Target], Codec] = codec_for) -> Cache:
        return Cache(
            kept.answers,
            kept.older,
            find=partial(self._key_of, codec) if codec is codec_for else partial(self._relayed_key_of, codec),
            read=read_again if codec is codec_for else _as_it_is,
            describe=kept.describe,
            wall=self.prices.wall,
            max_age=max_age,
            good=is_whole if codec is codec_for else _is_good,
            hit=self.limiters.trust,
        )

    async def _key_of(self, codec: Callable[[Target], Codec], call: Call) -> KeyOf:
        """The function that makes the keys of a call's questions.

        The targets of a route stand for each other, so an answer of one is an answer of all; but it is none to a call
        that names one of them alone.
        """
        route = self._route(call)
        first, *others = (self._model(call),) if route is None else route.targets
        target = await self._looked_up(first, call)
        return Questions(target, codec(target), others).key

    async def _relayed_key_of(self, codec: Callable[[Target], Codec], call: Call) -> KeyOf:
        """Makes the cache keys of other programs' calls. Those for more than a text have none: it would be lost."""
        key_of = await self._key_of(codec, call)
        return lambda call: None if call.logprobs or not _MORE.isdisjoint(call.extra or ()) else key_of(call)

    @property
    def shared(self) -> Sequence[Callable[[], None]]:
        """What finds out whether the budget and the cache are there that processes share, before anything is sent.

        The functions block, and raise ConfigError; see `flatout.presence`.
        """
        budget = [self.purse.check] if self.purse.borrower is not None else []
        cache = [] if self._kept is None or self._kept.answers is None else [self._kept.answers.check]
        return [*budget, *cache]

    def check(self, target: Target, call: Call) -> None:
        """Check, without sending anything to the target, that the limits and the budget can be kept for a call.

        Raises:
            ConfigError: they cannot be kept; the message says why.
        """
        self.limiters.check(target)
        if self.purse.budget is not None:
            self.purse.worst_cases.of(target, call, self.prices, cap=self._cap(target)(call))

    async def _way(self, kind: str, codec: Callable[[Target], Codec], call: Call, tier: str | None = None) -> CallNext:
        """What sends the attempts of a call's model: the layers of its target, or a route to several."""
        route = self._route(call)
        if route is None:
            return (await self._lane(kind, codec, self._model(call), call, tier)).send
        lanes = [await self._lane(kind, codec, model, call) for model in route.targets]
        return Routed(lanes, route, Hedge(route.hedge) if route.hedge else None)

    async def _lane(
        self, kind: str, codec: Callable[[Target], Codec], model: str, call: Call, tier: str | None = None
    ) -> Lane:
        """The one lane of a target's service: all names of a target share its limits."""
        target = await self._looked_up(model, call)
        cheap = bool(tier) and tier == target.endpoint.flex
        which = (kind, target.name, target.key, cheap)
        lane = self._lanes.get(which)
        if lane is None:
            lane = self._lanes[which] = self._for_target(kind, codec, target, target.endpoint.flex if cheap else "")
        return lane

    async def _looked_up(self, model: str, call: Call) -> Target:
        """A model's target. Everything stored about it is read first, in a thread, because disks may be slow."""
        target = await self._resolve(model, call)
        async with self._looking[target.limited]:  # also where it is known by now: first in, first out
            if not self.limiters.knows(target):
                await asyncio.to_thread(self._look_up, target)
        return target

    def _look_up(self, target: Target) -> None:
        """Load what the first call to a target needs: its codec, the number of connections, its limiter."""
        for check in self.shared:  # unless many calls were begun, which has seen to it
            check()
        codec_for(target)
        self._for_all_targets()
        self.limiters.find(target)

    def _for_target(self, kind: str, codec: Callable[[Target], Codec], target: Target, tier: str) -> Lane:
        limiter = self.limiters.of(target)
        limit, estimate = limiter.limit, self._estimate(target, limiter.estimator)
        name = f"{target.name}@{tier}" if tier else target.name
        service = limit.health.service(kind, name, spare=bool(tier))
        room = Room(name, self._events) if tier else None
        cache = self._prompt_cache(target, limiter.estimator) if codec is codec_for else None
        limit.asides += [each for each in (cache, room) if each is not None]
        attempt = compose(
            [
                *([] if cache is None else [cache]),
                Health(service),
                *([] if room is None else [room]),
                Budget(target, self.purse, self.prices, estimate, self._cap(target)),
                partial(limit, service=service),
                *([] if room is None else [room.sent]),
                *([] if cache is None else [cache.sent]),
                *self._for_all_targets(),
                Timeout(self._settings.timeout),
            ],
            Send(
                codec(target),
                self._transport,
                target.name,
                estimate,
                self._settings.gaps if codec is codec_for else None,  # embeddings cannot be streamed
                noted=name,
            ),
        )
        return Lane(target.name, limit.queue, service, attempt)

    def _prompt_cache(self, target: Target, estimator: Estimator) -> PromptCache | None:
        """The layer that fills and uses the provider's prompt cache, if it is wanted and there is one to use."""
        if self._settings.prompt_cache != "auto":
            return None
        from .layers.prompt_cache import PromptCache
        from .policies.prefixes import Beginnings
        from .policies.warmth import Warmth
        from .providers.prompt_caches import PromptReader, rules_of

        rules = rules_of(target)
        if rules is None:
            return None
        known = Beginnings(estimator.count, rules.least)
        warmth = partial(Warmth, rules.lifetime, rules.per_minute)
        return PromptCache(target.name, PromptReader(target, rules), known, most=rules.most, warmth=warmth)

    def _for_all_targets(self) -> list[Layer]:
        """The layers that all targets share: the bound on the transport's connections, if there is one."""
        with self._making:
            if self._sockets is None:
                capacity = getattr(self._transport, "capacity", None)
                most = capacity() if capacity is not None else None
                self._sockets = [Sockets(most, self._events)] if most is not None else []
            return self._sockets

    def _cap(self, target: Target) -> Callable[[Call], int | None]:
        """A function that tells the most tokens of an answer without ``max_tokens``, if they are known."""
        asked, prices = unasked_tokens(target), self.prices
        return lambda call: prices.context(target) if (most := asked(call)) is None else most

    def _estimate(self, target: Target, estimator: Estimator) -> Callable[[Call], float | None]:
        """A function that estimates an attempt's cost, for the run file and for answers that do not report usage."""

        def estimate(call: Call) -> float | None:
            if not self.prices.is_known(target):
                return None
            need = estimator.need(call)
            return self.prices.cost(target, Usage(input_tokens=int(need.input), output_tokens=int(need.output)))

        return estimate


def _as_it_is(_: Call, reply: Reply) -> Reply:
    return reply


def _is_good(call: Call, reply: Reply) -> bool:
    """Whether an answer to another program's call is one to be used again."""
    from .providers.relay.relayed import wire_of

    return not wire_of(call).doubtful and is_whole(call, reply)


def _lender(budget: Allowed | None) -> Lender | None:
    """The keeper of a budget that processes share; None if the budget is one run's."""
    if budget is None or budget.shared is None:
        return None
    return budgets.lender(budget)
