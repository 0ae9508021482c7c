"""Tools to test programs that call language models: a simulated provider, and virtual time.

- `run_virtual` runs a coroutine on a virtual clock: an hour of traffic takes seconds.
- `ProviderModel` is a provider, set up with `ProviderSettings` and `Faults`; it is pure and seeded.
- `SimulatedTransport` connects a client to it, in memory. `serve` and `simulate` put it on a real port.
- `digest_of` tells which prompt an answer belongs to.
- The pytest fixture ``flatout_provider`` makes a model and a transport.

Each name is imported at its first use, because pytest loads this package in every run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flatout._lazy import lazy

if TYPE_CHECKING:
    from ._answers import digest, digest_of
    from ._batches._settings import BatchFaults, BatchSettings
    from ._clock import Deadlocked, TimeLimitReached, VirtualLoop, run_virtual
    from ._faults import Faults
    from ._provider import ProviderModel
    from ._server import SimulatedServer, serve, simulate
    from ._settings import ProviderSettings
    from ._slots import Outcome, SimulatedResponse
    from ._transport import SimulatedTransport
else:  # not for type checkers: with a __getattr__ they accept misspelt names
    __getattr__ = lazy(
        __name__,
        {
            "_answers": ("digest", "digest_of"),
            "_batches._settings": ("BatchFaults", "BatchSettings"),
            "_clock": ("Deadlocked", "TimeLimitReached", "VirtualLoop", "run_virtual"),
            "_faults": ("Faults",),
            "_provider": ("ProviderModel",),
            "_server": ("SimulatedServer", "serve", "simulate"),
            "_settings": ("ProviderSettings",),
            "_slots": ("Outcome", "SimulatedResponse"),
            "_transport": ("SimulatedTransport",),
        },
    )

__all__ = [
    "BatchFaults",
    "BatchSettings",
    "Deadlocked",
    "Faults",
    "Outcome",
    "ProviderModel",
    "ProviderSettings",
    "SimulatedResponse",
    "SimulatedServer",
    "SimulatedTransport",
    "TimeLimitReached",
    "VirtualLoop",
    "digest",
    "digest_of",
    "run_virtual",
    "serve",
    "simulate",
]


def __dir__() -> list[str]:
    return __all__
