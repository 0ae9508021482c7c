"""Equal calls are asked once, whatever becomes of the one that asks; and what is kept is what may be used again."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout import Call, Reply, ServerError
from flatout.journey import Journey, reset_journey, set_journey
from flatout.layers.cache import Cache
from flatout.testing import run_virtual
from flatout.values.kept import Kept


class Memory:
    """Answers in memory."""

    def __init__(self) -> None:
        self.kept: dict[bytes, Kept] = {}
        self.looked_up = 0

    async def get(
        self, key: bytes, since: float, *, claims: bool = True, patient: bool = False, waits=None
    ) -> Kept | None:
        self.looked_up += 1
        await asyncio.sleep(0.001)
        kept = self.kept.get(key)
        return None if kept is None or kept.at < since else kept

    def put(self, key, kept, describe) -> None:
        self.kept[key] = kept

    def asks(self, key: bytes, since: float, needless) -> None:
        pass

    def let_go(self, key: bytes) -> None:
        pass

    async def close(self) -> None:
        pass


def cache_of(memory: Memory, wall=lambda: 0.0, max_age=None, read=lambda call, reply: reply) -> Cache:
    async def find(call: Call):
        return lambda call: call.prompt.encode()

    return Cache(memory, None, find=find, read=read, describe=lambda _: b"{}", wall=wall, max_age=max_age)


async def ask(cache: Cache, call: Call, call_next) -> Reply:
    token = set_journey(Journey(asyncio.get_running_loop().time()))
    try:
        return await cache(call, call_next)
    finally:
        reset_journey(token)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 5),  # when it comes
            st.sampled_from(["answers", "fails", "is cut off"]),  # what becomes of it if it is the one that asks
            st.one_of(st.none(), st.floats(0, 6)),  # how long until it is cancelled
        ),
        min_size=1,
        max_size=12,
    )
)
def test_no_waiter_is_lost(calls):
    """A call that waits for an equal one would wait for ever when that one is cancelled, fails, or has nothing to keep.

    And after an answer that can be kept, nobody asks again.
    """
    memory, asked = Memory(), []
    cache = cache_of(memory)

    async def one(start: float, fate: str, patience: float | None) -> str:
        async def call_next(call: Call) -> Reply:
            asked.append(bool(memory.kept))
            await asyncio.sleep(1)
            if fate == "fails":
                raise ServerError("no")
            return Reply(text="fine", finish_reason="length" if fate == "is cut off" else "stop")

        await asyncio.sleep(start)
        try:
            async with asyncio.timeout(patience):
                return (await ask(cache, Call("x"), call_next)).text
        except (ServerError, TimeoutError) as error:
            return type(error).__name__

    async def main() -> None:
        ended = await asyncio.wait_for(asyncio.gather(*(one(*call) for call in calls)), 100)
        assert set(ended) <= {"fine", "ServerError", "TimeoutError"}
        assert not cache._flights
        assert not any(asked)
        for (_, fate, patience), end in zip(calls, ended, strict=True):
            assert end != "ServerError" or fate == "fails"
            assert end != "TimeoutError" or patience is not None

    run_virtual(main())


def test_the_turn_of_a_waiter_that_is_cancelled_at_that_moment_goes_to_the_next():
    """The third of three equal calls would wait for ever when the first two are cancelled together."""
    cache, entered = cache_of(Memory()), []

    async def call_next(call: Call) -> Reply:
        entered.append(1)
        await asyncio.sleep(10)
        return Reply(text="fine", finish_reason="stop")

    async def main() -> None:
        first, second, third = (asyncio.create_task(ask(cache, Call("x"), call_next)) for _ in range(3))
        await asyncio.sleep(1)
        first.cancel()
        await asyncio.sleep(0)  # the first has handed its turn to the second, which has not run yet
        second.cancel()
        assert (await asyncio.wait_for(third, 60)).text == "fine"
        assert len(entered) == 2
        await asyncio.wait([first, second])

    run_virtual(main())


def test_equal_calls_that_all_fail_do_not_go_one_after_another():
    """A thousand equal calls to a provider that is down would take a thousand times as long as one."""
    cache = cache_of(Memory())

    async def call_next(call: Call) -> Reply:
        await asyncio.sleep(1)
        raise ServerError("no")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        ended = await asyncio.gather(*(ask(cache, Call("x"), call_next) for _ in range(50)), return_exceptions=True)
        assert all(isinstance(error, ServerError) for error in ended)
        assert loop.time() - began < 4

    run_virtual(main())


def test_age_is_judged_when_reading():
    """Answers that were kept for ever would be given even to somebody who wants this week's."""
    memory, now = Memory(), [0.0]
    asked = []

    async def call_next(call: Call) -> Reply:
        asked.append(call.prompt)
        return Reply(text="fine", finish_reason="stop")

    async def main() -> None:
        patient, strict = cache_of(memory, lambda: now[0]), cache_of(memory, lambda: now[0], max_age=60)
        await ask(patient, Call("x"), call_next)
        now[0] = 59.0
        assert (await ask(strict, Call("x"), call_next)).cached
        now[0] = 61.0
        assert (await ask(patient, Call("x"), call_next)).cached
        assert len(asked) == 1
        assert (await ask(strict, Call("x"), call_next)).cached is None
        assert len(asked) == 2

    run_virtual(main())


def test_an_answer_that_does_not_fit_any_more_is_asked_again():
    """A kept answer that another program's validator refuses would be given, or fail the call."""
    memory = Memory()

    async def call_next(call: Call) -> Reply:
        return Reply(text="new", finish_reason="stop")

    async def main() -> None:
        memory.kept[b"x"] = Kept.of(Reply(text="old"), at=0.0, cost=None, whole=False)
        cache = cache_of(memory, read=lambda call, reply: reply if reply.text == "new" else None)
        assert (await ask(cache, Call("x"), call_next)).text == "new"
        memory.kept[b"x"] = Kept(at=0.0, cost=None, said=b"not JSON")
        assert (await ask(cache, Call("x"), call_next)).text == "new"

    run_virtual(main())


@pytest.mark.parametrize("reply", [Reply(text="half a", finish_reason="length"), Reply(text="\ud83d")])
def test_what_cannot_be_used_again_is_not_kept(reply):
    """Half an answer would be given again and again; one that cannot be written would fail its call."""
    memory = Memory()

    async def call_next(call: Call) -> Reply:
        return reply

    async def main() -> None:
        assert await ask(cache_of(memory), Call("x"), call_next) is reply
        assert not memory.kept

    run_virtual(main())
