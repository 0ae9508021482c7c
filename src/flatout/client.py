"""The Client: calls in, one result per call out."""

from __future__ import annotations

import asyncio
import os
import random
import time
import warnings
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec

from .config import Config, cache_folder, load
from .durable_map import durable_map
from .durable_run import durable_calls
from .edge import fan_out, outcome, run_function
from .errors import ConfigError
from .events import Events
from .layer import Journey, Transport, journey, reset_journey, set_journey
from .layers.limit import TargetStatus
from .policies.price import Prices
from .providers.targets import Targets
from .stack import Settings, Stack
from .store.memory import Memory
from .values import Call, CallLike, Endpoint, Limits, Reply, Result, Target, is_positive

if TYPE_CHECKING:
    from .local import LocalServer

ItemT = TypeVar("ItemT")
OutputT = TypeVar("OutputT")

WEEK = 7 * 86_400.0

WINDOW = 1_000
"""Calls taken from the input ahead of their answers, where no limit says otherwise."""


class Client:
    """Runs calls flat out: as fast as the limits allow, and never past them.

    Use it as ``async with Client(…) as client``, in one event loop.

    Args:
        model: ``provider/model`` for calls that name none; ``local`` is the embedded model.
        base_url: an OpenAI-compatible server; any model name is then taken as it is.
        api_key: the key of the model's endpoint; else its environment variable (with ``base_url``:
            ``FLATOUT_API_KEY``).
        limits: what each target allows.
        timeout: seconds for one attempt; default 300.
        deadline: seconds for a whole call, queueing and retries included; default 3600.
        retries: attempts after the first; default 5. Throttled attempts (429) do not count.
        budget: the most US dollars to spend; calls that might exceed it are not sent.
        headers: sent with every request.
        config: a flatout.toml, a `Config` or a mapping; by default flatout.toml is looked for upward from here.
        transport: carries the requests instead of HTTP; see `flatout.testing`.
        wait_for_quota: wait when a target's quota is used up, instead of failing its calls; the default deadline is
            then a week.
        seed: makes the jitter of retries repeatable.
        trust_env: obey ``HTTPS_PROXY`` and its like.

    Raises:
        ConfigError: an option is wrong, the model unknown, or its key missing.
    """

    _loop: asyncio.AbstractEventLoop | None = None  # so that `__del__` finds one, however early `__init__` failed

    def __init__(
        self,
        model: str | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        limits: Limits | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
        retries: int | None = None,
        budget: float | None = None,
        headers: Mapping[str, str] | None = None,
        config: Config | Mapping[str, object] | str | os.PathLike[str] | None = None,
        transport: Transport | None = None,
        wait_for_quota: bool = False,
        seed: int | None = None,
        trust_env: bool = False,
    ) -> None:
        settings = load(config)
        self._targets = Targets(
            model=model, base_url=base_url, api_key=api_key, headers=headers, limits=limits, config=settings
        )
        retries = _first(retries, settings.retries, 5)
        if not isinstance(retries, int) or retries < 0:
            raise ConfigError(f"retries is a whole number from 0 on, not {retries!r}")
        if self._targets.model is not None and self._targets.is_local(self._targets.model):
            from .local import check

            check()
        self._transport = transport or _http(trust_env)
        self._local: LocalServer | None = None
        self._starting = asyncio.Lock()
        self._closed = False
        self._accepted: set[tuple[str | None, bool]] = set()
        self.events = Events()
        self._stack = Stack(
            self._resolve,
            self._transport,
            settings=Settings(
                timeout=_positive("timeout", _first(timeout, settings.timeout, 300.0)),
                deadline=_positive("deadline", _first(deadline, settings.deadline, WEEK if wait_for_quota else 3600.0)),
                attempts=retries + 1,
                wait_for_quota=wait_for_quota,
            ),
            limits=self._targets.limits_of,
            prices=Prices(
                {name: (price.input, price.output) for name, price in settings.prices.items()}, wall=time.time
            ),
            budget=_money(_first(budget, settings.budget)),
            events=self.events,
            random=random.Random(seed),
            memory=_memory() if transport is None else None,
        )

    def __repr__(self) -> str:
        return f"Client(model={self._targets.model!r}, spent=${self._stack.purse.spent:.4f}, closed={self._closed})"

    async def __aenter__(self) -> Self:
        self._bind()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection, and end the embedded model if this client started it."""
        if not self._closed:
            self._stack.remember()
        self._closed = True
        await self._transport.close()
        if self._local is not None:
            local, self._local = self._local, None
            await asyncio.to_thread(local.stop)

    def __del__(self) -> None:
        if self._loop is not None and not self._closed:
            warnings.warn(f"{self!r} was not closed: use it as `async with`", ResourceWarning, stacklevel=2)

    @property
    def spent(self) -> float:
        """US dollars known to be spent. See `unpriced` for what is not known."""
        return self._stack.purse.spent

    @property
    def window(self) -> int:
        """How many calls are taken from the input ahead of their answers.

        Enough to use the limits to the full, few enough that no call waits for minutes.
        """
        limits = self._targets.client_limits
        if limits.concurrency is not None:
            return limits.concurrency + limits.concurrency // 4 + 1
        if limits.rpm is not None:
            return min(WINDOW * 10, max(64, int(limits.rpm * 2)))
        return WINDOW

    def status(self) -> list[TargetStatus]:
        """What each target in use is doing now."""
        return [limit.status() for limit in self._stack.limits.values()]

    @property
    def unpriced(self) -> int:
        """Attempts that may have been billed an amount that is not known."""
        return self._stack.purse.unknown

    def check(self, call: Call) -> None:
        """Find out whether a call could be sent, without sending anything. Cheap, for whoever checks a million.

        Raises:
            ConfigError: its model is missing or unknown, there is no key for it, or the budget cannot be kept.
        """
        model = self._model_of(call)
        kind = (model, call.max_tokens is None)  # all that the answer depends on
        if kind in self._accepted:
            return
        if self._targets.is_local(model):
            from . import local

            local.check()
            target = self._targets.local(local.endpoint(""))
        else:
            target = self._targets.target(model)
        self._stack.check(target, call)
        self._accepted.add(kind)

    async def call(self, call: CallLike, /, **options: Any) -> Reply:
        """Answer one call.

        Args:
            call: a prompt, a dict or a `Call`.
            **options: what a `Call` takes by name, such as ``temperature=0``.

        Raises:
            CallError: it has no answer; the class says why.
            ConfigError: the call itself is wrong, or its model unknown.
        """
        self._bind()
        made = Call.of(call)
        if options:
            made = Call.of({**msgspec.structs.asdict(made), **options})
        return await self._answer(made, Journey(asyncio.get_running_loop().time()))

    async def result(self, call: CallLike, /, *, index: int = 0, trip: Journey | None = None) -> Result[Any]:
        """Answer one call; a failure stands in the result instead of being raised.

        Args:
            call: the call.
            index: the result's ``index``.
            trip: a `Journey` to watch the call by while it is under way.
        """
        self._bind()
        return await self._result(index, call, trip)

    async def gather(
        self,
        calls: Iterable[CallLike] | AsyncIterable[CallLike],
        *,
        strict: bool = False,
        store: str | os.PathLike[str] | None = None,
        retry_failed: bool = False,
    ) -> list[Result[Any]]:
        """Answer many calls; the results stand in input order.

        Args:
            calls: prompts, dicts or Calls; a list, a generator or an async generator.
            strict: raise the first failure, after the calls still under way were cancelled and have ended.
                Otherwise failures stand in their results.
            store: as for `as_completed`.
            retry_failed: as for `as_completed`.
        """
        found: dict[int, Result[Any]] = {}
        async with aclosing(self.as_completed(calls, store=store, retry_failed=retry_failed)) as results:
            async for result in results:
                if strict and result.error is not None:
                    raise result.error
                found[result.index] = result
        return [found[index] for index in range(len(found))]

    def as_completed(
        self,
        calls: Iterable[CallLike] | AsyncIterable[CallLike],
        *,
        store: str | os.PathLike[str] | None = None,
        retry_failed: bool = False,
    ) -> AsyncGenerator[Result[Any], None]:
        """Answer many calls; yield each result as it completes.

        Input is read lazily, a bounded number of calls ahead. Leaving the loop early cancels what is under way; to
        wait for that, use ``async with contextlib.aclosing(client.as_completed(…)) as results``.

        Args:
            calls: as for `gather`.
            store: a run file. Each result is yielded only when the file has it, so that it outlives a crash. When the
                file is there, the run goes on: what is finished comes from it, without being asked again (as far as it
                keeps a reply: without ``raw`` and ``headers``); calls that were added are new work.
            retry_failed: ask again for calls that failed; otherwise only for those that were never sent.

        Raises:
            RunMismatch: the run file belongs to other calls; the message names the row and what differs.
            StoreError: the run file cannot be used, or written any more. What was yielded is in it.
        """
        self._bind()
        if isinstance(calls, str | bytes | Mapping | Call):
            raise ConfigError(f"give a list of calls, not a single {type(calls).__name__}")
        if store is None:
            return fan_out(calls, self._result, self.window)
        return durable_calls(
            calls, store, ask=self._result, model=self._targets.model, window=self.window, retry_failed=retry_failed
        )

    def map(
        self,
        function: Callable[[ItemT, Client], Awaitable[OutputT]],
        items: Iterable[ItemT] | AsyncIterable[ItemT],
        *,
        store: str | os.PathLike[str] | None = None,
        retry_failed: bool = False,
    ) -> AsyncGenerator[Result[OutputT], None]:
        """Run ``async def function(item, client)`` for every item; yield each result as it completes.

        What the function returns is the result's ``output``; what it raises is its ``error``. Its calls to the
        client are paced with all others; their number and cost are added up in the result.

        Args:
            function: makes calls, in sequence or in parallel.
            items: what it is run for; with ``store``, values that JSON can hold.
            store: a run file, as for `as_completed`. Each finished call is kept under its item as well, and on resume
                answered from there: a half-finished item pays only for what is missing. For that the function must
                make the same calls again; see `flatout.durable_map` for how they are told apart. What it returns is
                kept as JSON and handed out as such: a tuple comes as a list, a pydantic model as a dict.
            retry_failed: run again for items that failed, and ask again for their calls that failed.

        Raises:
            RunMismatch: the run file belongs to other items or another function, or an item makes another call than
                the one in the file at the same place.
            StoreError: as for `as_completed`.
        """
        self._bind()
        run = partial(run_function, function, self)
        if store is None:
            return fan_out(items, run, self.window)
        name = getattr(function, "__qualname__", type(function).__qualname__)
        job = {"function": name, "model": self._targets.model}
        return durable_map(items, store, client=self, run=run, job=job, window=self.window, retry_failed=retry_failed)

    async def _result(self, index: int, value: CallLike, trip: Journey | None = None) -> Result[Any]:
        trip = trip or Journey(asyncio.get_running_loop().time())
        call: Call | None = None
        reply: Reply | None = None
        error: Exception | None = None
        try:
            call = Call.of(value)
            reply = await self._answer(call, trip)
        except Exception as caught:
            error = caught
        return outcome(index, trip, call=call, reply=reply, output=reply and reply.output, error=error)

    async def _answer(self, call: Call, trip: Journey) -> Reply:
        outer = journey(None)
        token = set_journey(trip)
        try:
            if outer is not None and outer.journal is not None:
                return await outer.journal.answer(self, call, trip, self._stack.answer)
            return await self._stack.answer(call)
        finally:
            reset_journey(token)
            if outer is not None:
                outer.add(trip)

    def _model_of(self, call: Call) -> str:
        model = call.model or self._targets.model
        if model is None:
            raise ConfigError("no model: name one as provider/model, with -m or model=, or in flatout.toml")
        return model

    async def _resolve(self, call: Call) -> Target:
        model = self._model_of(call)
        if self._targets.is_local(model):
            return self._targets.local(await self._local_server())
        return self._targets.target(model)

    async def _local_server(self) -> Endpoint:
        """Start the embedded model, once."""
        from .local import LocalServer

        async with self._starting:
            if self._local is None:
                server = LocalServer()
                self._local = await server.__aenter__()
        return self._local.endpoint()

    def _bind(self) -> None:
        loop = asyncio.get_running_loop()
        if self._closed:
            raise ConfigError("this client is closed")
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise ConfigError("a client belongs to one event loop: make another client for another loop")


def _http(trust_env: bool) -> Transport:
    from .transports.http import HttpTransport

    return HttpTransport(trust_env=trust_env)


def _memory() -> Memory | None:
    try:
        return Memory(cache_folder() / "targets")
    except ConfigError:  # no home folder: everything is learnt anew
        return None


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _money(value: Any) -> float | None:
    return None if value is None else _positive("budget", value)


def _positive(name: str, value: Any) -> float:
    if not is_positive(value):
        raise ConfigError(f"{name} is a number above 0, not {value!r}")
    return float(value)
