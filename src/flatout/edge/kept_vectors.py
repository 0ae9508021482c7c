"""The vectors that a cache keeps: one for each text, however texts were packed into requests.

They are looked up twice: all at the beginning, so that only new texts are packed into requests; and those of a request
once more just before it is asked, because it may have been answered meanwhile, or another process may be asking it.

A request claims its texts, as a single call claims its question. It asks for those that it has claimed, and waits for
the others only after that. So nobody waits while others wait for him.
"""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from msgspec.structs import replace

from flatout.engine import Engine
from flatout.journey import Journey, current_journey
from flatout.layers.cache import Answers
from flatout.providers.formats.embeddings import Batch, EmbeddingCalls
from flatout.providers.question import Questions
from flatout.stack import KeptAnswers
from flatout.tasks.unless import Unless
from flatout.values import Call, Reply, Result, Target
from flatout.values.kept import Kept

from .fan_out import outcome

AT_ONCE = 1_000
"""Texts that are looked up at once."""

MOST_ASKED = 1 << 15
"""Texts that are asked at once: the more are claimed, the longer takes each claim."""

PATIENCE = 300.0
"""Seconds after which texts are asked although another process asks them, as for a single call."""

AskBatch = Callable[[Batch, Journey], Awaitable["list[Result[array[float]]]"]]
"""Asks for the texts of one request."""

Asking = MutableMapping[bytes, asyncio.Future[None]]
"""The texts that this process asks, by their keys. The future is done when their request is over."""


