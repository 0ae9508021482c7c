"""Answers that are kept: what counts as the same question, and what a hit says and costs."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, field_validator

from flatout import Call, Client, ConfigError, Route, StoreError
from flatout.config import settings as config_settings
from flatout.config.file import FoundConfig
from flatout.layer import Response
from flatout.store.answers_reader import AnswersReader
from flatout.testing import run_virtual
from tests.support.scripted_wire import Wire, client, completion, refusal

PRICES = {"prices": {"sim/m": {"input": 1.0, "output": 1.0}}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "answers.cache"


def gather(calls, file, wire=None, **options):
    async def main():
        async with client(wire or Wire(), cache=file, **options) as made:
            results = await made.gather(calls)
            return results, made.spent

    return run_virtual(main())


def asked(calls, file, **options) -> list[str]:
    wire = Wire()
    gather(calls, file, wire, **options)
    return wire.prompts


def test_a_second_run_asks_nothing_and_pays_nothing(file):
    """Everything would be paid for again."""
    endpoint = {"endpoints": {"sim": {"base_url": "http://sim/v1"}}, **PRICES}

    def run(wire):
        async def main():
            async with Client("sim/m", transport=wire, config=endpoint, cache=file) as made:
                return await made.gather(["a", "b"]), made.spent

        return run_virtual(main())

    first, spent = run(Wire())
    wire = Wire()
    second, nothing = run(wire)
    assert [result.text for result in second] == [result.text for result in first]
    assert [result.reply.usage for result in second] == [result.reply.usage for result in first]
    assert (wire.prompts, nothing) == ([], 0)
    assert [(result.cached, result.cost, result.attempts) for result in second] == [(True, 0.0, 0)] * 2
    assert [result.reply.cached.cost for result in second] == [result.cost for result in first]
    assert spent == sum(result.cost for result in first) > 0
    assert [result.cached for result in first] == [False, False]


def test_only_what_changed_is_asked(file):
    """One inserted, edited or deleted row, or one more model, would mean paying for all again."""
    assert asked(["a", "b", "c"], file) == ["a", "b", "c"]
    assert asked(["b", "new", "c", "d!"], file) == ["new", "d!"]
    assert asked([Call("a", model="m"), Call("a", model="other")], file) == ["a"]


@pytest.mark.parametrize(
    "changed",
    [
        {"temperature": 0.5},
        {"max_tokens": 5},
        {"system": "Be brief."},
        {"extra": {"top_k": 5}},
        {"sample": 1},
        {"output": Literal["a", "b"]},
        {"model": "other"},
        {"seed": 7},
    ],
)
def test_another_question_is_another_entry(file, changed):
    """An answer to another question would be given."""
    gather([Call("x")], file, Wire(lambda _: "a"))
    wire = Wire(lambda _: '{"answer": "a"}')
    gather([Call("x", **changed)], file, wire)
    assert len(wire.prompts) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Call("x", temperature=0), Call("x", temperature=0.0)),
        (Call("x"), Call("x", id="7", metadata={"a": 1}, timeout=3, deadline=9, reasks=0)),
        (Call("x"), Call(messages=[{"content": "x", "role": "user"}])),
        (Call("x", extra={"a": 1, "b": 2}), Call("x", extra={"b": 2, "a": 1})),
        (Call("x"), Call("x", sample=0)),
    ],
)
def test_the_same_question_in_other_words_is_the_same_entry(file, one, other):
    """What nobody sends, and the order of a dict, would make every answer a miss."""
    assert len(asked([one], file)) == 1
    assert asked([other], file) == []


def test_another_server_is_another_question_and_another_key_is_not(file):
    """Two servers' answers would be mixed up; a renewed key would mean paying again."""
    assert len(asked(["x"], file, api_key="sk-one-one-one")) == 1
    assert asked(["x"], file, api_key="sk-two-two-two", headers={"x-team": "b"}) == []
    assert len(asked(["x"], file, base_url="http://else/v1")) == 1
    content = file.read_bytes()
    assert b"sk-one" not in content
    assert b"sk-two" not in content


def test_equal_calls_in_progress_are_sent_once(file):
    """A thousand equal rows would be paid for a thousand times."""
    wire = Wire(lambda _: 1.0)
    results, _ = gather(["x"] * 50 + ["y"], file, wire)
    assert sorted(wire.prompts) == ["x", "y"]
    assert sum(result.cached for result in results) == 49
    assert len({result.text for result in results}) == 2


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: refusal(400),
        lambda _: Response(200, {}, json.dumps({"choices": [{"message": {"refusal": "no"}}]}).encode()),
        lambda _: Response(
            200, {}, b'{"choices": [{"message": {"content": "half a"}, "finish_reason": "length"}], "usage": {}}'
        ),
        lambda _: completion("not what was asked"),
    ],
)
def test_errors_refusals_and_halves_are_never_kept(file, answer):
    """A refusal, half an answer or one that does not fit would be given for ever."""
    call = Call("x", output=Literal["a", "b"], reasks=0)
    gather([call], file, Wire(answer))
    results, _ = gather([call], file, Wire(lambda _: '{"answer": "a"}'))
    assert (results[0].output, results[0].cached) == ("a", False)


