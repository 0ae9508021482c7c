"""A cache whose server goes away and comes back: what is paid twice is what had its turn meanwhile, and no more."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout import Call, Client, Limits, Reply, ServerError
from flatout.cluster import answers as module
from flatout.cluster.answers import HICCUP, POLL, REST, AnswersInRedis
from flatout.journey import Journey, reset_journey, set_journey
from flatout.layer import Request, Response
from flatout.layers.cache import Cache
from flatout.store.answers import UNHURRIED, Answers
from flatout.testing import digest_of
from flatout.testing._clock import EPOCH
from flatout.values.place import place_of
from tests.support.answers_line import Line
from tests.support.asking_processes import CALLS
from tests.support.batch_wire import BatchWire
from tests.support.scripted_wire import Wire, client

CACHE = "redis://host:6379/0/team"
NOTICED = REST + POLL
"""Seconds within which a worker sees that the server is back."""

KNOWN = [f"known {number}" for number in range(300)]
NEW = [f"new {number}" for number in range(60)]


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    made = Line()
    monkeypatch.setattr(module, "RedisLine", lambda *_: made)
    return made


def worker(wire: Wire, rpm: float = 60) -> Client:
    return client(wire, cache=CACHE, limits=Limits(rpm=rpm))


async def answered(line: Line, questions: Sequence[str]) -> None:
    """Another worker has answered these."""
    async with client(Wire(), cache=CACHE) as made:
        await made.gather(questions)


async def ask(made: Client, questions: Sequence[str]) -> None:
    """Ask, and check that each question got its own answer."""
    for question, result in zip(questions, await made.gather(questions), strict=True):
        assert result.text == digest_of(question)


async def away(line: Line, seconds: float, *, empty: bool = False) -> float:
    """An outage; with ``empty`` the server has lost everything. Returns when it was back."""
    line.away = True
    await asyncio.sleep(seconds)
    if empty:
        line.values.clear()
    line.away = False
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("begins", [0.0, 5.0])
@pytest.mark.parametrize("lasts", [8.0, 60.0])
def test_rows_that_wait_for_their_turn_are_not_paid_again_when_the_server_is_back(line, begins, lasts):
    """242 of 300 rows that were answered long ago were paid again after an outage of 8 seconds."""

    async def main() -> None:
        await answered(line, KNOWN)
        wire, loop = Wire(), asyncio.get_running_loop()
        async with worker(wire) as made:
            before = asyncio.create_task(ask(made, NEW if begins else []))
            await asyncio.sleep(begins)
            outage = asyncio.create_task(away(line, lasts))
            await asyncio.sleep(0)
            began = loop.time()
            await ask(made, KNOWN)
            took = loop.time() - began
            back = await outage
            await before
        paid = [at for at, prompt in zip(wire.times, wire.prompts, strict=True) if prompt in KNOWN]
        assert all(at <= back + NOTICED for at in paid), sorted(paid)[-3:]
        assert took <= lasts + NOTICED + 2
        assert wire.cancelled == 0
        assert max(Counter(wire.prompts).values()) == 1

    line.play(main)


@pytest.mark.parametrize(("lasts", "empty"), [(12.0, False), (12.0, True), (0.0, True)])
def test_copies_of_a_task_ask_each_row_once_after_an_outage(line, lasts, empty):
    """Claims end while the server is away, or with its restart: both copies would pay for all rows that are left.

    What had its turn meanwhile may be paid twice, and so may answers of the last moment that the server has lost.
    """

    async def main() -> None:
        wires = [Wire(lambda _: 0.5), Wire(lambda _: 0.5)]
        rows = [f"row {number}" for number in range(120)]
        async with worker(wires[0]) as one, worker(wires[1]) as other:
            asking = [asyncio.create_task(ask(each, rows)) for each in (one, other)]
            await asyncio.sleep(10)
            back = await away(line, lasts, empty=empty)
            await asyncio.gather(*asking)
        sent = [dict(zip(wire.prompts, wire.times, strict=True)) for wire in wires]
        twice = sent[0].keys() & sent[1].keys()
        late = [row for row in twice if max(each[row] for each in sent) > back + NOTICED]
        assert len(late) <= (3 if empty else 0)
        assert len(twice) <= lasts + NOTICED + 3
        assert sum(len(wire.prompts) for wire in wires) == len(rows) + len(twice)

    line.play(main)


def test_texts_that_wait_for_their_turn_are_embedded_once_though_their_claims_are_lost(line):
    """Whoever embeds the same texts after a restart would pay for all that still wait for their turn."""
    texts = [f"{number}" for number in range(5_000)]
    paid: Counter[str] = Counter()

    class Embeddings(Wire):
        async def send(self, request: Request) -> Response:
            asked = json.loads(request.body)["input"]
            paid.update(asked)
            data = [{"index": place, "embedding": [1.0]} for place in range(len(asked))]
            return Response(200, {}, json.dumps({"data": data}).encode())

    async def main() -> None:
        async with worker(Embeddings(), rpm=6) as one, worker(Embeddings(), rpm=6_000) as other:
            asking = asyncio.create_task(one.embed(texts))
            await asyncio.sleep(1.0)
            await away(line, 8.0)
            for name in [name for name in line.values if ":claims:" in name]:
                del line.values[name]
            await asyncio.sleep(NOTICED)
            assert len(paid) < len(texts)
            assert all(result.ok for some in await asyncio.gather(asking, other.embed(texts)) for result in some)
        assert paid == Counter(texts)

    line.play(main)


def test_a_server_that_never_comes_back_makes_no_run_slower(line):
    """A whole job would wait for a cache that is only there to save money."""

    async def main() -> None:
        loop, took = asyncio.get_running_loop(), []
        for cache in (None, CACHE):
            async with client(Wire(lambda _: 0.5), cache=cache, limits=Limits(rpm=60)) as made:
                await made.gather([])  # a run that begins without its cache is refused
                line.away = cache is not None
                began = loop.time()
                await ask(made, KNOWN)
                took.append(loop.time() - began)
        assert took[1] <= took[0] + HICCUP + POLL
        assert len(line.steps) < 3 * took[1] / REST  # a look, and what is to be written

    line.play(main)


@pytest.mark.parametrize("lasts", [20.0, 1_000.0])
def test_a_batch_waits_for_a_server_that_is_away_but_not_for_long(line, tmp_path, lasts):
    """Rows that were answered long ago would be paid again, or a batch would never begin."""

    async def main() -> None:
        loop, wire = asyncio.get_running_loop(), BatchWire()
        async with Client("openai/gpt-5-mini", api_key="k", transport=wire, config={}, seed=1, cache=CACHE) as made:
            await made.gather(KNOWN)
            outage = asyncio.create_task(away(line, lasts))
            await asyncio.sleep(0)
            began = loop.time()
            results = await made.gather(KNOWN, lane="batch", store=tmp_path / "batch.flatout")
            assert all(result.ok for result in results)
            assert bool(wire.jobs) is (lasts > UNHURRIED)
            assert all(job["created_at"] - EPOCH < began + UNHURRIED + 2 * REST for job in wire.jobs.values())
            await outage

    line.play(main)


def test_a_call_that_has_been_sent_is_never_given_up(line):
    """Its answer would be paid for and thrown away."""

    async def main() -> None:
        await answered(line, KNOWN)
        wire = Wire(lambda _: 30.0)
        async with client(wire, cache=CACHE) as made:
            await made.gather([])  # a run that begins without its cache is refused
            outage = asyncio.create_task(away(line, 8))
            await asyncio.sleep(0)
            await ask(made, KNOWN)
            await outage
        assert wire.cancelled == 0
        assert 0 < len(wire.prompts) < len(KNOWN)

    line.play(main)


def test_a_deadline_holds_while_a_server_comes_and_goes(line):
    """A call would go on after its time, since its wait begins again with each return of the server."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        await answered(line, KNOWN)
        async with worker(Wire(lambda _: 0.5), rpm=1) as made:
            await made.gather([])  # a run that begins without its cache is refused
            line.away = True
            asking = asyncio.create_task(made.gather([Call("new", deadline=50), Call("newer", deadline=50)]))
            for _ in range(5):
                await away(line, 8)
                await asyncio.sleep(8)
            first, second = await asking
        assert first.ok
        assert not second.ok
        assert loop.time() < 90

    line.play(main)


