"""The information that a Client gives about itself without sending anything: configuration, targets, spending."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from flatout.config.file import Config
from flatout.engine import Engine
from flatout.events import Events
from flatout.layers.limit import TargetStatus
from flatout.money.purse import Purse
from flatout.values import Call, Result


class Overview:
    """The part of a Client that informs about it."""

    _engine: Engine

    @property
    def engine(self) -> Engine:
        """What the client is made of, for lanes that make no calls."""
        return self._engine

    @property
    def config(self) -> Config:
        """The configuration in force: flatout.toml, or what was given instead."""
        return self._engine.config

    @property
    def events(self) -> Events:
        """The events to subscribe to; see `flatout.events`."""
        return self._engine.events

    @property
    def model(self) -> str | None:
        """The model of calls that do not name one."""
        return self._engine.targets.model

    @property
    def spent(self) -> float:
        """US dollars known to be spent. `unpriced` counts the attempts of unknown cost.

        After plain calls alone, this loads the price table, which takes 0.1 s.
        """
        return self._engine.stack.purse.spent

    @property
    def unpriced(self) -> int:
        """The number of attempts that may have been billed an unknown amount."""
        return self._engine.stack.purse.unknown

    def saved(self, result: Result[Any]) -> float | None:
        """US dollars that the provider's prompt cache saved in a result's answer, less what it cost to write.

        None if there is no answer, or if a price is unknown or not loaded yet.
        """
        reply = result.reply if result.reply is not None else getattr(result.error, "reply", None)
        if result.call is None or reply is None:
            return None
        return self._engine.saved(result.call, reply, result.trail[-1].target if result.trail else None)

    @property
    def window(self) -> int:
        """How many calls are read ahead from the input.

        They are enough to use the limits to the full: with a known ``rpm``, the calls of two minutes, and at least 64.
        """
        return self._engine.window

    def host(self, model: str | None = None) -> str:
        """The host that calls go to, if the model's name does not say it; "" for a provider's own address.

        Args:
            model: the model; the client's when None.

        Raises:
            ConfigError: the model is missing or unknown, or there is no key for it.
        """
        return self._engine.host(model)

    def servers(self, models: Sequence[str] | None = None) -> str | dict[str, str] | None:
        """The servers of calls that do not name a model: host and path. None if the models' names already say it.

        Run files keep it, to distinguish the answers of different servers.

        Args:
            models: the models to ask; the client's when None.

        Raises:
            ConfigError: a model is unknown, or there is no key for it.
        """
        return self._engine.targets.servers(models)

    def go_on(self, run: Hashable, spent: float, *, answered: bool = False) -> None:
        """Go on with a run of earlier processes.

        Args:
            run: the run. What it spent counts once.
            spent: the US dollars that they spent on it, which count towards the budget.
            answered: whether it has answers. Then a refusal concerns its own call, however many there are.
        """
        self._engine.stack.purse.go_on(run, spent)
        if answered:
            self._engine.stack.limiters.trust()

    @property
    def purse(self) -> Purse:
        """The money: what may be spent, and what was. Before the first call, a shared one may replace it."""
        return self._engine.stack.purse

    @purse.setter
    def purse(self, purse: Purse) -> None:
        self._engine.stack.purse = purse

    def embeds(self, model: str | None = None) -> bool:
        """Whether a model, or a route to several, needs the embedded one, which a client starts itself.

        Args:
            model: the model; the client's when None.
        """
        name = self.model if model is None else model
        targets = self._engine.targets
        return name is not None and any(map(targets.is_local, targets.routes.reachable(name)))

    def status(self) -> list[TargetStatus]:
        """The present state of each target in use."""
        limits = list(self._engine.stack.limiters.limits.values())  # a copy: exporters call this from other threads
        return [limit.status() for limit in limits]

    def searched(self) -> frozenset[str]:
        """The causes of waiting (see `flatout.events.WAITS`) whose limit is unknown, so flatout searches for it."""
        pacers = [limit.pacer for limit in list(self._engine.stack.limiters.limits.values()) if limit.pacer is not None]
        requests = not all(pacer.knows_requests for pacer in pacers)
        concurrency = any(pacer.limits.concurrency is None for pacer in pacers)
        return frozenset([*(["requests"] if requests else []), *(["concurrency"] if concurrency else [])])

    def check(self, call: Call) -> None:
        """Check that a call could be sent, without sending anything. It is cheap enough for a million calls.

        The first check waits for the place where limits are shared across machines, if there is one.

        Raises:
            ConfigError: the call's model is missing or unknown, there is no key for it, the budget cannot be kept, or
                the place where limits are shared is not there.
        """
        self._engine.check(call)
