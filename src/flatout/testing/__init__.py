"""Tools to test programs that call language models: a simulated provider, and virtual time.

- `run_virtual` runs a coroutine on a virtual clock: an hour of traffic takes seconds.
- `ProviderModel` is a provider, set up with `ProviderSettings` and `Faults`; it is pure and seeded.
- `SimulatedTransport` connects a client to it, in memory. `serve` and `simulate` put it on a real port.
- `digest_of` tells which prompt an answer belongs to.
- The pytest fixture ``flatout_provider`` makes a model and a transport.

Each name is imported at its first use, because pytest loads this package in every run.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._answers import digest, digest_of
    from ._clock import Deadlocked, TimeLimitReached, VirtualLoop, run_virtual
    from ._faults import Faults
    from ._provider import ProviderModel
    from ._server import SimulatedServer, serve, simulate
    from ._settings import ProviderSettings
    from ._slots import Outcome
    from ._transport import SimulatedTransport

__all__ = [
    "Deadlocked",
    "Faults",
    "Outcome",
    "ProviderModel",
    "ProviderSettings",
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

_HOMES = {
    "_answers": ("digest", "digest_of"),
    "_clock": ("Deadlocked", "TimeLimitReached", "VirtualLoop", "run_virtual"),
    "_faults": ("Faults",),
    "_provider": ("ProviderModel",),
    "_server": ("SimulatedServer", "serve", "simulate"),
    "_settings": ("ProviderSettings",),
    "_slots": ("Outcome",),
    "_transport": ("SimulatedTransport",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return __all__
