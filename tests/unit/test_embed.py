"""``client.embed``: many texts in few requests, one result each, in order."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import AsyncExitStack, closing
from typing import Any

import pytest

from flatout import ConfigError, InvalidRequest, Limits, ServerError
from flatout.layer import Request, Response
from flatout.testing import run_virtual
from tests.support.scripted_wire import client, refusal


class Embeddings:
    """A server that embeds a text as its length, and refuses requests with a bad one whole."""

    def __init__(self, *, fail: int = 0) -> None:
        self.requests: list[Request] = []
        self.sizes: list[int] = []
        self.fail = fail

    async def send(self, request: Request) -> Response:
        self.requests.append(request)
        body = json.loads(request.body)
        texts = body["input"]
        self.sizes.append(len(texts))
        await asyncio.sleep(1 / len(texts))  # the last, smaller requests come back at other times than they went
        if self.fail:
            self.fail -= 1
            return refusal(500)
        if any("bad" in text for text in texts):
            return refusal(400)
        dimensions = body.get("dimensions", 2)
        data = [{"index": at, "embedding": [float(len(text))] * dimensions} for at, text in enumerate(texts)]
        answer = {"data": data, "model": "e", "usage": {"prompt_tokens": sum(map(len, texts))}}
        return Response(200, {}, json.dumps(answer).encode())

    async def close(self) -> None:
        pass


def embedded(texts: Any, server: Embeddings, *, options: Any = None, **given: Any) -> Any:
    async def main() -> Any:
        async with client(server, **(options or {})) as made:
            return await made.embed(texts, **given)

    return run_virtual(main())


def test_texts_are_packed_and_come_back_in_order():
    """A vector would stand at another text's place, or each text cost a request."""
    server = Embeddings()
    results = embedded(("x" * (1 + n % 7) for n in range(5_000)), server)
    assert [result.index for result in results] == list(range(5_000))
    assert [result.output[0] for result in results] == [1.0 + n % 7 for n in range(5_000)]
    assert sorted(server.sizes) == [904, 2_048, 2_048]


def test_a_bad_text_fails_alone():
    """One text would take two thousand others with it."""
    server = Embeddings()
    texts = [f"text {n}" for n in range(1_000)]
    texts[321] = "bad"
    results = embedded(texts, server)
    assert [result.index for result in results if not result.ok] == [321]
    assert isinstance(results[321].error, InvalidRequest)
    assert all(result.output is not None for result in results if result.ok)
    assert len(server.requests) <= 2 * 10 + 1


def test_half_a_character_fails_alone_and_is_not_sent():
    """One broken text would cost the others of its request their vectors, or be embedded as another text."""
    server = Embeddings()
    results = embedded(["a", "b\ud800", "c", "d"], server)
    assert [result.ok for result in results] == [True, False, True, True]
    assert isinstance(results[1].error, InvalidRequest)


def test_an_empty_text_fails_alone_and_is_not_sent():
    """Providers refuse it, and all that travels with it."""
    server = Embeddings()
    results = embedded(["a", "", "b"], server)
    assert [result.ok for result in results] == [True, False, True]
    assert len(server.requests) == 1


def test_failures_are_tried_again():
    """A passing fault would cost two thousand vectors."""
    server = Embeddings(fail=2)
    results = embedded(["a", "b"], server)
    assert all(result.ok for result in results)
    assert results[0].attempts == 3


def test_what_fails_for_good_is_not_taken_apart():
    """A server that is down would be asked two thousand times."""
    server = Embeddings(fail=99)
    results = embedded(["a", "b"], server, options={"retries": 1})
    assert [type(result.error) for result in results] == [ServerError, ServerError]
    assert len(server.requests) == 2


def test_limits_hold_for_embeddings_too():
    """They would run into 429s while calls do not."""
    server = Embeddings()

    async def main() -> float:
        async with client(server, limits=Limits(rpm=60)) as made:
            await made.embed("x" * 5 for _ in range(2_048 * 10))
            return asyncio.get_running_loop().time()

    assert run_virtual(main()) >= 9


def test_the_length_of_the_vectors_can_be_chosen():
    """Whoever stores millions would pay for numbers that they do not want."""
    server = Embeddings()
    results = embedded(["a"], server, model="e", dimensions=5)
    assert len(results[0].output) == 5
    assert json.loads(server.requests[0].body)["model"] == "e"


@pytest.mark.parametrize("texts", ["one text", b"one text", 5])
def test_what_is_no_list_of_texts_is_refused(texts):
    """A string would be embedded letter by letter."""
    with pytest.raises(ConfigError):
        embedded(texts, Embeddings())


def test_what_is_no_text_fails_alone():
    """One empty cell would take all other vectors with it."""
    server = Embeddings()
    results = embedded(["a", None, "bbb", 3, b"x"], server)
    assert [result.ok for result in results] == [True, False, True, False, False]
    assert [result.output[0] for result in results if result.ok] == [1.0, 3.0]
    assert all(isinstance(result.error, ConfigError) for result in results if not result.ok)
    assert [result.index for result in results] == list(range(5))
    assert [result.attempts for result in results if not result.ok] == [0, 0, 0]
    assert "NoneType" in str(results[1].error)
    assert server.sizes == [2]


