"""Traces and metrics, by OpenTelemetry.

- `trace_calls` makes a span of each of a client's calls, `measure` keeps its metrics.
- `span`, `invoke_agent`, `stage` and `execute_tool` are spans around what happens between the calls.
- `exporting` sends both to a collector, and serves the metrics to Prometheus.

The rest of the library knows nothing of this room: it hears the client's events and looks at its status. The names are
imported when they are first used, so OpenTelemetry is loaded only where somebody asks for it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._calls import trace_calls
    from ._export import exporting
    from ._metrics import measure
    from ._spans import execute_tool, invoke_agent, recording, span, stage

_HOME_OF = {
    "execute_tool": "_spans",
    "exporting": "_export",
    "invoke_agent": "_spans",
    "measure": "_metrics",
    "recording": "_spans",
    "span": "_spans",
    "stage": "_spans",
    "trace_calls": "_calls",
}

__all__ = ["execute_tool", "exporting", "invoke_agent", "measure", "recording", "span", "stage", "trace_calls"]


def __getattr__(name: str) -> Any:
    module = _HOME_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{module}", __name__), name)
    return value


def __dir__() -> list[str]:
    return __all__
