"""Keeps calls away from a target that refuses all of them: a wrong key, a used-up quota, an unknown model.

A target that is merely down does not fail calls: they wait, further in. See `flatout.policies.failures.health`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from flatout.layer import CallNext
from flatout.policies.failures.service import Service
from flatout.values import Call, Reply


class Health:
    """Fails calls at once, with `CircuitOpen` and the reason, while their target is stopped.

    Args:
        service: the state of the service that the target uses.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def __repr__(self) -> str:
        return f"Health({self._service!r})"

    def __call__(self, call: Call, call_next: CallNext, /) -> Awaitable[Reply]:
        if self._service.stop is not None and not self._service.looks(asyncio.get_running_loop().time(), call):
            raise self._service.refusal()
        return call_next(call)
