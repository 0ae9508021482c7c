"""The vectors that a cache keeps: one for each text, however texts were packed into requests.

They are looked up for many texts at once. So they claim no questions, as single calls do: two processes could wait for
each other.
"""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any

from flatout.engine import Engine
from flatout.journey import Journey, current_journey
from flatout.layers.cache import Answers
from flatout.providers.formats.embeddings import EmbeddingCalls
from flatout.providers.question import Questions
from flatout.stack import KeptAnswers
from flatout.values import Call, Reply, Result, Target
from flatout.values.kept import Kept

from .fan_out import outcome

AT_ONCE = 1_000
"""Texts that are looked up at once."""


class KeptVectors:
    """The vectors of one model.

    Args:
        answers: where they are kept.
        target: the model.
        call: makes the call for some texts.
        describe: says what a call asks, for people, as JSON.
        wall: the wall clock, in Unix seconds.
        since: vectors from before that are not used, in Unix seconds.
    """

    def __init__(
        self,
        answers: Answers,
        target: Target,
        call: Callable[[Sequence[str]], Call],
        *,
        describe: Callable[[Call], bytes],
        wall: Callable[[], float],
        since: float,
    ) -> None:
        self._answers = answers
        self._key = Questions(target, EmbeddingCalls(target)).key
        self._call = call
        self._describe = describe
        self._wall = wall
        self._since = since

    async def find(self, texts: Sequence[Any]) -> dict[str, Kept]:
        """What is kept for some texts. Values that are no texts are passed over."""
        keys = {text: key for text in texts if isinstance(text, str) and (key := self._key(self._call([text])))}
        found: dict[str, Kept] = {}
        left = iter(keys.items())
        while some := list(islice(left, AT_ONCE)):
            known = await asyncio.gather(*(self._answers.get(key, self._since, claims=False) for _, key in some))
            found.update((text, kept) for (text, _), kept in zip(some, known, strict=True) if kept is not None)
        return found

    def keep(self, text: str, vector: array[float], cost: float | None) -> Kept | None:
        """Keep a new vector."""
        call = self._call([text])
        if (key := self._key(call)) is None:
            return None
        kept = Kept.of_vector(vector, at=self._wall(), cost=cost)
        self._answers.put(key, kept, partial(self._describe, call))
        return kept


async def vectors_of(
    engine: Engine,
    call: Callable[[Sequence[str]], Call],
    *,
    model: str | None,
    kept: KeptAnswers | None,
    max_age: float | None,
) -> KeptVectors | None:
    """The vectors that a client's cache keeps of a model. None without a cache.

    None also in a durable function: its journal has the answers, and expects the same requests when it goes on.
    """
    outer = current_journey(None)
    if kept is None or kept.answers is None or (outer is not None and outer.journal is not None):
        return None
    since = -math.inf if max_age is None else time.time() - max_age
    target = await engine.target(model)
    return KeptVectors(kept.answers, target, call, describe=kept.describe, wall=time.time, since=since)


def known(index: int, text: str, kept: Kept) -> Result[array[float]] | None:
    """The result of a text whose vector is kept; None if that cannot be read."""
    vector, cached = kept.vector(), kept.cached()
    if vector is None:
        return None
    journey = Journey(asyncio.get_running_loop().time())
    return outcome(index, journey, item=text, output=vector, reply=Reply(text="", cached=cached))