def test_an_answer_is_validated_anew(file):
    """A kept answer would slip past a validator that was written since."""

    class Person(BaseModel):
        name: str

    wire = Wire(lambda _: '{"name": "Ada"}')
    gather([Call("x", output=Person)], file, wire)
    results, _ = gather([Call("x", output=Person)], file, Wire())
    assert results[0].output == Person(name="Ada")

    class Person(Person):  # the same schema, and a stricter validator
        @field_validator("name")
        @classmethod
        def long(cls, name: str) -> str:
            assert len(name) > 5
            return name

    wire = Wire(lambda _: '{"name": "Augusta"}')
    results, _ = gather([Call("x", output=Person)], file, wire)
    assert (results[0].output.name, len(wire.prompts)) == ("Augusta", 1)


def test_an_answer_that_had_to_be_repaired_is_kept(file):
    """What was read with an effort would be asked and paid for each time."""
    wire = Wire(lambda _: 'Here you are:\n```json\n{"answer": "a"}\n```')
    gather([Call("x", output=Literal["a", "b"])], file, wire)
    results, _ = gather([Call("x", output=Literal["a", "b"])], file, wire)
    assert (results[0].output, results[0].cached, results[0].reply.repaired) == ("a", True, True)
    assert len(wire.prompts) == 1


def test_a_stream_gets_a_hit_as_one_piece(file):
    """A program that streams would pay for what the cache has, or get nothing."""

    async def main():
        async with client(Wire(), cache=file) as made:
            whole = (await made.call("x")).text
            stream = made.stream("x")
            assert [text async for text in stream] == [whole]
            assert stream.reply.cached

    run_virtual(main())


def test_a_function_of_many_calls_asks_each_once(file):
    """Items of `map` would pay again for their equal steps."""
    wire = Wire()

    async def double(item, client):
        return [(await client.call("shared")).text, (await client.call(item)).text]

    async def main():
        async with client(wire, cache=file) as made:
            return [result async for result in made.map(double, ["a", "b", "c"])]

    results = run_virtual(main())
    assert all(result.ok for result in results)
    assert sorted(wire.prompts) == ["a", "b", "c", "shared"]


def test_a_durable_run_says_what_came_from_the_cache(file, tmp_path):
    """A continued run would show cached answers as asked ones."""
    asked(["a"], file)

    async def main():
        async with client(Wire(), cache=file) as made:
            return await made.gather(["a", "b"], store=tmp_path / "run.flatout")

    for _ in range(2):
        assert [result.cached for result in asyncio.run(main())] == [True, False]


def test_the_answers_of_an_earlier_run_are_used(tmp_path):
    """One row inserted into a finished run would mean paying for all again."""
    run = tmp_path / "old.flatout"

    async def main(calls, wire, **options):
        async with client(wire, **options) as made:
            return await made.gather(calls, store=None if options else run)

    asyncio.run(main(["a", "b", "c"], Wire()))
    before = run.read_bytes()
    wire = Wire()
    results = asyncio.run(main(["a", "new", "c"], wire, reuse=run))
    assert [result.cached for result in results] == [True, False, True]
    assert wire.prompts == ["new"]
    assert run.read_bytes() == before
    elsewhere = Wire()
    run_virtual(main(["a"], elsewhere, reuse=run, base_url="http://else/v1"))
    run_virtual(main([Call("a", model="other")], elsewhere, reuse=run))
    assert elsewhere.prompts == ["a", "a"]


def test_a_cache_that_breaks_does_not_fail_a_call(file, caplog):
    """A full disk or a damaged cache would cost answers that are paid for."""

    async def main():
        async with client(Wire(), cache=file) as made:
            with closing(sqlite3.connect(file)) as other:
                other.executescript("DROP TABLE answers")
            results = await made.gather(["a", "b"])
            assert all(result.ok for result in results)

    run_virtual(main())
    assert len(caplog.records) == 1
    assert "is not used any more" in caplog.text


def test_a_file_that_takes_no_new_answers_is_still_read(file, caplog):
    """On a full disk, all that was answered before would be paid again."""
    asked(["old", "older"], file)
    with closing(sqlite3.connect(file)) as other:
        other.executescript("CREATE TRIGGER full BEFORE INSERT ON answers BEGIN SELECT RAISE (FAIL, 'full'); END")
    wire = Wire()

    async def main():
        async with client(wire, cache=file) as made:
            for question in ("new", "old", "newer", "older"):
                await made.call(question)
                await asyncio.sleep(1)

    run_virtual(main())
    assert wire.prompts == ["new", "newer"]
    assert [record.message for record in caplog.records if "keeps no new answers: " in record.message]
    assert len(caplog.records) == 1


def test_a_call_that_cannot_be_sent_fails_as_without_a_cache(file):
    """The cache would hide why a call is wrong."""
    results, _ = gather([Call("x", extra={"a": object()}), Call("fine")], file)
    assert [type(result.error).__name__ for result in results] == ["InvalidRequest", "NoneType"]


