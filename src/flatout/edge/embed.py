"""Embeddings of many texts: packed into few requests, with one result per text, in the order of the texts."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Any

from flatout.errors import CallError, ConfigError, InvalidRequest
from flatout.journey import Journey
from flatout.policies.failures.decision import Decision, decide
from flatout.providers.formats.embeddings import Batch, Caps, pack
from flatout.values import Call, Reply, Result

from .fan_out import fan_out, outcome

Ask = Callable[[Call, Journey], Awaitable[Reply]]

_THE_TEXTS = frozenset({400, 413, 422})
"""Statuses that one bad text among many can cause."""


async def embed(
    texts: Iterable[str], caps: Caps, ask: Ask, *, model: str | None, dimensions: int | None, window: int
) -> list[Result[array[float]]]:
    """Embed texts. If the provider refuses a text, or a text is not a string, only that text fails.

    A provider refuses a whole request because of one bad text. So a refused request is split into halves and sent
    again, until the bad text is alone. For n texts, that takes about 2 log2(n) more requests.

    Args:
        texts: the texts.
        caps: the most that one request may contain.
        ask: sends the texts of one request; the reply's ``output`` is their vectors.
        model: as for a Call.
        dimensions: the length of the vectors, for models that can shorten them.
        window: requests in progress at once.
    """
    parameters = {"dimensions": dimensions} if dimensions is not None else {}

    async def answer(batch: Batch) -> list[Result[array[float]]]:
        journey = Journey(asyncio.get_running_loop().time())
        alone: Any = batch.texts[0]
        if not isinstance(alone, str):
            complaint = f"embeddings are made of strings; number {batch.indexes[0] + 1} is a {type(alone).__name__}"
            return _results(batch, journey, [None], ConfigError(complaint))
        messages = [{"role": "user", "content": text} for text in batch.texts]
        try:
            # The answer has no tokens. For the budget's worst case, 1 is the lowest max_tokens that a Call accepts.
            call = Call(messages=messages, model=model, max_tokens=1, extra=parameters)
            reply = await ask(call, journey)
        except CallError as error:
            unsent = isinstance(error, InvalidRequest) and error.status is None
            if len(batch.texts) > 1 and (unsent or (error.status in _THE_TEXTS and decide(error) is Decision.FAIL)):
                first, second = await asyncio.gather(*map(answer, _halves(batch)))
                return first + second
            return _results(batch, journey, [None] * len(batch.texts), error)
        except ConfigError as error:
            return _results(batch, journey, [None] * len(batch.texts), error)
        return _results(batch, journey, [_vector(vector) for vector in reply.output or ()], None)

    found: dict[int, Result[array[float]]] = {}
    async with aclosing(fan_out(pack(texts, caps), lambda _, batch: answer(batch), window)) as batches:
        async for results in batches:
            found.update((result.index, result) for result in results)
    return [found[index] for index in range(len(found))]


def _halves(batch: Batch) -> tuple[Batch, Batch]:
    middle = len(batch.texts) // 2
    return (
        Batch(batch.indexes[:middle], batch.texts[:middle]),
        Batch(batch.indexes[middle:], batch.texts[middle:]),
    )


def _results(batch: Batch, journey: Journey, vectors: list[Any], error: Exception | None) -> list[Result[array[float]]]:
    """One result per text. The request's cost is divided equally among them."""
    journey.account.cost = None if journey.cost is None else journey.cost / len(batch.texts)
    return [
        outcome(index, journey, item=text, output=vector, error=error)
        for index, text, vector in zip(batch.indexes, batch.texts, vectors, strict=True)
    ]


def _vector(value: Any) -> array[float]:
    """The vector as an array; from a journal it is a list."""
    return value if isinstance(value, array) else array("f", value)
