"""Looking into a run file: whole, in order, and without getting in the writer's way."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from flatout.errors import RunDamaged
from flatout.store import Counts, ErrorCount, Item, RunReader, salvage
from flatout.store.queries import queries
from flatout.store.rows import AskedAgain
from tests.support.store_samples import item, open_run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.flatout"


def fill(path: Path, *items: Item) -> None:
    async def main() -> None:
        async with open_run(path) as run:
            await asyncio.gather(*map(run.finish, items))

    asyncio.run(main())


def test_items_come_in_order_and_by_choice(path: Path) -> None:
    """An export would be in the order of completion, or mix failures into the answers."""
    rows = [item(index, ("answered", "failed", "unsent")[index % 3]) for index in range(700)]  # type: ignore[arg-type] # literals
    fill(path, *random.Random(1).sample(rows, len(rows)))
    with RunReader.open(path) as reader:
        assert list(reader.items()) == rows
        assert list(reader.items("answered")) == rows[::3]
        assert [row.index for row in reader.items("failed")] == [i for i in range(700) if i % 3]
        assert [row.index for row in reader.items(first=10, last=12)] == [10, 11, 12]
        with pytest.raises(ValueError, match="select is"):
            next(reader.items("others"))  # type: ignore[arg-type] # wrong on purpose


def test_what_is_unknown_is_not_counted_as_nothing(path: Path) -> None:
    """A total would look exact though the price of some answers is not known."""
    fill(
        path,
        item(0),
        item(1, cost=None, input_tokens=None),
        item(2, "failed", cost=None),
        item(3, "unsent", cost=None, attempts=0),
    )
    with RunReader.open(path) as reader:
        found = reader.summary()
        assert (found.answered, found.failed, found.unsent, found.finished) == (2, 1, 1, 4)
        assert (found.cost, found.unknown_costs) == (0.25, 2)
        assert (found.input_tokens, found.output_tokens, found.unknown_tokens) == (30, 12, 1)
        assert found.last_finished_at == item(3).finished_at


def test_a_run_without_rows_has_no_totals(path: Path) -> None:
    """`status` just after the start would fail, or show $0.00 as if it were known."""
    open_run(path).close_now()
    with RunReader.open(path) as reader:
        found = reader.summary()
        assert (found.finished, found.cost, found.rate, found.input_tokens) == (0, None, None, None)
        assert reader.errors() == []
        assert list(reader.items()) == []


def test_the_rate_is_that_of_the_latest_process(path: Path) -> None:
    """After a night's pause the rate would be shown as nearly nothing."""
    fill(path, item(0, finished_at=1.0))
    run = open_run(path)
    with RunReader.open(path) as reader:
        opened_at = reader.info().opened_at
        asyncio.run(run.finish(item(1, finished_at=opened_at + 1.0)))
        asyncio.run(run.finish(item(2, finished_at=opened_at + 4.0)))
        assert reader.summary().rate == pytest.approx(0.5)
    run.close_now()


def test_errors_are_counted_with_their_first_example(path: Path) -> None:
    """The end of a run could not say what went wrong, and where to look."""
    fill(path, *(item(index, "failed") for index in (9, 4, 7)), item(1, "failed", error="Refused"), item(0))
    with RunReader.open(path) as reader:
        assert reader.errors() == [
            ErrorCount("RateLimited", 3, 4, "too fast 4"),
            ErrorCount("Refused", 1, 1, "too fast 1"),
        ]


def test_a_slow_reader_does_not_make_the_log_grow(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export into a pager would fill the disk of the run that it looks at."""
    monkeypatch.setattr("flatout.store.reader._BATCH", 2)
    log = path.with_name(path.name + "-wal")

    async def main() -> None:
        async with open_run(path) as run:
            await asyncio.gather(*(run.finish(item(index)) for index in range(10)))
            with RunReader.open(path) as reader:
                rows = reader.items()
                seen = [next(rows), next(rows), next(rows)]
                for start in range(10, 4010, 500):
                    many = (item(index, answer="x" * 4000) for index in range(start, start + 500))
                    await asyncio.gather(*map(run.finish, many))
                assert log.stat().st_size < 16_000_000  # without checkpoints it is 36 MB
                for row in rows:
                    seen.append(row)
                    if len(seen) == 100:
                        break
                assert [row.index for row in seen] == list(range(100))

    asyncio.run(main())


def test_any_sqlite_tool_can_read_it_while_it_is_written(path: Path) -> None:
    """People could not look at their answers with the tools they know."""
    run = open_run(path)
    asyncio.run(run.finish(item(0)))
    with closing(sqlite3.connect(path)) as connection:
        question = "SELECT item_index, input ->> 'text', output ->> 'label', answer FROM items"
        assert connection.execute(question).fetchall() == [(0, "0", "ham", "answer 0 é")]
    run.close_now()


def test_a_reader_in_the_way_of_closing_costs_no_answer(path: Path) -> None:
    """Someone looking at the file while the run ends would make the run fail."""
    run = open_run(path)
    asyncio.run(run.finish(item(0)))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT * FROM items").fetchall()
        run.close_now()
    with RunReader.open(path) as reader:
        assert reader.item(0) == item(0)
    open_run(path).close_now()
    assert [found.name for found in path.parent.iterdir()] == [path.name]


PAGE = 4096


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up early where nothing says how far to go, as the files are small."""
    monkeypatch.setattr("flatout.store.damaged._GIVE_UP", 1_000)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[Item]]:
    path = tmp_path_factory.mktemp("whole") / "answers.flatout"
    rows = [item(index, answer="x" * 300) for index in range(400) if index % 50]
    fill(path, *rows)
    return path.read_bytes(), rows


