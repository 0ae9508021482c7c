"""The settings of a Client's call path: keyword arguments over flatout.toml over the defaults, checked once."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from flatout.errors import ConfigError
from flatout.values.budget import Budget
from flatout.values.checks import is_positive

from .file import Config, FoundConfig
from .folders import cache_folder

CACHE_FILE = "answers.cache"
"""The name of the cache of answers in the user's cache folder."""

WEEK = 7 * 86_400.0
"""Seconds. The default deadline of a client that waits for quotas."""


class Gaps(Struct, frozen=True):
    """How long a streamed answer may stay silent, in seconds. None means no bound.

    Args:
        first_byte: from the start of the attempt (including the connection) to the first byte of the answer's body.
        between_bytes: from one chunk of the body to the next.
    """

    first_byte: float | None = None
    between_bytes: float | None = None


class Settings(Struct, frozen=True, kw_only=True):
    """The settings of the layers. Durations are in seconds, money is in US dollars.

    Args:
        timeout: for one attempt.
        deadline: for a whole call.
        attempts: for one call. Some failures cost no attempt, see https://flatout.github.io/flatout/retries/.
        retry_share: the largest share of sent requests that may be retries while other calls wait.
        repeats: after this many equal unusable answers, a call is not tried again.
        give_up: seconds after which a target that was never reached is given up.
        reasks: how often the model is asked again if its answer does not fit the schema.
        gaps: streams every answer, and bounds its silences. None asks for complete answers.
        budget: the most to spend; None for no bound.
        allow_unknown_price: whether calls without a known price are sent although there is a budget.
        wait_for_quota: wait if a quota is used up.
        fail_truncated: treat texts that were cut off at the token limit as failures.
        cache: the file of the cache of answers, or its address; None for no cache.
        cache_max_age: seconds after which a kept answer is not used any more; None for no bound.
        prompt_cache: whether to fill and use providers' prompt caches (``auto``), or to leave prompts alone (``off``).
        given_timeout: ``timeout``, if it is the user's own.
        given_deadline: ``deadline``, if it is the user's own.
    """

    timeout: float = 300.0
    deadline: float = 3600.0
    attempts: int = 6
    retry_share: float = 0.2
    repeats: int = 3
    give_up: float = 60.0
    reasks: int = 1
    gaps: Gaps | None = None
    budget: Budget | None = None
    allow_unknown_price: bool = False
    wait_for_quota: bool = False
    fail_truncated: bool = False
    cache: str | os.PathLike[str] | None = None
    cache_max_age: float | None = None
    prompt_cache: Literal["auto", "off"] = "off"
    given_timeout: float | None = None
    given_deadline: float | None = None


def settings_of(
    config: Config,
    *,
    wait_for_quota: bool = False,
    fail_truncated: bool = False,
    allow_unknown_price: bool = False,
    **given: Any,
) -> Settings:
    """The settings from the arguments, then the configuration, then the defaults.

    Args:
        config: flatout.toml.
        wait_for_quota: whether to wait if a quota is used up; the default deadline is then a week.
        fail_truncated: see `Settings`.
        allow_unknown_price: see `Settings`.
        **given: the other settings, by the names of the Client's keyword arguments; None if not given.

    Raises:
        ConfigError: a setting is not a number, or is out of range.
    """

    def chosen(name: str, default: Any = None) -> Any:
        values = (given.get(name), getattr(config, name), default)
        return next((value for value in values if value is not None), None)

    if given.get("cache_max_age") is not None and given.get("cache") is None and config.cache is None:
        raise ConfigError("cache_max_age is for a cache, and there is none: add cache=True, or --cache to the command")
    silences = [_optional(name, chosen(name)) for name in ("first_byte", "between_bytes")]
    return Settings(
        timeout=_positive("timeout", chosen("timeout", 300.0)),
        deadline=_positive("deadline", chosen("deadline", WEEK if wait_for_quota else 3600.0)),
        attempts=_count("retries", chosen("retries", 5)) + 1,
        retry_share=_share("retry_share", chosen("retry_share", 0.2)),
        repeats=_count("repeats", chosen("repeats", 3)),
        give_up=_positive("give_up", chosen("give_up", 60.0)),
        reasks=_count("reasks", chosen("reasks", 1)),
        gaps=Gaps(*silences) if any(silences) else None,
        budget=_budget(chosen("budget")),
        allow_unknown_price=allow_unknown_price,
        wait_for_quota=wait_for_quota,
        fail_truncated=fail_truncated,
        cache=_cache(given.get("cache"), config),
        cache_max_age=age("cache_max_age", chosen("cache_max_age")),
        prompt_cache=_prompt_cache(chosen("prompt_cache", "off")),
        given_timeout=_optional("timeout", chosen("timeout")),
        given_deadline=_optional("deadline", chosen("deadline")),
    )


def _prompt_cache(value: Any) -> Literal["auto", "off"]:
    if value not in ("auto", "off"):
        raise ConfigError(f"prompt_cache is 'auto' or 'off', not {value!r}")
    return "auto" if value == "auto" else "off"


def _budget(value: Any) -> Budget | None:
    if isinstance(value, Mapping):
        try:
            return msgspec.convert(value, Budget)
        except msgspec.ValidationError as error:
            raise ConfigError(f"budget: {error}") from None
    return value if value is None or isinstance(value, Budget) else Budget(_positive("budget", value))


def _cache(given: Any, config: Config) -> str | os.PathLike[str] | None:
    """The cache's file, from the argument, or else from the configuration."""
    wanted = config.cache if given is None else given
    if given is None and isinstance(wanted, str) and isinstance(config, FoundConfig) and not config.trusted:
        raise ConfigError(
            f"{config.path} takes answers from {wanted}. If you mean it, say so once: flatout trust {config.path}; "
            "or write cache = true, for your own cache"
        )
    if wanted is None or wanted is False:
        return None
    if wanted is True:
        return default_cache()
    if not isinstance(wanted, str | os.PathLike) or not os.fspath(wanted):
        raise ConfigError(f"cache is True, the path of a file or an address, not {wanted!r}")
    return wanted


def default_cache() -> Path:
    """The cache of answers in the user's cache folder, which is made if it is missing.

    Raises:
        ConfigError: there is no such folder, and none can be made.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"no cache can be kept in {folder}: {error.strerror or error}") from None
    return folder / CACHE_FILE


def age(name: str, value: Any) -> float | None:
    """Seconds from a number, or from a text with a unit: ``45s``, ``30m``, ``12h``, ``7d``, ``2w``.

    Raises:
        ConfigError: it is neither; the message begins with the option's ``name``.
    """
    if isinstance(value, str) and (match := _AGE.fullmatch(value.strip().lower())):
        value = float(match[1]) * _SECONDS[match[2]]
    if value is not None and not is_positive(value):
        raise ConfigError(f"{name} is a time such as 12h or 7d, or a number of seconds above 0, not {value!r}")
    return None if value is None else float(value)


_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)")
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": WEEK}


def _optional(name: str, value: Any) -> float | None:
    return None if value is None else _positive(name, value)


def _positive(name: str, value: Any) -> float:
    if not is_positive(value):
        raise ConfigError(f"{name} is a number above 0, not {value!r}")
    return float(value)


def _share(name: str, value: Any) -> float:
    if not is_positive(value) or value > 1:
        raise ConfigError(f"{name} is a share above 0 and up to 1, not {value!r}")
    return float(value)


def _count(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"{name} is a whole number from 0 on, not {value!r}")
    return value
