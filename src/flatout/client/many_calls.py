"""Many calls of a client: one result per call, in input order or as each completes; and their forecast."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Never, TypeVar, cast, overload

from flatout.config.settings import age
from flatout.durable.calls import durable_calls
from flatout.durable.map import durable_map
from flatout.edge.fan_out import check_function, fan_out, run_function
from flatout.edge.parameters import CALL, MANY, PLAN, ForAll, check_names, check_store
from flatout.edge.variants import check_variants, expanded, in_order, names_no_model
from flatout.errors import ConfigError
from flatout.lanes.offers import Wanted
from flatout.values import Call, OutputT, OutputType, Result
from flatout.values.plan import Plan

from .asker import ClientAsker
from .one_call import OneCall

if TYPE_CHECKING:
    from flatout.progress._following import ShowProgress

    from .client import Client

ItemT = TypeVar("ItemT")

Many = Iterable[ItemT] | AsyncIterable[ItemT]
Calls = Many[str | Mapping[str, Any] | Call[OutputT]]
"""Prompts, dicts or Calls: a list, a generator or an async generator."""
Results = AsyncGenerator[Result[OutputT], None]


class ManyCalls(OneCall):
    """The part of a Client that answers many calls, and runs functions and agents that make some."""

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
        within: float | str | None = ...,
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
        within: float | str | None = ...,
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
        within: float | str | None = None,
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
        check_names(options, CALL, own=MANY)
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
        within: float | str | None = None,
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
                that is in time, ``auto``. See https://flatout.github.io/flatout/batch/. An input that can be read only
                once is kept in memory then.
            within: when all answers are wanted: seconds, or a text such as ``"24h"``. Calls go from batch to flex to
                live when it is time. The time counts from when these calls were first made with this ``store``.
            progress: show how far the calls are: in a line of the terminal, in a notebook below the cell, elsewhere
                in a line of standard error every few seconds. Or a function that receives the
                `flatout.progress.Progress` four times a second and at the end, in the event loop: it must be quick.
            output: the type of every answer, unless its call says otherwise.
            **options: parameters of all calls: those of a `Call` by name, such as ``temperature=0``. A call's own
                values win. ``model`` is for calls that do not name one, so it cannot be combined with ``models``.

        Raises:
            ConfigError: a parameter is wrong, or belongs elsewhere, or the place is not there where limits, the budget
                or the cache are shared; nothing was sent.
            RunMismatch: the run file belongs to other calls; the message names the row and what differs.
            StoreError: the run file cannot be used, or can no longer be written. Every yielded result is in it.
        """
        self._engine.bind()
        check_store(store, retry_failed=retry_failed)
        options = options if output is None else {**options, "output": output}
        known: set[int] | None = set() if progress and store is not None else None
        if lane != "live" or within is not None:
            asked = self._in_lane(calls, models, samples, options, store, retry_failed, lane, within, known)
        elif store is None:
            asked = fan_out(self._all(calls, models, samples, options), self._result, lambda: self.window)
        else:
            made, job = self._all(calls, models, samples, options), self._job(models, samples)
            asker, part = ClientAsker(self._engine, self.result), getattr(calls, "is_part", False)
            asked = durable_calls(made, store, asker=asker, job=job, retry_failed=retry_failed, known=known, part=part)
        asked = self._once_found(asked, models or ([options["model"]] if "model" in options else None))
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
                `flatout.durable.journal` for how they are recognised. Return values are kept as JSON and returned as
                such: a tuple as a list, a pydantic model as a dict.
            retry_failed: run failed items again, and ask their failed calls again.
            progress: as for `as_completed`.
            **unknown: nothing else is accepted; no lane either, for each turn of a function would wait for hours.

        Raises:
            RunMismatch: the run file belongs to other items or to another function, or an item makes another call
                than the file has at the same place.
            StoreError: as for `as_completed`.
        """
        self._engine.bind()
        check_names(unknown, frozenset({"store", "retry_failed", "progress"}))
        check_store(store, retry_failed=retry_failed)
        check_function(function)
        run = partial(run_function, function, cast("Client", self))
        if store is None:
            done = self._once_found(fan_out(items, run, lambda: self.window))
            return done if not progress else self._followed(done, progress, items)
        name = getattr(function, "__qualname__", type(function).__qualname__)
        described = getattr(function, "job", None)
        job = {"function": name, "model": self.model, **(described() if described is not None else {})}
        job["server"] = self._engine.targets.servers(None)
        known: set[int] | None = set() if progress else None
        done = durable_map(
            items,
            store,
            asker=ClientAsker(self._engine, self.result),
            engine=self._engine,
            run=run,
            job=job,
            retry_failed=retry_failed,
            restore=getattr(function, "restore", None),
            partly=getattr(function, "partly", None),
            known=known,
        )
        done = self._once_found(done)
        return done if not progress else self._followed(done, progress, items, known=known)

    def _once_found(self, results: Results[OutputT], models: Sequence[str] | None = None) -> Results[OutputT]:
        """Results that begin once everything was found that processes share, if there is anything."""
        return self._found_first(results, models) if self._engine.shared(models) else results

    async def _found_first(
        self, results: Results[OutputT], models: Sequence[str] | None
    ) -> AsyncGenerator[Result[OutputT], None]:
        async with aclosing(results):
            await self._engine.find_shared(models)
            async for result in results:
                yield result

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
        return await agent(intent, cast("Client", self))

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
        from flatout.planning.calls import plan_calls
        from flatout.planning.size import SampleSize

        check_names(options, CALL, own=PLAN)
        if callable(calls):
            raise ConfigError("a plan takes calls: what an agent or a function will ask is known only when it runs")
        made = self._all(calls, models, samples, options if output is None else {**options, "output": output})
        return await plan_calls(
            made,
            asker=ClientAsker(self._engine, self.result),
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
        within: float | str | None,
        known: set[int] | None,
    ) -> AsyncGenerator[Result[Any], None]:
        """`as_completed` in a lane other than the live one."""
        from flatout.lanes.calls import calls_in_lane
        from flatout.lanes.wish import Source, Wish, check_wish

        self._all(calls, models, samples, dict(options))  # refuses what is wrong before anything is read
        wish = Wish(lane, age("within", within))
        check_wish(wish, self._engine, stored=store is not None, models=models or [options.get("model", self.model)])
        return calls_in_lane(
            Source(calls, lambda given: self._all(given, models, samples, dict(options))),
            wish,
            asker=ClientAsker(self._engine, self.result),
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
        from flatout.progress._following import followed, rows_in

        return followed(results, self._engine, progress, total=rows_in(source, each), known=known)

    def _all(
        self, calls: Calls[Any], models: Sequence[str] | None, samples: int | None, options: dict[str, Any]
    ) -> Calls[Any]:
        """The calls with the parameters of all, for each model and sample.

        Raises:
            ConfigError: a parameter is wrong, or belongs elsewhere.
        """
        if isinstance(calls, str | bytes | Mapping | Call):
            raise ConfigError(f"give a list of calls, not a single {type(calls).__name__}")
        check_names(options, CALL, own=MANY)
        check_variants(models, samples)
        if models is not None and "model" in options:
            raise ConfigError("give model or models, not both")
        asked = models or ([options["model"]] if "model" in options else ())
        for name in asked:
            self.check(Call("", model=name))
        if not asked and self.model is None and names_no_model(calls):
            self.check(Call(""))
        if options:
            calls = ForAll(options).put_into(calls)
        if models is not None or samples is not None:
            calls = expanded(calls, models, samples)
        return calls

    def _job(self, models: Sequence[str] | None, samples: int | None) -> dict[str, Any]:
        """What makes the answers of two runs comparable."""
        server = self._engine.targets.servers(models)
        return {"model": self.model, "models": models, "samples": samples, "server": server}
