"""Servers that nobody tuned for: drawn per seed from wide ranges, for the client and for two strawmen.

``python -m benchmarks.pacing drawn --seeds 200``. Constants are chosen on even seeds, and odd ones are reported. Each
server has one limit that it does not tell: a bucket, a sliding or a fixed window of 20 to 30,000 requests a minute, or
4 to 256 slots. Some charge for what they refuse, refuse up to 5 % at random, name a wrong time to wait, or serve others
too. Every run is flat out and on the virtual clock.

- *naive*: a semaphore of 64, exponential backoff call by call, Retry-After obeyed.
- *plain*: climb from 20 a second, four-fold a second; at a refusal go on with what was accepted between the last two,
  after one request has gone to see.

``used`` is what was accepted (by slots: served) after the first minute, as a share of what the others leave;
``refused`` the share that was refused besides strays; ``time`` how long the accepted calls took, against a steady
sender at the limit.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from random import Random

from msgspec import Struct

from flatout import Client
from flatout.layer import Request, Response, Transport
from flatout.testing import _answers as answers
from flatout.testing import run_virtual
from flatout.testing._limits import Bucket, FixedWindow, SlidingWindow, Window

WARM = 60.0
CALLS = 20_000
"""About so many calls a run: fast servers are watched for a shorter time, two minutes at the least."""


class Server(Struct, frozen=True):
    """What one drawn server is like. Times are seconds, the rate is per second."""

    seed: int
    rate: float
    kind: str
    burst: float
    latency: float
    p99: float
    charged: bool
    told: str
    strays: float
    others: float
    refusal: float
    slots: int | None
    queue: int

    @property
    def spread(self) -> float:
        return math.log(self.p99 / self.latency) / 2.326

    @property
    def attainable(self) -> float:
        """Requests per second that are left by the others, with at most 1,000 in flight."""
        service = self.latency * math.exp(self.spread**2 / 2)
        return min(1_000 / service, self.slots / service if self.slots else self.rate * (1.0 - self.others))

    @property
    def seconds(self) -> float:
        return max(120.0, min(660.0, CALLS / self.attainable))


def drawn(seed: int) -> Server:
    """The server of a seed."""
    random = Random(seed * 7919 + 13)
    latency = 0.3 * (10 / 0.3) ** random.random()
    slots = int(4 * 64 ** random.random()) if random.random() < 0.15 else None
    return Server(
        seed=seed,
        rate=20 * 1_500 ** random.random() / 60,
        kind="slots" if slots else random.choice(["bucket", "bucket", "sliding", "fixed"]),
        burst=0.5 * 240 ** random.random(),
        latency=latency,
        p99=latency * random.uniform(3, 15),
        charged=random.random() < 0.3,
        told=random.choice(["right", "right", "none", "minutes", "exaggerated"]),
        strays=0.0 if random.random() < 0.5 else random.uniform(0, 0.05),
        others=0.0 if slots or random.random() < 0.6 else random.uniform(0, 0.6),
        refusal=0.02 * 10 ** random.random(),
        slots=slots,
        queue=random.choice([0, slots, 10**9]) if slots else 0,
    )


class Counts(Struct, frozen=True):
    """What a server counted so far: requests, those that its limit refused, and when it accepted (by slots: served) the
    others."""

    sent: int
    refused: int
    accepted: list[float]


class Target:
    """A drawn server at work: a transport on the virtual clock, and what it counted.

    Attributes:
        began: the loop's time at its second 0.
    """

    def __init__(self, server: Server, began: float = 0.0) -> None:
        self.server = server
        self.began = began
        self.sent = self.refused = self.strays = 0
        self.accepted: list[float] = []
        self._random = Random(server.seed)
        self._limit = _limit(server)
        self._others_at = 0.0
        self._busy = 0
        self._free: list[float] = []

    def counts(self) -> Counts:
        """What was counted so far."""
        return Counts(self.sent, self.refused, list(self.accepted))

    async def send(self, request: Request) -> Response:
        """Answer or refuse one request."""
        status, told = await self.exchange()
        if status == 429:
            headers = {} if told is None else {"retry-after": f"{told:g}"}
            return Response(429, headers, answers.error("too many requests", "requests", "rate_limit_exceeded"))
        message = {"role": "assistant", "content": "fine"}
        body = answers.completion(number=1, model="m", message=message, finish="stop", wall=0.0, prompt=5, output=5)
        return Response(200, {}, body)

    async def exchange(self) -> tuple[int, float | None]:
        """The status of one request, and the Retry-After of a refusal."""
        now, server = asyncio.get_running_loop().time() - self.began, self.server
        self.sent += 1
        if self._random.random() < server.strays:
            self.strays += 1
            wait = 1.0
        else:
            wait = self._wait(now)
            self.refused += wait > 0
        if wait > 0:
            await asyncio.sleep(server.refusal)
            return 429, _retry_after(server, wait)
        service = server.latency * math.exp(server.spread * self._random.gauss())
        if server.slots is None:
            self.accepted.append(now)
            await asyncio.sleep(server.refusal + service)
        else:
            await self._serve(now, service)
        return 200, None

    async def close(self) -> None:
        """There is nothing to close."""

    def _wait(self, now: float) -> float:
        """Seconds until a request fits; it is charged when it does."""
        server, limit = self.server, self._limit
        if limit is None:
            return 1.0 if self._busy >= (server.slots or 0) + server.queue else 0.0
        while server.others and self._others_at < now:
            self._charge(limit, self._others_at)
            self._others_at += self._random.expovariate(server.rate * server.others)
        return self._charge(limit, now)

    def _charge(self, limit: Window, now: float) -> float:
        wait = limit.wait(now, 1)
        if wait <= 0:
            limit.take(now, 1)
        elif self.server.charged:
            limit.waste(now, 1)
        return wait

    async def _serve(self, now: float, service: float) -> None:
        """Serve a request when its turn has come. One that is given up meanwhile takes its slot all the same."""
        self._busy += 1
        start = now if len(self._free) < (self.server.slots or 0) else max(now, heapq.heappop(self._free))
        heapq.heappush(self._free, start + service)
        loop = asyncio.get_running_loop()
        loop.call_at(self.began + start + service, self._leave)
        await asyncio.sleep(start + service - now + self.server.refusal)
        self.accepted.append(start + service)

    def _leave(self) -> None:
        self._busy -= 1


def _limit(server: Server) -> Window | None:
    rpm = 60 * server.rate
    if server.kind == "bucket":
        return Bucket(rpm, burst=server.burst, full=True)
    if server.kind == "sliding":
        return SlidingWindow(rpm)
    return FixedWindow(rpm) if server.kind == "fixed" else None


def _retry_after(server: Server, wait: float) -> float | None:
    if server.slots is not None or server.told == "none":
        return None
    if server.told == "right":
        return float(math.ceil(wait))
    return 60.0 * math.ceil(wait / 60) if server.told == "minutes" else 5.0 * wait + 10.0


async def flatout(target: Target, until: float) -> int:
    """The client, with nothing given but an address. Returns how many calls were lost."""
    async with client("http://drawn/v1", target) as made:
        return await call(made, until)


def client(url: str, transport: Transport | None = None) -> Client:
    """A client that knows an address, and nothing else."""
    return Client("m", base_url=url, config={}, transport=transport, seed=1, deadline=1e5)


async def call(made: Client, until: float) -> int:
    """Call, flat out, until an instant. Returns how many calls were lost."""
    loop, lost = asyncio.get_running_loop(), 0

    async def source() -> AsyncIterator[str]:
        number = 0
        while loop.time() < until:
            yield f"prompt {number}"
            number += 1

    async with aclosing(made.as_completed(source())) as results:
        async for result in results:
            lost += not result.ok
            if loop.time() >= until:
                break
    return lost


async def naive(target: Target, until: float) -> int:
    """A semaphore, and backoff call by call."""
    loop, random = asyncio.get_running_loop(), Random(1)

    async def work() -> None:
        tries = 0
        while loop.time() < until:
            status, told = await target.exchange()
            tries = 0 if status == 200 else tries + 1
            if status != 200:
                await asyncio.sleep(told if told is not None else min(60.0, 2.0**tries) * random.uniform(0.5, 1.0))

    await asyncio.gather(*(work() for _ in range(64)))
    return 0


async def plain(target: Target, until: float) -> int:
    """Climb; at a refusal go on with what was accepted between the last two, after one request has gone to see."""
    loop = asyncio.get_running_loop()
    rate, climbs, cut = 20.0, True, 0.0
    last = (0.0, 0)  # the last refusal that was heeded, and what had been accepted by then
    open_: set[asyncio.Task[None]] = set()
    refusals: list[tuple[float, float | None]] = []

    async def one() -> None:
        sent = loop.time()
        status, told = await target.exchange()
        if status != 200:
            refusals.append((sent, told))

    next_at = 0.0
    while (now := loop.time()) < until:
        while len(open_) >= 1_000:
            await asyncio.wait(open_, return_when=asyncio.FIRST_COMPLETED)
        if refusals and refusals[-1][0] >= cut:
            accepted = len(target.accepted)
            between = (accepted - last[1]) / max(1e-3, loop.time() - last[0])
            rate = max(1 / 60, min(rate, between) if not climbs else between)
            climbs, wait = False, 0.5
            while True:  # one request goes to see
                await asyncio.sleep(wait)
                if loop.time() >= until or (await target.exchange())[0] == 200:
                    break
                wait = min(60.0, 2.0 * wait)
            last, cut = (loop.time(), len(target.accepted)), loop.time()
            refusals.clear()
            next_at = loop.time()
            continue
        if now < next_at:
            await asyncio.sleep(next_at - now)
            continue
        task = asyncio.create_task(one())
        open_.add(task)
        task.add_done_callback(open_.discard)
        rate = min(rate * (4.0 if climbs else 1.001) ** (1.0 / rate), 1e4)
        next_at = max(next_at, now) + 1.0 / rate
    for task in open_:
        task.cancel()
    return 0


PACERS: dict[str, Callable[[Target, float], Awaitable[int]]] = {"flatout": flatout, "naive": naive, "plain": plain}


class Outcome(Struct, frozen=True):
    """What one run on one drawn server came to."""

    used: float
    refused: float
    late: float
    time: float
    lost: int


def outcome(name: str, seed: int, longest: float = math.inf) -> Outcome:
    """Run one pacer on the server of a seed, for so many seconds at the most."""
    target = Target(drawn(seed))
    until = min(longest, target.server.seconds)
    warm: list[Counts] = []

    async def main() -> int:
        asyncio.get_running_loop().call_at(WARM, lambda: warm.append(target.counts()))
        return await PACERS[name](target, until)

    lost = run_virtual(main(), limit=1e7)
    return came(target.server, until, warm[0], target.counts(), lost)


def came(server: Server, until: float, warm: Counts, end: Counts, lost: int) -> Outcome:
    """What a run came to, by what its server had counted when it was warm, and at the end."""
    accepted = [at for at in end.accepted if at < until]
    late = [at for at in accepted if at >= WARM]
    return Outcome(
        used=len(late) / (server.attainable * (until - WARM)),
        refused=end.refused / max(1, end.sent),
        late=(end.refused - warm.refused) / max(1, end.sent - warm.sent),
        time=server.attainable * until / max(1, len(accepted)),
        lost=lost,
    )


def row(name: str, outcomes: list[Outcome]) -> str:
    """A pacer's median, worst tenth and worst."""

    def cells(values: list[float], form: str, *, low: bool = False) -> str:
        ranked = sorted(values, reverse=low)
        tenth = ranked[-1 - len(ranked) // 10]
        return f"{statistics.median(ranked):{form}} {tenth:{form}} {ranked[-1]:{form}}"

    return (
        f"{name:10} used {cells([each.used for each in outcomes], '7.1%', low=True)}   "
        f"refused {cells([each.refused for each in outcomes], '7.2%')}   "
        f"after a minute {cells([each.late for each in outcomes], '7.2%')}   "
        f"time {cells([each.time for each in outcomes], '6.2f')}   lost {sum(each.lost for each in outcomes)}"
    )


def slower(seeds: Iterable[int], found: dict[str, list[Outcome]]) -> str:
    """Where the client took more than 1.1 times as long as the better of the two others, and how many times."""
    ratios = [
        (mine.time / min(naive.time, plain.time), seed)
        for seed, mine, naive, plain in zip(seeds, found["flatout"], found["naive"], found["plain"], strict=True)
    ]
    worse = sorted((each for each in ratios if each[0] > 1.1), reverse=True)
    which = ", ".join(f"{seed} ({ratio:.2f} ×)" for ratio, seed in worse)
    return f"slower than the better of the others by more than 1.1 ×: {len(worse)} of {len(ratios)}: {which or 'none'}"
