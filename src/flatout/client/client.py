"""The Client: calls in, one result per call out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Literal, Never, Self

from flatout.config.file import Config, load
from flatout.config.settings import Settings, settings_of
from flatout.edge.kept_vectors import vectors_of
from flatout.edge.parameters import CLIENT, check_names
from flatout.engine import Engine
from flatout.layer import Transport
from flatout.providers.targets import Targets
from flatout.stack import KeptAnswers
from flatout.values import Limits
from flatout.values.budget import Budget
from flatout.values.secret import Secret, conceal, veil

from .many_calls import ManyCalls

if TYPE_CHECKING:
    from .controlled import Control


class Client(ManyCalls):
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
            because the target is down: see https://flatout.github.io/flatout/retries/.
        reasks: how often the model is asked again when its answer does not fit ``output``, or its arguments do not
            fit a tool; default 1.
        budget: the most US dollars to spend, including earlier spending that a ``store`` knows of; or a `Budget` for a
            day or a month, which processes may share. Calls that might exceed it are not sent: see
            https://flatout.github.io/flatout/budgets/. For a call without ``max_tokens``, the budget first assumes at
            most 16,384 tokens of answer (32,768 with ``reasoning_effort``), and a warning says so.
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
        cache: True keeps answers in the user's cache folder, a path in that file, and an address such as
            ``redis://host:6379/0/team`` in Redis, for several machines; an equal call is then answered from there, at
            no cost, and equal calls in progress are asked once. See https://flatout.github.io/flatout/cache/.
        cache_max_age: the age from which a kept answer is not used any more: seconds, or a text such as ``"7d"``.
        reuse: a run file of an earlier run, whose answers are used for equal calls. It is only read.
        prompt_cache: ``"auto"`` makes calls whose prompts begin alike share the provider's prompt cache: it marks the
            common part, and lets one call fill the cache before the others go. See https://flatout.github.io/flatout/prompt-caches/.
        allow_unknown_price: with a budget, also send calls whose price is not known; they are not counted.
        control: a path. While the client is open, ``flatout ctl PATH`` steers it, by a socket that only you may use;
            see https://flatout.github.io/flatout/ctl/.

    Raises:
        ConfigError: an option is wrong, the model is unknown, its key is missing, or the cache cannot be used.
        StoreError: the run file of ``reuse`` cannot be read.
    """

    _targets: ClassVar[Callable[..., Targets]] = Targets

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
        control: str | os.PathLike[str] | None = None,
        **unknown: Never,
    ) -> None:
        api_key, base_url, headers = conceal(api_key), conceal(base_url), veil(headers)
        check_names(unknown, CLIENT, client="{}")
        config = load(config)
        targets = self._targets(
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
            from flatout.local import check

            check()
        self._keep_raw = keep_raw
        self._control = None if control is None else _controlled(control)
        kept = _kept_answers(targets, settings, reuse)
        self._vectors = partial(vectors_of, kept=kept, max_age=settings.cache_max_age, asking={})
        self._engine = Engine(targets, settings, config, transport=transport, trust_env=trust_env, seed=seed, kept=kept)

    def __repr__(self) -> str:
        if not hasattr(self, "_engine"):
            return "Client(not made)"  # its options were refused, and a traceback shows it half made
        return (
            f"Client(model={self.model!r}, spent={self._engine.stack.purse.in_words()}, closed={self._engine.closed})"
        )

    async def __aenter__(self) -> Self:
        if self._control is not None:
            await self._control.open(self._engine)
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
        if self._control is not None:
            await self._control.close()
        await self._engine.close()

    def __del__(self) -> None:
        engine = getattr(self, "_engine", None)  # there is none when `__init__` failed
        if engine is not None and engine.loop is not None and not engine.closed:
            warnings.warn(f"{self!r} was not closed: use it as `async with`", ResourceWarning, stacklevel=2)


def _controlled(name: str | os.PathLike[str]) -> Control:
    from .controlled import Control  # loaded for those who want it

    return Control(name)


def _kept_answers(targets: Targets, settings: Settings, reuse: str | os.PathLike[str] | None) -> KeptAnswers | None:
    """The answers that calls may be answered from; None if the user wants none."""
    if settings.cache is None and reuse is None:
        return None
    from flatout.durable.asked import asked
    from flatout.durable.reuse import RunAnswers

    older = None if reuse is None else RunAnswers(reuse, targets.model, targets.servers)
    describe = partial(asked, model=targets.model, servers=targets.servers)
    if settings.cache is None:
        return KeptAnswers(None, older, describe)
    from flatout.caches import shelf
    from flatout.store.answers import Answers

    return KeptAnswers(Answers(shelf(settings.cache, settings.cache_max_age)), older, describe)
