"""Programs over Ray, Daft and others: ``engine_programs.py NAME SETTINGS`` prints what became of the rows, as JSON.

The interpreter that has these engines runs them; settings are JSON: ``url``, ``rows``, ``rpm``, ``shared``, ``cache``,
``actors``, ``block`` (rows that the engine hands over together), ``scheduler`` (of Dask), ``workers`` (processes of
Hugging Face's ``map``), ``address`` (of a cluster of Ray; without it, a Ray of
this process alone is started in ``folder``) and ``pids`` (a file where each process that makes calls notes its id).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from flatout import Limits
from flatout.tables import Answers
from flatout.testing import digest_of

MEMORY = 150_000_000
"""Bytes of Ray's object store."""

Settings = Mapping[str, Any]


def question(settings: Settings) -> Any:
    """What is asked of a row: its text. A function, where the processes shall note their ids."""
    if (pids := settings.get("pids")) is None:
        return "{{ text }}"
    noted = []

    def ask(row: Mapping[str, Any]) -> str:
        if not noted:
            noted.append(os.getpid())
            with Path(pids).open("a") as file:
                file.write(f"{os.getpid()}\n")
        return str(row["text"])

    return ask


def options(settings: Settings) -> dict[str, Any]:
    rpm = settings.get("rpm")
    limits = None if rpm is None else Limits(rpm=rpm, burst=1.0, shared=settings.get("shared"))
    return {
        "model": "any",
        "base_url": settings["url"],
        "config": {},
        "limits": limits,
        "cache": settings.get("cache"),
        "timeout": settings.get("timeout", 60.0),
    }


def ray(settings: Settings) -> dict[str, Any]:
    """`flatout.ray.answer`."""
    import ray

    import flatout.ray

    start_ray(settings)
    block = settings.get("block", 250)
    given = {"actors": settings.get("actors", 1), "rows_per_block": block, **options(settings)}
    asked = flatout.ray.answer(texts(settings["rows"]), question(settings), **given)
    return checked_rows(row for table in ray.get(asked.to_arrow_refs()) for row in table.to_pylist())


def ray_looks(settings: Settings) -> dict[str, Any]:
    """Look at the answers' types before anybody asks, ask, and ask with limits that are shared nowhere."""
    import pandas as pd
    import ray

    import flatout.ray

    start_ray(settings)
    count, given = settings["rows"], options(settings)
    frame = pd.DataFrame(columns(count))
    file = Path("rows.csv").absolute()  # Ray's workers have another folder
    frame.to_csv(file, index=False)
    items = ray.data.from_items(frame.to_dict("records"))

    def ask(rows: Any, **more: Any) -> Any:
        return flatout.ray.answer(rows, "{{ text }}", output=str, cost=True, **{**given, **more})

    asked = ask(items)
    looked = [asked.schema(), asked.limit(1).schema(), asked.sort("id").schema()]
    tables = ray.get(asked.to_arrow_refs())
    broker = Limits(rpm=60, shared="unix:///nowhere/redis.sock?db=0/team")
    return {
        "rows": sum(table.num_rows for table in tables),
        "as_looked": all(look.base_schema == table.schema for look in looked for table in tables),
        "unknown": [
            made.schema().names
            for rows in (ask(ray.data.read_csv(str(file))), ask(ray.data.from_pandas(frame)))
            for made in (rows, rows.sort("id"), rows.drop_columns(["text"]))
        ],
        "refusal": refusal(lambda: ask(items, limits=broker).take_all()),
    }


def ray_checkpointed(settings: Settings) -> dict[str, Any]:
    """`flatout.ray.answer` from files to files, in a job that has Ray's own checkpoints."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import ray
    from ray.data.checkpoint import CheckpointConfig

    import flatout.ray

    start_ray(settings)
    here, count = Path.cwd(), settings["rows"]
    pq.write_table(pa.table(columns(count)), here / "mails.parquet")
    config = CheckpointConfig("id", str(here / "checkpoint"), delete_checkpoint_on_success=False)
    ray.data.DataContext.get_current().checkpoint_config = config
    mails = ray.data.read_parquet(str(here / "mails.parquet"))
    asked = flatout.ray.answer(mails, "{{ text }}", rows_per_block=settings["block"], **options(settings))
    asked.write_parquet(str(here / "labelled"))
    return checked_rows(pq.read_table(here / "labelled").to_pylist())


def refusal(work: Callable[[], object]) -> list[str]:
    """The lines of the error with which something ends."""
    try:
        work()
    except Exception as error:  # Ray's own, with the actor's in its text
        return str(error).splitlines()
    return []


def daft(settings: Settings) -> dict[str, Any]:
    """`flatout.daft.answer`."""
    import daft

    import flatout.daft

    count = settings["rows"]
    frame = daft.from_pydict(columns(count))
    block = settings.get("block", 250)
    asked = flatout.daft.answer("text", question(settings), rows_per_batch=block, **options(settings))
    made = frame.select("*", asked.unnest()).to_pydict()
    return checked(zip(*(made[name] for name in ("id", "text", "answer", "error")), strict=True))


def daft_on_ray(settings: Settings) -> dict[str, Any]:
    """`flatout.daft.answer`, where Daft's own workers are Ray's."""
    import daft as daft_

    start_ray(settings)
    daft_.set_runner_ray()
    return daft(settings)


def dask(settings: Settings) -> dict[str, Any]:
    """`flatout.tables.Answers` for the partitions of a frame of Dask's."""
    import dask.dataframe
    import pandas as pd
    import pyarrow as pa

    answers = Answers("{{ text }}", **options(settings))
    frames = dask.dataframe.from_pandas(pd.DataFrame(columns(settings["rows"])), npartitions=4)
    made = frames.map_partitions(answers, meta=answers(frames._meta)).compute(scheduler=settings["scheduler"])
    return checked_rows(pa.Table.from_pandas(made).to_pylist())


