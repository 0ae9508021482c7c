"""Warns of models without a price where a budget has to hold: their calls are refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from flatout.errors import ConfigError
from flatout.values import Target

from .models import Models

if TYPE_CHECKING:
    from flatout.engine import Engine

_log = logging.getLogger("flatout")


class Priced:
    """Looks for models without a price.

    Args:
        engine: has the targets and their prices.
        models: the models that are served.
        budgeted: whether there is a budget now.
    """

    def __init__(self, engine: Engine, models: Models, budgeted: Callable[[], bool]) -> None:
        self._engine = engine
        self._models = models
        self._budgeted = budgeted
        self._looked = False

    async def look(self) -> None:
        """Name the models that have no price, once, when there is a budget."""
        if self._looked or not self._budgeted():
            return
        targets, prices = self._targets(), self._engine.stack.prices
        if not all(map(prices.ready, targets)):
            await prices.load()
        self._looked = True
        for name in dict.fromkeys(each.name for each in targets if prices.worst_case(each, 0, 0) is None):
            _log.warning(
                "the price of %s is not known, so its calls are refused under a budget: "
                'give it in flatout.toml under [prices."%s"], 0 for a server of your own',
                name,
                name,
            )

    def _targets(self) -> list[Target]:
        found: list[Target] = []
        for model in self._models:
            with suppress(ConfigError):  # without a key for it, it cannot be asked
                found += self._engine.targets_of(model)
        return found
