"""flatout.toml as one value: endpoints, the variables that hold keys, limits and prices.

::

    model = "openai/gpt-5-mini"
    timeout = 60

    [endpoints.mine]                      # a server of your own, named mine/MODEL
    base_url = "http://127.0.0.1:8000/v1"
    provider = "vllm"                     # behaves like this built-in provider; OpenAI-compatible when absent
    key_env = "MINE_API_KEY"

    [endpoints.openai-2]                  # a second key of one provider
    provider = "openai"
    key_env = "OPENAI_KEY_2"
    group = "my-organisation"             # endpoints of one group share their limits

    [routes.fast]                         # several targets as one model, named fast; see `flatout.Route`
    targets = ["openai/gpt-5-mini", "openai-2/gpt-5-mini"]
    order = "spill"
    fallback = { context = "gemini/gemini-2.5-pro" }

    [budget]                              # or budget = 5 for each run
    usd = 20
    per = "day"
    scope = "team"

    [limits."openai/gpt-5-mini"]          # or [limits.openai] for all its models
    rpm = 10_000
    tpm = "2M"                            # or 2_000_000

    [prices."mine/llama"]                 # US dollars per million tokens
    input = 0.10
    output = 0.40

The file never holds keys: it is meant to be committed. Keyword arguments and the command line win over it.
"""

from __future__ import annotations

import logging
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from flatout.errors import ConfigError
from flatout.text.numbers import number_in
from flatout.text.visible import visible
from flatout.values import Limits
from flatout.values.budget import Budget
from flatout.values.route import Cause, Order, Route
from flatout.values.secret import Reticent

from .trust import is_trusted, read_owned

FILE_NAME = "flatout.toml"

NUMBERS = frozenset({"rpm", "tpm", "itpm", "otpm", "rpd", "burst", "concurrency"})
"""The limits that are numbers."""

_log = logging.getLogger("flatout")


