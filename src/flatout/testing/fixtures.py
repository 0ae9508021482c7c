"""The pytest plugin: one fixture that makes a simulated provider.

Every pytest run on a machine with flatout loads this module, so it imports nothing but pytest until the fixture is
used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ._provider import ProviderModel
    from ._transport import SimulatedTransport

ProviderFactory = Callable[..., "tuple[ProviderModel, SimulatedTransport]"]
"""The value of `flatout_provider`: a function from settings to a model and a transport that speaks to it."""


@pytest.fixture
def flatout_provider() -> ProviderFactory:
    """A function that makes a provider in memory: no socket, no key, no cost.

    Its keyword arguments are those of `flatout.testing.ProviderSettings`, plus ``seed`` and ``script`` as in
    `flatout.testing.ProviderModel`::

        def test_it_copes_with_failures(flatout_provider):
            model, transport = flatout_provider(rpm=600, faults=Faults(server_error=0.1))
    """
    from ._provider import ProviderModel
    from ._settings import ProviderSettings
    from ._transport import SimulatedTransport

    def make(*, seed: int = 0, script: Any = None, **settings: Any) -> tuple[ProviderModel, SimulatedTransport]:
        model = ProviderModel(ProviderSettings(**settings), seed, script=script)
        return model, SimulatedTransport(model)

    return make
