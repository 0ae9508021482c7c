"""The Client: calls in, one result per call out."""

from __future__ import annotations

import asyncio
import os
import warnings
from array import array
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Never, Self, TypeVar, overload

from .config.file import Config, load
from .config.settings import Settings, settings_of
from .durable.map import durable_map
from .durable.run import durable_calls
from .edge.embed import embed
from .edge.fan_out import as_error, check_function, fan_out, outcome, run_function, unless_exit
from .edge.kept_vectors import vectors_of
from .edge.parameters import CALL, CLIENT, ForAll, check_names, with_options
from .edge.stream import Stream
from .edge.variants import check_variants, expanded, in_order
from .engine import Engine
from .errors import ConfigError
from .journey import Journey
from .lanes.offers import Wanted
from .layer import Transport
from .providers.targets import Targets
from .stack import KeptAnswers
from .steering import Steering
from .values import Call, CallLike, Limits, OutputT, OutputType, Reply, Result
from .values.budget import Budget
from .values.plan import Plan
from .values.reply import without_raw
from .values.secret import Secret, conceal, veil

if TYPE_CHECKING:
    from .progress._following import ShowProgress

ItemT = TypeVar("ItemT")

Many = Iterable[ItemT] | AsyncIterable[ItemT]
Calls = Many[str | Mapping[str, Any] | Call[OutputT]]
"""Prompts, dicts or Calls: a list, a generator or an async generator."""


