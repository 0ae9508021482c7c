"""The layer that sends attempts to the targets of a route."""

from __future__ import annotations

import asyncio

import pytest

from flatout import Call, ConfigError, Route
from flatout.journey import Journey, Passage
from flatout.layer import CallNext
from flatout.layers.route import Routed, Router
from flatout.testing import run_virtual
from flatout.values import Reply


def test_a_call_whose_rest_ends_while_it_looks_goes_on():
    """Time goes on between two looks at the clock: the call would fail with an error of ours."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        journey = Journey(loop.time())
        journey.passage = Passage(resting={"a/m": loop.time()})
        await Routed([], Route("a/m"))._rest(journey)
        return loop.time()

    assert run_virtual(main()) < 1.0


class Calls:
    """Calls that pass a `Router`, each in a task of its own. ``sent`` lists those that went on, in their order."""

    def __init__(self) -> None:
        self.there = asyncio.Event()
        self.looks = 0
        self.fails = False
        self.sent: list[str | None] = []
        self._router = Router(self._find)

    def begin(self, *names: int) -> list[asyncio.Future[Reply]]:
        return [asyncio.ensure_future(self._begin(f"{name}")) for name in names]

    async def _begin(self, name: str) -> Reply:
        return await self._router(Call(name))

    async def _find(self, call: Call) -> CallNext:
        self.looks += 1
        await self.there.wait()
        if self.fails:
            self.fails = False
            raise ConfigError("no such model")
        return self._answer

    async def _answer(self, call: Call) -> Reply:
        self.sent.append(call.prompt)
        return Reply(text="x")


@pytest.mark.parametrize("turn", range(6))
def test_no_call_passes_those_that_wait_for_the_first_look_at_a_model(turn: int) -> None:
    """Rows from the middle of a file would be asked first, and those at its begin last of all."""

    async def main() -> None:
        calls = Calls()
        begun = calls.begin(*range(500))
        await asyncio.sleep(0)
        calls.there.set()
        for number in range(500, 800, 50):
            if number == 500 + 50 * turn:
                begun += calls.begin(1_000)
            begun += calls.begin(*range(number, number + 50))
            await asyncio.sleep(0)
        await asyncio.gather(*begun)
        expected = [*range(500 + 50 * turn), 1_000, *range(500 + 50 * turn, 800)]
        assert (calls.sent, calls.looks) == ([f"{number}" for number in expected], 1)

    asyncio.run(main())


@pytest.mark.parametrize("cancelled", [True, False])
def test_a_look_that_fails_is_that_calls_alone(cancelled: bool) -> None:
    """Calls would wait for ever for a look that has ended, or all fail because one was given up."""

    async def main() -> None:
        calls = Calls()
        first, *others = calls.begin(*range(3))
        await asyncio.sleep(0)
        if cancelled:
            first.cancel()
        else:
            calls.fails = True
        calls.there.set()
        await asyncio.wait([first, *others])
        assert (calls.sent, calls.looks) == (["1", "2"], 2)
        assert first.cancelled() if cancelled else isinstance(first.exception(), ConfigError)

    asyncio.run(main())
