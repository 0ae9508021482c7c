"""The engine of one Client. It owns the targets, the call path, the connections and the embedded model."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import astuple

from .config.file import Config
from .config.folders import cache_folder
from .config.settings import Settings
from .errors import ConfigError, InvalidRequest
from .events import TARGETS, Event, Events
from .journey import Journey, current_journey, reset_journey, set_journey
from .layer import CallNext, Transport
from .money.prices import Prices
from .providers import codec_for
from .providers.formats.embeddings import CAPS, Caps
from .providers.targets import Targets
from .providers.wire.hints import hint_at
from .stack import KeptAnswers, Stack
from .store.memory import Memory
from .tasks.closing import close_all
from .values import Call, Endpoint, Limits, Reply, Result, Route, Target
from .values.place import is_place

if TYPE_CHECKING:
    from .local import LocalServer
    from .providers.relay import Relayed
    from .telemetry._log import EventLog

_log = logging.getLogger("flatout")

WINDOW = 1_000
"""Calls that are read ahead from the input if no limit says otherwise."""


def window_of(limits: Limits) -> int:
    """How many calls in progress use these limits to the full: with a known ``rpm``, those of two minutes."""
    if limits.concurrency is not None:
        return limits.concurrency + limits.concurrency // 4 + 1
    if limits.rpm is not None:
        return min(WINDOW * 10, max(64, int(limits.rpm * 2)))
    return WINDOW


class Engine:
    """Answers calls. It belongs to the event loop in which it is first used.

    Args:
        targets: finds the target of a model's name.
        settings: timeouts, retries, the budget.
        config: the configuration in force, which has the user's own prices.
        transport: carries the requests; None for HTTP.
        trust_env: obey ``HTTPS_PROXY`` and similar variables.
        seed: makes the jitter of retries repeatable.
        kept: answers that may be used again; None for none.
    """

    def __init__(
        self,
        targets: Targets,
        settings: Settings,
        config: Config,
        *,
        transport: Transport | None,
        trust_env: bool,
        seed: int | None,
        kept: KeptAnswers | None = None,
    ) -> None:
        self.targets = targets
        self.settings = settings
        self.config = config
        self.loop: asyncio.AbstractEventLoop | None = None
        self.closed = False
        self.events = Events()
        self.remembers = transport is None
        self.transport = transport or _http(trust_env, config)
        self.kept = kept
        self._local: LocalServer | None = None
        self._starting = asyncio.Lock()
        self._warned = False
        self._accepted: set[tuple[str, str | None, frozenset[str] | None]] = set()
        self.in_lane: set[tuple[str, str | None]] = set()  # lanes and models that go together: each row asks
        self.stack = Stack(
            self._resolve,
            self._route,
            self._model_of,
            self.transport,
            settings=settings,
            limits=targets.limits_of,
            prices=Prices({name: astuple(price) for name, price in config.prices.items()}, wall=time.time),
            events=self.events,
            random=random.Random(seed),
            memory=_memory() if transport is None else None,
            kept=kept,
        )
        given = (targets.client_limits, *config.limits.values())
        if any(each.shared is not None and is_place(each.shared) for each in given):
            self.stack.limiters.count()

    @property
    def window(self) -> int:
        """How many calls are read ahead from the input."""
        return window_of(self.targets.client_limits)

    def bind(self) -> None:
        """Bind the client to the running event loop.

        Raises:
            ConfigError: the client is closed, or is bound to another loop.
        """
        loop = asyncio.get_running_loop()
        if self.closed:
            raise ConfigError("this client is closed")
        if self.loop is None:
            self.loop = loop
            self._log_events()
        elif self.loop is not loop:
            raise ConfigError("a client belongs to one event loop: make another client for another loop")

    def _log_events(self) -> None:
        """Log events, if the loggers are enabled for them: those of calls cost every call a little."""
        if _log.isEnabledFor(logging.INFO):
            self.events.subscribe(self._event_log.hear)
        elif logging.getLogger(TARGETS).isEnabledFor(logging.WARNING):
            self.events.subscribe(self._warn, calls=False)

    def _warn(self, event: Event) -> None:
        self._event_log.hear(event)

    @cached_property
    def _event_log(self) -> EventLog:
        """Loaded when it is needed: most programs end without a warning."""
        from .telemetry._log import EventLog

        return EventLog(self.stack.limiters.limits)

    def shared(self, models: Sequence[str] | None = None) -> Sequence[Callable[[], None]]:
        """What finds out whether everything is there that processes share. No call could be sent without it.

        The functions block, and raise ConfigError; see `flatout.presence`.

        Args:
            models: the models that are asked; None for the client's own.
        """
        places = filter(is_place, self.targets.sharing((self.targets.model,) if models is None else models))
        return [*self.stack.shared, *(partial(self.stack.limiters.check_place, place) for place in places)]

    def check_shared(self, models: Sequence[str] | None = None) -> None:
        """Find out whether everything is there that processes share; see `shared`. Blocks.

        Raises:
            ConfigError: something is not. Nothing was sent.
        """
        for check in self.shared(models):
            check()

    async def find_shared(self, models: Sequence[str] | None = None) -> None:
        """As `check_shared`, without blocking the event loop."""
        if self.shared(models):
            await asyncio.to_thread(self.check_shared, models)

    def check(self, call: Call) -> None:
        """See `flatout.Client.check`."""
        for name in call.extra or ():
            hint_at(name)
        model = self._model_of(call)
        route = self.targets.routes.find(model)
        kind = (model, call.service_tier, None if route is None else parts_of(call))  # nothing else affects the result
        if kind in self._accepted:
            return
        for name in self.targets.routes.reachable(model):
            self.stack.check(self._target(name), call)
        if route is not None:
            for other in route.fallback.values():
                self._check_parts(call, model, self.targets.routes.models(other))
        self._accepted.add(kind)

    def go_on(self, run: Hashable, spent: float, *, answered: bool = False) -> None:
        """Go on with a run of earlier processes.

        Args:
            run: the run. What it spent counts once.
            spent: the US dollars that they spent on it, which count towards the budget.
            answered: whether it has answers. Then a refusal concerns its own call, however many there are.
        """
        self.stack.purse.go_on(run, spent)
        if answered:
            self.stack.limiters.trust()

    def saved(self, result: Result[Any]) -> float | None:
        """US dollars that the provider's prompt cache saved in a result's answer, less what it cost to write.

        None if there is no answer, or if a price is unknown or not loaded yet.
        """
        call, reply = result.call, result.reply if result.reply is not None else getattr(result.error, "reply", None)
        if call is None or reply is None:
            return None
        model = (result.trail[-1].target if result.trail else None) or call.model or self.targets.model
        if not isinstance(model, str) or self.targets.is_local(model):
            return None
        try:
            target = self.targets.target(model)
        except ConfigError:  # a route from which nobody has answered
            return None
        prices = self.stack.prices
        if not prices.ready(target):
            return None
        return prices.saved(target, reply.usage, reply.model, service_tier=reply.service_tier or call.service_tier)

    def targets_of(self, model: str | None) -> tuple[Target, ...]:
        """Where the calls to a model or a route go, without starting anything; the client's model when None.

        Raises:
            ConfigError: the model is missing or unknown, or there is no key for it.
        """
        return tuple(map(self._target, self._models(model)))

    def _models(self, model: str | None) -> tuple[str, ...]:
        """The models that stand for a name, the client's when None: one, or the targets of a route."""
        return self.targets.routes.models(self._model_of(Call("", model=model)))

    def _check_parts(self, call: Call, model: str, others: Sequence[str]) -> None:
        """Refuse a call that none of a fallback's targets can take."""
        for name in others:
            try:
                codec_for(target := self._target(name)).encode(call)
            except InvalidRequest as error:
                refusal = f"{target.name}, a fallback of {model}, cannot take the call: {error}"
            else:
                return
        raise ConfigError(refusal)

    def _target(self, model: str) -> Target:
        """A model's target. The embedded model need not run yet."""
        if not self.targets.is_local(model):
            return self.targets.target(model)
        from . import local

        local.check()
        return self.targets.local(local.endpoint(""))

    def host(self, model: str | None) -> str:
        """See `flatout.Client.host`."""
        return " and ".join(dict.fromkeys(filter(None, map(self.targets.elsewhere, self._models(model)))))

    def answer(self, call: Call, journey: Journey) -> Awaitable[Reply]:
        """Answer a call. If it is part of a durable item, the item's journal may have its answer already."""
        stack = self.stack
        plain = journey.flex is None and call.service_tier is None
        return self._answer(call, journey, stack.answer if plain else stack.answer_in_tier)

    def embed(self, call: Call, journey: Journey) -> Awaitable[Reply]:
        """Answer an embeddings call; see `flatout.providers.formats.embeddings.EmbeddingCalls`."""
        return self._answer(call, journey, self.stack.embed)

    def relay(self, call: Relayed, journey: Journey) -> Awaitable[Reply]:
        """Answer a call that another program makes; see `flatout.providers.relay`."""
        return self._answer(call, journey, self.stack.relay)

    async def target(self, model: str | None) -> Target:
        """The target of a model, the first one of a route; the client's own when None.

        Raises:
            ConfigError: the model is missing or unknown.
        """
        first, *_ = self._models(model)
        return await self._resolve(first, Call(""))

    async def caps(self, model: str | None) -> Caps:
        """The most that one embeddings request may contain.

        Raises:
            ConfigError: the model is missing or unknown, or its provider has no embeddings.
        """
        target, *_ = self.targets_of(model)
        caps = CAPS.get(target.endpoint.dialect)
        if caps is None:
            raise ConfigError(f"{target.endpoint.name} has no embeddings")
        return caps

    async def close(self) -> None:
        """Close every connection, and stop the embedded model if this client started it.

        If one part fails to close, the others are closed all the same. Then the first error is raised.
        """
        remember = () if self.closed else (partial(asyncio.to_thread, self.stack.limiters.remember),)
        kept = () if self.closed or self.kept is None else self.kept.closing()
        self.closed = True
        if "_event_log" in self.__dict__:
            self._event_log.flush()
        stack = self.stack
        await close_all(
            *remember, *kept, self.transport.close, stack.limiters.close, stack.purse.close, self._stop_local
        )

    async def _answer(self, call: Call, journey: Journey, path: CallNext) -> Reply:
        outer = current_journey(None)
        journey.tells_cost = journey.tells_cost or outer is not None or bool(self.events)
        token = set_journey(journey)
        try:
            if outer is not None and outer.journal is not None:
                return await outer.journal.answer(self, call, journey, path)
            return await path(call)
        finally:
            reset_journey(token)
            if outer is not None:
                outer.account.add(journey.account)

    def _model_of(self, call: Call) -> str:
        model = call.model or self.targets.model
        if model is None:
            raise ConfigError(
                "no model: name one, such as openai/gpt-5-mini or local, with -m or model=, or in flatout.toml"
            )
        return model

    def _route(self, call: Call) -> Route | None:
        return self.targets.routes.find(self._model_of(call))

    async def _resolve(self, model: str, call: Call) -> Target:
        wire = getattr(call, "wire", None)  # of a call that another program makes
        if wire is not None and wire.at is not None:
            at: Target = wire.at
            return at
        if self.targets.is_local(model):
            self._warn_of_length(call)
            return self.targets.local(await self._local_server())
        return self.targets.target(model)

    def _warn_of_length(self, call: Call) -> None:
        """Warn once that an answer without ``max_tokens`` may be very long: so small a model may not stop by itself."""
        if call.max_tokens is None and call.output is None and not self._warned:
            self._warned = True
            _log.warning(
                "the embedded model may write for minutes: limit its answers with max_tokens (--param max_tokens=200)"
            )

    async def _stop_local(self) -> None:
        local, self._local = self._local, None
        if local is not None:
            await asyncio.to_thread(local.stop)

    async def _local_server(self) -> Endpoint:
        """Start the embedded model, once."""
        from .local import LocalServer

        async with self._starting:
            if self._local is None:
                server = LocalServer()
                self._local = await server.__aenter__()
        return self._local.endpoint()


def parts_of(call: Call) -> frozenset[str]:
    """What a call has that not every model takes: tools, a schema, and the kinds of its messages' parts."""
    contents = [message.get("content") for message in call.messages or ()]
    parts = [part for content in contents if isinstance(content, list | tuple) for part in content]
    kinds = {str(part.get("type")) if isinstance(part, Mapping) else type(part).__name__ for part in parts}
    return frozenset(kinds | ({"tools"} if call.tools else set()) | ({"output"} if call.output is not None else set()))


def _http(trust_env: bool, config: Config) -> Transport:
    from .transports.http import MAX_HELD, HttpTransport

    return HttpTransport(trust_env=trust_env, max_held=config.part_of(MAX_HELD))


def _memory() -> Memory | None:
    try:
        return Memory(cache_folder() / "targets")
    except ConfigError:  # without a home folder, nothing is remembered between runs
        return None
