"""`Answers`: over batches, from any thread, in any process."""

from __future__ import annotations

import asyncio
import gc
import pickle
import subprocess
import sys
import threading
import weakref
from typing import Literal

import pytest

from flatout import ConfigError, Limits, RunMismatch
from flatout.store import RunReader
from flatout.tables import Answers, answer, answer_async
from tests.support.answered_tables import Lines, options
from tests.support.scripted_wire import Wire

pa = pytest.importorskip("pyarrow")

TABLE = pa.table({"text": ["one", "two", "three"], "n": pa.array([1, 2, 3], pa.int8())})
WANTED = ["about one", "about two", "about three"]


def answers(wire: Wire | None = None, prompt="Say {{ text }}", **more) -> Answers:
    return Answers(prompt, **options(wire or Lines(), **more))


def test_a_table_comes_back_with_the_answers_in_order():
    """The answers would be lost, or stand beside other rows."""
    with answers() as ask:
        made = ask(TABLE)
        assert isinstance(made, pa.Table)
        assert made.schema == ask.schema(TABLE) == ask.schema(TABLE.schema)
        assert made.column("answer").to_pylist() == WANTED
        assert made.select(["text", "n"]) == TABLE
        batch = ask(TABLE.to_batches()[0])
    assert isinstance(batch, pa.RecordBatch)
    assert batch.column("answer").to_pylist() == WANTED


@pytest.mark.parametrize("rows", [0, 1])
def test_the_smallest_tables_have_the_same_columns(rows):
    """An engine would fail on an empty partition."""
    with answers(Lines(lambda _: '{"answer": "spam"}'), output=Literal["spam", "ham"], tokens=True) as ask:
        made = ask(TABLE.slice(0, rows))
        assert made.schema == ask.schema(TABLE)
        assert made.num_rows == rows
        assert [batch.num_rows for batch in ask.stream(TABLE.slice(0, rows).to_batches())] == [1] * rows


def test_batches_come_back_one_for_one():
    """An engine would lose the bounds of its partitions."""
    given = TABLE.to_batches(max_chunksize=2)
    with answers() as ask:
        made = list(ask.stream(iter(given)))
    assert [batch.num_rows for batch in made] == [2, 1]
    assert [batch.column("answer").to_pylist() for batch in made] == [WANTED[:2], WANTED[2:]]
    assert list(answers().stream([])) == []


def test_one_thread_reads_all_batches():
    """A source that belongs to a thread, such as a cursor of SQLite's, would fail at its second batch."""
    readers = set()

    def given():
        for batch in TABLE.to_batches(max_chunksize=1):
            readers.add(threading.get_ident())
            yield batch

    with answers() as ask:
        assert len(list(ask.stream(given()))) == 3
    assert len(readers) == 1


def test_a_program_with_an_event_loop_is_not_blocked():
    """A server that answers tables would answer nothing else meanwhile."""

    async def given():
        for batch in TABLE.to_batches(max_chunksize=2):
            await asyncio.sleep(0)
            yield batch

    async def main():
        with answers() as ask:
            assert (await ask.call_async(TABLE)).column("answer").to_pylist() == WANTED
            assert [batch.num_rows async for batch in ask.stream_async(given())] == [2, 1]
            assert [batch.num_rows async for batch in ask.stream_async(TABLE.to_batches())] == [3]
        made = await answer_async(TABLE, "Say {{ text }}", into="said", **options(Lines()))
        assert made.column("said").to_pylist() == WANTED
        pieces = await answer_async(given(), "Say {{ text }}", **options(Lines()))
        assert [batch.num_rows async for batch in pieces] == [2, 1]

    asyncio.run(main())


