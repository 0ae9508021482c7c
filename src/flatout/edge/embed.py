"""Embeddings of many texts: packed into few requests, with one result per text, in the order of the texts."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from msgspec.structs import replace

from flatout.errors import CallError, ConfigError, ContentFiltered, ContextTooLong, InvalidRequest
from flatout.journey import Journey
from flatout.policies.failures.decision import Decision, decide
from flatout.providers.formats.embeddings import Batch, Caps, pack
from flatout.values import Call, Reply, Result

from .fan_out import fan_out, outcome
from .kept_vectors import MOST_ASKED, KeptVectors, known

Ask = Callable[[Call, Journey], Awaitable[Reply]]
CallOf = Callable[[Sequence[str]], Call]
"""Makes the call for the texts of one request."""

_THE_TEXTS = frozenset({400, 413, 422})
"""Statuses that one bad text among many can cause."""


async def embed(
    texts: Iterable[str],
    caps: Caps,
    ask: Ask,
    *,
    model: str | None,
    dimensions: int | None,
    window: int,
    kept: Callable[[CallOf], Awaitable[KeptVectors | None]],
    heard: Callable[[Result[array[float]]], None] | None = None,
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
        kept: finds the vectors that a cache keeps; None without a cache.
        heard: hears of each result as it completes.
    """
    made = partial(call_of, model=model, dimensions=dimensions)
    if (vectors := await kept(made)) is not None:
        window = min(window, MOST_ASKED // caps.texts)
    request = partial(_request, caps=caps, ask=ask, call_of=made, window=window, heard=heard, vectors=vectors)
    return await request(texts) if vectors is None else await _with(vectors, list(texts), request, heard)


async def _with(
    vectors: KeptVectors,
    texts: list[Any],
    request: Callable[[list[Any]], Awaitable[list[Result[array[float]]]]],
    heard: Callable[[Result[array[float]]], None] | None,
) -> list[Result[array[float]]]:
    """Embed the texts whose vectors are not kept, equal ones once."""
    found = await vectors.find(texts)
    results: dict[int, Result[array[float]]] = {}
    first: dict[str, int] = {}  # the places of the texts to ask for
    asked: list[int] = []
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            results[place] = no_text(place, text)
        elif text in found and (one := known(place, text, found[text])) is not None:
            results[place] = one
        elif first.setdefault(text, place) == place:
            asked.append(place)
    if heard is not None:
        for result in results.values():
            heard(result)
    for place, result in zip(asked, await request([texts[place] for place in asked]), strict=True):
        results[place] = replace(result, index=place)
    for place, text in enumerate(texts):
        if place not in results:  # an earlier one is equal
            results[place] = again = vectors.again(place, results[first[text]])
            if heard is not None:
                heard(again)
    return [results[place] for place in range(len(texts))]


def no_text(place: int, value: Any) -> Result[array[float]]:
    """The result of a value that is no text."""
    complaint = f"embeddings are made of strings; number {place + 1} is a {type(value).__name__}"
    journey = Journey(asyncio.get_running_loop().time())
    return outcome(place, journey, item=value, error=ConfigError(complaint))


def call_of(texts: Sequence[str], model: str | None, dimensions: int | None) -> Call:
    """The call for the texts of one request."""
    parameters = {"dimensions": dimensions} if dimensions is not None else {}
    messages = [{"role": "user", "content": text} for text in texts]
    # The answer has no tokens. For the budget's worst case, 1 is the lowest max_tokens that a Call accepts.
    return Call(messages=messages, model=model, max_tokens=1, extra=parameters)


async def _request(
    texts: Iterable[str],
    *,
    caps: Caps,
    ask: Ask,
    call_of: CallOf,
    window: int,
    heard: Callable[[Result[array[float]]], None] | None,
    vectors: KeptVectors | None,
) -> list[Result[array[float]]]:
    async def begin(batch: Batch) -> list[Result[array[float]]]:
        alone: Any = batch.texts[0]
        if not isinstance(alone, str):
            return [no_text(batch.indexes[0], alone)]
        return await (answer(batch) if vectors is None else vectors.spare(batch, answer))

    async def answer(batch: Batch, journey: Journey | None = None) -> list[Result[array[float]]]:
        journey = journey or Journey(asyncio.get_running_loop().time())
        try:
            reply = await ask(call_of(batch.texts), journey)
        except CallError as error:
            if len(batch.texts) > 1 and may_be_one_text(error):
                journey.attempt.undecided = True  # a half may be paid while the other waits: nobody gives them up
                first, second = await asyncio.gather(*map(answer, _halves(batch)))
                return first + second
            return _results(batch, journey, [None] * len(batch.texts), error)
        except ConfigError as error:
            return _results(batch, journey, [None] * len(batch.texts), error)
        return _results(batch, journey, [_vector(vector) for vector in reply.output or ()], None)

    found: dict[int, Result[array[float]]] = {}
    async with aclosing(fan_out(pack(texts, caps), lambda _, batch: begin(batch), window)) as batches:
        async for results in batches:
            for result in results:
                found[result.index] = result
                if heard is not None:
                    heard(result)
    return [found[index] for index in range(len(found))]


def may_be_one_text(error: CallError) -> bool:
    """Whether one bad text among others may be why a request failed."""
    if error.status is None:  # it was not sent, or its failure comes from a run file
        return isinstance(error, InvalidRequest | ContextTooLong | ContentFiltered)
    return error.status in _THE_TEXTS and decide(error) is Decision.FAIL


def _halves(batch: Batch) -> tuple[Batch, Batch]:
    middle = len(batch.texts) // 2
    return (
        Batch(batch.indexes[:middle], batch.texts[:middle]),
        Batch(batch.indexes[middle:], batch.texts[middle:]),
    )


def _results(batch: Batch, journey: Journey, vectors: list[Any], error: Exception | None) -> list[Result[array[float]]]:
    """One result per text. The request's cost is divided equally among them."""
    journey.account.known /= len(batch.texts)
    return [
        outcome(index, journey, item=text, output=vector, error=error)
        for index, text, vector in zip(batch.indexes, batch.texts, vectors, strict=True)
    ]


def _vector(value: Any) -> array[float]:
    """The vector as an array; from a journal it is a list."""
    return value if isinstance(value, array) else array("f", value)
