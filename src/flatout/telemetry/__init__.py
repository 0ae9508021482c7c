"""Traces and metrics, by OpenTelemetry.

- `trace_calls` makes a span of each of a client's calls, `measure` keeps its metrics.
- `span`, `invoke_agent`, `stage` and `execute_tool` are spans around what happens between the calls.
- `exporting` sends both to a collector, and serves the metrics to Prometheus.

The rest of the library knows nothing of this room: it hears the client's events and looks at its status. The names are
imported when they are first used, so OpenTelemetry is loaded only where somebody asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flatout._lazy import lazy

if TYPE_CHECKING:
    from ._calls import trace_calls
    from ._export import exporting
    from ._metrics import measure
    from ._spans import execute_tool, invoke_agent, recording, span, stage

__all__ = ["execute_tool", "exporting", "invoke_agent", "measure", "recording", "span", "stage", "trace_calls"]

__getattr__ = lazy(
    __name__,
    {
        "_calls": ("trace_calls",),
        "_export": ("exporting",),
        "_metrics": ("measure",),
        "_spans": ("execute_tool", "invoke_agent", "recording", "span", "stage"),
    },
)


def __dir__() -> list[str]:
    return __all__
