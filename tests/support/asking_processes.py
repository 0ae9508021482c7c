"""Equal calls of three processes that share a cache. They come, fail and are cancelled, and one process dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from hypothesis import strategies as st

from flatout import Call, Reply, ServerError
from flatout.journey import Journey, reset_journey, set_journey
from flatout.layers.cache import Cache
from flatout.store.answers import Answers

KEY = bytes(range(32))

CALLS = st.lists(
    st.tuples(
        st.integers(0, 2),  # the process
        st.floats(0, 5),  # when the call comes
        st.sampled_from(["answers", "fails", "is cut off"]),  # what becomes of it if it is the one that asks
        st.one_of(st.none(), st.floats(0, 9)),  # how long until it is cancelled
    ),
    min_size=1,
    max_size=10,
)
DEATHS = st.floats(0, 8)  # when the first process dies


async def ask_together(
    processes: Sequence[Answers],
    calls: Sequence[tuple[int, float, str, float | None]],
    death: float,
    kill: Callable[[], object],
    found_within: float = 1.0,
) -> None:
    """Play some calls, and check that each ends, and that nobody asks what has an answer.

    Args:
        processes: the caches of three processes.
        calls: of `CALLS`.
        death: when the first process dies, in seconds.
        kill: what happens to its claims then.
        found_within: seconds within which an answer is found that was kept elsewhere.
    """
    answered: list[float] = []
    caches: list[Cache] = []

    async def one(cache: Cache, start: float, fate: str, patience: float | None) -> str:
        async def call_next(call: Call) -> Reply:
            # Kept answers are found a moment after they came: they are written, and looked for, every now and then.
            assert not any(asyncio.get_running_loop().time() > at + found_within for at in answered)
            await asyncio.sleep(2)
            if fate == "fails":
                raise ServerError("no")
            if fate == "answers" and cache is not caches[0]:
                answered.append(asyncio.get_running_loop().time())
            return Reply(text="fine", finish_reason="length" if fate == "is cut off" else "stop")

        await asyncio.sleep(start)
        token = set_journey(Journey(asyncio.get_running_loop().time()))
        try:
            async with asyncio.timeout(patience):
                return (await cache(Call("x"), call_next)).text
        except (ServerError, TimeoutError) as error:
            return type(error).__name__
        finally:
            reset_journey(token)

    async def find(_: Call) -> Callable[[Call], bytes]:
        return lambda call: KEY

    caches.extend(
        Cache(each, None, find=find, read=lambda _, reply: reply, describe=lambda _: b"{}", wall=lambda: 0.0)
        for each in processes
    )
    tasks = [(place, asyncio.create_task(one(caches[place], *call))) for place, *call in calls]
    await asyncio.sleep(death)
    for place, task in tasks:
        if place == 0:
            task.cancel()  # a killed process never comes back to its calls
    kill()
    ended = await asyncio.wait_for(asyncio.gather(*(task for _, task in tasks), return_exceptions=True), 200)
    for (place, _, fate, patience), end in zip(calls, ended, strict=True):
        assert end != "ServerError" or fate == "fails"
        assert end != "TimeoutError" or patience is not None
        assert not isinstance(end, BaseException) or (isinstance(end, asyncio.CancelledError) and place == 0), end
    for each in processes:
        await each.close()
