"""What a row may ask for: several models and samples, answers of a schema, pictures, bounds on silence."""

from __future__ import annotations

import base64
import csv
import json
import signal
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from flatout.testing import Faults
from tests.support.command_samples import (
    PLENTY,
    Provider,
    end,
    eventually,
    is_answer,
    provider,
    questions,
    rows_of,
    start,
)
from tests.support.ports import free_port
from tests.support.quick_commands import flatout

RUN = ("run", "in.jsonl", "-o", "out.jsonl")
AT = ("requested_model", "sample")
PERSON = {
    "title": "Person",
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 120}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


@pytest.fixture(scope="module")
def server() -> Iterator[Provider]:
    with provider() as running:
        yield running


def places(path: Path) -> list[tuple[Any, Any]]:
    """Which model and sample each row is."""
    return [(row.get(AT[0]), row.get(AT[1])) for row in rows_of(path)]


# -- several models, several samples ----------------------------------------------------------------------------------


def test_every_row_is_asked_of_every_model_and_sample(server: Provider, tmp_path: Path) -> None:
    """A comparison would miss answers, or nobody could tell whose they are."""
    questions(tmp_path, 3)
    reach = ("-m", "small", "-m", "large", "--base-url", server.url, *PLENTY)
    done = flatout(*RUN, *reach, "--samples", "2", "--limit", "2", folder=tmp_path)
    assert done.code == 0, done.err
    host = server.url.removeprefix("http://").partition("/")[0]
    assert f"2 rows from in.jsonl, to small and large at {host}, 2 times each: 8 calls\n" in done.err
    rows = rows_of(tmp_path / "out.jsonl")
    assert [row["id"] for row in rows] == ["q0"] * 4 + ["q1"] * 4
    assert places(tmp_path / "out.jsonl") == [("small", 0), ("small", 1), ("large", 0), ("large", 1)] * 2
    assert all(list(row)[:5] == ["id", "prompt", *AT, "answer"] for row in rows)
    assert all(row["model"] == row["requested_model"] and is_answer(row["answer"], row["prompt"]) for row in rows)


def test_columns_of_these_names_keep_their_values(server: Provider, tmp_path: Path) -> None:
    """A user's own column would be overwritten."""
    (tmp_path / "in.csv").write_text("sample,requested_model,text\nmine,yours,one\n")
    options = ("--prompt", "{{ sample }} {{ text }}", "--samples", "2", "-m", "a", "-m", "b", "--base-url", server.url)
    done = flatout("run", "in.csv", "-o", "out.csv", *options, *PLENTY, folder=tmp_path)
    assert done.code == 0, done.err
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:5] == ["sample", "requested_model", "text", "flatout_requested_model", "flatout_sample"]
    assert [(row["flatout_requested_model"], row["flatout_sample"]) for row in rows] == [
        ("a", "0"), ("a", "1"), ("b", "0"), ("b", "1"),
    ]  # fmt: skip
    assert {(row["sample"], row["requested_model"]) for row in rows} == {("mine", "yours")}
    assert all(is_answer(row["answer"], "mine one") for row in rows)


def test_samples_count_the_seed_up(tmp_path: Path) -> None:
    """With one seed, all samples would be the same answer."""
    seeds: list[int] = []

    def script(body: dict[str, Any]) -> str:
        seeds.append(body["seed"])
        return "yes"

    questions(tmp_path, 2)
    with provider(script=script) as server:
        done = flatout(*RUN, *server.options(), *PLENTY, "--samples", "3", "--param", "seed=7", folder=tmp_path)
    assert done.code == 0, done.err
    assert Counter(seeds) == {7: 2, 8: 2, 9: 2}


def test_samples_of_standard_input(server: Provider, tmp_path: Path) -> None:
    """A pipe would be asked once a row, or its limit count samples as rows."""
    said = b'{"id": "a", "prompt": "one"}\n{"id": "b", "prompt": "two"}\n{"id": "c", "prompt": "three"}\n'
    options = (*server.options(), *PLENTY, "--samples", "2", "--limit", "2")
    done = flatout("run", "-", *options, folder=tmp_path, stdin=said)
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [(row["id"], row["sample"]) for row in rows] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]


