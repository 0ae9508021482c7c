"""Tables in the engines that people have: the real libraries, each with `Answers` as its function.

They are not needed otherwise, so each is left out where it is not installed: ``pip install dask datasets pyspark``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from flatout.tables import Answers, answer
from flatout.testing import digest_of
from tests.support.command_samples import Provider, provider

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


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_dask(ask: Answers, server: Provider, scheduler: str) -> None:
    """Partitions would lose rows, or planning them would send made-up ones."""
    frames, pd = engine("dask.dataframe"), engine("pandas")
    given = frames.from_pandas(pd.DataFrame({"text": ROWS}), npartitions=4)
    planned = given.map_partitions(ask, meta=ask(given._meta))
    assert server.stats()["received"] == 0
    made = planned.compute(scheduler=scheduler)
    assert first_words(made["label"]) == WANTED
    assert server.stats()["received"] == 40


@pytest.mark.parametrize("workers", [None, 2])
def test_datasets_map(ask: Answers, tmp_path: Path, workers: int | None) -> None:
    """A pipeline of ``map`` steps would need another tool for the question."""
    datasets = engine("datasets")
    given = datasets.Dataset.from_dict({"text": ROWS}).with_format("arrow")
    made = given.map(ask, batched=True, batch_size=10, num_proc=workers, load_from_cache_file=False)
    assert first_words(made.with_format(None)["label"]) == WANTED


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning")
def test_spark(ask: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spark's workers could not load the question, or its schema would not be theirs."""
    engine("pyspark")
    if which("java") is None:
        pytest.skip("Spark needs Java")
    from pyspark.sql import SparkSession
    from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

    path = os.pathsep.join(filter(None, ["src", os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("PYTHONPATH", path)
    built = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    spark = built.config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1").getOrCreate()
    try:
        mails = spark.createDataFrame([(row,) for row in ROWS], ["text"]).repartition(4)
        schema = from_arrow_schema(ask.schema(to_arrow_schema(mails.schema)))
        made = {row.text: row.label for row in mails.mapInArrow(ask.stream, schema).collect()}
    finally:
        spark.stop()
    assert first_words(made[row] for row in ROWS) == WANTED


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
