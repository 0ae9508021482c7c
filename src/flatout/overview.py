"""What a Client tells of itself, without sending anything: its configuration, its targets, its money."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from .config.file import Config
from .engine import Engine
from .events import Events
from .layers.limit import TargetStatus
from .values import Call


class Overview:
    """What there is to ask of a Client beside calls."""

    _engine: Engine

    @property
    def config(self) -> Config:
        """The configuration in force: flatout.toml, or what was given instead."""
        return self._engine.config

    @property
    def events(self) -> Events:
        """What happens, for whoever subscribes; see `flatout.events`."""
        return self._engine.events

    @property
    def model(self) -> str | None:
        """The model of calls that name none."""
        return self._engine.targets.model

    @property
    def spent(self) -> float:
        """US dollars known to be spent. See `unpriced` for what is not known.

        After plain calls alone, this loads the price table, which takes 0.1 s.
        """
        return self._engine.stack.purse.spent

    @property
    def unpriced(self) -> int:
        """Attempts that may have been billed an amount that is not known."""
        return self._engine.stack.purse.unknown

    @property
    def window(self) -> int:
        """How many calls are taken from the input ahead of their answers.

        Enough to use the limits to the full: with a known ``rpm`` what goes in two minutes, and 64 at least.
        """
        return self._engine.window

    def host(self, model: str | None = None) -> str:
        """The host that calls go to, where the model's name does not tell it; "" for a provider's own address.

        Args:
            model: the model; the client's when None.

        Raises:
            ConfigError: the model is missing or unknown, or there is no key for it.
        """
        return self._engine.host(model)

    def servers(self, models: Sequence[str] | None = None) -> str | dict[str, str] | None:
        """Where calls go that name no model: host and path, where the models' names do not tell; None where they do.

        Run files keep it, to tell the answers of one server from those of another.

        Args:
            models: the models that are asked; the client's when None.

        Raises:
            ConfigError: a model is unknown, or there is no key for it.
        """
        return self._engine.targets.servers(models)

    def go_on(self, run: Hashable, spent: float) -> None:
        """Count the US dollars that earlier processes spent on a run towards the budget; once for each run."""
        self._engine.stack.purse.go_on(run, spent)

    def status(self) -> list[TargetStatus]:
        """What each target in use is doing now."""
        limits = list(self._engine.stack.limiters.limits.values())  # exporters ask from threads of their own
        return [limit.status() for limit in limits]

    def searched(self) -> frozenset[str]:
        """The causes of waiting (see `flatout.events.WAITS`) whose limit nobody gave or told: it is found by trying."""
        pacers = [limit.pacer for limit in list(self._engine.stack.limiters.limits.values()) if limit.pacer is not None]
        requests = any(pacer.use("requests") is None for pacer in pacers)
        concurrency = any(pacer.limits.concurrency is None for pacer in pacers)
        return frozenset([*(["requests"] if requests else []), *(["concurrency"] if concurrency else [])])

    def check(self, call: Call) -> None:
        """Find out whether a call could be sent, without sending anything. Cheap, for whoever checks a million.

        Raises:
            ConfigError: its model is missing or unknown, there is no key for it, or the budget cannot be kept.
        """
        self._engine.check(call)