def test_several_threads_share_one_client():
    """Each thread of an engine would have a limit of its own."""
    wire = Lines()
    with answers(wire, limits=Limits(concurrency=2)) as ask:
        made: list[object] = []
        threads = [threading.Thread(target=lambda: made.append(ask(TABLE))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [each.column("answer").to_pylist() for each in made] == [WANTED] * 4
    assert wire.most <= 2


def test_the_table_that_came_first_is_asked_first():
    """The batches of an engine would all end together, and nothing be handed on until then."""
    wire = Lines()
    given = [pa.table({"text": [f"{name}{n}" for n in range(400)]}) for name in "ab"]

    async def main():
        with answers(wire, limits=Limits(concurrency=1)) as ask:
            await asyncio.gather(*(ask.call_async(table) for table in given))

    asyncio.run(main())
    order = "".join(prompt[len("Say ")] for prompt in wire.prompts)
    assert order in ("a" * 400 + "b" * 400, "b" * 400 + "a" * 400)


def test_a_table_that_does_not_suit_is_refused_before_anything_is_sent():
    """A thousand calls would be paid for, and then the column be missing."""
    wire = Lines()
    with answers(wire) as ask:
        with pytest.raises(ConfigError, match=r"no column text; it has: txt; did you mean txt\?"):
            ask(TABLE.rename_columns(["txt", "n"]).select(["txt"]))
        with pytest.raises(ConfigError, match="the table has a column answer already"):
            list(ask.stream(ask(TABLE).to_batches()))
        with pytest.raises(ConfigError, match="a list is not a table that flatout knows"):
            ask([1])
    with pytest.raises(ConfigError, match=r"rpm is a limit: write limits=Limits\(rpm=6\)"):
        answers(rpm=6)
    assert len(wire.prompts) == 3


def test_it_travels_as_plain_data_and_starts_anew():
    """An engine could not send it to its workers."""
    with answers(None, transport=None, limits=Limits(rpm=60), output=Literal["a"], into="l", system="Be short.") as ask:
        again = pickle.loads(pickle.dumps(ask))
    assert repr(again) == repr(ask)
    assert again.schema(TABLE) == ask.schema(TABLE)
    assert again._of_calls == ask._of_calls


@pytest.mark.parametrize(
    "key", [{"api_key": "sk-1"}, {"headers": {"x-key": "sk-1"}}, {"base_url": "https://u:sk-1@host/v1"}]
)
def test_a_key_is_never_pickled(key):
    """A key would lie in the files of an engine's scheduler."""
    ask = answers(None, transport=None, **key)
    with pytest.raises(ConfigError, match="not pickled: keys stay in the process") as refused:
        pickle.dumps(ask)
    assert "sk-1" not in str(refused.value) + repr(ask) + repr(vars(ask))


def test_what_is_done_is_not_asked_again(tmp_path):
    """Every rerun of a notebook would pay for the whole table again."""
    path = tmp_path / "run.flatout"
    answer(TABLE.slice(0, 2), "Say {{ text }}", store=path, **options(Lines()))
    wire = Lines()
    made = answer(TABLE, "Say {{ text }}", store=path, **options(wire))
    assert made.column("answer").to_pylist() == WANTED
    assert wire.prompts == ["Say three"]
    with pytest.raises(RunMismatch, match="row 1, parameter prompt"):
        answer(TABLE, "Tell {{ text }}", store=path, **options(Lines()))


def test_an_abandoned_stream_ends_its_calls_and_its_thread():
    """A notebook would go on paying for a loop that was left."""
    ask = answers(Wire(lambda prompt: 0.0 if "one" in prompt else 60.0))
    for batch in ask.stream(TABLE.to_batches(max_chunksize=1)):
        assert batch.column("text").to_pylist() == ["one"]
        break
    gc.collect()
    thread = ask._station._running[0].thread
    gone = weakref.ref(ask)
    del ask
    gc.collect()
    assert gone() is None
    assert not thread.alive


def test_an_interrupt_is_noticed_in_a_program_with_an_event_loop():
    """In a notebook or under ``asyncio.run``, Ctrl-C would be noticed when the whole table is answered."""
    wire = Wire(lambda _: 60.0)

    async def main():
        task = asyncio.current_task()
        threading.Timer(0.2, task.cancel).start()  # as asyncio's handler of the signal does
        answers(wire)(TABLE)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert wire.cancelled == 3


def test_progress_counts_the_rows():
    """A long table would be silent, or have no end in sight."""
    heard = []
    answer(TABLE, "Say {{ text }}", progress=heard.append, **options(Lines()))
    assert (heard[-1].answered, heard[-1].total) == (3, 3)


def test_importing_it_loads_no_table_library():
    """``import flatout.tables`` would take seconds, for libraries that the program does not use."""
    code = "import sys, flatout.tables; print({'pyarrow', 'pandas', 'polars', 'duckdb', 'datasets'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_a_row_without_a_call_is_a_failed_row_of_the_run_file(tmp_path):
    """``flatout status`` would say that two of three rows are finished, and not which row failed, nor why."""
    path = tmp_path / "run.flatout"

    def prompt(row):
        return {"one": "Say one", "three": "Say three"}[row["text"]]

    answer(TABLE, prompt, store=path, **options(Lines()))
    with RunReader.open(path) as reader:
        assert (reader.summary().answered, reader.summary().failed) == (2, 1)
        assert reader.item(1).error_message == "KeyError: 'two'"
    wire = Lines()
    made = answer(TABLE, "Say {{ text }}", store=path, **options(wire))
    assert (wire.prompts, made.column("answer").to_pylist()) == (["Say two"], WANTED)
