"""Workers on several machines that share limits, on the virtual clock, with a keeper in memory that is some way off."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from flatout import Client, Limits
from flatout.policies.pacing.exchange import Ask, Granted, News, Read
from flatout.policies.pacing.leases import Keeper
from flatout.policies.pacing.leases_log import SharedJournal
from flatout.policies.pacing.reports import Reports, Seen
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport
from flatout.values.place import Place

PLACE = "redis://keeper:6379/0/team"


class World:
    """The keeper, and the workers that ask it.

    Args:
        provider: how the provider behaves.
        delay: seconds that a message takes, on average.
        steady: the part of them that every message takes.
        eager: how many calls each worker has open, waiting or in flight.
        words: the most words of a prompt. Short ones are as frequent as long ones, by powers of two.

    Attributes:
        up: whether the keeper is there.
        answers: whether what it answers arrives.
        exchanges: how many there were.
        answered: the answered calls, by worker.
    """

    def __init__(
        self,
        provider: ProviderSettings,
        delay: float = 0.001,
        eager: int = 40,
        steady: float = 0.0,
        words: int = 1,
    ) -> None:
        self.model = ProviderModel(provider)
        self._eager, self._words = eager, words
        self.up, self.answers, self.exchanges = True, True, 0
        self.answered: list[int] = []
        self.workers: list[asyncio.Task[None]] = []
        self._delay, self._steady = delay, steady
        self.forget()

    def forget(self) -> None:
        """The keeper loses its memory."""
        self._keeper, self._journal, self._reports = Keeper(), SharedJournal(), Reports()

    def look(self) -> list[Seen]:
        """What there is to see at the keeper."""
        return [self._reports.seen(self._clock(), self._keeper)]

    def link(self, place: Place) -> Link:
        """What stands in for `flatout.cluster.redis.RedisLink`."""
        return Link(self, place)

    async def exchange(self, ask: Ask, news: News) -> tuple[Granted, Read]:
        await self._travel()
        if not self.up:
            raise ConnectionRefusedError("connection refused")
        self.exchanges += 1
        answer = self._keeper.exchange(self._clock(), ask), self._journal.exchange(news)
        self._reports.hear(ask.worker, news.report, self._keeper.workers, self._clock())
        await self._travel()
        if not self.answers:
            raise ConnectionResetError("connection reset")
        return answer

    def start(self, count: int = 1, **limits: Any) -> None:
        """Start workers that always have something to ask."""
        for _ in range(count):
            self.answered.append(0)
            worker = self._work(len(self.answered) - 1, limits)
            self.workers.append(asyncio.get_running_loop().create_task(worker))

    def client(self, **limits: Any) -> Client:
        """A worker's client."""
        shared, transport = Limits(shared=PLACE, **limits), SimulatedTransport(self.model)
        return Client("any", base_url="http://any/v1", limits=shared, transport=transport, config={})

    async def kill(self, number: int) -> None:
        """End a worker at once. It tells nobody."""
        self.up, was = False, self.up
        await self.end(number)
        self.up = was

    async def end(self, number: int) -> None:
        """End a worker. It says that it leaves."""
        self.workers[number].cancel()
        await asyncio.wait([self.workers[number]])

    async def stop(self) -> None:
        """End all."""
        for number in range(len(self.workers)):
            await self.kill(number)

    def fairness(self) -> float:
        """Jain's index of what the workers were answered."""
        return sum(self.answered) ** 2 / len(self.answered) / sum(count * count for count in self.answered)

    async def _work(self, number: int, limits: dict[str, Any]) -> None:
        async with self.client(**limits) as client, asyncio.TaskGroup() as asking:
            for part in range(self._eager):
                asking.create_task(self._ask(client, number, part))

    async def _ask(self, client: Client, number: int, part: int) -> None:
        for count in range(1_000_000):
            words = " word" * int(self._words ** random.random() - 1.0)
            result = await client.result(f"{number} {part} {count}{words}")
            self.answered[number] += result.ok

    @staticmethod
    def _clock() -> float:
        return asyncio.get_running_loop().time() + 1_000.0

    async def _travel(self) -> None:
        varies = (1.0 - self._steady) * self._delay
        await asyncio.sleep(self._steady * self._delay + random.expovariate(1.0 / varies))


class Link:
    """A connection to the keeper."""

    def __init__(self, world: World, place: Place) -> None:
        self.place, self.exchange, self.look = str(place), world.exchange, world.look

    def check(self) -> None:
        """It is there."""

    def keeper(self, target: str) -> Link:
        return self

    async def close(self) -> None:
        """Nothing to close."""
