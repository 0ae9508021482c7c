"""Tables in the engines that people have: the real libraries, each with `Answers` as its function.

Dask, Hugging Face's datasets and Spark run in a program of their own, where ``make .venv-engines`` has installed them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from flatout.tables import Answers, answer
from flatout.testing import digest_of
from tests.support.command_samples import Provider, provider
from tests.support.engine_jobs import installed, jobs, whole

pa = pytest.importorskip("pyarrow")

ROWS = [f"row {n}" for n in range(40)]
WANTED = [f"digest:{digest_of(row)}" for row in ROWS]


@pytest.fixture
def server() -> Iterator[Provider]:
    with provider(latency=0.0) as made:
        yield made


@pytest.fixture
def ask(server: Provider) -> Answers:
    return Answers("{{ text }}", model="any", base_url=server.url, config={}, into="label")


def engine(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is installed by hand")


def first_words(texts: Any) -> list[str]:
    return [text.split()[0] for text in texts]


def asks_once(name: str, server: Provider, **settings: Any) -> None:
    """A job in which each row is asked once, and planning it asks none."""
    with jobs(server, rows=40, **settings) as start:
        assert start(name).told() == whole(40)
    assert server.received == 40


@installed
@pytest.mark.parametrize("scheduler", [pytest.param("threads", marks=pytest.mark.soak), "processes"])
def test_dask(server: Provider, scheduler: str) -> None:
    """Partitions would lose rows, or planning them would send made-up ones."""
    asks_once("dask", server, scheduler=scheduler)


@installed
@pytest.mark.parametrize("workers", [pytest.param(None, marks=pytest.mark.soak), 2])
def test_datasets_map(server: Provider, workers: int | None) -> None:
    """A pipeline of ``map`` steps would need another tool for the question."""
    asks_once("datasets", server, workers=workers)


@installed
@pytest.mark.skipif(which("java") is None, reason="Spark needs Java")
@pytest.mark.soak
def test_spark(server: Provider) -> None:
    """Spark's workers could not load the question, or its schema would not be theirs."""
    asks_once("spark", server)


def test_duckdb_readers(ask: Answers, server: Provider) -> None:
    """A query larger than memory would be read into it."""
    duckdb = engine("duckdb")
    connection = duckdb.connect()
    connection.execute("create table mails as select 'row ' || n as text from range(40) t(n)")
    reader = connection.sql("select * from mails order by rowid").to_arrow_reader(10)
    answered = answer(reader, "{{ text }}", model="any", base_url=server.url, config={}, into="label")
    assert isinstance(answered, pa.RecordBatchReader)
    connection.execute("create table labelled as select * from answered")
    assert first_words(label for (label,) in connection.sql("select label from labelled").fetchall()) == WANTED


def test_chunks_of_pandas(ask: Answers, tmp_path: Path) -> None:
    """A CSV file larger than memory would be read into it."""
    pd = engine("pandas")
    path = tmp_path / "mails.csv"
    pd.DataFrame({"text": ROWS}).to_csv(path, index=False)
    with pd.read_csv(path, chunksize=10) as chunks:
        made = [batch.to_pandas() for batch in ask.stream(chunks)]
    assert [len(chunk) for chunk in made] == [10] * 4
    assert first_words(pd.concat(made)["label"]) == WANTED
