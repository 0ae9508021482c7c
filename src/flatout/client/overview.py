"""The information that a Client gives about itself without sending anything: configuration, targets, spending."""

from __future__ import annotations

from flatout.config.file import Config
from flatout.engine import Engine
from flatout.events import Events
from flatout.layers.limit import TargetStatus
from flatout.values import Call


class Overview:
    """The part of a Client that informs about it."""

    _engine: Engine

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

    def status(self) -> list[TargetStatus]:
        """The present state of each target in use."""
        return self._engine.stack.limiters.status()

    def check(self, call: Call) -> None:
        """Check that a call could be sent, without sending anything. It is cheap enough for a million calls.

        The first check waits for the place where limits are shared across machines, if there is one.

        Raises:
            ConfigError: the call's model is missing or unknown, there is no key for it, the budget cannot be kept, or
                the place where limits are shared is not there.
        """
        self._engine.check(call)


def engine_of(client: Overview) -> Engine:
    """What a client is made of, for the other rooms of flatout. Users have no use for it."""
    return client._engine
