"""Several processes ask an equal question once. Each `Answers` here stands for a process: its locks are its own."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings

from flatout import Reply
from flatout.store import byte_locks
from flatout.store.answers import PATIENCE, Answers
from flatout.store.answers_shelf import AT_ONCE, POLL, RETRY, AnswersFile
from flatout.store.claims import FILES, Claims
from flatout.testing import run_virtual
from flatout.values.answers import New
from flatout.values.kept import Kept
from tests.support.asking_processes import CALLS, DEATHS, KEY, ask_together


def process(file: Path) -> Answers:
    return Answers(AnswersFile(file))


OTHER = bytes(range(1, 33))


def kept(text: str, at: float = 0.0) -> Kept:
    return Kept.of(Reply(text=text), at=at, cost=None, whole=False)


def text(found: Kept | None) -> str | None:
    return None if found is None else found.reply().text


async def written(answers: Answers) -> None:
    """Wait until everything is written."""
    await asyncio.sleep(1)
    await answers.get(bytes(32), claims=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "answers.cache"


def test_a_question_that_another_process_asks_is_waited_for(file):
    """Two workers would pay for an equal call each."""

    async def main() -> None:
        one, other = process(file), process(file)
        assert await one.get(KEY) is None
        waiting = asyncio.ensure_future(other.get(KEY))
        assert await other.get(OTHER) is None  # another question does not wait
        await asyncio.sleep(60)
        assert not waiting.done()
        one.put(KEY, kept("fine"), lambda: b"{}")
        await written(one)
        assert text(await asyncio.wait_for(waiting, 5)) == "fine"
        assert text(await one.get(KEY)) == "fine"
        await one.close()
        await other.close()

    run_virtual(main())


@pytest.mark.parametrize("end", ["let go", "closed"])
def test_a_question_without_an_answer_goes_to_one_of_those_that_wait(file, end):
    """A call would wait in vain when the process that asks it fails, or ends."""

    async def main() -> None:
        one, *others = process(file), process(file), process(file)
        assert await one.get(KEY) is None
        waiting = [asyncio.ensure_future(other.get(KEY)) for other in others]
        await asyncio.sleep(1)
        if end == "closed":
            await one.close()
        else:
            one.let_go(KEY)
        done, still = await asyncio.wait(waiting, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        assert (len(done), len(still)) == (1, 1)
        assert done.pop().result() is None
        still.pop().cancel()
        for answers in others if end == "closed" else (one, *others):
            await answers.close()

    run_virtual(main())


def test_a_call_that_was_cancelled_while_it_was_looked_up_claims_nothing(file):
    """Its question would wait for an answer that nobody asks for."""

    async def main() -> None:
        one, other = process(file), process(file)
        asking = one.get(KEY)
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.sleep(1)
        assert await asyncio.wait_for(other.get(KEY), 5) is None
        await one.close()
        await other.close()

    run_virtual(main())


def test_patience_ends(file):
    """A process that was stopped with Ctrl-Z would stop all others."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        one, other = process(file), process(file)
        assert await one.get(KEY) is None
        began = loop.time()
        assert await other.get(KEY) is None
        assert PATIENCE <= loop.time() - began < PATIENCE + 2
        await one.close()
        await other.close()

    run_virtual(main())


def test_whoever_looks_up_many_claims_none_of_them(file):
    """Two processes that embed the same texts would wait for each other."""

    async def main() -> None:
        one, other = process(file), process(file)
        assert await one.get(KEY, claims=False) is None
        assert await other.get(KEY) is None
        assert await one.get(KEY, claims=False) is None
        await one.close()
        await other.close()

    run_virtual(main())


def test_an_old_answer_is_asked_again_by_one_process(file):
    """With an age, every worker would renew the same answers."""

    async def main() -> None:
        one, other = process(file), process(file)
        one.put(KEY, kept("old", at=10.0), lambda: b"{}")
        await written(one)
        assert text(await other.get(KEY, 10.0)) == "old"
        assert await one.get(KEY, 11.0) is None
        waiting = asyncio.ensure_future(other.get(KEY, 11.0))
        await asyncio.sleep(1)
        one.put(KEY, kept("new", at=20.0), lambda: b"{}")
        await written(one)
        assert text(await waiting) == "new"
        await one.close()
        await other.close()

    run_virtual(main())


def test_a_clock_that_is_set_back_does_not_stop_answers_from_being_replaced(file):
    """An answer from the future would be kept as it is, and asked and paid for again and again."""

    async def main() -> None:
        one = process(file)
        one.put(KEY, kept("from the future", at=1e12), lambda: b"{}")
        await written(one)
        one.put(KEY, kept("new", at=1_000.0), lambda: b"{}")
        await written(one)
        assert text(await one.get(KEY)) == "new"
        await one.close()

    run_virtual(main())


def test_without_locks_everybody_asks(file, monkeypatch):
    """On systems without such locks, a cache could not be used."""
    monkeypatch.setattr(byte_locks, "SET_LOCK", None)

    async def main() -> None:
        one, other = process(file), process(file)
        assert await one.get(KEY) is None
        assert await other.get(KEY) is None
        await one.close()
        await other.close()

    run_virtual(main())


def test_a_folder_that_cannot_be_locked_harms_nothing(file, tmp_path):
    """A cache whose claims cannot be kept would fail its calls."""
    (tmp_path / "answers.cache-claims").write_text("not a folder")

    async def main() -> None:
        one = process(file)
        assert await one.get(KEY) is None
        one.let_go(KEY)
        one.put(KEY, kept("fine"), lambda: b"{}")
        await written(one)
        assert text(await one.get(KEY)) == "fine"
        await one.close()

    run_virtual(main())


