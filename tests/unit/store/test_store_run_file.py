"""The run file, as the runner uses it."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import astuple, replace

from flatout.errors import RunMismatch, StoreError
from flatout.store import BegunAttempt, Finished, Item, JournalEntry, RunFile, RunReader, database
from tests.support.store_samples import JOB, Watched, copy_as_if_killed, item, open_run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.flatout"


def written(path: Path) -> dict[int, Item]:
    with RunReader.open(path) as reader:
        return {found.index: found for found in reader.items()}


def finish_all(path: Path, *items: Item, **options: Any) -> None:
    async def main() -> None:
        async with open_run(path, **options) as run:
            await asyncio.gather(*map(run.finish, items))

    asyncio.run(main())


def test_what_is_finished_is_read_back_whole(path: Path) -> None:
    """An answer, its tokens or its cost would come out other than they went in."""
    rows = [item(0), item(1, "failed"), item(2, "unsent", cost=None, attempts=0), item(3, answer="a\0b 🙂", id=None)]
    finish_all(path, *rows)
    assert list(written(path).values()) == rows


def test_finish_returns_only_after_the_commit(path: Path) -> None:
    """A result reported as done could be lost by a crash in the next instant."""

    async def main() -> None:
        async with open_run(path) as run:
            for index in range(3):
                await run.finish(item(index))
                assert index in written(copy_as_if_killed(path, path.parent / f"copy{index}" / path.name))

    asyncio.run(main())


def test_closing_leaves_one_file(path: Path) -> None:
    """People would move or mail a file whose newest answers are in another one."""
    finish_all(path, item(0))
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_many_at_once_are_committed_together_and_in_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer would wait for its own fsync: a disk that does 100 a second would slow the run to that."""
    commits: list[str] = []
    monkeypatch.setattr(database, "connection_class", Watched)
    order: list[int] = []

    async def finish(run: RunFile, index: int) -> None:
        await run.finish(item(index))
        order.append(index)

    async def main() -> None:
        async with open_run(path, group_rows=100, group_seconds=5.0) as run:
            monkeypatch.setattr(Watched, "watch", lambda _, text: commits.append(text))
            await asyncio.gather(*(finish(run, index) for index in range(1000)))
            assert commits.count("COMMIT") <= 10

    asyncio.run(main())
    assert order == list(range(1000))


def test_a_lone_row_does_not_wait_for_others(path: Path) -> None:
    """The last answers of a run would never be written."""
    finish_all(path, item(0), group_rows=500, group_seconds=0.001)
    assert len(written(path)) == 1


