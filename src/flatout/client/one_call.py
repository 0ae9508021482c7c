"""One call of a client: its reply, its result, the stream of its answer; and the vectors of texts."""

from __future__ import annotations

import asyncio
import os
from array import array
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Never, overload

from flatout.edge.embed import embed
from flatout.edge.fan_out import as_error, outcome, unless_exit
from flatout.edge.kept_vectors import KeptVectors
from flatout.edge.parameters import CALL, check_names, with_options
from flatout.edge.stream import Stream
from flatout.errors import ConfigError
from flatout.journey import Journey
from flatout.values import Call, CallLike, OutputT, OutputType, Reply, Result
from flatout.values.reply import without_raw

from .asker import ClientAsker
from .steering import Steering

if TYPE_CHECKING:
    from flatout.progress._following import ShowProgress


class OneCall(Steering):
    """The part of a Client that answers single calls."""

    _keep_raw: bool
    _vectors: Callable[..., Awaitable[KeptVectors | None]]

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
        lane: Literal["live", "batch"] = "live",
        store: str | os.PathLike[str] | None = None,
        **unknown: Never,
    ) -> list[Result[array[float]]]:
        """Turn texts into vectors. Many texts share one request, up to the provider's cap.

        Args:
            texts: the texts.
            model: an embedding model; the client's when None.
            dimensions: the length of the vectors, for models that can shorten them.
            progress: as for `as_completed`; in the live lane only.
            lane: ``"batch"`` for half the price, within a day, where the provider has batches of embeddings. A program
                that was killed, and calls this again with the same texts and the same ``store``, collects them.
            store: the run file; for batches, which need one.
            **unknown: nothing else is accepted.

        Returns:
            One result per text, in order. Its ``output`` is the vector: single-precision floats, which
            ``numpy.asarray`` takes without a copy. If the provider refuses a text, or a text is not a string, only
            that text fails.

        Raises:
            ConfigError: the model is missing or unknown, its provider has no embeddings, or ``texts`` is not a list.
        """
        self._engine.bind()
        check_names(unknown, frozenset({"model", "dimensions", "progress", "lane", "store"}))
        if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
            raise ConfigError(f"give a list of texts, not a {type(texts).__name__}")
        await self._engine.find_shared(None if model is None else [model])
        if lane != "live":
            return await self._embed_in_batches(texts, model, dimensions, progress, lane, store)
        if store is not None:
            raise ConfigError("vectors are kept in a file for batches only: add lane='batch', or leave store= out")
        caps = await self._engine.caps(model)
        window = self._engine.window
        kept = partial(self._vectors, self._engine, model=model)
        ask = partial(
            embed, texts, caps, self._engine.embed, model=model, dimensions=dimensions, window=window, kept=kept
        )
        if not progress:
            return await ask()
        from flatout.progress._following import following, rows_in

        async with following(self._engine, progress, total=rows_in(texts)) as heard:
            return await ask(heard=heard)

    async def _embed_in_batches(
        self,
        texts: Iterable[str],
        model: str | None,
        dimensions: int | None,
        progress: ShowProgress,
        lane: str,
        store: str | os.PathLike[str] | None,
    ) -> list[Result[array[float]]]:
        if lane != "batch":
            raise ConfigError(f"embed has the lanes 'live' and 'batch', not {lane!r}")
        if store is None:
            raise ConfigError("lane='batch' needs a file in which it finds its batches again: add store='name.flatout'")
        if progress:
            raise ConfigError("progress shows live embeddings only: leave it out")
        from flatout.lanes.embed import embed_in_batches  # loaded for those who want it

        return await embed_in_batches(
            texts,
            model=model,
            dimensions=dimensions,
            asker=ClientAsker(self._engine, self.result),
            engine=self._engine,
            place=store,
            server=self._engine.targets.servers(None if model is None else [model]),
        )

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