@settings(max_examples=60, deadline=None)
@given(CALLS, st.lists(st.tuples(st.floats(0.1, 12), st.floats(0.1, 12), st.booleans()), max_size=3))
def test_every_call_ends_whenever_the_server_goes_and_returns(calls, outages):
    """A call would wait for ever, or for a claim of a call that has ended."""
    line = Line()

    async def main() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "RedisLine", lambda *_: line)
            workers = [Answers(AnswersInRedis(place_of(CACHE))) for _ in range(3)]
        caches = [
            Cache(each, None, find=_find, read=lambda _, reply: reply, describe=lambda _: b"{}", wall=lambda: 0.0)
            for each in workers
        ]

        async def one(place: int, start: float, fate: str, patience: float | None) -> str:
            async def call_next(call: Call) -> Reply:
                journey.attempt.in_flight = False
                await asyncio.sleep(3)  # for its turn
                journey.attempt.in_flight = True
                try:
                    await asyncio.sleep(2)
                finally:
                    journey.attempt.in_flight = False
                if fate == "fails":
                    raise ServerError("no")
                return Reply(text="fine", finish_reason="length" if fate == "is cut off" else "stop")

            await asyncio.sleep(start)
            journey = Journey(asyncio.get_running_loop().time())
            token = set_journey(journey)
            try:
                async with asyncio.timeout(patience):
                    return (await caches[place](Call("x"), call_next)).text
            except (ServerError, TimeoutError) as error:
                return type(error).__name__
            finally:
                reset_journey(token)

        async def play() -> None:
            for before, lasts, empty in outages:
                await asyncio.sleep(before)
                await away(line, lasts, empty=empty)

        playing = asyncio.create_task(play())
        ended = await asyncio.wait_for(asyncio.gather(*(one(*call) for call in calls)), 200)
        await playing
        for (_, _, fate, patience), end in zip(calls, ended, strict=True):
            assert end != "ServerError" or fate == "fails"
            assert end != "TimeoutError" or patience is not None
        await asyncio.sleep(2 * REST)
        assert not any(each._asking or each._waiting for each in workers)
        for each in workers:
            await each.close()
        assert not any(":claims:" in name for name in line.values)

    line.play(main)


async def _find(_: Call) -> Callable[[Call], bytes]:
    return lambda call: bytes(32)