class Client(Steering):
    """Runs calls flat out: as fast as the limits allow, and never past them.

    Use it as ``async with Client(…) as client``, in one event loop. The constructor reads flatout.toml. If your disk is
    slow, make the client before the loop starts, or with ``await asyncio.to_thread(Client, …)``.

    Args:
        model: ``provider/model`` for calls that do not name a model; ``local`` is the embedded model.
        base_url: the address of an OpenAI-compatible server. Model names are then sent to it unchanged.
        api_key: the key of the model's endpoint. By default it comes from the endpoint's environment variable (with
            ``base_url``: ``FLATOUT_API_KEY``).
        limits: what each target allows.
        timeout: seconds for one attempt; default 300.
        first_byte: seconds from an attempt's start to the first byte of its answer. With this option or
            ``between_bytes``, every answer is streamed, so silence reveals a dead connection long before the timeout.
            By default answers are not streamed.
        between_bytes: seconds from one piece of an answer to the next.
        deadline: seconds for a whole call, queueing and retries included; default 3600. They begin when the call is
            read from the input (see `window`), not when the input is handed over.
        retries: attempts after the first; default 5. Throttled attempts (429) do not count, nor do those that fail
            because the target is down: see ``docs/retries.md``.
        reasks: how often the model is asked again when its answer does not fit ``output``, or its arguments do not
            fit a tool; default 1.
        budget: the most US dollars to spend, including earlier spending that a ``store`` knows of; or a `Budget` for a
            day or a month, which processes may share. Calls that might exceed it are not sent: see
            ``docs/budgets.md``. For a call without ``max_tokens``, the budget first assumes at most 16,384 tokens of
            answer (32,768 with ``reasoning_effort``), and a warning says so.
        headers: sent with every request.
        config: the path of a flatout.toml, a `Config` or a mapping. By default flatout.toml is searched for in the
            working directory and the folders above it.
        transport: carries the requests instead of HTTP; see `flatout.testing`.
        wait_for_quota: when a target's quota is used up, wait for it instead of failing the calls. The default deadline
            is then a week.
        keep_raw: keep the provider's whole answer and its headers (``reply.raw``, ``reply.headers``) in every result.
            By default `call` and `stream` return them, and results keep them only for calls with ``logprobs``.
        fail_truncated: treat a text that was cut off at the token limit as a failure (`Truncated`), not as an answer.
        seed: makes the jitter of retries repeatable.
        trust_env: obey ``HTTPS_PROXY`` and similar variables.
        give_up: seconds after which flatout gives up a target that it never reached; default 60.
        retry_share: the share of all sent requests that may be retries while other calls wait; default 0.2.
        repeats: after this many equal answers that cannot be used, a call is not tried again; default 3.
        cache: True keeps answers in the user's cache folder, a path in that file; an equal call is then answered from
            there, at no cost, and equal calls in progress are asked once. See ``docs/cache.md``.
        cache_max_age: the age from which a kept answer is not used any more: seconds, or a text such as ``"7d"``.
        reuse: a run file of an earlier run, whose answers are used for equal calls. It is only read.
        prompt_cache: ``"auto"`` makes calls whose prompts begin alike share the provider's prompt cache: it marks the
            common part, and lets one call fill the cache before the others go. See ``docs/prompt-caches.md``.
        allow_unknown_price: with a budget, also send calls whose price is not known; they are not counted.

    Raises:
        ConfigError: an option is wrong, the model is unknown, its key is missing, or the cache cannot be used.
        StoreError: the run file of ``reuse`` cannot be read.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        base_url: str | Secret | None = None,
        api_key: str | Secret | None = None,
        limits: Limits | None = None,
        timeout: float | None = None,
        first_byte: float | None = None,
        between_bytes: float | None = None,
        deadline: float | None = None,
        retries: int | None = None,
        reasks: int | None = None,
        budget: float | Budget | None = None,
        headers: Mapping[str, str] | None = None,
        config: Config | Mapping[str, object] | str | os.PathLike[str] | None = None,
        transport: Transport | None = None,
        wait_for_quota: bool = False,
        keep_raw: bool = False,
        fail_truncated: bool = False,
        seed: int | None = None,
        trust_env: bool = False,
        give_up: float | None = None,
        retry_share: float | None = None,
        repeats: int | None = None,
        cache: bool | str | os.PathLike[str] | None = None,
        cache_max_age: float | str | None = None,
        reuse: str | os.PathLike[str] | None = None,
        prompt_cache: Literal["auto", "off"] | None = None,
        allow_unknown_price: bool = False,
        **unknown: Never,
    ) -> None:
        api_key, base_url, headers = conceal(api_key), conceal(base_url), veil(headers)
        check_names(unknown, CLIENT, client="{}")
        config = load(config)
        targets = Targets(
            model=model, base_url=base_url, api_key=api_key, headers=headers, limits=limits, config=config
        )
        settings = settings_of(
            config,
            timeout=timeout,
            first_byte=first_byte,
            between_bytes=between_bytes,
            deadline=deadline,
            retries=retries,
            retry_share=retry_share,
            repeats=repeats,
            give_up=give_up,
            reasks=reasks,
            budget=budget,
            wait_for_quota=wait_for_quota,
            fail_truncated=fail_truncated,
            cache=cache,
            cache_max_age=cache_max_age,
            prompt_cache=prompt_cache,
            allow_unknown_price=allow_unknown_price,
        )
        if targets.model is not None and targets.is_local(targets.model):
            from .local import check

            check()
        self._keep_raw = keep_raw
        kept = _kept_answers(targets, settings, reuse)
        self._vectors = partial(vectors_of, kept=kept, max_age=settings.cache_max_age)
        self._engine = Engine(targets, settings, config, transport=transport, trust_env=trust_env, seed=seed, kept=kept)

    def __repr__(self) -> str:
        if not hasattr(self, "_engine"):
            return "Client(not made)"  # its options were refused, and a traceback shows it half made
        return (
            f"Client(model={self.model!r}, spent={self._engine.stack.purse.in_words()}, closed={self._engine.closed})"
        )

    async def __aenter__(self) -> Self:
        self._engine.bind()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection, and stop the embedded model if this client started it.

        If one part fails to close, the others are closed all the same. Then the first error is raised.
        """
        await self._engine.close()

    def __del__(self) -> None:
        engine = getattr(self, "_engine", None)  # there is none when `__init__` failed
        if engine is not None and engine.loop is not None and not engine.closed:
            warnings.warn(f"{self!r} was not closed: use it as `async with`", ResourceWarning, stacklevel=2)

    @overload
    async def call(self, call: CallLike, /, *, output: OutputType[OutputT], **options: Any) -> Reply[OutputT]: ...

    @overload
    async def call(
        self, call: str | Mapping[str, Any] | Call[OutputT], /, *, output: None = ..., **options: Any
    ) -> Reply[OutputT]: ...

    async def call(self, call: CallLike, /, **options: Any) -> Reply[Any]:
        """Answer one call.

        Args:
            call: a prompt, a dict or a `Call`.
            **options: parameters of a `Call` by name, such as ``temperature=0`` or ``output=Person``. They override the
                call's own. Names that flatout does not know are sent to the provider as they are.

        Raises:
            CallError: the call has no answer; the class says why.
            ConfigError: the call itself is wrong, or its model is unknown.
        """
        self._engine.bind()
        check_names(options, CALL)
        journey = Journey(asyncio.get_running_loop().time(), tells_cost=False)
        return await self._engine.answer(with_options(call, options), journey)

    @overload
    def stream(self, call: CallLike, /, *, output: OutputType[OutputT], **options: Any) -> Stream[OutputT]: ...

    @overload
    def stream(
        self, call: str | Mapping[str, Any] | Call[OutputT], /, *, output: None = ..., **options: Any
    ) -> Stream[OutputT]: ...

    def stream(self, call: CallLike, /, **options: Any) -> Stream[Any]:
        """Stream the answer to one call: ``async for text in client.stream(…)``. Afterwards ``.reply`` has all of it.

        Once you have received some text, nothing is retried: another attempt would start again from the beginning.

        Args:
            call: as for `call`.
            **options: as for `call`.

        Raises:
            CallError: raised while you read. An answer that breaks off raises ProtocolError.
            ConfigError: the call itself is wrong.
        """
        self._engine.bind()
        check_names(options, CALL)
        return Stream(partial(self._engine.answer, with_options(call, options)))

    async def embed(
        self,
        texts: Iterable[str],
        *,
        model: str | None = None,
        dimensions: int | None = None,
        progress: ShowProgress = False,
    ) -> list[Result[array[float]]]:
        """Turn texts into vectors. Many texts share one request, up to the provider's cap.

        Args:
            texts: the texts.
            model: an embedding model; the client's when None.
            dimensions: the length of the vectors, for models that can shorten them.
            progress: as for `as_completed`.

        Returns:
            One result per text, in order. Its ``output`` is the vector: single-precision floats, which
            ``numpy.asarray`` takes without a copy. If the provider refuses a text, or a text is not a string, only
            that text fails.

        Raises:
            ConfigError: the model is missing or unknown, its provider has no embeddings, or ``texts`` is not a list.
        """
        self._engine.bind()
        if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
            raise ConfigError(f"give a list of texts, not a {type(texts).__name__}")
        caps = await self._engine.caps(model)
        window = self._engine.window
        kept = partial(self._vectors, self._engine, model=model)
        ask = partial(
            embed, texts, caps, self._engine.embed, model=model, dimensions=dimensions, window=window, kept=kept
        )
        if not progress:
            return await ask()
        from .progress._following import following, rows_in

        async with following(self, progress, total=rows_in(texts)) as heard:
            return await ask(heard=heard)

    async def result(
        self, call: str | Mapping[str, Any] | Call[OutputT], /, *, index: int = 0, journey: Journey | None = None
    ) -> Result[OutputT]:
        """Answer one call. A failure is returned in the result, not raised.

        Args:
            call: the call.
            index: the result's ``index``.
            journey: a `Journey` by which you can watch the call in progress.
        """
        self._engine.bind()
        return unless_exit(await self._result(index, call, journey))

    @overload
    async def gather(
        self,
        calls: Calls[OutputT],
        *,
        models: Sequence[str] | None = ...,
        samples: None = ...,
        strict: bool = ...,
        store: str | os.PathLike[str] | None = ...,
        retry_failed: bool = ...,
        lane: Wanted = ...,
        within: float | None = ...,
        progress: ShowProgress = ...,
        output: OutputType[OutputT] | None = ...,
        **options: Any,
    ) -> list[Result[OutputT]]: ...

    @overload
    async def gather(
        self,
        calls: Calls[OutputT],
        *,
        samples: int,
        models: Sequence[str] | None = ...,
        strict: bool = ...,
        store: str | os.PathLike[str] | None = ...,
        retry_failed: bool = ...,
        lane: Wanted = ...,
        within: float | None = ...,
        progress: ShowProgress = ...,
        output: OutputType[OutputT] | None = ...,
        **options: Any,
    ) -> list[list[Result[OutputT]]]: ...

    async def gather(
        self,
        calls: Calls[OutputT],
        *,
        models: Sequence[str] | None = None,
        samples: int | None = None,
        strict: bool = False,
        store: str | os.PathLike[str] | None = None,
        retry_failed: bool = False,
        lane: Wanted = "live",
        within: float | None = None,
        progress: ShowProgress = False,
        output: OutputType[OutputT] | None = None,
        **options: Any,
    ) -> list[Result[OutputT]] | list[list[Result[OutputT]]]:
        """Answer many calls, and return their results in input order.

        Args:
            calls: prompts, dicts or Calls; a list, a generator or an async generator.
            models: ask each of these models. A prompt's results are then neighbours, in the order of the models.
            samples: how often to ask each call (of each model). The results then come in groups: a list of lists.
            strict: raise the first failure, once the other calls in progress are cancelled and have ended. Without it,
                failures are returned in their results.
            store: as for `as_completed`.
            retry_failed: as for `as_completed`.
            lane: as for `as_completed`.
            within: as for `as_completed`.
            progress: as for `as_completed`.
            output: the type of every answer, unless its call says otherwise.
            **options: parameters of all calls, as for `as_completed`.
        """
        check_names(options, CALL)
        asked = self.as_completed(
            calls,
            models=models,
            samples=samples,
            store=store,
            retry_failed=retry_failed,
            lane=lane,
            within=within,
            progress=progress,
            output=output,
            **options,
        )
        return await in_order(asked, samples, strict=strict)

    def as_completed(
        self,
        calls: Calls[OutputT],
        *,
        models: Sequence[str] | None = None,
        samples: int | None = None,
        store: str | os.PathLike[str] | None = None,
        retry_failed: bool = False,
        lane: Wanted = "live",
        within: float | None = None,
        progress: ShowProgress = False,
        output: OutputType[OutputT] | None = None,
        **options: Any,
    ) -> AsyncGenerator[Result[OutputT], None]:
        """Answer many calls, and yield each result as it completes.

        Input is read lazily, a bounded number of calls ahead. If you leave the loop early, the calls in progress are
        cancelled, and an input that is an async generator is closed. To wait for that, use
        ``async with contextlib.aclosing(client.as_completed(…)) as results``.

        Args:
            calls: as for `gather`.
            models: ask each of these models; a result's ``call`` names its model.
            samples: how often to ask each call (of each model); a result's ``call.sample`` counts them.
            store: a run file. A result is yielded only after the file has it, so it survives a crash. If the file
                exists, the run continues: finished calls are answered from it and not asked again (their replies then
                have no ``raw`` and ``headers``), and added calls are new work.
            retry_failed: ask failed calls again. By default only calls that were never sent are asked.
            lane: how the calls are answered: ``live``; in ``flex``, the provider's cheaper and slower service; in
                ``batch``, for half the price and within a day, which needs a ``store``; or in the cheapest of these
                that is in time, ``auto``. See ``docs/batch.md``. An input that can be read only once is kept in
                memory then.
            within: seconds in which all answers are wanted. Calls go from batch to flex to live when it is time. They
                count from the first time that these calls were made with this ``store``.
            progress: show how far the calls are: in a line of the terminal, in a notebook below the cell, elsewhere
                in a line of standard error every few seconds. Or a function that receives the
                `flatout.progress.Progress` four times a second and at the end, in the event loop: it must be quick.
            output: the type of every answer, unless its call says otherwise.
            **options: parameters of all calls: those of a `Call` by name, such as ``temperature=0``. A call's own
                values win. ``model`` is for calls that do not name one, so it cannot be combined with ``models``.

        Raises:
            ConfigError: a parameter is wrong, or belongs elsewhere; nothing was sent.
            RunMismatch: the run file belongs to other calls; the message names the row and what differs.
            StoreError: the run file cannot be used, or can no longer be written. Every yielded result is in it.
        """
        self._engine.bind()
        options = options if output is None else {**options, "output": output}
        known: set[int] | None = set() if progress and store is not None else None
        if lane != "live" or within is not None:
            asked = self._in_lane(calls, models, samples, options, store, retry_failed, lane, within, known)
        elif store is None:
            asked = fan_out(self._all(calls, models, samples, options), self._result, lambda: self.window)
        else:
            made, job = self._all(calls, models, samples, options), self._job(models, samples)
            asked = durable_calls(made, store, asker=self, job=job, retry_failed=retry_failed, known=known)
        return asked if not progress else self._followed(asked, progress, calls, check_variants(models, samples), known)

    def map(
        self,
        function: Callable[[ItemT, Client], Awaitable[OutputT]],
        items: Many[ItemT],
        *,
        store: str | os.PathLike[str] | None = None,
        retry_failed: bool = False,
        progress: ShowProgress = False,
        **unknown: Never,
    ) -> AsyncGenerator[Result[OutputT], None]:
        """Run ``async def function(item, client)`` for every item, and yield each result as it completes.

        The function's return value is the result's ``output``; an exception is its ``error``. The function's calls to
        the client are paced with all others. The result adds up their number and cost.

        Args:
            function: makes calls, in sequence or in parallel. A `flatout.agents.Agent` is such a function.
            items: its first arguments; with ``store``, values that JSON can represent.
            store: a run file, as for `as_completed`. It also keeps each finished call of an item, so a resumed item
                pays only for the missing ones. The function must then make the same calls again; see
                `flatout.durable.map` for how they are recognised. Return values are kept as JSON and returned as such:
                a tuple as a list, a pydantic model as a dict.
            retry_failed: run failed items again, and ask their failed calls again.
            progress: as for `as_completed`.
            **unknown: nothing else is accepted; no lane either, for each turn of a function would wait for hours.

        Raises:
            RunMismatch: the run file belongs to other items or to another function, or an item makes another call
                than the file has at the same place.
            StoreError: as for `as_completed`.
        """
        self._engine.bind()
        check_names(unknown, frozenset())
        check_function(function)
        run = partial(run_function, function, self)
        if store is None:
            done = fan_out(items, run, lambda: self.window)
            return done if not progress else self._followed(done, progress, items)
        name = getattr(function, "__qualname__", type(function).__qualname__)
        described = getattr(function, "job", None)
        job = {"function": name, "model": self.model, **(described() if described is not None else {})}
        job["server"] = self.servers(None)
        known: set[int] | None = set() if progress else None
        done = durable_map(
            items,
            store,
            asker=self,
            engine=self._engine,
            run=run,
            job=job,
            retry_failed=retry_failed,
            restore=getattr(function, "restore", None),
            known=known,
        )
        return done if not progress else self._followed(done, progress, items, known=known)

    async def run_agent(self, agent: Callable[[ItemT, Client], Awaitable[OutputT]], intent: ItemT) -> OutputT:
        """Run a `flatout.agents.Agent` for one intent; for many, give it to `map`.

        Args:
            agent: the agent.
            intent: the request: a text, or anything that JSON can represent.

        Raises:
            CallError: the run did not finish; the class says why, and its ``outcome`` has the run so far.
            ConfigError: ``agent`` is not an agent.
        """
        self._engine.bind()
        if not callable(agent):
            raise ConfigError(f"run_agent takes an agent, and then its intent, not a {type(agent).__name__}")
        return await agent(intent, self)

    async def plan(
        self,
        calls: Calls[OutputT],
        *,
        sample: int | str = 50,
        sample_budget: float = 1.0,
        dry_run: bool = False,
        models: Sequence[str] | None = None,
        samples: int | None = None,
        store: str | os.PathLike[str] | None = None,
        output: OutputType[OutputT] | None = None,
        **options: Any,
    ) -> Plan:
        """Forecast what many calls will cost and how long they will take, from a sample of them that is asked.

        The sample is chosen at random, but from short and long prompts in the right numbers. Planned again, the same
        calls have the same sample.

        Args:
            calls: as for `gather`. They are read once, so give a list if you want to ask them afterwards.
            sample: how many calls of each model to ask, or the share of them, such as ``"2%"``.
            sample_budget: the most US dollars that the sample may cost.
            dry_run: ask nothing, and assume how long answers are.
            models: as for `gather`.
            samples: as for `gather`.
            store: a run file, which keeps the sample's results. Give the same to `gather` or `as_completed`: they then
                do not ask for them again. Without it, the results are not kept.
            output: as for `gather`.
            **options: as for `gather`.

        Raises:
            ConfigError: a parameter is wrong, there is no call, nothing is left to ask, or a price is not known (see
                ``allow_unknown_price``).
            StoreError: as for `as_completed`.
        """
        self._engine.bind()
        from .planning.calls import plan_calls
        from .planning.size import SampleSize

        if callable(calls):
            raise ConfigError("a plan takes calls: what an agent or a function will ask is known only when it runs")
        made = self._all(calls, models, samples, options if output is None else {**options, "output": output})
        return await plan_calls(
            made,
            asker=self,
            engine=self._engine,
            size=SampleSize.of(sample),
            usd=sample_budget,
            each=check_variants(models, samples),
            store=store,
            job=self._job(models, samples),
            dry_run=dry_run,
        )

    def _in_lane(
        self,
        calls: Calls[Any],
        models: Sequence[str] | None,
        samples: int | None,
        options: dict[str, Any],
        store: str | os.PathLike[str] | None,
        retry_failed: bool,
        lane: Wanted,
        within: float | None,
        known: set[int] | None,
    ) -> AsyncGenerator[Result[Any], None]:
        """`as_completed` in a lane other than the live one."""
        from .lanes.calls import calls_in_lane
        from .lanes.wish import Source, Wish, check_wish

        self._all(calls, models, samples, dict(options))  # refuses what is wrong before anything is read
        wish = Wish(lane, within)
        check_wish(wish, self._engine, stored=store is not None, models=models or [options.get("model", self.model)])
        return calls_in_lane(
            Source(calls, lambda given: self._all(given, models, samples, dict(options))),
            wish,
            asker=self,
            engine=self._engine,
            place=store,
            job=self._job(models, samples),
            retry_failed=retry_failed,
            known=known,
        )

    def _followed(
        self,
        results: AsyncGenerator[Result[Any], None],
        progress: ShowProgress,
        source: object,
        each: int = 1,
        known: set[int] | None = None,
    ) -> AsyncGenerator[Result[Any], None]:
        """The results, while their progress is shown. Each value of ``source`` has ``each`` results."""
        from .progress._following import followed, rows_in

        return followed(results, self, progress, total=rows_in(source, each), known=known)

    def _all(
        self, calls: Calls[Any], models: Sequence[str] | None, samples: int | None, options: dict[str, Any]
    ) -> Calls[Any]:
        """The calls with the parameters of all, for each model and sample.

        Raises:
            ConfigError: a parameter is wrong, or belongs elsewhere.
        """
        if isinstance(calls, str | bytes | Mapping | Call):
            raise ConfigError(f"give a list of calls, not a single {type(calls).__name__}")
        check_names(options, CALL)
        check_variants(models, samples)
        if models is not None and "model" in options:
            raise ConfigError("give model or models, not both")
        for name in models or ():
            self.check(Call("", model=name))
        if options:
            calls = ForAll(options).put_into(calls)
        if models is not None or samples is not None:
            calls = expanded(calls, models, samples)
        return calls

    def _job(self, models: Sequence[str] | None, samples: int | None) -> dict[str, Any]:
        """What makes the answers of two runs comparable."""
        return {"model": self.model, "models": models, "samples": samples, "server": self.servers(models)}

    async def _result(self, index: int, value: CallLike, journey: Journey | None = None) -> Result[Any]:
        journey = journey or Journey(asyncio.get_running_loop().time())
        call: Call | None = None
        reply: Reply | None = None
        error: Exception | None = None
        try:
            call = Call.of(value)
            reply = await self._engine.answer(call, journey)
            if not (self._keep_raw or call.logprobs):
                reply = without_raw(reply)
        except (Exception, SystemExit, KeyboardInterrupt) as caught:
            error = as_error(caught)
        output = reply and reply.output
        return outcome(index, journey, call=call, given=value, reply=reply, output=output, error=error)


def _kept_answers(targets: Targets, settings: Settings, reuse: str | os.PathLike[str] | None) -> KeptAnswers | None:
    """The answers that calls may be answered from; None if the user wants none."""
    if settings.cache is None and reuse is None:
        return None
    from .durable.asked import asked
    from .durable.reuse import RunAnswers

    older = None if reuse is None else RunAnswers(reuse, targets.model, targets.servers)
    describe = partial(asked, model=targets.model, servers=targets.servers)
    if settings.cache is None:
        return KeptAnswers(None, older, describe)
    from .store.answers import Answers  # loads SQLite

    return KeptAnswers(Answers(settings.cache), older, describe)
