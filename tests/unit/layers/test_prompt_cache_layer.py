"""Calls whose prompts begin alike: one goes first, the others follow, and none is held for long or for ever."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flatout import Call, InvalidRequest, Reply, SchemaMismatch, ServerError, Usage
from flatout.journey import Journey, current_journey, reset_journey, set_journey
from flatout.layers.prompt_cache import MOMENT, PromptCache
from flatout.policies.prefixes import Beginnings
from flatout.policies.warmth import FAILURES, HOLD, MISSES, Warmth
from flatout.testing import run_virtual

COMMON = "the rules of the house " * 100


NOTHING = Usage()


class Prompt:
    def __init__(self, call: Call) -> None:
        self.blocks, self.head = [call.system or "", call.prompt or ""], ()


class Reader:
    """Notes in each call's ``extra`` what was marked."""

    def read(self, call):
        return None if call.id == "unread" else Prompt(call)

    def marked(self, call, prompt, shared, lane):
        return Call(call.prompt, system=call.system, extra={"shared": len(shared), "lane": lane})


def layer(most: int | None = None) -> PromptCache:
    known = Beginnings(lambda text: len(text) / 4, 100)
    return PromptCache("t", Reader(), known, most=4, warmth=partial(Warmth, 300.0, most))


async def ask(cache: PromptCache, call: Call, call_next) -> tuple[Reply, Journey]:
    journey = Journey(asyncio.get_running_loop().time())
    token = set_journey(journey)
    try:
        return await cache(call, lambda sent: cache.sent(sent, call_next)), journey
    finally:
        reset_journey(token)


class Provider:
    """Answers after a second, or as it is told; notes when each call came, and whether it was marked."""

    def __init__(self, answers=lambda number: 1.0, usage: Usage = NOTHING) -> None:
        self.answers, self.usage = answers, usage
        self.came: list[tuple[float, bool]] = []

    async def __call__(self, call: Call) -> Reply:
        number = len(self.came)
        self.came.append((asyncio.get_running_loop().time(), call.extra is not None))
        answer = self.answers(number)
        if isinstance(answer, BaseException):
            await asyncio.sleep(1)
            raise answer
        await asyncio.sleep(answer)
        return Reply(text="fine", usage=self.usage)


def rows(count: int, salt: str = "") -> list[Call]:
    return [Call(f"{salt}row {number}: " + "tail " * 20, system=COMMON) for number in range(count)]


def run(cache, calls, provider, pause: float = 0.0):
    async def main():
        tasks = []
        for call in calls:
            tasks.append(asyncio.create_task(ask(cache, call, provider)))
            if pause:
                await asyncio.sleep(pause)
        return await asyncio.gather(*tasks, return_exceptions=True)

    return run_virtual(main())


def test_one_call_goes_first_and_the_others_when_it_is_answered():
    """Every row would write what one of them could."""
    provider = Provider()
    results = run(layer(), rows(20), provider)
    assert [at for at, _ in provider.came] == pytest.approx([MOMENT] + [1 + MOMENT] * 19, abs=0.01)
    assert all(marked for _, marked in provider.came)
    waits = [journey.account.waits.get("prompt_cache", 0.0) for _, journey in results]
    assert waits == pytest.approx([0.0] + [1.0] * 19, abs=0.02)


def test_the_others_go_when_a_streamed_answer_begins():
    """They would wait for the last word of the first answer."""
    provider = Provider(lambda number: 5.0)

    async def streamed(call: Call) -> Reply:
        begins = current_journey().attempt.begins
        if begins is not None:
            asyncio.get_running_loop().call_later(0.5, begins)
        return await provider(call)

    run(layer(), rows(5), streamed)
    assert [at for at, _ in provider.came] == pytest.approx([0.01] + [0.51] * 4, abs=0.01)


def test_a_warm_cache_holds_nobody():
    """The calls of a program that runs all day would wait for each other again and again."""
    cache, provider = layer(), Provider()
    run(cache, rows(12), provider, pause=20.0)
    assert [at for at, _ in provider.came[1:]] == pytest.approx([20.0 * number for number in range(1, 12)], abs=0.02)


def test_a_slow_first_answer_lets_the_others_go_without_the_cache():
    """They would stand still; or each of them would write to the cache, and cost a quarter more than without."""
    provider = Provider(lambda number: 60.0 if number == 0 else 1.0)
    run(layer(), rows(10), provider)
    assert [at for at, _ in provider.came[1:]] == pytest.approx([HOLD + MOMENT] * 9, abs=0.01)
    assert [marked for _, marked in provider.came] == [True] + [False] * 9


def test_when_the_first_call_fails_another_fills_the_cache():
    """A group would be lost with its first call."""
    provider = Provider(lambda number: ServerError("no") if number < 2 else 1.0)
    results = run(layer(), rows(10), provider)
    assert sum(isinstance(result, ServerError) for result in results) == 2
    assert [at for at, _ in provider.came] == pytest.approx([0.01, 1.01, 2.01] + [3.01] * 7, abs=0.01)


