"""Run LLM calls flat out: as fast as your limits allow, and never past them.

::

    import flatout

    results = flatout.run(["Explain CAP in 3 sentences.", "OLTP or OLAP?"], model="openai/gpt-5-mini")
    for r in results:                       # input order, always
        print(r.text if r.ok else r.error)

What is not an error is imported when it is first used, so ``import flatout`` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy import lazy
from ._version import __version__ as __version__
from .errors import (
    AttemptTimeout,
    AuthenticationError,
    BudgetExceeded,
    CallError,
    CircuitOpen,
    ConfigError,
    ConnectError,
    ContentFiltered,
    ContextTooLong,
    DeadlineExceeded,
    EmptyAnswer,
    Exited,
    FlatoutError,
    GuardrailTripped,
    InvalidRequest,
    NotSent,
    OutputError,
    Overloaded,
    ProtocolError,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    Refused,
    RunDamaged,
    RunLocked,
    RunMismatch,
    SchemaMismatch,
    ServerError,
    Skipped,
    StepUnknown,
    StoreError,
    TransportError,
    Truncated,
    UsageLimitReached,
)

if TYPE_CHECKING:
    from . import agents as agents
    from . import daft as daft
    from . import events as events
    from . import progress as progress
    from . import ray as ray
    from . import sdk as sdk
    from . import tables as tables
    from . import telemetry as telemetry
    from . import testing as testing
    from .client import Client
    from .config.file import Config
    from .sync import run
    from .values import Answered, Budget, Call, Endpoint, Failed, Limits, Reply, Result, Route, ToolCall, Usage
    from .values.attachments import File, Image
    from .values.plan import Plan
else:  # not for type checkers: with a __getattr__ they accept misspelt names
    __getattr__ = lazy(
        __name__,
        {
            "client": ("Client",),
            "config.file": ("Config",),
            "sync": ("run",),
            "values": (
                "Answered",
                "Budget",
                "Call",
                "Endpoint",
                "Failed",
                "Limits",
                "Reply",
                "Result",
                "Route",
                "ToolCall",
                "Usage",
            ),
            "values.attachments": ("File", "Image"),
            "values.plan": ("Plan",),
        },
        rooms=("agents", "daft", "events", "progress", "ray", "sdk", "tables", "telemetry", "testing"),
    )

__all__ = [
    "Answered",
    "AttemptTimeout",
    "AuthenticationError",
    "Budget",
    "BudgetExceeded",
    "Call",
    "CallError",
    "CircuitOpen",
    "Client",
    "Config",
    "ConfigError",
    "ConnectError",
    "ContentFiltered",
    "ContextTooLong",
    "DeadlineExceeded",
    "EmptyAnswer",
    "Endpoint",
    "Exited",
    "Failed",
    "File",
    "FlatoutError",
    "GuardrailTripped",
    "Image",
    "InvalidRequest",
    "Limits",
    "NotSent",
    "OutputError",
    "Overloaded",
    "Plan",
    "ProtocolError",
    "ProviderError",
    "QuotaExhausted",
    "RateLimited",
    "Refused",
    "Reply",
    "Result",
    "Route",
    "RunDamaged",
    "RunLocked",
    "RunMismatch",
    "SchemaMismatch",
    "ServerError",
    "Skipped",
    "StepUnknown",
    "StoreError",
    "ToolCall",
    "TransportError",
    "Truncated",
    "Usage",
    "UsageLimitReached",
    "run",
]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