def test_an_id_may_stand_once_however_often_it_is_asked(server: Provider, tmp_path: Path) -> None:
    """Samples would be refused for their own row's id, or a repeated id no longer be found."""
    before = server.received
    (tmp_path / "in.jsonl").write_text('{"id": "a", "prompt": "1"}\n{"id": "a", "prompt": "2"}\n')
    done = flatout(*RUN, *server.options(), "--samples", "2", folder=tmp_path)
    assert (done.code, done.err) == (2, "flatout: in.jsonl, line 2: the id 'a' was already used on line 1\n")
    assert server.received == before


def test_samples_go_on_after_an_interrupt(tmp_path: Path) -> None:
    """What was answered of a row would be asked, and paid for, again."""
    questions(tmp_path, 100)
    with provider(latency=0.05) as server:
        slowly = ("--rpm", "9k", "--concurrency", "8")
        command = (*RUN, "-m", "a", "-m", "b", "--base-url", server.url, "--samples", "2", *slowly)
        process = start(*command, folder=tmp_path)
        server.wait_for(60)
        process.send_signal(signal.SIGINT)
        assert end(process).code == 130
        done = flatout(*command, folder=tmp_path)
        assert done.code == 0, done.err
        assert server.received == 400
    assert places(tmp_path / "out.jsonl") == [("a", 0), ("a", 1), ("b", 0), ("b", 1)] * 100


def test_a_run_of_other_models_or_samples_is_another_run(server: Provider, tmp_path: Path) -> None:
    """Answers of one model would stand in the rows of another."""
    questions(tmp_path, 2)
    reach = ("--base-url", server.url, *PLENTY)
    assert flatout(*RUN, "-m", "a", "-m", "b", *reach, folder=tmp_path).code == 0
    before = server.received
    for others, why in (
        (("-m", "a", "-m", "c"), "models was"),
        (("-m", "a", "-m", "b", "--samples", "2"), "samples was"),
        (("-m", "a"), "model was"),
        (("-m", "b", "-m", "a"), "models was"),
    ):
        done = flatout(*RUN, *others, *reach, folder=tmp_path)
        assert done.code == 2
        assert why in done.err
        assert "--fresh" in done.err
    assert server.received == before


# -- answers of a schema ----------------------------------------------------------------------------------------------


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    path = tmp_path / "person.json"
    path.write_text(json.dumps(PERSON))
    return path


def fits(answer: Any) -> bool:
    return isinstance(answer, dict) and isinstance(answer["name"], str) and isinstance(answer["age"], int)


