"""Every format in and out: the input's own columns first, then the answer to that very row."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.command_samples import PLENTY, Done, Provider, end, is_answer, provider, start
from tests.support.quick_commands import flatout

ANSWER = [
    *("answer", "error", "finish_reason", "model", "input_tokens", "output_tokens", "cost", "attempts"),
    *("seconds", "provider_seconds", "queued_seconds"),
]
TEXTS = ["How far is the Moon?", "Kolik váží slon? 🐘", 'He said: "a,b;\tc"', "two\nlines", "  spaces  ", "5"]
LINES = [text for text in TEXTS if "\n" not in text]
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"


def jsonl(*rows: Any) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def table(columns: list[str], rows: list[list[str]], delimiter: str) -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\r\n").writerows([columns, *rows])
    return text.getvalue().encode()


def turns(text: str) -> list[dict[str, Any]]:
    content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": PNG}}]
    return [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hm"},
        {"role": "user", "content": content},
    ]


def batch_line(number: int, text: str) -> dict[str, Any]:
    body = {"model": "theirs", "messages": turns(text), "max_tokens": 100, "metadata": {"a": 1}}
    return {"custom_id": f"c{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}


class Case(NamedTuple):
    """An input, and what its rows must come to.

    Attributes:
        name: the file's; ``-`` for standard input.
        content: its bytes.
        columns: its own columns, in order.
        asked: each row's prompt, or messages.
        options: how to ask.
        system: the system prompt of every row.
        answer: the column of the answer.
    """

    name: str
    content: bytes
    columns: list[str]
    asked: list[Any]
    options: tuple[str, ...] = ()
    system: str | None = None
    answer: str = "answer"


TABLE = [[str(number), text, f"x{number}"] for number, text in enumerate(TEXTS)]
CASES = {
    "strings": Case("in.jsonl", jsonl(*TEXTS), ["prompt"], TEXTS),
    "objects": Case(
        "in.jsonl",
        jsonl(*({"id": n, "prompt": text, "tags": [n], "seed": n} for n, text in enumerate(TEXTS))),
        ["id", "prompt", "tags", "seed"],
        TEXTS,
    ),
    "messages": Case(
        "in.ndjson",
        jsonl(*({"messages": turns(t), "k": None} for t in TEXTS)),
        ["messages", "k"],
        [turns(t) for t in TEXTS],
    ),
    "batch lines": Case(
        "in.jsonl",
        jsonl(*(batch_line(n, text) for n, text in enumerate(TEXTS))),
        ["custom_id", "method", "url", "body"],
        [turns(text) for text in TEXTS],
    ),
    "any objects, with templates": Case(
        "in.json",
        jsonl(*({"q": text, "of": {"lang": "cs"}} for text in TEXTS)),
        ["q", "of"],
        [f"cs: {text}" for text in TEXTS],
        ("--prompt", "{{ of.lang }}: {{ q }}", "--system", "Be brief."),
        "Be brief.",
    ),
    "CSV": Case("in.csv", table(["n", "text", "x"], TABLE, ","), ["n", "text", "x"], TEXTS, ("--prompt", "{{ text }}")),
    "TSV": Case(
        "in.tsv", table(["n", "text", "x"], TABLE, "\t"), ["n", "text", "x"], TEXTS, ("--prompt", "{{ text }}")
    ),
    "CSV with an answer of its own": Case(
        "in.csv",
        table(["prompt", "answer", "x"], [[text, "theirs", "x"] for text in TEXTS], ","),
        ["prompt", "answer", "x"],
        TEXTS,
        answer="flatout_answer",
    ),
    "text": Case("in.txt", "\r\n".join(LINES).encode(), ["prompt"], LINES),
    "text on standard input": Case("-", "\n".join(LINES).encode(), ["prompt"], LINES),
    "JSONL on standard input": Case("-", jsonl(*TEXTS), ["prompt"], TEXTS),
    "CSV on standard input": Case(
        "-",
        table(["n", "text", "x"], TABLE, ","),
        ["n", "text", "x"],
        TEXTS,
        ("--format", "csv", "--prompt", "{{ text }}"),
    ),
}


def read_jsonl(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.splitlines()]


def read_table(content: bytes, delimiter: str) -> list[dict[str, Any]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline=""), delimiter=delimiter, strict=True))


READERS: dict[str, Callable[[bytes], list[dict[str, Any]]]] = {
    "jsonl": read_jsonl,
    "csv": lambda content: read_table(content, ","),
    "tsv": lambda content: read_table(content, "\t"),
    "stdout": read_jsonl,
}
BOTH = [
    *((name, "jsonl") for name in CASES),
    *((name, "csv") for name in ("objects", "batch lines", "CSV", "CSV with an answer of its own", "text")),
    *((name, "tsv") for name in ("strings", "messages", "TSV")),
    *((name, "stdout") for name in ("objects", "text on standard input", "JSONL on standard input")),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture(scope="module")
def written(server: Provider, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[Done, bytes]]:
    """Every case in every format, each in a process that starts at once."""
    places = tmp_path_factory.mktemp("formats")

    def convert(both: tuple[str, str]) -> tuple[Done, bytes]:
        case, to = CASES[both[0]], both[1]
        folder = places / f"{both[0]} {to}"
        folder.mkdir()
        if case.name != "-":
            (folder / case.name).write_bytes(case.content)
        output = [] if to == "stdout" else ["-o", f"out.{to}"]
        options = (*case.options, *server.options(), *PLENTY)
        piped = case.content if case.name == "-" else None
        done = flatout("run", case.name, *output, *options, folder=folder, stdin=piped)
        return done, done.out.encode() if to == "stdout" else (folder / f"out.{to}").read_bytes()

    return {both: convert(both) for both in BOTH}


@pytest.mark.parametrize(("name", "to"), BOTH)
def test_rows_keep_their_columns_and_get_their_answers(
    name: str, to: str, written: dict[tuple[str, str], tuple[Done, bytes]]
) -> None:
    """Answers would stand beside other rows' questions, or the user's own columns be lost."""
    case = CASES[name]
    done, content = written[name, to]
    assert done.code == 0, done.err
    rows = READERS[to](content)
    names = [case.answer if column == "answer" else column for column in ANSWER]
    assert [list(row) for row in rows] == [[*case.columns, *names]] * len(case.asked)
    for row, asked in zip(rows, case.asked, strict=True):
        assert is_answer(row[case.answer], asked, case.system), row
        assert not row["error"]


@pytest.mark.parametrize("name", ["CSV", "TSV", "CSV with an answer of its own", "objects", "messages"])
def test_own_values_come_out_as_they_went_in(name: str, written: dict[tuple[str, str], tuple[Done, bytes]]) -> None:
    """A user's data would be changed on its way through."""
    case = CASES[name]
    reader = {"in.csv": READERS["csv"], "in.tsv": READERS["tsv"]}.get(case.name, read_jsonl)
    for to in ("jsonl", case.name.rpartition(".")[2].replace("ndjson", "jsonl")):
        rows = READERS[to](written[name, to][1])
        assert [{column: row[column] for column in case.columns} for row in rows] == reader(case.content)


