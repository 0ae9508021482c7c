"""What a worker needs to know to begin: the parent's client, described.

It goes over the socket, never on a command line: headers and addresses may hold keys. The keys of providers are not in
it: a worker finds them where the parent found them, in the environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from flatout.client import Client, engine_of
from flatout.config.file import Config, FoundConfig
from flatout.runs.client_options import ClientOptions
from flatout.values import Limits
from flatout.values.secret import Secret


class Outset(Struct, array_like=True):
    """How a worker begins.

    Attributes:
        client: the keyword arguments of its Client, without ``limits`` and ``config``.
        limits: the limits that the user gave.
        config: the settings in force, as flatout.toml has them.
        found: where flatout found that file, and whether the user trusts it; None for one that the user named.
        output: what the answers must be; see `flatout.runs.workers.calls.as_data`.
        shares: the name under which the workers share the limits of targets that share no other; None for no sharing.
        number: the worker's place among the workers.
        window: the most rows under way at once.
        level: the level of the log.
        otlp: the collector for telemetry.
        metrics: whether to tell the parent the metrics.
        workers: how many workers there are, which divide what one process may use.
        flex: whether the rows go to the flex lane.
        flex_until: when they go on in the live lane; Unix time. None for never.
        answered: whether the run has an answer already; see `flatout.engine.Engine.go_on`.
    """

    client: dict[str, Any]
    limits: Limits | None
    config: dict[str, Any]
    found: tuple[str, bool] | None
    shares: str | None
    output: list[Any] | dict[str, Any] | None = None
    number: int = 0
    window: int = 1
    level: int = 0
    otlp: str | None = None
    metrics: bool = False
    workers: int = 1
    flex: bool = False
    flex_until: float | None = None
    answered: bool = False

    def __repr__(self) -> str:
        return "Outset(…)"  # headers and addresses may hold keys

    @classmethod
    def of(cls, made_with: ClientOptions, config: Config, shares: str | None, **others: Any) -> Outset:
        """Describe a client that was made with these options and has this configuration."""
        given = {name: _revealed(value) for name, value in made_with.client.items() if name != "config"}
        found = (config.path, config.trusted) if isinstance(config, FoundConfig) else None
        return cls(given, made_with.limits, _as_file(config), found, shares, **others)

    def make_client(self) -> Client:
        """The worker's own client.

        Raises:
            ConfigError: as for `Client`.
        """
        found = {} if self.found is None else {"path": self.found[0], "trusted": self.found[1]}
        kind = _Together if self.found is None else _FoundTogether
        config = msgspec.convert({**self.config, **found, "shares": self.shares, "workers": self.workers}, kind)
        client = Client(**self.client, limits=self.limits, config=config)
        engine_of(client).go_on("the parent's run", 0.0, answered=self.answered)  # the parent counts what it spent
        return client


class _Together(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a worker: targets that share their limits with nobody else share them among the workers."""

    shares: str | None = None
    workers: int = 1

    def limits_for(self, endpoint: str, model: str) -> Limits:
        return Config.limits_for(self, endpoint, model).over(Limits(shared=self.shares))

    def part_of(self, whole: int) -> int:
        return whole // self.workers


class _FoundTogether(FoundConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same for a flatout.toml that flatout found itself."""

    shares: str | None = None
    workers: int = 1

    def limits_for(self, endpoint: str, model: str) -> Limits:
        return Config.limits_for(self, endpoint, model).over(Limits(shared=self.shares))

    def part_of(self, whole: int) -> int:
        return whole // self.workers


def _revealed(value: Any) -> Any:
    if isinstance(value, Secret):
        return value.reveal()
    return dict(value) if isinstance(value, Mapping) else value


def _as_file(config: Config) -> dict[str, Any]:
    """The configuration in the form of flatout.toml, with the secrets of its endpoints in the open."""
    tables = {name: getattr(config, name) for name in Config.__struct_fields__}
    tables["endpoints"] = {
        name: {field: _revealed(getattr(table, field)) for field in table.__struct_fields__}
        for name, table in config.endpoints.items()
    }
    return {name: value for name, value in msgspec.to_builtins(tables).items() if value is not None}