def test_answers_of_a_schema_are_parsed(server: Provider, tmp_path: Path, schema: Path) -> None:
    """Every user would parse the answers' text again, and nobody would know which were mended."""
    questions(tmp_path, 5)
    done = flatout(*RUN, *server.options(), *PLENTY, "--schema", "person.json", folder=tmp_path)
    assert done.code == 0, done.err
    rows = rows_of(tmp_path / "out.jsonl")
    assert all(fits(row["answer"]) and row["repaired"] is False for row in rows)
    assert list(rows[0])[-1] == "repaired"
    for output in ("out.csv", "out.parquet"):
        if output.endswith("parquet"):
            pytest.importorskip("pyarrow", reason="needs the extra 'parquet'")
        exported = flatout("export", "out.jsonl", "-o", output, folder=tmp_path)
        assert exported.code == 0, exported.err
    with (tmp_path / "out.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["repaired"] for row in table] == ["false"] * 5
    assert [json.loads(row["answer"]) for row in table] == [row["answer"] for row in rows]
    import pyarrow.parquet as pq

    assert pq.read_table(tmp_path / "out.parquet").column("repaired").to_pylist() == [False] * 5


def test_what_does_not_fit_is_asked_again(tmp_path: Path, schema: Path) -> None:
    """A model's slip would cost the row its answer; or the second question would not be counted."""
    questions(tmp_path, 60)
    with provider(faults=Faults(schema=0.3)) as server:
        reach = (*server.options(), *PLENTY, "--schema", "person.json")
        once = flatout("run", "in.jsonl", "-o", "once.jsonl", *reach, "--reasks", "0", folder=tmp_path)
        asked = server.received
        again = flatout("run", "in.jsonl", "-o", "again.jsonl", *reach, folder=tmp_path)
        asked_again = server.received - asked - 60
    assert (once.code, again.code, asked) == (1, 1, 60)  # some answers do not fit the second time either
    rows = rows_of(tmp_path / "again.jsonl")
    failed = [[bool(row["error"]) for row in given] for given in (rows_of(tmp_path / "once.jsonl"), rows)]
    assert sum(failed[0]) == asked_again > sum(failed[1])
    assert [row["attempts"] for row in rows] == [2 if before else 1 for before in failed[0]]
    assert all(row["error"].startswith("SchemaMismatch: the answer does not fit") for row in rows if row["error"])
    assert all(fits(row["answer"]) for row in rows if not row["error"])


def test_what_was_got_out_of_a_text_says_so(tmp_path: Path, schema: Path) -> None:
    """A mended answer would pass for one that the model gave as it was asked to."""
    questions(tmp_path, 2)
    person = {"name": "Ada", "age": 36}

    def script(body: dict[str, Any]) -> str:
        fenced = body["messages"][-1]["content"] == "question 1"
        return f"```json\n{json.dumps(person)}\n```" if fenced else json.dumps(person)

    with provider(script=script) as server:
        done = flatout(*RUN, *server.options(), *PLENTY, "--schema", "person.json", folder=tmp_path)
    assert done.code == 0, done.err
    assert [(row["answer"], row["repaired"]) for row in rows_of(tmp_path / "out.jsonl")] == [
        (person, False),
        (person, True),
    ]


def test_answers_are_one_of_the_choices(server: Provider, tmp_path: Path) -> None:
    """A label would come as a sentence, or as an object with the label somewhere in it."""
    questions(tmp_path, 20)
    done = flatout(
        *("run", "in.jsonl", "-o", "out.csv", *server.options(), *PLENTY, "--choices", "spam, ham"), folder=tmp_path
    )
    assert done.code == 0, done.err
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["answer"] for row in rows} == {"spam", "ham"}
    other = flatout(
        *("run", "in.jsonl", "-o", "out.csv", *server.options(), *PLENTY, "--choices", "spam,eggs"), folder=tmp_path
    )
    assert other.code == 2
    assert "belongs to another job" in other.err


# -- pictures ---------------------------------------------------------------------------------------------------------


def test_pictures_go_with_the_prompt(tmp_path: Path) -> None:
    """A model would be asked about a picture that it was not shown."""
    seen: list[Any] = []

    def script(body: dict[str, Any]) -> str:
        seen.append(body["messages"][-1]["content"])
        return "a cat"

    (tmp_path / "cat.png").write_bytes(PNG)
    (tmp_path / "in.csv").write_text("photo\ncat.png\nhttp://127.0.0.1:1/dog.jpg\n")
    with provider(script=script) as server:
        done = flatout(
            *("run", "in.csv", "-o", "out.csv", "--prompt", "What is it?", "--image", "{{ photo }}"),
            *(*server.options(), *PLENTY),
            folder=tmp_path,
        )
    assert done.code == 0, done.err
    urls = {part["image_url"]["url"] for content in seen for part in content if part["type"] == "image_url"}
    assert urls == {
        f"data:image/png;base64,{base64.b64encode(PNG).decode()}",
        "http://127.0.0.1:1/dog.jpg",  # passed on: flatout fetches nothing
    }