def test_a_cache_that_breaks_lets_the_others_ask(file, caplog):
    """Other processes would wait for the answers of one that cannot write them."""

    async def main() -> None:
        one, other = process(file), process(file)
        assert await one.get(KEY) is None
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("DROP TABLE answers")
            connection.execute("CREATE TABLE answers (key, at, cost, said)")  # the column asked is missing
        one.put(KEY, kept("lost"), lambda: b"{}")
        await written(one)
        assert await asyncio.wait_for(other.get(KEY), 10) is None
        await one.close()
        await other.close()

    run_virtual(main())
    assert "keeps no new answers: " in caplog.text


@pytest.mark.parametrize("why", ["full", "locked"])
def test_a_file_that_took_no_answers_takes_them_when_there_is_room_again(file, caplog, why):
    """Once a disk was full for a moment, a service that lives for weeks would pay for every answer anew."""
    moments = iter([0.0, RETRY - 1.0, RETRY, RETRY, 2 * RETRY])
    shelf = AnswersFile(file, lambda: next(moments))
    with closing(shelf), closing(sqlite3.connect(file, isolation_level=None)) as other:
        connection = shelf._open()
        if why == "full":
            connection.execute("PRAGMA max_page_count = 1")
        else:
            connection.execute("PRAGMA busy_timeout = 0")
            other.execute("BEGIN IMMEDIATE")
        large = New(KEY, kept("x" * 100_000), lambda: b"{}")
        for _ in range(3):  # fails, is not tried, and fails
            shelf.keep([large])
        connection.execute("PRAGMA max_page_count = 1000000")
        other.execute("ROLLBACK") if why == "locked" else None
        shelf.keep([large])
        assert Claims(file.with_name(f"{file.name}-claims")).take(KEY)  # nobody holds it
        (answers,) = other.execute("SELECT count(*) FROM answers").fetchone()
        assert answers == 1
        assert connection.execute("PRAGMA busy_timeout").fetchone() == (30_000,)
    said = [record.getMessage().partition(": ")[0] for record in caplog.records]
    assert said == [f"the cache {file} keeps no new answers", f"the cache {file} keeps new answers again"]


def test_claims_are_files_of_their_owner_alone(tmp_path):
    """Anybody on the machine could stop everybody's calls."""
    with closing(Claims(tmp_path / "claims")) as claims:
        for first in range(256):
            assert claims.take(bytes([first]) * 32)
        assert (tmp_path / "claims").stat().st_mode & 0o777 == 0o700
        assert len(list((tmp_path / "claims").iterdir())) == FILES
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in (tmp_path / "claims").iterdir())


@settings(max_examples=25, deadline=None)
@given(CALLS, DEATHS)
def test_no_waiter_is_lost_whichever_process_dies(tmp_path_factory, calls, death):
    """A call that waits for another process would wait for ever when that one fails, is cancelled, or dies.

    And once there is an answer, nobody asks again.
    """
    file = tmp_path_factory.mktemp("cache") / "answers.cache"

    async def main() -> None:
        processes = [process(file) for _ in range(3)]
        await ask_together(processes, calls, death, processes[0]._shelf._claims.close)

    run_virtual(main())


def test_a_poll_costs_no_more_than_a_look(file):
    """A thousand calls that wait for another process would each keep a timer."""

    async def main() -> None:
        one, other = process(file), process(file)
        keys = [number.to_bytes(32, "big") for number in range(1_000)]
        await asyncio.gather(*map(one.get, keys))
        waiting = [asyncio.ensure_future(other.get(key)) for key in keys]
        await asyncio.sleep(POLL * 3)
        assert len(other._waiting) + len(other._asked) <= 1_000
        for key in keys:
            one.let_go(key)
        assert await asyncio.wait_for(asyncio.gather(*waiting), 10) == [None] * 1_000
        await one.close()
        await other.close()

    run_virtual(main())


def test_an_answer_that_comes_between_the_look_and_the_claim_is_used(file, monkeypatch):
    """Two programs would pay for an equal call, if one ends it just while the other looks it up."""

    async def main() -> None:
        one, other = process(file), process(file)
        take = Claims.take

        def just_answered(claims: Claims, key: bytes) -> bool:
            with closing(sqlite3.connect(file)) as connection, connection:
                row = (KEY, 0.0, kept("fine").said.decode())
                connection.execute("INSERT INTO answers (key, at, said, asked) VALUES (?, ?, ?, '{}')", row)
            return take(claims, key)

        monkeypatch.setattr(Claims, "take", just_answered)
        assert text(await one.get(KEY)) == "fine"
        monkeypatch.undo()
        assert Claims(file.with_name(f"{file.name}-claims")).take(KEY)  # nobody holds it
        await one.close()
        await other.close()

    run_virtual(main())


def test_more_questions_than_one_statement_takes_are_all_looked_up(file):
    """Calls that begin together would miss answers that are kept."""

    async def main() -> None:
        answers = process(file)
        keys = [bytes([number]) * 32 for number in range(AT_ONCE * 2 + 1)]
        for number, key in enumerate(keys[::2]):
            answers.put(key, kept(str(number), at=number), lambda: b"{}")
        await answers.close()
        answers = process(file)
        found = await asyncio.gather(*(answers.get(key, since=2.0, claims=False) for key in keys))
        assert [text(each) for each in found[::2]] == [None, None, *map(str, range(2, AT_ONCE + 1))]
        assert not any(found[1::2])
        await answers.close()

    run_virtual(main())