class KeptVectors:
    """The vectors of one model.

    Args:
        answers: where they are kept.
        target: the model.
        call: makes the call for some texts.
        describe: says what a call asks, for people, as JSON.
        wall: the wall clock, in Unix seconds.
        since: vectors from before that are not used, in Unix seconds.
        asking: what all parts of this process ask now.
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
        asking: Asking,
    ) -> None:
        self._answers = answers
        self._key = Questions(target, EmbeddingCalls(target)).key
        self._call = call
        self._describe = describe
        self._wall = wall
        self._since = since
        self._asking = asking

    async def find(self, texts: Sequence[Any]) -> dict[str, Kept]:
        """What is kept for some texts. Values that are no texts are passed over."""
        keys = self._keys(text for text in texts if isinstance(text, str))
        found: dict[str, Kept] = {}
        left = iter(keys.items())
        while some := list(islice(left, AT_ONCE)):
            known = await asyncio.gather(*(self._answers.get(key, self._since, claims=False) for _, key in some))
            found.update((text, kept) for (text, _), kept in zip(some, known, strict=True) if kept is not None)
        return found

    async def spare(self, batch: Batch, ask: AskBatch) -> list[Result[array[float]]]:
        """The results of a request's texts. Only those are asked that are not kept by now, and that nobody asks."""
        ends, keys = asyncio.get_running_loop().time() + PATIENCE, self._keys(batch.texts)
        results: dict[int, Result[array[float]]] = {}
        left = dict(zip(batch.indexes, batch.texts, strict=True))
        while left:
            free = {place: text for place, text in left.items() if keys.get(text) not in self._asking}
            done = await self._found_or_asked(free, keys, ends, ask) if free else []
            results.update((result.index, result) for result in done)
            left = {place: text for place, text in left.items() if place not in results}
            if left and not done:
                await self._end_of(keys[next(iter(left.values()))])
        return [results[place] for place in batch.indexes]

    def again(self, place: int, result: Result[array[float]]) -> Result[array[float]]:
        """The result of a text that equals an earlier one, which has this result."""
        if result.output is not None and not result.cached:
            one = known(place, result.item, self._kept(result.output, result.cost))
            if one is not None:
                return one
        return replace(result, index=place, attempts=0, cost=0.0)

    def _keys(self, texts: Iterable[str]) -> dict[str, bytes]:
        return {text: key for text in texts if (key := self._key(self._call([text]))) is not None}

    async def _found_or_asked(
        self, texts: Mapping[int, str], keys: Mapping[str, bytes], ends: float, ask: AskBatch
    ) -> list[Result[array[float]]]:
        """The results of those texts that are kept, and of those that nobody asks."""
        own = {keys[text]: text for text in texts.values() if text in keys}
        over = asyncio.get_running_loop().create_future()
        self._asking.update(dict.fromkeys(own, over))
        try:
            found, elsewhere = await self._look(own, ends)
            kept = {place: known(place, text, found[text]) for place, text in texts.items() if text in found}
            results = {place: result for place, result in kept.items() if result is not None}
            free = {place: text for place, text in texts.items() if place not in results and text not in elsewhere}
            return [*results.values(), *(await self._ask(free, keys, ask) if free else ())]
        finally:
            for key in own:
                del self._asking[key]
            over.set_result(None)

    async def _look(self, texts: Mapping[bytes, str], ends: float) -> tuple[dict[str, Kept], set[str]]:
        """What is kept of some texts, and which of them other processes ask now. What is neither is claimed.

        Args:
            texts: the texts, by their keys.
            ends: when what others ask counts as free, on the event loop's clock.
        """
        claims = asyncio.get_running_loop().time() < ends
        looks = {key: self._looked_up(key, claims=claims) for key in texts}
        try:
            if looks:
                await asyncio.wait(looks.values())
        except asyncio.CancelledError:
            for key, look in looks.items():
                if not look.cancel() and not look.cancelled() and look.result() is None:
                    self._answers.let_go(key)
            raise
        elsewhere = {texts[key] for key, look in looks.items() if look.cancelled()}
        found = {texts[key]: kept for key, look in looks.items() if not look.cancelled() and (kept := look.result())}
        return found, elsewhere

    def _looked_up(self, key: bytes, *, claims: bool) -> asyncio.Future[Kept | None]:
        """A look at one text, which is cancelled instead of waiting for another process."""
        look: asyncio.Future[Kept | None] = asyncio.ensure_future(
            self._answers.get(key, self._since, claims=claims, waits=lambda: look.cancel())
        )
        return look

    async def _ask(
        self, texts: Mapping[int, str], keys: Mapping[str, bytes], ask: AskBatch
    ) -> list[Result[array[float]]]:
        """Ask for texts that are claimed, and keep their vectors. Nothing if that turns out to be needless."""
        claimed = {keys[text] for text in texts.values() if text in keys}
        journey = Journey(asyncio.get_running_loop().time())
        try:
            with Unless(journey.attempt) as unless:
                for key in claimed:
                    self._answers.asks(key, self._since, unless.leave)
                results = await ask(Batch(tuple(texts), tuple(texts.values())), journey)
                for result in results:
                    if result.output is not None and (own := keys.get(result.item)) is not None:
                        claimed.discard(own)
                        asked = partial(self._describe, self._call([result.item]))
                        self._answers.put(own, self._kept(result.output, result.cost), asked)
                return results
            return []
        finally:
            for key in claimed:
                self._answers.let_go(key)

    async def _end_of(self, key: bytes) -> None:
        """Wait until nobody asks for a text."""
        if (over := self._asking.get(key)) is not None:
            await asyncio.wait([over])
        elif await self._answers.get(key, self._since) is None:
            self._answers.let_go(key)  # it is claimed anew, with the others

    def _kept(self, vector: array[float], cost: float | None) -> Kept:
        return Kept.of_vector(vector, at=self._wall(), cost=cost)


async def vectors_of(
    engine: Engine,
    call: Callable[[Sequence[str]], Call],
    *,
    model: str | None,
    kept: KeptAnswers | None,
    max_age: float | None,
    asking: Asking,
) -> KeptVectors | None:
    """The vectors that a client's cache keeps of a model. None without a cache.

    None also in a durable function: its journal has the answers, and expects the same requests when it goes on.
    """
    outer = current_journey(None)
    if kept is None or kept.answers is None or (outer is not None and outer.journal is not None):
        return None
    since = -math.inf if max_age is None else time.time() - max_age
    target = await engine.target(model)
    return KeptVectors(kept.answers, target, call, describe=kept.describe, wall=time.time, since=since, asking=asking)


def known(index: int, text: str, kept: Kept) -> Result[array[float]] | None:
    """The result of a text whose vector is kept; None if that cannot be read."""
    vector, cached = kept.vector(), kept.cached()
    if vector is None:
        return None
    journey = Journey(asyncio.get_running_loop().time())
    return outcome(index, journey, item=text, output=vector, reply=Reply(text="", cached=cached))