def test_salvage_of_a_sound_file_is_everything(path: Path, whole: tuple[bytes, list[Item]]) -> None:
    """Whoever salvages to be on the safe side would lose answers by it."""
    path.write_bytes(whole[0])
    assert list(salvage(path)) == whole[1]


@pytest.mark.usefixtures("impatient")
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_salvage_gets_out_what_is_readable(
    tmp_path_factory: pytest.TempPathFactory, whole: tuple[bytes, list[Item]], data: st.DataObject
) -> None:
    """One bad block on a disk would cost all the answers of a run, or make the rescue run for ever."""
    path = tmp_path_factory.mktemp("damaged") / "answers.flatout"
    content, rows = bytearray(whole[0]), whole[1]
    pages = data.draw(st.sets(st.integers(1, len(content) // PAGE - 1), min_size=1, max_size=3))
    junk = data.draw(st.sampled_from([b"\0", b"\xff", b"\x5a"]))
    for page in pages:
        content[page * PAGE : (page + 1) * PAGE] = junk * PAGE
    path.write_bytes(content)
    try:
        found = list(salvage(path))
    except RunDamaged:
        return  # the pages that say where everything is
    assert [row for row in rows if row in found] == found
    # A leaf holds about ten of these rows; the root and the first pages hold the way to all of them.
    if min(pages) > 12:
        assert len(found) >= len(rows) - 12 * len(pages)


@pytest.mark.usefixtures("impatient")
def test_salvage_ends_where_nothing_says_how_far_to_go(path: Path, whole: tuple[bytes, list[Item]]) -> None:
    """The rescue of a file whose end is damaged would run for ever."""
    content = bytearray(whole[0])
    last = max(range(len(content) // PAGE), key=lambda page: content[page * PAGE : (page + 1) * PAGE].find(b"row-399"))
    content[last * PAGE : (last + 1) * PAGE] = b"\0" * PAGE
    path.write_bytes(content)
    found = list(salvage(path))
    assert found == whole[1][: len(found)]
    assert len(found) > 370


@pytest.mark.usefixtures("impatient")
def test_salvage_of_a_file_cut_short(path: Path, whole: tuple[bytes, list[Item]]) -> None:
    """The commonest damage, a copy that broke off, would cost all the answers before the break too."""
    content, rows = whole
    path.write_bytes(content[: len(content) * 2 // 3 + 100])
    before = path.read_bytes()
    found = list(salvage(path))
    assert found == rows[: len(found)]
    assert len(found) > len(rows) // 2
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"{}" * 3000, b"SQLite format 3\0" + b"\xff" * 5000, b"SQLite format 3\0"])
def test_salvage_of_what_is_no_run_file(path: Path, content: bytes) -> None:
    """A mistaken name would end in a traceback about a file that the user never heard of, or fill the disk."""
    path.write_bytes(content)
    with pytest.raises(RunDamaged, match=r"answers\.flatout is (not a run file|damaged)") as caught:
        list(salvage(path))
    assert str(path) in str(caught.value)


def test_the_tokens_of_cached_answers_are_not_counted_again(path: Path) -> None:
    """A run that sent nothing would be shown as one that used a million tokens."""
    asked, cached = replace(item(0), attempts=1, cost=0.5), replace(item(1), attempts=0, cost=0.0)
    assert asked.input_tokens
    fill(path, asked, cached)
    with RunReader.open(path) as reader:
        assert reader.has_cached()
        assert reader.summary().input_tokens == asked.input_tokens
        assert reader.summary().output_tokens == asked.output_tokens
        assert reader.summary().unknown_tokens == 0


def test_rows_are_counted_by_those_without_an_answer_alone(path: Path) -> None:
    """Each look at a run of a million rows would read the whole file, or show failures minutes late."""
    fill(path, item(0), item(1, "failed"), item(2, "failed"), item(3, "unsent"))
    with RunReader.open(path) as reader:
        assert reader.ended() == reader.counts()
        assert reader.ended(AskedAgain(unsent=2e9, failed=1_790_000_002.0)) == Counts(answered=1, failed=1, unsent=0)
        for name in ("ended", "errors"):
            times = {"unsent": 0.0, "failed": 0.0}
            plan = [step for *_, step in reader.select(f"EXPLAIN QUERY PLAN {queries('items')[name]}", times)]
            assert any("USING COVERING INDEX items_without_answer" in step for step in plan)
            assert not any(step.startswith("SCAN items") and "INDEX" not in step for step in plan)
