"""Keyword arguments: parameters of one call or of all calls, and names that belong elsewhere.

A call accepts any name, because providers have parameters that flatout does not know. So a misspelt or misplaced name
(``temprature=0``, ``rpm=600``, ``storee="labels.flatout"``) would be sent to the provider, which ignores it or refuses
every call. This module refuses it before anything is sent, and says what to write instead.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from functools import lru_cache
from typing import Any

import msgspec
from msgspec.structs import replace

from flatout.errors import ConfigError
from flatout.tasks.closing import reading
from flatout.values import Call, CallLike, Limits
from flatout.values.secret import conceal, veil

CALL = frozenset(Call.__struct_fields__)
LIMITS = frozenset(Limits.__struct_fields__)
CLIENT = frozenset(
    {
        *("model", "base_url", "api_key", "limits", "timeout", "first_byte", "between_bytes", "deadline", "retries"),
        *("reasks", "budget", "headers", "config", "transport", "wait_for_quota", "keep_raw", "fail_truncated"),
        *("seed", "trust_env", "give_up", "retry_share", "repeats", "cache", "cache_max_age", "reuse"),
        *("allow_unknown_price", "prompt_cache", "control"),
    }
)
"""The options of `Client`."""


_OF_ONE = frozenset({"prompt", "messages", "id", "sample"})
"""The parameters that distinguish one call from the others."""

_SHORT = 4
"""Letters up to which a name is too short to guess a misspelling of it."""

MANY = frozenset({"models", "samples", "strict", "store", "retry_failed", "lane", "within", "progress"})
"""The options of many calls at once: of `Client.gather` and `flatout.run`. `Client.as_completed` has no ``strict``."""

PLAN = frozenset({"models", "samples", "store", "sample", "sample_budget", "dry_run"})
"""The options of `Client.plan`."""

_LIVE = "A single call, a stream, and what a function or an agent asks, are answered live; see https://flatout.github.io/flatout/batch/"
_MANY = "client.gather, client.as_completed and flatout.run take it."

_OF_MANY = {
    "lane": f"{_MANY} {_LIVE}",
    "within": f"{_MANY} {_LIVE}",
    "progress": f"{_MANY} They show how many of their calls are done; see https://flatout.github.io/flatout/progress/",
    "samples": f"{_MANY} They ask each call so often; see https://flatout.github.io/flatout/compare/",
    "retry_failed": f"{_MANY} They ask the failed calls of their run file again.",
    "strict": "client.gather and flatout.run take it, and raise the first failure. client.as_completed yields each as "
    "a result, and client.call raises its own.",
}
"""Options of many calls at once, with who takes them and why. A provider would be sent them."""

_NO_SLIPS = frozenset({"models", "mode", "samplers"})
"""Providers' own parameters that look like misspelt names of flatout."""

_ALSO_CALLED = {
    "api_key": ("key", "apikey", "api_token", "token", "openai_api_key"),
    "base_url": ("url", "api_base", "endpoint", "host"),
    "retries": ("retry", "max_retries", "num_retries", "n_retries", "attempts", "max_attempts"),
    "timeout": ("request_timeout", "max_time"),
    "budget": ("max_cost", "max_budget"),
    "headers": ("extra_headers", "default_headers"),
    "keep_raw": ("include_raw", "return_raw"),
    "temperature": ("temp",),
    "system": ("system_prompt",),
    "output": ("response_model", "output_type", "output_schema"),
    "extra": ("extra_body",),
    "rpm": ("requests_per_minute", "max_requests_per_minute"),
    "tpm": ("tokens_per_minute", "max_tokens_per_minute"),
    "concurrency": (
        *("max_concurrency", "concurrent", "max_concurrent", "max_concurrent_requests", "parallel", "parallelism"),
        *("max_parallel_requests", "workers", "max_workers", "num_workers", "n_jobs", "semaphore"),
    ),
}
"""The names that other libraries have for the same option."""

_OWN_NAME = {other: name for name, others in _ALSO_CALLED.items() for other in others}


class UnknownOption(ConfigError, TypeError):
    """A keyword argument that is not accepted. It is a TypeError too, as for any Python function."""


def check_store(store: object, *, retry_failed: bool) -> None:
    """Refuse to ask failed calls again where nothing keeps them.

    Raises:
        ConfigError: there is no run file.
    """
    if retry_failed and store is None:
        raise ConfigError("retry_failed asks the failed calls of a run file again: give its name, store=…")


