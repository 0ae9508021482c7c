"""Traces and metrics with OpenTelemetry.

- `trace_calls` makes a span for each call of a client. `measure` keeps the client's metrics.
- `span`, `invoke_agent`, `stage` and `execute_tool` are spans around the work between calls.
- `exporting` sends both to a collector, and serves the metrics to Prometheus.

This package reads the client's events and status; the client knows nothing about it. Each name is imported at its first
use, so a program that does not ask for telemetry does not load OpenTelemetry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flatout._lazy import lazy

if TYPE_CHECKING:
    from ._calls import trace_calls
    from ._export import exporting
    from ._metrics import measure
    from ._spans import execute_tool, invoke_agent, recording, span, stage
else:  # not for type checkers: with a __getattr__ they accept misspelt names
    __getattr__ = lazy(
        __name__,
        {
            "_calls": ("trace_calls",),
            "_export": ("exporting",),
            "_metrics": ("measure",),
            "_spans": ("execute_tool", "invoke_agent", "recording", "span", "stage"),
        },
    )

__all__ = ["execute_tool", "exporting", "invoke_agent", "measure", "recording", "span", "stage", "trace_calls"]


def __dir__() -> list[str]:
    return __all__
