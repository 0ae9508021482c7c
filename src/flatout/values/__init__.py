"""The values that go in and come out: Call, Result (Answered or Failed), Reply, Limits, Endpoint.

They are frozen msgspec structs: created in a fraction of a microsecond, compared by value, safe to share between tasks.
Durations are float seconds, money is US dollars, tokens and counts are int. What is unknown is None, never 0.
"""

from .budget import Budget
from .call import Call, CallLike, OutputType
from .limits import Limits
from .reply import Cached, Message, OutputT, Reply, ToolCall, Usage
from .result import Answered, Failed, Result
from .route import Route
from .target import Endpoint, Target

__all__ = [
    "Answered",
    "Budget",
    "Cached",
    "Call",
    "CallLike",
    "Endpoint",
    "Failed",
    "Limits",
    "Message",
    "OutputT",
    "OutputType",
    "Reply",
    "Result",
    "Route",
    "Target",
    "ToolCall",
    "Usage",
]
