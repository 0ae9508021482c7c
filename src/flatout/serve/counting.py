"""Counts the tokens of a request before it is made, for targets of any format: ``/v1/messages/count_tokens``."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from flatout.edge.relay import relayed
from flatout.errors import CallError, ConfigError
from flatout.http_server.answer import Answer
from flatout.http_server.requests import Request
from flatout.lanes.batch.formats.wire import Server
from flatout.layer import Response
from flatout.policies.pacing.tokens import Estimator
from flatout.providers.formats.anthropic import VERSION
from flatout.providers.relay import Relayed, Wire, inbound_for
from flatout.providers.relay.codec import for_model
from flatout.providers.relay.inbound import JSON, read_object
from flatout.values import Target

from .callers import Caller
from .calls import refuse
from .models import Models, UnknownModel

if TYPE_CHECKING:
    from flatout.engine import Engine

PATIENCE = 10.0
"""Seconds in which the provider counts, or the count is estimated."""

ESTIMATED = "x-flatout-estimated"
"""The header of a count that is an estimate."""

_DIALECT = "anthropic"

_log = logging.getLogger("flatout")


class Counting:
    """The page ``/messages/count_tokens``. A target of Anthropic's format counts itself; for others it is estimated.

    Args:
        engine: has the targets.
        models: says which model a name means.
    """

    def __init__(self, engine: Engine, models: Models) -> None:
        self._engine = engine
        self._models = models
        self._inbound = inbound_for(_DIALECT)

    async def __call__(self, request: Request, answer: Answer, caller: Caller) -> None:
        """Answer with the number of tokens."""
        try:
            response = await self._count(request.body)
        except (CallError, ConfigError, UnknownModel) as error:
            refuse(answer, error, self._inbound)
        else:
            answer.send(response.status, {**JSON, **response.headers}, response.body)

    async def _count(self, body: bytes) -> Response:
        """The provider's own count, or an estimate.

        Raises:
            InvalidRequest: it is no request.
            UnknownModel: its model is not served.
        """
        asked = self._inbound.read(read_object(body))
        model = self._models.find(asked.model)
        target = self._engine.targets_of(model)[0]
        if target.endpoint.dialect == _DIALECT and (counted := await self._counted(target, body)) is not None:
            return counted
        return self._estimated(target, relayed(asked, Wire(_DIALECT, body), model))

    async def _counted(self, target: Target, body: bytes) -> Response | None:
        """The provider's own count, or its refusal of the request; None if it does not count now."""
        response: Response | None = None
        server = Server(target.endpoint, anthropic_version=VERSION)
        asked = server.request("POST", "/messages/count_tokens", for_model(body, target.model))
        with suppress(CallError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                response = await self._engine.transport.send(asked)
        if response is None or response.status not in (200, 400):
            _log.info("%s does not count tokens (%s): they are estimated", target.name, response)
            return None
        return Response(response.status, {}, response.body)

    def _estimated(self, target: Target, call: Relayed[Any]) -> Response:
        limiters = self._engine.stack.limiters
        estimator = limiters.of(target).estimator if limiters.knows(target) else Estimator()
        tokens = round(estimator.need(call).input)
        return Response(200, {ESTIMATED: "1"}, msgspec.json.encode({"input_tokens": tokens}))
