"""Embeddings in batches: one row for each text, whose vector is kept in the run file.

A text is a row of its own, so a text that the provider refuses fails alone. Equal texts are asked once.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from flatout.durable.opening import StorePath
from flatout.durable.run import Asker
from flatout.edge.embed import call_of, no_text
from flatout.engine import Engine
from flatout.errors import ConfigError
from flatout.providers.formats.embeddings import Vectors, vector_of
from flatout.values import Result

from .batch.form import VECTORS
from .batch.targets import target_of
from .calls import calls_in_lane
from .offers import batch_format
from .wish import Source, Wish, check_wish


async def embed_in_batches(
    texts: Iterable[Any],
    *,
    model: str | None,
    dimensions: int | None,
    asker: Asker,
    engine: Engine,
    place: StorePath,
    server: Any,
) -> list[Result[array[float]]]:
    """The results of `flatout.Client.embed` in the batch lane. Called again, it collects.

    Args:
        texts: the texts.
        model: the embedding model; None for the client's.
        dimensions: the length of the vectors.
        asker: the client.
        engine: the client's.
        place: the run file.
        server: where the calls go, for the run file.

    Raises:
        ConfigError: the model is missing, or its provider has no embeddings in batches.
        CallError, RunMismatch, StoreError: as for a run in batches.
    """
    given = list(texts)
    places, first = dict[str, int](), dict[str, int]()  # among the rows, and among the texts
    for index, text in enumerate(given):
        if isinstance(text, str):
            places.setdefault(text, len(places))
            first.setdefault(text, index)
    wish = Wish("batch")
    check_wish(wish, engine, stored=True, models=[model])
    _check(engine, model)
    calls = [call_of([text], model, dimensions) for text in places]
    job = {"kind": "embeddings", "model": model or engine.targets.model, "dimensions": dimensions, "server": server}
    found = await _vectors(Source(calls, lambda same: same), wish, asker=asker, engine=engine, place=place, job=job)
    return [
        _result(index, text, found[places[text]], again=first[text] != index)
        if isinstance(text, str)
        else no_text(index, text)
        for index, text in enumerate(given)
    ]


def _check(engine: Engine, model: str | None) -> None:
    name = model or engine.targets.model
    if name is None:
        raise ConfigError("no model: name one, such as openai/text-embedding-3-small, with model=")
    target = target_of(engine, name)
    Vectors(target)
    batch_format(target, "embeddings")


async def _vectors(source: Source, wish: Wish, *, place: StorePath, job: Mapping[str, Any], **who: Any) -> list[Any]:
    found: dict[int, Result[Any]] = {}
    async for result in calls_in_lane(source, wish, place=place, job=job, retry_failed=False, form=VECTORS, **who):
        found[result.index] = result
    return [found[index] for index in range(len(found))]


def _result(index: int, text: str, found: Result[Any], *, again: bool) -> Result[array[float]]:
    """The result of a text; ``again``: an earlier one was equal, and has the cost."""
    vector = None if found.output is None else vector_of(found.output)
    same = replace(found, index=index, item=text, call=None, reply=None, output=vector)
    return replace(same, attempts=0, cost=0.0) if again else same