def test_an_answer_that_was_paid_for_has_filled_the_cache():
    """After an answer that does not fit its schema the next call would fill the cache once more."""
    failed = SchemaMismatch("no", reply=Reply(text="?"))
    provider = Provider(lambda number: failed if number == 0 else 1.0)
    run(layer(), rows(5), provider)
    assert [at for at, _ in provider.came] == pytest.approx([0.01] + [1.01] * 4, abs=0.01)


def test_a_prompt_that_nothing_shares_is_sent_as_it_is():
    """It would be written to the cache for nobody."""
    provider = Provider()
    run(layer(), [Call("x", system=f"{number} {COMMON}") for number in range(5)], provider)
    assert [marked for _, marked in provider.came] == [False] * 5
    run(layer(), [Call("x", system=COMMON, id="unread")] * 2, provider)
    assert [marked for _, marked in provider.came] == [False] * 7


def test_an_attempt_after_the_first_is_not_its_own_company():
    """A lone call that is tried again would be written to the cache, for nobody."""
    cache, provider = layer(), Provider()

    async def main():
        journey = Journey(0.0)
        token = set_journey(journey)
        for _ in range(3):
            await cache(Call("x", system=COMMON), provider)
            journey.account.attempts += 1
        reset_journey(token)

    run_virtual(main())
    assert [marked for _, marked in provider.came] == [False] * 3


def test_two_levels_are_filled_one_after_the_other():
    """Each document would pay for the system prompt once more."""
    provider = Provider()
    calls = [
        Call(f"{'document ' * 200}{name}{' text' * 200} q{number}", system=COMMON) for name in "ab" for number in (1, 2)
    ]
    run(layer(), calls, provider)
    assert sorted(at for at, _ in provider.came) == pytest.approx([0.01, 1.01, 1.01, 2.01], abs=0.02)


def test_a_server_that_refuses_the_markers_gets_the_calls_without(caplog):
    """A gateway in front of the provider may not know them, and every row would fail."""
    sent = []

    async def refuses(call: Call) -> Reply:
        sent.append(call.extra is not None)
        if call.extra is not None:
            raise InvalidRequest("Unsupported parameter: 'prompt_cache_key'")
        return Reply(text="fine")

    cache = layer()
    results = run(cache, rows(5), refuses)
    assert not any(isinstance(result, BaseException) for result in results)
    assert sent.count(True) <= 1
    assert run(cache, rows(2, "later "), refuses)
    assert sent[-2:] == [False, False]
    assert [record.message for record in caplog.records] == [
        "t refuses what prompt_cache='auto' adds to requests: it is left out"
    ]


def test_a_server_that_refuses_streams_is_not_streamed_from(caplog):
    """OpenAI streams some models only to verified organisations: the first row of each group would fail."""
    streamed = []

    async def refuses(call: Call) -> Reply:
        streams = current_journey().attempt.begins is not None
        streamed.append(streams)
        if streams:
            raise InvalidRequest("Your organization must be verified to stream this model.")
        await asyncio.sleep(1)
        return Reply(text="fine")

    cache = layer()
    results = run(cache, rows(5), refuses)
    assert not any(isinstance(result, BaseException) for result in results)
    assert streamed == [True] + [False] * 5


def test_other_refusals_are_the_rows_own():
    """A row that is too long would be sent twice."""
    provider = Provider(lambda number: InvalidRequest("too long") if number == 0 else 1.0)
    results = run(layer(), rows(3), provider)
    assert [type(result) for result in results].count(InvalidRequest) == 1
    assert len(provider.came) == 3


def test_a_cache_that_is_never_read_is_given_up():
    """Each row would cost a quarter more than without."""
    cache = layer()
    provider = Provider(usage=Usage(input_tokens=900, cached_tokens=0, cache_write_tokens=800))
    run(cache, rows(MISSES + 1), provider)
    run(cache, rows(3, "later "), provider)
    assert [marked for _, marked in provider.came[-3:]] == [False] * 3


@pytest.mark.parametrize("most", [None, 3])
@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 5),  # when it comes
            st.sampled_from(["answers", "fails", "hangs"]),
            st.one_of(st.none(), st.floats(0, 8)),  # how long until it is cancelled
        ),
        min_size=1,
        max_size=12,
    )
)
@example([(0.0, "hangs", None), (3.0, "hangs", 8.0), (0.0, "answers", None), (0.0, "answers", None)])
def test_no_call_is_held_for_ever(most, calls):
    """A call would wait for one that was cancelled, has failed or never answers."""
    cache = layer(most)

    async def one(number: int, start: float, fate: str, patience: float | None) -> None:
        async def call_next(call: Call) -> Reply:
            assert asyncio.get_running_loop().time() - came <= FAILURES * HOLD + 1
            await asyncio.sleep(100 if fate == "hangs" else 1)
            if fate == "fails":
                raise ServerError("no")
            return Reply(text="fine")

        await asyncio.sleep(start)
        came = asyncio.get_running_loop().time()
        asking = asyncio.create_task(ask(cache, rows(number + 1)[-1], call_next))
        if patience is not None:
            asyncio.get_running_loop().call_later(patience, asking.cancel)
        await asyncio.wait([asking])
        if not asking.cancelled() and asking.exception() is not None:
            assert isinstance(asking.exception(), ServerError)

    async def main() -> None:
        await asyncio.gather(*(one(number, *call) for number, call in enumerate(calls)))

    run_virtual(main(), limit=400)
