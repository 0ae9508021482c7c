"""What each layer of the call path adds to a call: ``python -m benchmarks.layers``.

The transport answers in the next turn of the event loop, so no socket and no other process disturb the figures. The
path is built up from the inside: first the tasks alone, then with the innermost layer, then with one layer more each
time, and at last `Client.gather`. A line's cost is the difference to the line before. Rounds alternate; the figures are
the least of all rounds, of this process' own CPU: others who use the machine only add to it.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any
from unittest.mock import patch

from flatout import Client, Limits, stack
from flatout.edge.fan_out import fan_out
from flatout.journey import Journey, set_journey
from flatout.layer import CallNext, Layer, Request, Response, Streamed
from flatout.stack import compose
from flatout.values import Call

from .contenders import prompts
from .server import ANSWER

IN_FLIGHT = 500
WINDOW = IN_FLIGHT + IN_FLIGHT // 4 + 1
"""What `Client` reads ahead for so many calls in flight."""

HEADERS = {"content-type": "application/json", "content-length": str(len(ANSWER))}

Step = tuple[str, Callable[[int], Awaitable[object]]]
"""A part of the path with everything inside it, as a function of the number of calls."""


class Echo:
    """A transport that answers every request in the next turn of the event loop."""

    async def send(self, request: Request) -> Response:
        await turn()
        return Response(200, HEADERS, ANSWER)

    def stream(self, request: Request) -> AbstractAsyncContextManager[Streamed]:
        raise NotImplementedError

    def capacity(self) -> int:
        return 10_000

    async def close(self) -> None: ...


async def turn() -> None:
    """Wait for the next turn of the event loop, as for a socket: with a future."""
    loop = asyncio.get_running_loop()
    answered = loop.create_future()
    loop.call_soon(answered.set_result, None)
    await answered


def client() -> Client:
    limits = Limits(concurrency=IN_FLIGHT)
    return Client("bench", base_url="http://127.0.0.1:1/v1", api_key="x", limits=limits, transport=Echo(), config={})


async def tasks(work: Callable[[int, str], Coroutine[Any, Any, object]], count: int) -> None:
    async for _ in fan_out(prompts(count), work, WINDOW):
        pass


async def only_wait(index: int, prompt: str) -> None:
    await turn()


async def call(path: CallNext, index: int, prompt: str) -> None:
    set_journey(Journey(asyncio.get_running_loop().time()))
    await path(Call(prompt))


async def steps(made: Client) -> list[Step]:
    """The path of a client's calls, in steps from the inside out."""
    composed: list[tuple[Sequence[Layer], CallNext]] = []

    def noted(layers: Sequence[Layer], innermost: CallNext) -> CallNext:
        composed.append((layers, innermost))
        return compose(layers, innermost)

    with patch.object(stack, "compose", noted):
        async with client() as other:
            await other.call("x")
    (outer, _), (inner, path) = composed[0], composed[-1]  # the client's own layers, and those of the target
    found: list[Step] = [("tasks", partial(tasks, only_wait)), ("Send", partial(tasks, partial(call, path)))]
    for layer in reversed([*outer, *inner]):
        path = compose([layer], path)
        name = type(getattr(layer, "func", layer)).__name__
        found.append((name, partial(tasks, partial(call, path))))
    return [*found, ("gather", lambda count: made.gather(prompts(count)))]


async def measure(count: int, rounds: int) -> dict[str, float]:
    """Microseconds of CPU a call, by step."""
    async with client() as made:
        path = await steps(made)
        used: dict[str, list[float]] = {name: [] for name, _ in path}
        for number in range(rounds + 1):
            for name, run in path:
                began = time.process_time()
                await run(count)
                if number:  # the first round warms up
                    used[name].append((time.process_time() - began) / count * 1e6)
    return {name: min(values) for name, values in used.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    used = asyncio.run(measure(options.calls, options.rounds))
    print(f"{options.calls:,} calls, {IN_FLIGHT} in flight, {options.rounds} rounds")
    print(f"{'':12}{'µs a call':>10}{'of them here':>14}")
    before = 0.0
    for name, mine in used.items():
        print(f"{name:12}{mine:>10.1f}{mine - before:>14.1f}")
        before = mine


if __name__ == "__main__":
    main()
