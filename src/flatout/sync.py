"""`flatout.run`: the library in one line, for scripts and notebooks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from .client import Client
from .client.many_calls import Calls
from .edge.parameters import CALL, CLIENT, MANY, check_names
from .edge.variants import in_order
from .lanes.offers import Wanted
from .tasks.loop_thread import LoopThread, wait_in
from .values import OutputT, OutputType, Result
from .values.secret import conceal, veil

if TYPE_CHECKING:
    from .progress._following import ShowProgress

ResultT = TypeVar("ResultT")


@overload
def run(
    calls: Calls[OutputT],
    model: str | None = ...,
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


@overload
def run(
    calls: Calls[OutputT],
    model: str | None = ...,
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


def run(
    calls: Calls[OutputT],
    model: str | None = None,
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
    """Answer many calls and return one result per call, in input order.

    It works in a plain script, and also if an event loop is already running, as in a notebook cell. The calls then run
    in their own loop, in a thread, while this function waits for them.

    Args:
        calls: prompts, dicts or Calls.
        model: ``provider/model`` for calls that do not name a model.
        models: ask each of these models; see `Client.gather`.
        samples: how often to ask each call. The results then come in groups: a list of lists.
        strict: raise the first failure.
        store: a run file, which makes the calls durable and the script resumable; see `Client.as_completed`.
        retry_failed: with ``store``, ask failed calls again.
        lane: ``live``, ``flex``, ``batch`` or ``auto``; see `Client.as_completed`.
        within: when all answers are wanted: seconds, or a text such as ``"24h"``; see `Client.as_completed`.
        progress: show how far the calls are, in the terminal or below a notebook's cell; see `Client.as_completed`.
        output: the type of every answer, unless its call says otherwise.
        **options: options of the `Client`, such as ``limits=Limits(rpm=600)``, and parameters of all calls, such as
            ``temperature=0``. A call's own values win. An option of both (``timeout``, ``deadline``, ``reasks``) means
            the same for both. ``seed`` is a parameter of the calls.

    Raises:
        ConfigError: an option is wrong; nothing was sent.
        CallError: with ``strict`` only.
        StoreError: the run file cannot be used, or belongs to other calls.
    """
    options |= {name: conceal(options.get(name)) for name in ("api_key", "base_url")}
    options |= {"headers": veil(options.get("headers"))}
    check_names(options, CALL | CLIENT, own=MANY, client="{}")
    own = {name: options.pop(name) for name in list(options) if name in CLIENT and name != "seed"}
    made = Client(model, **own)  # outside the loop, because it reads flatout.toml

    async def main() -> list[Result[OutputT]] | list[list[Result[OutputT]]]:
        async with made as client:
            asked = client.as_completed(
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

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main())
    return _in_thread(main)


def _in_thread(main: Callable[[], Coroutine[Any, Any, ResultT]]) -> ResultT:
    """Run in a thread with its own loop. An interrupt here cancels the calls there, and waits until they have ended."""
    thread = LoopThread("flatout.run")
    try:
        return wait_in(thread.loop, main)
    finally:
        thread.close()