def bad_files(tmp_path: Path):
    text = tmp_path / "notes.txt"
    text.write_text("not a database, and long enough to look like a file of some kind" * 20)
    yield text, "it is no database"
    foreign = tmp_path / "foreign.sqlite"
    with closing(sqlite3.connect(foreign)) as made:
        made.execute("CREATE TABLE mine (a)")
    yield foreign, "another program"
    newer = tmp_path / "newer.cache"
    asked([], newer)
    with closing(sqlite3.connect(newer)) as made:
        made.execute("PRAGMA user_version = 99")
    yield newer, "newer flatout (version 99"
    yield tmp_path, "is a folder"
    yield tmp_path / "none" / "a.cache", "there is no folder"


def test_a_file_that_is_no_cache_is_refused_in_one_sentence(tmp_path):
    """A user's own file would be overwritten, or every call would fail with SQLite's words."""
    for path, words in bad_files(tmp_path):
        before = path.read_bytes() if path.is_file() else None
        with pytest.raises(ConfigError, match=r".") as caught:
            client(Wire(), cache=path)
        assert words in str(caught.value), (path, caught.value)
        assert path.is_file() is (before is not None)
        assert before is None or path.read_bytes() == before


def test_a_run_file_is_not_taken_for_a_cache_nor_a_cache_for_a_run_file(tmp_path, file):
    """Answers would be written into a run, where nothing expects them."""
    run = tmp_path / "run.flatout"

    async def main():
        async with client(Wire()) as made:
            await made.gather(["a"], store=run)

    asyncio.run(main())
    asked(["a"], file)
    with pytest.raises(ConfigError, match="reuse"):
        client(Wire(), cache=run)
    with pytest.raises(StoreError):
        client(Wire(), reuse=file)


def test_a_read_only_cache_is_refused(file, monkeypatch):
    """Every answer would be lost, with a warning that comes too late."""
    asked(["a"], file)
    real = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda name, **options: real(name.replace("mode=rwc", "mode=ro"), **options)
    )
    with pytest.raises(ConfigError, match="read-only"):
        client(Wire(), cache=file)


@pytest.mark.parametrize(("text", "seconds"), [("7d", 604_800), ("12h", 43_200), ("1.5m", 90), (30, 30), ("30", 30)])
def test_an_age_has_a_unit(text, seconds):
    """Seven days would be written as 604800, or read as seconds."""
    assert config_settings.age("cache_max_age", text) == seconds


@pytest.mark.parametrize("wrong", ["soon", "7 parsecs", "-1d", 0, True])
def test_an_age_that_is_none_is_refused(file, wrong):
    """Old answers would be given to somebody who asked for new ones."""
    with pytest.raises(ConfigError, match="cache_max_age"):
        client(Wire(), cache=file, cache_max_age=wrong)


def test_the_cache_of_a_found_file_needs_trust():
    """A cloned repository could bring its own answers."""
    found = FoundConfig(path="/x/flatout.toml", trusted=False, cache="theirs.cache")
    with pytest.raises(ConfigError, match="flatout trust"):
        config_settings.settings_of(found)
    trusted = FoundConfig(path="/x/flatout.toml", trusted=True, cache="mine.cache")
    assert config_settings.settings_of(trusted).cache == "mine.cache"
    assert config_settings.settings_of(found, cache=False).cache is None


def test_true_means_the_cache_folder(tmp_path, monkeypatch):
    """Each folder would have a cache of its own, and nothing would be found again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked(["a"], True)
    with AnswersReader(tmp_path / "flatout" / "answers.cache") as reader:
        assert reader.size().answers == 1
        (entry,) = reader.entries()
        assert json.loads(entry.asked) == {"model": "m", "prompt": "a", "server": "sim/v1"}


def test_it_works_in_a_real_event_loop(file):
    """The cache's thread would never wake the loop."""

    async def main():
        async with client(Wire(), cache=file) as made:
            await made.gather([f"{n}" for n in range(300)])
        async with client(Wire(), cache=file) as made:
            return await made.gather([f"{n}" for n in range(300)])

    assert all(result.cached for result in asyncio.run(main()))


def test_an_answer_of_a_route_is_none_to_a_call_to_one_of_its_targets(file):
    """A call that names one model would get the answer of another."""
    tables = {"endpoints": {name: {"base_url": f"http://{name}.test/v1"} for name in "ab"}}

    def ask(model: str) -> list[str]:
        async def main() -> list[str]:
            wire = Wire()
            async with Client(model, transport=wire, config=tables, cache=file) as made:
                await made.gather(["one", "two"])
            return wire.prompts

        return run_virtual(main())

    assert sorted(ask(Route("a/m", "b/m"))) == ["one", "two"]
    assert ask(Route("a/m", "b/m")) == []
    assert sorted(ask("a/m")) == ["one", "two"]
    assert ask(Route("a/m")) == []
