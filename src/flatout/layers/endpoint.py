"""Innermost: one attempt on the wire, by a codec over a transport."""

from __future__ import annotations

from flatout.layer import Codec, Transport, journey
from flatout.values import Call, Reply


class Endpoint:
    """Encodes the call, sends it, decodes the answer. Where an attempt is counted: from here on it may be billed."""

    def __init__(self, codec: Codec, transport: Transport) -> None:
        self._codec = codec
        self._transport = transport

    async def __call__(self, call: Call) -> Reply:
        request = self._codec.encode(call)
        journey().attempts += 1
        return self._codec.decode(call, await self._transport.send(request))
