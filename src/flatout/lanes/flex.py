"""The flex lane: live calls that ask for the cheaper, slower service. A provider without room refuses them unbilled.

Such a refusal is `flatout.errors.Overloaded`: the target's calls wait, and one of them looks now and then, until the
call's deadline.
"""

from __future__ import annotations

from msgspec.structs import replace

from flatout.errors import InvalidRequest
from flatout.values import Call, Target

from .escalation import FLEX_ANSWER
from .offers import check


def in_flex(call: Call, target: Target) -> Call:
    """A call as the flex lane asks it. Without a timeout of its own, it gets that of a flex answer.

    Args:
        call: the call.
        target: where it goes.

    Raises:
        ConfigError: the target has no flex lane.
        InvalidRequest: the call asks for another service tier.
    """
    check("flex", target)
    tier = target.endpoint.flex
    own = call.service_tier or (call.extra or {}).get("service_tier")
    if own not in (None, tier):
        raise InvalidRequest(f"service_tier: the call asks for {own!r}, and the flex lane for {tier!r}: leave one out")
    return replace(call, service_tier=tier, timeout=FLEX_ANSWER if call.timeout is None else call.timeout)