def test_nothing_in_nothing_out():
    """An empty list would be an error, or a request."""
    server = Embeddings()
    assert embedded([], server) == []
    assert not server.requests


def test_vectors_in_a_durable_function_come_back_from_its_journal(tmp_path):
    """A half-finished item would pay for its embeddings again, or get them back as text."""
    server = Embeddings()
    broken = True

    async def work(item: str, made: Any) -> float:
        results = await made.embed([item, item * 2])
        if broken:
            raise ValueError("stop")
        return sum(result.output[0] for result in results)

    async def main() -> list[Any]:
        async with client(server) as made:
            return [result async for result in made.map(work, ["abc"], store=tmp_path / "m", retry_failed=True)]

    assert isinstance(asyncio.run(main())[0].error, ValueError)
    broken = False
    assert asyncio.run(main())[0].output == 9.0
    assert len(server.requests) == 1


def test_a_vector_that_is_kept_is_not_asked_again(tmp_path):
    """Embedding a million texts again after ten were added would cost as much as at first."""
    prices = {"prices": {"sim/m": {"input": 1_000.0, "output": 0.0}}}
    with_cache = {"options": {"cache": tmp_path / "answers.cache", "config": prices}}
    server = Embeddings()
    first = embedded(["a", "bb", "a", "", 3, "ccc"], server, **with_cache)
    assert [result.ok for result in first] == [True, True, True, False, False, True]
    assert "number 5 is a int" in str(first[4].error)
    assert json.loads(server.requests[0].body)["input"] == ["a", "bb", "ccc"]  # equal texts once
    assert [result.cached for result in first] == [False, False, True, False, False, False]
    assert first[2].cost == 0
    again = embedded(["ccc", "new", "a"], server, **with_cache)
    assert json.loads(server.requests[-1].body)["input"] == ["new"]
    assert [list(result.output) for result in again] == [[3.0, 3.0], [3.0, 3.0], [1.0, 1.0]]
    assert [(result.index, result.cached) for result in again] == [(0, True), (1, False), (2, True)]
    assert [result.attempts for result in again] == [0, 1, 0]
    assert [result.item for result in again] == ["ccc", "new", "a"]
    assert again[0].reply.cached.cost == first[5].cost
    assert again[0].cost == 0


@pytest.mark.parametrize("clients", [1, 2])
def test_texts_that_are_asked_at_the_same_time_are_paid_once(tmp_path, clients):
    """Two workers that embed the same table would both pay for it, and so would two parts of one program."""
    server, texts = Embeddings(), [f"{number}" for number in range(3_000)]

    async def main() -> list[list[Any]]:
        async with AsyncExitStack() as stack:
            cached = {"cache": tmp_path / "answers.cache"}
            made = [await stack.enter_async_context(client(server, **cached)) for _ in range(clients)]
            halves = texts[:2_000], texts[:999:-1]  # a thousand texts in both, in another order
            return await asyncio.gather(*(made[n % clients].embed(half) for n, half in enumerate(halves)))

    found = run_virtual(main())
    assert all(result.ok and result.output[0] == len(result.item) for some in found for result in some)
    assert sum(server.sizes) == len(texts)


def test_texts_of_a_request_that_fails_are_asked_by_the_other_process(tmp_path):
    """A process that waits for another one's vectors would have none, or wait for minutes."""
    server = Embeddings(fail=1)

    async def main() -> None:
        options = {"cache": tmp_path / "answers.cache", "retries": 0}
        async with client(server, **options) as one, client(server, **options) as other:
            failed, fine = await asyncio.gather(one.embed(["a"]), other.embed(["a"]))
            assert {failed[0].ok, fine[0].ok} == {True, False}
            cancelled = asyncio.create_task(one.embed(["b"]))
            await asyncio.sleep(0.5)
            waiting = asyncio.create_task(other.embed(["b"]))
            await asyncio.sleep(0.1)
            cancelled.cancel()
            assert (await asyncio.wait_for(waiting, 3.0))[0].ok

    run_virtual(main())


def test_other_dimensions_and_other_models_are_other_vectors(tmp_path):
    """Vectors that cannot be compared would be mixed."""
    with_cache = {"options": {"cache": tmp_path / "answers.cache"}}
    server = Embeddings()
    embedded(["a"], server, **with_cache)
    embedded(["a"], server, dimensions=8, **with_cache)
    assert len(embedded(["a"], server, dimensions=8, **with_cache)[0].output) == 8
    embedded(["a"], server, model="other", **with_cache)
    assert len(server.requests) == 3


def test_a_kept_vector_that_cannot_be_read_is_asked_again(tmp_path):
    """A damaged entry would fail its text for ever."""
    file = tmp_path / "answers.cache"
    server = Embeddings()
    embedded(["a"], server, options={"cache": file})
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute('UPDATE answers SET said = \'{"vector": "AAA="}\'')
    assert embedded(["a"], server, options={"cache": file})[0].output[0] == 1.0
    assert len(server.requests) == 2


def test_failures_of_equal_texts_are_told_for_each_of_them(tmp_path):
    """A text that stands in two rows would have no result in one of them."""
    results = embedded(["bad", "fine", "bad"], Embeddings(), options={"cache": tmp_path / "answers.cache"})
    assert [result.ok for result in results] == [False, True, False]
    assert [result.index for result in results] == [0, 1, 2]