def test_a_cancelled_wait_does_not_take_the_row_back(path: Path) -> None:
    """A paid answer would be lost, or spoil its neighbours, when the user presses Ctrl-C."""

    async def main() -> None:
        async with open_run(path, group_seconds=0.01) as run:
            tasks = [asyncio.ensure_future(run.finish(item(index))) for index in range(10)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert [outcome is None for outcome in outcomes] == [False, True] * 5

    asyncio.run(main())
    assert len(written(path)) == 10


@pytest.mark.parametrize("before", ["failed", "unsent"])
def test_a_failed_item_may_be_tried_again(path: Path, before: Any) -> None:
    """--retry-failed would end with an error, or keep the old failure."""
    finish_all(path, item(0, before))
    finish_all(path, item(0))
    assert written(path) == {0: item(0)}


def test_an_answer_is_never_replaced_and_its_neighbours_are_written(path: Path) -> None:
    """A paid answer would be overwritten by a later failure, or the mistake would fail others' rows."""
    finish_all(path, item(0))

    async def main() -> None:
        async with open_run(path) as run:
            outcomes = await asyncio.gather(
                run.finish(item(1)), run.finish(item(0, "failed")), run.finish(item(2)), return_exceptions=True
            )
            assert [type(outcome) for outcome in outcomes] == [type(None), StoreError, type(None)]
            assert "item 0: it already has an answer" in str(outcomes[1])
            await run.finish(item(3))

    asyncio.run(main())
    assert list(written(path).values()) == [item(index) for index in range(4)]


@pytest.mark.parametrize(
    "bad",
    [item(1, fingerprint=b"short"), item(1, input_tokens=2**70), item(1, state="other"), item(1, model=["a"])],  # type: ignore[arg-type] # wrong on purpose
)
def test_a_row_that_cannot_be_stored_fails_alone(path: Path, bad: Item) -> None:
    """One odd value would end a run of a million calls."""

    async def main() -> None:
        async with open_run(path) as run:
            outcomes = await asyncio.gather(*map(run.finish, [item(0), bad, item(2)]), return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [type(None), StoreError, type(None)]
            assert "does not take item 1" in str(outcomes[1])

    asyncio.run(main())
    assert list(written(path)) == [0, 2]


def test_half_a_surrogate_pair_does_not_cost_the_answer(path: Path) -> None:
    """A paid answer with one broken emoji would be thrown away."""
    finish_all(path, item(0, answer="good \ud83d"), item(1))
    assert written(path)[0].answer == "good ?"


def test_prompts_are_left_out_when_asked(path: Path) -> None:
    """A file would hold the prompts that its owner asked not to keep."""
    finish_all(path, item(0), keep_prompts=False)
    assert written(path)[0].prompt is None
    assert b"messages" not in path.read_bytes()


def test_rows_are_brought_up_to_date_without_their_answers(path: Path) -> None:
    """A column that was added between two runs would be missing from the output, or the answer be lost for it."""
    finish_all(path, item(0), item(1))
    run = open_run(path)
    asyncio.run(run.revise(1, "q1", b'{"new": 1}'))
    assert [row.input for row in run.finished(rows=True)] == [item(0).input, b'{"new": 1}']
    run.close_now()
    assert written(path) == {0: item(0), 1: replace(item(1), id="q1", input=b'{"new": 1}')}


def test_facts_of_the_run_stay_with_it(path: Path) -> None:
    """An export would not know the types of the columns, nor the next run which output is its own."""
    run = open_run(path)
    run.set_fact("columns", {"a": [1]})
    run.set_fact("columns", {"a": [2]})
    run.close_now()
    with RunReader.open(path) as reader:
        assert reader.fact("columns") == {"a": [2]}
        assert reader.fact("output") is None


def test_resuming_reads_what_is_there_in_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run would pay again for what it has, or skip what it has not."""
    monkeypatch.setattr("flatout.store.reader._LIGHT_BATCH", 3)
    states = {index: ("answered", "failed", "unsent")[index % 3] for index in (7, 3, 0, 9, 11, 20, 1)}
    finish_all(path, *(item(index, state) for index, state in states.items()))  # type: ignore[arg-type] # made of literals
    run = open_run(path)
    expected = [Finished(index, item(index).fingerprint, states[index]) for index in sorted(states)]  # type: ignore[arg-type] # as above
    assert list(run.finished()) == expected
    assert list(run.finished(9)) == expected[-3:]
    assert run.item(9) == item(9)
    assert run.item(8) is None
    assert run.counts().finished == 7
    run.close_now()


def test_another_job_is_refused_by_name(path: Path) -> None:
    """Answers of two models would be mixed in one file."""
    finish_all(path, item(0))
    before = path.read_bytes()
    with pytest.raises(RunMismatch, match=r"another job: model was 'a', is now 'b'; use another file to"):
        open_run(path, job=JOB | {"model": "b"})
    with pytest.raises(RunMismatch, match=r"top_p was not set, is now 0.5"):
        open_run(path, job=JOB | {"top_p": 0.5})
    with pytest.raises(RunMismatch, match=r"temperature was 0.5, is now not set"):
        open_run(path, job={"model": "a"})
    open_run(path.with_name("other"), job={"params": {"seed": 1, "top_p": 0.1}}).close_now()
    with pytest.raises(RunMismatch, match=r"params.top_p was 0.1, is now 0.2"):
        open_run(path.with_name("other"), job={"params": {"seed": 1, "top_p": 0.2}})
    with pytest.raises(RunMismatch, match=r"model was 'a', is now 'a{50,60}…;"):
        open_run(path, job=JOB | {"model": "a" * 500})
    assert path.read_bytes() == before


def test_long_values_are_shown_where_they_differ(path: Path) -> None:
    """Two long templates that differ at the end would be shown as equal."""
    open_run(path, job={"template": "x" * 900 + "one"}).close_now()
    with pytest.raises(RunMismatch, match=r"was …x+one', is now …x+two'"):
        open_run(path, job={"template": "x" * 900 + "two"})


def test_a_job_is_compared_as_the_file_keeps_it(path: Path) -> None:
    """The same command would be refused because JSON has no tuples."""
    open_run(path, job={"stop": ("a", "b"), "seed": None}).close_now()
    open_run(path, job={"stop": ["a", "b"]}).close_now()


def test_starting_over_keeps_the_old_runs(path: Path) -> None:
    """--fresh would destroy answers that were paid for."""
    for index in range(3):
        finish_all(path, item(index), job={"n": index}, fresh=True)
    names = [path.name, f"{path.name}.1", f"{path.name}.2"]
    assert sorted(found.name for found in path.parent.iterdir()) == names
    assert [list(written(path.with_name(name))) for name in names] == [[2], [0], [1]]


def test_starting_over_takes_a_crashed_run_s_log_along(path: Path) -> None:
    """The newest answers of a crashed run would be lost when it is put aside."""

    async def main() -> Path:
        async with open_run(path) as run:
            await run.finish(item(0))
            return copy_as_if_killed(path, path.parent / "crashed" / path.name)

    crashed = asyncio.run(main())
    open_run(crashed, fresh=True).close_now()
    assert list(written(crashed)) == []
    assert list(written(crashed.with_name(f"{crashed.name}.1"))) == [0]
    assert len(list(crashed.parent.iterdir())) == 2


def test_attempts_that_a_crash_left_open_are_told(path: Path) -> None:
    """After a crash nobody would know what may have been paid for nothing."""

    async def first() -> Path:
        async with open_run(path) as run:
            for index in range(4):
                await run.note_attempt(index, 1, "openai/m", 10.0 + index, None if index == 3 else 0.5)
            await run.note_attempt(0, 2, "openai/m", 20.0, 0.5)
            await run.finish(item(0, attempts=2))
            assert run.unsettled().attempts == ()  # those in flight are not lost
            return copy_as_if_killed(path, path.parent / "crashed" / path.name)

    crashed = asyncio.run(first())
    lost = tuple(BegunAttempt(index, 1, "openai/m", 10.0 + index, None if index == 3 else 0.5) for index in (1, 2, 3))
    with RunReader.open(crashed) as reader:
        assert reader.unsettled().attempts == lost

    async def second() -> None:
        async with open_run(crashed) as run:
            found = run.unsettled()
            assert (found.attempts, found.cost, found.unknown_costs) == (lost, 1.0, 1)
            await run.note_attempt(1, 1, "openai/m", 30.0, 0.5)
            await run.finish(item(1))

    asyncio.run(second())
    with contextlib.closing(sqlite3.connect(crashed)) as connection:
        rows = connection.execute("SELECT item_index, outcome FROM attempts ORDER BY started_at").fetchall()
    assert rows == [(0, "retried"), (1, "lost"), (2, "lost"), (3, "lost"), (0, "answered"), (1, "answered")]


def test_notes_wait_for_the_system_and_answers_for_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attempt would wait for an fsync before it is sent, or an answer would not."""
    seen: list[str] = []
    monkeypatch.setattr(database, "connection_class", Watched)

    async def main() -> None:
        async with open_run(path) as run:
            monkeypatch.setattr(Watched, "watch", lambda _, text: seen.append(text.split(" (")[0]))
            await run.note_attempt(0, 1, "t", 1.0, None)
            await run.finish(item(0))
            await run.note_attempt(1, 1, "t", 1.0, None)

    asyncio.run(main())
    interesting = [text for text in seen if text.startswith(("PRAGMA synchronous", "INSERT"))]
    assert interesting[:6] == [
        "PRAGMA synchronous = NORMAL",
        "INSERT INTO attempts",
        "PRAGMA synchronous = FULL",
        "INSERT INTO items",
        "PRAGMA synchronous = NORMAL",
        "INSERT INTO attempts",
    ]


def test_a_note_is_written_before_the_item_that_settles_it(path: Path) -> None:
    """An attempt would stay open for ever, and be told as lost, though its answer is there."""

    async def main() -> None:
        async with open_run(path, group_rows=2) as run:
            await asyncio.gather(
                run.note_attempt(0, 1, "t", 1.0, None), run.finish(item(0)), run.finish(item(1)), run.finish(item(2))
            )
        async with open_run(path) as run:
            assert run.unsettled().attempts == ()

    asyncio.run(main())


def test_a_note_goes_before_the_answers_that_wait_with_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls would wait for the disk, behind hundreds of answers, before each attempt."""
    free, order = threading.Event(), []
    monkeypatch.setattr(database, "connection_class", Watched)

    def hold(_: Watched, statement: str) -> None:
        if statement == "BEGIN IMMEDIATE":
            free.wait(20)

    async def main() -> None:
        async with open_run(path, group_rows=2) as run:
            monkeypatch.setattr(Watched, "watch", hold)
            held = run.note_all([(9, 1, "t", 1.0, None, None, None), (9, 2, "t", 1.0, None, None, None)])
            answers = run.finish_all([astuple(item(0)), astuple(item(1))])
            notes = run.note_all([(2, 1, "t", 1.0, None, None, None), (3, 1, "t", 1.0, None, None, None)])
            for name, future in {"answers": answers, "notes": notes}.items():
                future.add_done_callback(lambda _, name=name: order.append(name))
            free.set()
            await asyncio.gather(held, answers, notes)

    asyncio.run(main())
    assert order == ["notes", "answers"]


def test_rows_that_are_handed_in_together_are_committed_together(path: Path) -> None:
    """Several workers' answers would be reported before the disk has them, or a refused one would go unnoticed."""

    async def main() -> None:
        async with open_run(path, group_rows=2) as run:
            await asyncio.wait_for(run.finish_all([]), 20)
            await run.finish_all([astuple(item(index)) for index in range(5)])
            assert list(written(copy_as_if_killed(path, path.parent / "copy" / path.name))) == list(range(5))
            with pytest.raises(StoreError, match="item 2: it already has an answer"):
                await run.finish_all([astuple(item(index)) for index in (2, 3, 7)])

    asyncio.run(main())
    assert list(written(path)) == [0, 1, 2, 3, 4, 7]


def test_the_journal_of_a_durable_function(path: Path) -> None:
    """A durable function would repeat, after a crash, steps that were paid for."""

    async def main() -> None:
        async with open_run(path) as run:
            await run.journal(3, "b", b"f1", "call", b'{"n": 1}')
            await run.journal(3, "a", b"f2", "call", b'{"n": 2}')
            await run.journal(4, "a", b"f3", "call", b"[]")
            await run.journal(3, "b", b"f4", "step", b'{"n": 3}')
        async with open_run(path) as run:
            expected = {"b": JournalEntry(b"f4", "step", b'{"n": 3}'), "a": JournalEntry(b"f2", "call", b'{"n": 2}')}
            assert await run.journalled(3) == expected
            assert list(await run.journalled(3)) == ["b", "a"]
            assert await run.journalled(9) == {}

    asyncio.run(main())
    with RunReader.open(path) as reader:
        assert reader.journal(4) == {"a": JournalEntry(b"f3", "call", b"[]")}


def test_the_run_s_state_is_kept(path: Path) -> None:
    """`status` could not say whether a run is done."""
    run = open_run(path, command="flatout run x.jsonl")
    run.set_total(12)
    run.close_now()
    with RunReader.open(path) as reader:
        info = reader.info()
    assert (info.state, info.total, info.command, info.job) == ("interrupted", 12, "flatout run x.jsonl", JOB)
    run = open_run(path)
    with RunReader.open(path) as reader:
        assert (reader.info().state, reader.info().ended_at) == ("running", None)
    run.mark("finished")
    run.close_now()
    with RunReader.open(path) as reader:
        done = reader.info()
    assert done.state == "finished"
    assert done.created_at == info.created_at <= (done.ended_at or 0.0)


def test_closing_works_when_the_loop_is_gone(path: Path) -> None:
    """Rows that were gathered when the program broke off would be lost."""

    async def main() -> RunFile:
        run = open_run(path, group_seconds=60.0)
        for index in range(5):
            task = asyncio.ensure_future(run.finish(item(index)))
            await asyncio.sleep(0)
            task.cancel()
        return run

    run = asyncio.run(main())
    thread = threading.Thread(target=run.close_now)
    thread.start()
    thread.join()
    run.close_now()
    asyncio.run(run.close())
    assert len(written(path)) == 5


def test_a_program_that_forgets_to_close_loses_nothing_and_ends(path: Path) -> None:
    """A script without `async with` would hang at its end, or lose its last answers."""
    script = (
        "import asyncio, sys\nfrom tests.support.store_samples import item, open_run\nfrom pathlib import Path\n"
        "async def main():\n"
        "    run = open_run(Path(sys.argv[1]), group_seconds=60.0)\n"
        "    asyncio.ensure_future(run.finish(item(0)))\n"
        "    await asyncio.sleep(0)\n"
        "asyncio.run(main())\n"
    )
    here = str(Path(__file__).parents[3])
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, timeout=30, env={"PYTHONPATH": here})
    assert len(written(path)) == 1
    assert len(list(path.parent.iterdir())) == 1


def test_a_closed_run_takes_no_more(path: Path) -> None:
    """A late answer would wait for ever."""

    async def main() -> None:
        run = open_run(path)
        await run.close()
        with pytest.raises(StoreError, match="is closed"):
            await run.finish(item(0))
        with pytest.raises(StoreError, match="is closed"):
            run.counts()

    asyncio.run(main())


def test_two_loops_may_use_one_run_in_turn(path: Path) -> None:
    """In a notebook, where each cell may have its own loop, a row would wait for the timer of a loop that is gone."""
    run = open_run(path, group_seconds=0.05)

    async def leave_one_behind() -> None:
        task = asyncio.ensure_future(run.finish(item(0)))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(leave_one_behind())
    asyncio.run(asyncio.wait_for(run.finish(item(1)), 20))
    assert list(written(path)) == [0, 1]
    run.close_now()


def test_trying_again_settles_its_attempts(path: Path) -> None:
    """The attempts of an item that was tried again would be told as lost."""

    async def main() -> None:
        async with open_run(path) as run:
            for row in (item(0, "failed"), item(0)):
                await run.note_attempt(0, 1, "t", 1.0, None)
                await run.finish(row)

    asyncio.run(main())
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT outcome FROM attempts").fetchall() == [("failed",), ("answered",)]


def test_importing_is_light() -> None:
    """`import flatout` would load SQLite for those who keep no run file."""
    script = "import sys, flatout, flatout.store; flatout.store.Item; assert 'sqlite3' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