class EndpointConfig(Reticent, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ``[endpoints.NAME]`` table. ``provider`` supplies whatever the table leaves out.

    Args:
        base_url: the server's address, up to and including the version: ``http://127.0.0.1:8000/v1``.
        provider: the built-in provider that it behaves like; if None, any OpenAI-compatible server.
        key_env: the environment variable that holds its key.
        headers: sent with every request.
        query: sent with every URL, such as Azure's ``api-version``.
        system: the system prompt for calls that have none.
        group: endpoints of one group share the limits of each model, as the keys of one organisation do.
    """

    base_url: str | None = None
    provider: str | None = None
    key_env: str | None = None
    group: str | None = None
    headers: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    system: str | None = None


class RouteConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ``[routes.NAME]`` table; see `flatout.Route`.

    Args:
        targets: models, in the order of preference.
        order: ``spill`` or ``spread``.
        fallback: other models, by the cause for which they are asked.
        hedge: the share of requests that may be sent a second time.
    """

    targets: list[str]
    order: Order = "spill"
    fallback: dict[Cause, str] = {}
    hedge: float = 0.0

    def __post_init__(self) -> None:
        self.route()

    def route(self) -> Route:
        """The route that the table describes.

        Raises:
            ConfigError: the table describes no usable route.
        """
        return Route(*self.targets, order=self.order, fallback=self.fallback, hedge=self.hedge)


class Price(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """US dollars per million tokens.

    Args:
        input: of the prompt.
        output: of the answer, reasoning included.
        cache_read: of what is read from the provider's prompt cache; as ``input`` if left out.
        cache_write: of what is written to it; as ``input`` if left out.
    """

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of flatout.toml. What is None has the default of `flatout.Client`.

    Args:
        model: ``provider/model`` for calls that name none.
        timeout: seconds for one attempt; 300 if left out.
        deadline: seconds for a whole call, queueing and retries included; 3600 if left out.
        first_byte: seconds from an attempt's start to the first byte of its answer. With it or ``between_bytes``, every
            answer is streamed.
        between_bytes: seconds from one chunk of an answer to the next.
        retries: attempts after the first; 5 if left out.
        retry_share: the largest share of sent requests that may be retries while other calls wait; 0.2 if left out.
        repeats: after this many equal unusable answers, a call is given up; 3 if left out.
        give_up: seconds after which a target that was never reached is given up; 60 if left out.
        reasks: how often the model is asked again if its answer does not fit; 1 if left out.
        budget: the most US dollars to spend on a run, or a table with ``usd``, ``per`` and ``scope`` (see
            `flatout.Budget`); no bound if left out.
        cache: true keeps answers in the user's cache folder and uses them again; or the path of another file; or an
            address such as ``redis://host:6379/0/team``.
        cache_max_age: the age from which a kept answer is not used: seconds, or a text such as ``12h`` or ``7d``.
        prompt_cache: ``auto`` fills and uses the providers' prompt caches; ``off`` if left out.
        endpoints: servers by their names.
        routes: several targets as one model, by the route's name.
        limits: the limits of targets, by ``provider`` or ``provider/model``.
        prices: token prices, by ``provider/model``; those of a lane or another service tier by ``provider/model@tier``.
    """

    model: str | None = None
    timeout: float | None = None
    deadline: float | None = None
    first_byte: float | None = None
    between_bytes: float | None = None
    retries: int | None = None
    retry_share: float | None = None
    repeats: int | None = None
    give_up: float | None = None
    reasks: int | None = None
    budget: float | Budget | None = None
    cache: bool | str | None = None
    cache_max_age: float | str | None = None
    prompt_cache: Literal["auto", "off"] | None = None
    endpoints: dict[str, EndpointConfig] = {}
    routes: dict[str, RouteConfig] = {}
    limits: dict[str, Limits] = {}
    prices: dict[str, Price] = {}

    def limits_for(self, endpoint: str, model: str) -> Limits:
        """The limits of one target: those of ``endpoint/model``, completed by those of ``endpoint``."""
        return self.limits.get(f"{endpoint}/{model}", Limits()).over(self.limits.get(endpoint, Limits()))

    def part_of(self, whole: int) -> int:
        """This process's part of what all processes of a run may use: everything, unless others take their parts."""
        return whole


class FoundConfig(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A flatout.toml that flatout found itself, as opposed to one that the user named.

    Attributes:
        path: where it is.
        trusted: whether the user allowed it to send prompts and keys where it says; see `flatout.config.trust`.
    """

    path: str
    trusted: bool

    def __str__(self) -> str:
        """The file and the settings in it: people should see whose settings are in force."""
        given = [name for name in Config.__struct_fields__ if getattr(self, name)]
        shown = [f"model {self.model}" if name == "model" else name for name in given]
        return f"settings from {self.path}: {', '.join(shown) or 'none'}"


def load(source: Config | Mapping[str, object] | str | os.PathLike[str] | None = None) -> Config:
    """Read the configuration.

    Args:
        source: a file, a Config or a mapping of the same shape. None looks for flatout.toml in the working directory
            and upward; without a file the Config is empty. A file that others own or may write to is skipped, with
            a warning in the log.

    Raises:
        ConfigError: the file does not exist, is not TOML, or has an unknown or wrong setting; the message names it.
    """
    if isinstance(source, Config):
        return source
    if isinstance(source, Mapping):
        return _convert(source, "config")
    if source is None:
        return _found() or Config()
    try:
        return parse(Path(source).read_bytes(), str(source))
    except OSError as error:
        raise ConfigError(f"{source}: {error.strerror or error}") from None


def find() -> Path | None:
    """The nearest flatout.toml from the working directory upward, whoever owns it.

    Raises:
        ConfigError: it cannot be read.
    """
    return next((path for path, _, _ in _upward()), None)


def _found() -> Config | None:
    for path, content, doubt in _upward():
        trusted = is_trusted(content)
        if trusted or not doubt:
            found = msgspec.structs.asdict(parse(content, str(path)))
            return FoundConfig(**found, path=str(path), trusted=trusted)
        name = visible(str(path))
        _log.warning("ignores %s: %s. To use it: flatout trust %s", name, doubt, name)
    return None


def _upward() -> Iterator[tuple[Path, bytes, str]]:
    try:
        here = Path.cwd()
    except OSError:  # the working directory was deleted, so nothing can be found above it
        return
    for folder in (here, *here.parents):
        path = folder / FILE_NAME
        try:
            read = read_owned(path)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror or error}") from None
        if read is not None:
            yield path, *read


def parse(content: bytes, name: str) -> Config:
    """The configuration in the content of a flatout.toml.

    Raises:
        ConfigError: not TOML, or an unknown or wrong setting; the message begins with the file's ``name``.
    """
    try:
        return _convert(tomllib.loads(content.decode()), name)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: {error}") from None


def _convert(data: object, name: str) -> Config:
    data = _with_numbers(data)
    try:
        return msgspec.convert(data, Config)
    except (msgspec.ValidationError, ConfigError) as error:
        from .faults import first_fault  # loaded when something is wrong

        raise ConfigError(f"{name}: {first_fault(data, Config) or error}") from None


def _with_numbers(data: Any) -> Any:
    """The tables, with limits as numbers that were written as on the command line: ``rpm = "10k"``."""
    limits = data.get("limits") if isinstance(data, Mapping) else None
    if not isinstance(limits, Mapping):
        return data
    return {**data, "limits": {name: _numbers_of(table) for name, table in limits.items()}}


def _numbers_of(table: Any) -> Any:
    if not isinstance(table, Mapping):
        return table
    return {key: _number(value) if key in NUMBERS and isinstance(value, str) else value for key, value in table.items()}


def _number(text: str) -> float | str:
    """The number in a text. A text without a number is returned as it is, and refused later like any other."""
    value = number_in(text)
    return text if value is None else int(value) if value.is_integer() else value
