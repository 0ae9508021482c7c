"""What a result keeps, and how much memory that takes."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import tracemalloc
from collections.abc import Iterable

import pytest
from msgspec import structs

from flatout import Call, Client, Result
from flatout.layer import Request, Response
from flatout.testing import run_virtual
from flatout.values.result import make_result, small_call, small_waits
from tests.support.scripted_wire import Wire, client, completion

HEADERS = {"content-type": "application/json", "x-request-id": "r1", "server": "sim"}
TEXT = "word " * 60


def answered(prompt: str) -> Response:
    return completion(TEXT, headers={name: f"{value} " for name, value in HEADERS.items()})


class Forgetful:
    """A transport that keeps nothing of what it carried."""

    async def send(self, _: Request) -> Response:
        await asyncio.sleep(0.01)
        return answered("")

    async def close(self) -> None:
        pass


def gathered(calls: Iterable[str | Call], **options: object) -> list[Result]:
    async def main() -> list[Result]:
        async with client(Wire(answered), **options) as made:
            return await made.gather(calls)

    return run_virtual(main())


def test_a_result_takes_less_than_a_kilobyte():
    """A job of a million rows would need gigabytes, most of them for what its results repeat."""
    count = 2_000
    prompts = [f"{number}: explain" for number in range(count)]

    async def main() -> float:
        async with client(Forgetful()) as made:
            await made.gather(prompts[:100])
            gc.collect()
            objects = len(gc.get_objects())
            tracemalloc.start()
            try:
                results = await made.gather(prompts)
                await asyncio.sleep(1.0)
                assert all(result.text == TEXT for result in results)
                gc.collect()
                taken = tracemalloc.get_traced_memory()[0]
                del results  # counted by what that frees: the event loop's own tables grow by leaps
                taken -= tracemalloc.get_traced_memory()[0]
            finally:
                tracemalloc.stop()
            gc.collect()
            assert len(gc.get_objects()) - objects < count / 10  # what else was kept for each
            return taken / count

    taken = run_virtual(main())
    assert 350 < taken < 900  # the text alone takes 350


def test_the_raw_answer_is_kept_where_it_is_asked_for():
    """Fields that flatout does not know would be lost for good, though they were paid for."""
    kept, lean = gathered(["a"], keep_raw=True)[0], gathered(["a"])[0]
    assert kept.reply.raw["choices"][0]["message"]["content"] == TEXT
    assert kept.reply.headers["server"] == "sim "
    assert (lean.reply.raw, lean.reply.body, dict(lean.reply.headers)) == (None, b"", {})
    assert lean.reply == structs.replace(kept.reply, body=b"", headers={})
    assert lean.reply.request_id == "r1 "


def test_log_probabilities_are_kept_for_those_who_ask_for_them():
    """They stand in the raw answer alone: a user who asked for them would get none."""
    with_them, without = gathered([Call("a", logprobs=2), Call("a", logprobs=False)])
    assert with_them.reply.raw is not None
    assert without.reply.raw is None


def test_a_single_call_gives_the_raw_answer():
    """One who makes one call, and looks into its answer, would find nothing there."""

    async def main() -> None:
        async with client(Wire(answered)) as made:
            reply = await made.call("a")
            assert reply.raw["choices"][0]["finish_reason"] == "stop"
            assert reply.headers["server"] == "sim "

    run_virtual(main())


def test_a_result_has_its_call_and_its_waits_whole():
    """What is kept small would come out otherwise than it went in."""
    waits = {"concurrency": 0.25, "first_byte": 0.1 + 0.2, "body": 5e-324}
    prompt, call = "a prompt", Call("a prompt", temperature=0.5)
    for given, made in ((prompt, Call(prompt)), (call, call)):
        result = make_result(index=3, call=small_call(given, made), waits=small_waits(waits))
        for same in (result, pickle.loads(pickle.dumps(result)), copy.deepcopy(result), structs.replace(result)):
            assert same == result
            assert same.call == made
            assert same.waits == waits
            assert same.index == 3
        assert result == Result(index=3, call=made, waits=waits)
        assert result != Result(index=3, call=made, waits={"body": 1.0})
    assert make_result(index=0, waits=small_waits({})).waits == {}
    assert (Result(index=0).call, Result(index=0, waits=waits).waits) == (None, waits)


def test_words_that_all_answers_share_are_one_string():
    """A hundred thousand results would hold the model's name a hundred thousand times."""
    first, second = gathered(["a", "b"])
    assert first.reply.finish_reason is second.reply.finish_reason


@pytest.mark.parametrize("name", ["include_raw", "return_raw"])
def test_other_libraries_names_for_it_are_understood(name: str):
    """It would travel to the provider as a parameter, and the raw answers be lost."""
    with pytest.raises(Exception, match="keep_raw"):
        Client("openai/gpt-5-mini", api_key="x", config={}, **{name: True})