# -- bounds on silence ------------------------------------------------------------------------------------------------


def test_answers_that_fall_silent_are_asked_for_again(tmp_path: Path) -> None:
    """A dead connection would hold its row for the whole timeout of five minutes."""
    questions(tmp_path, 30)
    with provider(faults=Faults(stall=0.2)) as server:
        done = flatout(
            *(*RUN, *server.options(), *PLENTY, "--first-byte", "10", "--between-bytes", "0.4"), folder=tmp_path
        )
        stalled, received = server.stats()["faults"]["stall"], server.received
    assert done.code == 0, done.err
    assert stalled
    assert received >= 30 + stalled  # a busy machine falls silent, too
    rows = rows_of(tmp_path / "out.jsonl")
    assert all(is_answer(row["answer"], row["prompt"]) for row in rows)
    assert sum(row["attempts"] for row in rows) == received


# -- telemetry --------------------------------------------------------------------------------------------------------


def test_metrics_can_be_scraped_while_a_run_goes_on(tmp_path: Path) -> None:
    """`--metrics` would be taken and serve nothing; or a collector that is down would fail a run without a word."""
    pytest.importorskip("prometheus_client", reason="needs the extra 'otel'")
    questions(tmp_path, 4_000)  # it goes on until it is looked at
    port = free_port()
    with provider(latency=0.05) as server:
        process = start(
            *(*RUN, *server.options("m"), "--rpm", "3k", "--concurrency", "3"),
            *("--metrics", str(port), "--otlp", "http://127.0.0.1:1"),
            folder=tmp_path,
        )
        scraped: list[str] = []

        def attempts() -> bool:
            with suppress(urllib.error.URLError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                scraped.append(answer.read().decode())
            return "flatout_attempts_total" in "".join(scraped[-1:])

        eventually(attempts)
        process.send_signal(signal.SIGINT)
        done = end(process)
    assert done.code == 130, done.err
    assert 'flatout_outcome="answered"' in scraped[-1]
    (warning,) = [line for line in done.err.splitlines() if "telemetry does not reach 127.0.0.1:1: " in line]
    assert warning.startswith("flatout: ")


def test_a_port_in_use_is_said_before_anything_is_sent(server: Provider, tmp_path: Path) -> None:
    """A run would go on unwatched, or stand in the way of the corrected command."""
    pytest.importorskip("prometheus_client", reason="needs the extra 'otel'")
    questions(tmp_path, 2)
    before = server.received
    taken = server.url.rsplit(":", 1)[1].removesuffix("/v1")
    done = flatout(*RUN, *server.options(), *PLENTY, "--metrics", taken, folder=tmp_path)
    assert done.code == 2
    assert f"metrics cannot be served on 127.0.0.1:{taken}" in done.err
    assert server.received == before
    assert not (tmp_path / "out.jsonl").exists()
    status = flatout("status", "out.jsonl", folder=tmp_path)
    assert status.out.startswith("out.jsonl.flatout: interrupted\n")  # and not broken off, as after a crash
    assert flatout(*RUN, *server.options(), *PLENTY, folder=tmp_path).code == 0


def test_what_happens_is_told_as_much_as_is_wanted(tmp_path: Path) -> None:
    """A misspelt parameter would never be heard of; and why a run crawls could not be found out."""
    questions(tmp_path, 20)
    with provider(faults=Faults(server_error=0.5)) as server:
        command = ("run", "in.jsonl", "--fresh", *server.options(), *PLENTY, "--param", "temprature=0")
        said = flatout(*command, "-o", "a.jsonl", "-v", folder=tmp_path).err
        assert said.count("temprature is unknown, and sent as it is; did you mean temperature?") == 1
        assert "attempt 1 failed: ServerError" in said
        assert "was answered" not in said
        quiet = flatout(*command, "-o", "b.jsonl", folder=tmp_path).err
        assert "temprature" in quiet.splitlines()[0] + quiet.splitlines()[1]
        assert "attempt 1" not in quiet