def datasets(settings: Settings) -> dict[str, Any]:
    """`flatout.tables.Answers` in ``map`` of a Dataset of Hugging Face."""
    import datasets

    answers = Answers("{{ text }}", **options(settings))
    given = datasets.Dataset.from_dict(columns(settings["rows"])).with_format("arrow")
    made = given.map(answers, batched=True, batch_size=10, num_proc=settings["workers"], load_from_cache_file=False)
    return checked_rows(made.with_format(None))


def spark(settings: Settings) -> dict[str, Any]:
    """`flatout.tables.Answers.stream` in Spark's ``mapInArrow``."""
    from pyspark.sql import SparkSession
    from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

    os.environ["PYSPARK_PYTHON"] = sys.executable
    built = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = (
        built.config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1").getOrCreate()
    )
    answers = Answers("{{ text }}", **options(settings))
    mails = session.createDataFrame(
        [*zip(*columns(settings["rows"]).values(), strict=True)], ["id", "text"]
    ).repartition(4)
    schema = from_arrow_schema(answers.schema(to_arrow_schema(mails.schema)))
    return checked_rows(row.asDict() for row in mails.mapInArrow(answers.stream, schema).collect())


def start_ray(settings: Settings) -> None:
    """Join a cluster of Ray, or start one for this process alone."""
    import ray

    own = {
        "num_cpus": 2,
        "include_dashboard": False,
        "_temp_dir": settings.get("folder"),
        "object_store_memory": MEMORY,
    }
    where = {"address": settings["address"]} if "address" in settings else own
    ray.init(**where, _node_ip_address="127.0.0.1", logging_level="ERROR", log_to_driver=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False


def texts(count: int) -> Any:
    """A Dataset of rows with an id and a text."""
    import pyarrow as pa
    import ray

    def with_text(table: Any) -> Any:
        return table.append_column("text", pa.array([f"row {n}" for n in table["id"].to_pylist()]))

    return ray.data.range(count).map_batches(with_text, batch_format="pyarrow")


def columns(count: int) -> dict[str, list[Any]]:
    """The columns of such rows."""
    return {"id": list(range(count)), "text": [f"row {number}" for number in range(count)]}


def checked_rows(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """As `checked`, of answered rows with all their columns."""
    return checked((row["id"], row["text"], row["answer"], row["error"]) for row in rows)


def checked(rows: Iterable[tuple[int, str, str | None, str | None]]) -> dict[str, Any]:
    """How many rows came, which ids came how often, whose answers are another row's, and which errors there are."""
    ids: Counter[int] = Counter()
    errors: Counter[str] = Counter()
    wrong = 0
    for number, text, answer, error in rows:
        ids[number] += 1
        if error is not None:
            errors[error.partition(":")[0]] += 1
        elif answer is None or answer.split()[0] != f"digest:{digest_of(text)}":
            wrong += 1
    return {"rows": ids.total(), "ids": len(ids), "wrong": wrong, "errors": dict(errors)}


PROGRAMS: Mapping[str, Callable[[Settings], dict[str, Any]]] = {
    "ray": ray,
    "ray_looks": ray_looks,
    "ray_checkpointed": ray_checkpointed,
    "daft": daft,
    "daft_on_ray": daft_on_ray,
    "dask": dask,
    "datasets": datasets,
    "spark": spark,
}


def main(name: str, settings: Settings) -> None:
    began = time.time()
    told = PROGRAMS[name](settings)
    print(json.dumps({**told, "seconds": time.time() - began}))  # noqa: T201 - a program


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