def test_parquet_in_and_out(server: Provider, tmp_path: Path) -> None:
    """The extra would be installed for nothing."""
    pytest.importorskip("pyarrow", reason="needs the extra 'parquet'")
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"n": range(len(TEXTS)), "text": TEXTS}), tmp_path / "in.parquet")
    options = ("--prompt", "{{ text }}", *server.options(), *PLENTY)
    assert flatout("run", "in.parquet", "-o", "out.parquet", *options, folder=tmp_path).code == 0
    out = pq.read_table(tmp_path / "out.parquet")
    assert out.column_names == ["n", "text", *ANSWER]
    rows = out.to_pylist()
    assert [row["n"] for row in rows] == list(range(len(TEXTS)))
    assert all(is_answer(row["answer"], row["text"]) for row in rows)
    assert {type(row["input_tokens"]) for row in rows} == {int}


def test_parquet_takes_no_more_modules_than_it_needs(server: Provider, tmp_path: Path) -> None:
    """A run would take 14 MB more for numpy, and for clients of clouds that nobody asks."""
    pytest.importorskip("pyarrow", reason="needs the extra 'parquet'")
    import pyarrow as pa
    import pyarrow.parquet as pq

    at = pa.array([1_700_000_000_123_456_789] * len(TEXTS), pa.timestamp("ns", "Europe/Prague"))
    table = pa.table({"text": TEXTS, "at": at})
    pq.write_table(table, tmp_path / "in.parquet")
    options = ("--prompt", "{{ text }} {{ at }}", *server.options(), *PLENTY)
    env = {"PYTHONPROFILEIMPORTTIME": "1"}
    done = end(start("run", "in.parquet", "-o", "out.parquet", *options, folder=tmp_path, env=env))
    assert done.code == 0
    imported = {line.rpartition("|")[2].strip() for line in done.err.splitlines() if line.startswith("import time:")}
    assert "pyarrow.parquet.core" in imported
    assert not {name for name in imported if name.startswith(("numpy.", "pandas."))}
    assert pq.read_table(tmp_path / "out.parquet", columns=table.column_names).equals(table)


def test_python_itself_finds_nothing_to_warn_of(server: Provider, tmp_path: Path) -> None:
    """A file or a connection that is never closed would go unnoticed."""
    (tmp_path / "in.csv").write_bytes(CASES["CSV"].content)
    options = ("--prompt", "{{ text }}", *server.options(), *PLENTY)
    done = end(start("run", "in.csv", "-o", "o.jsonl", *options, folder=tmp_path, env={"PYTHONDEVMODE": "1"}))
    assert "Warning" not in done.err, sys.version
    assert done.code == 0
