"""Innermost: one attempt on the wire, by a codec over a transport."""

from __future__ import annotations

from collections.abc import Callable

from flatout.layer import Codec, Transport, journey
from flatout.values import Call, Reply


def _unknown(_: Call) -> None:
    return None


class Endpoint:
    """Encodes the call, sends it, decodes the answer. Where an attempt is counted: from here on it may be billed.

    Args:
        codec: the target's wire format.
        transport: carries the request.
        target: the target's name, for the run file's note of the attempt.
        estimate: what an attempt may cost, in US dollars; asked only where attempts are noted.
    """

    def __init__(
        self,
        codec: Codec,
        transport: Transport,
        target: str = "",
        estimate: Callable[[Call], float | None] = _unknown,
    ) -> None:
        self._codec = codec
        self._transport = transport
        self._target = target
        self._estimate = estimate

    async def __call__(self, call: Call) -> Reply:
        request = self._codec.encode(call)
        trip = journey()
        if trip.before_attempt is not None:
            await trip.before_attempt(trip.attempts + 1, self._target, self._estimate(call))
        trip.attempts += 1
        return self._codec.decode(call, await self._transport.send(request))