def check_names(
    options: dict[str, Any],
    takes: frozenset[str],
    *,
    own: frozenset[str] = frozenset(),
    client: str = "Client(…, {})",
) -> None:
    """Refuse misspelt names, and names that belong elsewhere.

    Args:
        options: the keyword arguments. If one is refused, the values of all are concealed: a key may be among them.
        takes: the accepted names. If they include those of a call, unknown names are the provider's, and are accepted.
        own: the function's parameters beside these; a name may be a misspelling of one.
        client: how to write an option of the client, with ``{}`` for the option itself.

    Raises:
        UnknownOption: a name is refused; the message says what to write instead of the first one.
    """
    for name in (options.keys() & _OF_MANY.keys()) - takes:
        raise UnknownOption(f"{name} is an option of many calls at once: {_OF_MANY[name]}")
    first = own | takes
    wrong = [name for name in options if name not in takes and (meant(name, first) or not takes >= CALL)]
    if not wrong:
        return
    options.update({name: _concealed(value) for name, value in options.items()})
    limits = {name: right for name in wrong if (right := meant(name, first)) in LIMITS - takes}
    if limits:
        given = ", ".join(f"{right}={_shown(options[name])}" for name, right in limits.items())
        are = "are limits" if len(limits) > 1 else "is a limit"
        raise UnknownOption(f"{_listed(limits)} {are}: write {client.format(f'limits=Limits({given})')}")
    name = wrong[0]
    raise UnknownOption(f"{name} {_advice(name, options[name], takes, own, client)}")


def _advice(name: str, value: Any, takes: frozenset[str], own: frozenset[str], client: str) -> str:
    right = meant(name, own | takes)
    written = f"{right}={_shown(value)}"
    as_it_is = f" To send it as it is, write extra={{{name!r}: …}}." if takes >= CALL else ""
    if right in takes or right in own:
        return f"is no option; did you mean {right}?{as_it_is}"
    if right in CLIENT:
        return f"is an option of the client: write {client.format(written)}.{as_it_is}"
    if right in CALL:
        return f"is a parameter of calls: write client.call(…, {written}), or Call(…, {written})"
    if not takes >= CLIENT:
        return f"is no option: there are {_listed(own | takes)}"
    beside = f"There are {_listed(own)}. " if own else ""
    others = f"limits are {_listed(LIMITS)}; a call takes {_listed(CALL)}"
    return f"is no option. {beside}The client takes {_listed(CLIENT)}; {others}"


@lru_cache(maxsize=256)
def meant(name: str, first: frozenset[str] = frozenset()) -> str | None:
    """The flatout name that a name is, is another word for, or probably a misspelling of; None for all others.

    Args:
        name: the name.
        first: the names that are rather meant than others.
    """
    known = CALL | CLIENT | LIMITS
    if name in known:
        return name
    if other := _OWN_NAME.get(name.lower()):
        return other
    if name in _NO_SLIPS:
        return None
    return next((own for own in (*sorted(first), *sorted(known - first)) if _is_slip(name, own)), None)


def _is_slip(name: str, own: str) -> bool:
    """Whether two names differ by one missing letter, or by two swapped neighbours.

    A replaced letter does not count as a slip: top_k is not top_p.
    """
    if len(own) <= _SHORT or abs(len(name) - len(own)) > 1:
        return False
    shorter, longer = sorted((name, own), key=len)
    cut = {longer[:at] + longer[at + 1 :] for at in range(len(longer))}
    turned = {own[:at] + own[at + 1] + own[at] + own[at + 2 :] for at in range(len(own) - 1)}
    return shorter in cut or name in turned


def _concealed(value: Any) -> Any:
    return veil(value) if isinstance(value, Mapping) else conceal(value)


def _shown(value: Any) -> str:
    """A value as it would be written, if it is a number. Anything else may be long, or a key."""
    return repr(value) if isinstance(value, int | float) else "…"


def _listed(names: Iterable[str]) -> str:
    *others, last = sorted(names)
    return f"{', '.join(others)} and {last}" if others else last


def with_options(value: CallLike, options: Mapping[str, Any]) -> Call:
    """A call with more parameters, which override its own.

    Raises:
        ConfigError: the call, or a parameter, is wrong.
    """
    made = Call.of(value)
    return Call.of({**msgspec.structs.asdict(made), **options}) if options else made


class ForAll:
    """Parameters for all calls. A call's own values win. In ``extra``, that holds for each name.

    Args:
        options: the keyword arguments; names that flatout does not know go into ``extra``.

    Raises:
        ConfigError: a value is wrong, or belongs to one call.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        if own := sorted(_OF_ONE & options.keys()):
            raise ConfigError(f"{own[0]} cannot be the same for all calls: write it into each, as Call(…, {own[0]}=…)")
        made = Call.of({"prompt": "", **options})
        fields = {name: getattr(made, name) for name in CALL - {"prompt", "extra"}}
        self._fields = {name: value for name, value in fields.items() if value is not None}
        self._extra = made.extra

    async def put_into(self, calls: Iterable[CallLike] | AsyncIterable[CallLike]) -> AsyncIterator[CallLike]:
        """The calls with the parameters, lazily. A value that is not a valid call is passed on unchanged."""
        async with reading(calls) as source:
            async for call in source:
                yield self.filled(call)

    def filled(self, value: CallLike) -> CallLike:
        """A call with the parameters that it does not set itself."""
        try:
            call = Call.of(value)
        except ConfigError:
            return value
        missing = {name: default for name, default in self._fields.items() if getattr(call, name) is None}
        if self._extra:
            missing["extra"] = {**self._extra, **(call.extra or {})}
        return replace(call, **missing)
