"""The layer that sends attempts to the targets of a route."""

from __future__ import annotations

import asyncio

from flatout import Route
from flatout.journey import Journey, Passage
from flatout.layers.route import Routed
from flatout.testing import run_virtual


def test_a_call_whose_rest_ends_while_it_looks_goes_on():
    """Time goes on between two looks at the clock: the call would fail with an error of ours."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        journey = Journey(loop.time())
        journey.passage = Passage(resting={"a/m": loop.time()})
        await Routed([], Route("a/m"))._rest(journey)
        return loop.time()

    assert run_virtual(main()) < 1.0
