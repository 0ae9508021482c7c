"""flatout.toml: endpoints, the variables that hold keys, limits and prices, as one value.

::

    model = "openai/gpt-5-mini"
    timeout = 60

    [endpoints.mine]                      # a server of your own, named mine/MODEL
    base_url = "http://127.0.0.1:8000/v1"
    provider = "vllm"                     # behaves like this built-in provider; OpenAI-compatible when absent
    key_env = "MINE_API_KEY"

    [limits."openai/gpt-5-mini"]          # or [limits.openai] for all its models
    rpm = 10_000
    tpm = 2_000_000

    [prices."mine/llama"]                 # US dollars per million tokens
    input = 0.10
    output = 0.40

Keys themselves never stand in the file: it is meant to be committed. Keyword arguments and the command line win
over it.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from .errors import ConfigError
from .values import Limits

FILE_NAME = "flatout.toml"


class EndpointConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ``[endpoints.NAME]`` table. What is left out comes from ``provider``."""

    base_url: str | None = None
    provider: str | None = None
    key_env: str | None = None
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    system: str | None = None


class Price(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """US dollars per million tokens."""

    input: float
    output: float


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of flatout.toml."""

    model: str | None = None
    timeout: float | None = None
    deadline: float | None = None
    first_byte: float | None = None
    between_bytes: float | None = None
    retries: int | None = None
    reasks: int | None = None
    budget: float | None = None
    endpoints: dict[str, EndpointConfig] = {}
    limits: dict[str, Limits] = {}
    prices: dict[str, Price] = {}

    def limits_for(self, endpoint: str, model: str) -> Limits:
        """The limits of one target: those of ``endpoint/model`` over those of ``endpoint``."""
        return self.limits.get(f"{endpoint}/{model}", Limits()).over(self.limits.get(endpoint, Limits()))


def load(source: Config | Mapping[str, object] | str | os.PathLike[str] | None = None) -> Config:
    """Read the configuration.

    Args:
        source: a file, a Config or a mapping of the same shape; None looks for flatout.toml in the working
            directory and upward, and is empty when there is none.

    Raises:
        ConfigError: no such file, no TOML, or an unknown or wrong setting; the message names it.
    """
    if isinstance(source, Config):
        return source
    if isinstance(source, Mapping):
        return _convert(source, "config")
    path = Path(source) if source is not None else _find()
    if path is None:
        return Config()
    try:
        return _convert(tomllib.loads(path.read_text(encoding="utf-8")), str(path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def cache_folder() -> Path:
    """The user's cache folder for flatout, by the platform's custom. It need not exist yet.

    Raises:
        ConfigError: there is no home folder to have one in.
    """
    configured = os.environ.get("XDG_CACHE_HOME", "")
    if Path(configured).is_absolute():  # the XDG specification: a relative path is to be ignored
        return Path(configured) / "flatout"
    try:
        home = Path.home()
    except RuntimeError:
        raise ConfigError("no home folder for a cache; set XDG_CACHE_HOME to a folder") from None
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "flatout"


def _find() -> Path | None:
    here = Path.cwd()
    return next((path for folder in (here, *here.parents) if (path := folder / FILE_NAME).is_file()), None)


def _convert(data: object, name: str) -> Config:
    try:
        return msgspec.convert(data, Config)
    except (msgspec.ValidationError, ConfigError) as error:
        raise ConfigError(f"{name}: {error}") from None
