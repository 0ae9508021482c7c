"""Input whose name says nothing about its format, or the wrong thing."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from flatout.errors import ConfigError
from flatout.runs.input.read import open_input

CSV = b"id,text\n1,hello\n2,good day\n"
LONG = b"id,text,kind\n" + b"".join(b'%d,"%d%s",spam\n' % (n, n, b" words" * 61) for n in range(30))
"""What is looked at ends in the middle of a record."""


def refusal(source: Any, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        list(open_input(source, **options))
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "way"),
    [
        (CSV, "columns id, text; add --format csv, or --format text"),
        (CSV[:-4], "columns id, text; add --format csv, or"),
        (CSV.decode().encode("utf-16"), "columns id, text; add --format csv, or"),
        (b'id,text\n1,"two\nlines"\n', "columns id, text; add --format csv, or"),
        (b"id;text\n1;hello, you\n", "columns id, text; add --format csv --delimiter ';', or"),
        (b"id\ttext\n1\thello\n", "columns id, text; add --format tsv, or"),
        (LONG, "columns id, text, kind; add --format csv, or"),
    ],
)
def test_a_table_without_a_name_is_never_asked_line_by_line(tmp_path: Path, data: bytes, way: str) -> None:
    """The header would be asked as the first prompt, and each answer paid."""
    (tmp_path / "mails").write_bytes(data)
    assert way in refusal(tmp_path / "mails")
    assert way in refusal("-", stdin=io.BytesIO(data))


def test_a_table_without_a_name_is_read_as_the_user_says(tmp_path: Path) -> None:
    """The way out that the message names would lead nowhere."""
    path = tmp_path / "mails"
    path.write_bytes(CSV)
    assert next(row.columns for row in open_input(path, format="csv")) == {"id": "1", "text": "hello"}
    assert next(row.columns for row in open_input(path, format="text")) == {"prompt": "id,text"}
    assert next(row.columns for row in open_input(path, delimiter=",")) == {"id": "1", "text": "hello"}


@pytest.mark.parametrize(
    "text",
    [
        "Write a poem\nSing a song\n",
        "Dear Sir, I have a question\nDear Madam, I have another\n",
        "one, two, three\nfour, five\n",
        "only,one\n",
        "| a | b |\n| 1 | 2 |\n",
    ],
)
def test_prose_is_text(text: str) -> None:
    """Prompts with commas in them could not be asked."""
    rows = list(open_input("-", stdin=io.BytesIO(text.encode())))
    assert [row.columns["prompt"] for row in rows] == text.splitlines()


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.csv", b'[{"id": 1, "text": "x"},\n {"id": 2, "text": "y"}]', "is a JSON list, not CSV; add --format jsonl"),
        ("a.csv", b'{"id": 1}\n{"id": 2}\n', "is JSON, not CSV; add --format jsonl"),
        ("a.tsv", b'{"id": 1}\n', "is JSON, not TSV; add --format jsonl"),
        ("a.csv", b"id;text\n1;hello, you\n", "columns id, text; add --delimiter ';'"),
        ("a.csv", b"id\ttext\n1\thello\n", "columns id, text; add --delimiter '\\t'"),
        ("a.tsv", CSV, "columns id, text; add --delimiter ','"),
        ("a.jsonl", CSV, "is no JSON; it looks like a table with the columns id, text: add --format csv"),
        ("a.parquet", CSV, "is no Parquet file; it looks like a table with the columns id, text: add --format csv"),
        ("a.parquet", b'{"id": 1}\n', "is no Parquet file; it is JSON: add --format jsonl"),
    ],
)
def test_a_misnamed_file_is_called_what_it_is(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    """People would search for a fault in their data that is only in the name."""
    (tmp_path / name).write_bytes(data)
    assert said in refusal(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "data", "options", "row"),
    [
        ("a.csv", b"id;text\n1;hello\n", {"delimiter": ";"}, {"id": "1", "text": "hello"}),
        ("a.csv", b"id\ttext\n1\thello\n", {"delimiter": "\\t"}, {"id": "1", "text": "hello"}),
        ("a.csv", b"id;text\n1;hello\n", {"delimiter": ","}, {"id;text": "1;hello"}),
        ("a.csv", b'[{"id": 1}]', {"format": "jsonl"}, {"id": 1}),
        ("a.jsonl", CSV, {"format": "csv"}, {"id": "1", "text": "hello"}),
        ("a.csv", b"id,when\n1,a;b\n", {}, {"id": "1", "when": "a;b"}),
        ("a.csv", b"a;b,c;d\n1;2,3;4\n", {}, {"a;b": "1;2", "c;d": "3;4"}),
        ("a.csv", b"text\nhello; you\n", {}, {"text": "hello; you"}),
    ],
)
def test_the_way_out_leads_out(tmp_path: Path, name: str, data: bytes, options: dict[str, Any], row: Any) -> None:
    """The option that a message names would be refused as well, or a sound file be."""
    (tmp_path / name).write_bytes(data)
    assert next(iter(open_input(tmp_path / name, **options))).columns == row
