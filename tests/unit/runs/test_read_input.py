from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import os
import pickle
import sqlite3
import tarfile
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flatout.errors import ConfigError
from flatout.runs.input import lines
from flatout.runs.input.read import open_input
from flatout.runs.input.rows import Row


def columns(source: Any, **options: Any) -> list[dict[str, Any]]:
    return [row.columns for row in open_input(source, **options)]


def piped(data: bytes, **options: Any) -> list[dict[str, Any]]:
    return columns("-", stdin=io.BytesIO(data), **options)


def problem(path: Path, data: bytes, **options: Any) -> str:
    """What a user is told about a file with these bytes, without the folder's name."""
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        list(open_input(path, **options))
    return str(caught.value).replace(str(path), path.name)


def test_jsonl_takes_strings_and_objects(tmp_path: Path) -> None:
    """Prompts written as bare JSON strings, or as objects, would not be read."""
    path = tmp_path / "a.jsonl"
    path.write_text('"one"\n\n{"prompt": "two", "n": 1}\n  \n{"text": "three"}')
    rows = list(open_input(path))
    assert [row.columns for row in rows] == [{"prompt": "one"}, {"prompt": "two", "n": 1}, {"text": "three"}]
    assert [(row.index, row.line) for row in rows] == [(0, 1), (1, 3), (2, 5)]
    assert rows[2].at == f"{path}, line 5"


def test_a_file_can_be_read_again_and_again(tmp_path: Path) -> None:
    """The check before a run would use up the rows that the run needs."""
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n")
    rows = open_input(path)
    assert rows.repeatable
    assert list(rows) == list(rows)
    assert len(list(rows)) == 1


def test_reading_is_lazy(tmp_path: Path) -> None:
    """A broken line far down would keep the first rows from being read, or a large file would fill the memory."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'"good"\n' * 3 + b"bad\n")
    rows = iter(open_input(path))
    assert [next(rows).line for _ in range(3)] == [1, 2, 3]
    with pytest.raises(ConfigError, match="line 4: not JSON"):
        next(rows)


def test_csv_names_the_line_a_record_starts_on(tmp_path: Path) -> None:
    """Messages would point at the wrong line of a CSV file once a cell has a line break."""
    path = tmp_path / "a.csv"
    path.write_bytes(b'id,text\r\n1,"two\r\nlines, ""quoted"""\r\n\r\n2,x\r\n')
    rows = list(open_input(path))
    assert [row.line for row in rows] == [2, 5]
    assert rows[0].columns == {"id": "1", "text": 'two\r\nlines, "quoted"'}
    assert open_input(path).columns == ("id", "text")


def test_tsv_and_text(tmp_path: Path) -> None:
    """Tab-separated files and plain lists of prompts would not be read."""
    (tmp_path / "a.tsv").write_text('a\tb\nx, y\tsay "hi"\n')
    assert columns(tmp_path / "a.tsv") == [{"a": "x, y", "b": 'say "hi"'}]
    (tmp_path / "a.txt").write_bytes(b"one\r\n   \n\n  two \nthree")
    rows = list(open_input(tmp_path / "a.txt"))
    assert [row.columns["prompt"] for row in rows] == ["one", "  two ", "three"]
    assert [row.line for row in rows] == [1, 4, 5]
    assert open_input(tmp_path / "a.txt").columns == ("prompt",)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt", "noname"])
def test_byte_order_marks(tmp_path: Path, name: str, encoding: str) -> None:
    """Files saved by Excel and Notepad would show a strange first column, or none."""
    text = "prompt\r\nä €\r\n" if name == "a.csv" else '"ä €"\r\n'
    if name == "a.txt":
        text = "ä €\r\n"
    mark = "\ufeff" if encoding.endswith("e") else ""
    (tmp_path / name).write_bytes((mark + text).encode(encoding))
    assert columns(tmp_path / name) == [{"prompt": "ä €"}]
    assert columns(tmp_path / name, encoding=encoding) == [{"prompt": "ä €"}]


def test_another_encoding_is_read_when_it_is_named(tmp_path: Path) -> None:
    """Someone with a Windows-1252 export would have no way to go on."""
    path = tmp_path / "mails.csv"
    data = "text\r\nnaïve – “quoted”\r\n".encode("cp1252")
    assert problem(path, data) == (
        "mails.csv, line 2: byte 3 (0xef) is not UTF-8; if the file is Windows-1252, add --encoding cp1252"
    )
    assert columns(path, encoding="cp1252") == [{"text": "naïve – “quoted”"}]
    assert problem(path, b"text\nab\n\x81\n", encoding="cp1252").startswith("mails.csv, line 3: byte 0x81")
    with pytest.raises(ConfigError, match="unknown encoding 'klingon'"):
        open_input(path, encoding="klingon")
    with pytest.raises(ConfigError, match="unknown encoding 'base64'"):
        open_input(path, encoding="base64")


def test_a_broken_character_late_in_utf16_is_named_by_its_line(tmp_path: Path) -> None:
    """The line of a broken character would be counted wrongly when the file is larger than one chunk."""
    good = "\ufeff" + "ਊ line\n" * 50_000
    data = good.encode("utf-16-le") + b"\x00\xd8\x20\x00\n\x00"
    assert problem(tmp_path / "a.txt", data).startswith("a.txt, line 50001: byte 0x00")


def test_half_a_character_at_the_end(tmp_path: Path) -> None:
    """A file cut off within a character would be read as if it were whole."""
    assert "line 2: byte 2 (0xc3) is not UTF-8" in problem(tmp_path / "a.txt", b"ok\na\xc3")
    assert "is not utf-16" in problem(tmp_path / "b.txt", "\ufeffab".encode("utf-16-le") + b"\x20")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.jsonl", b'"a"\n{"b": tru}\n', "a.jsonl, line 2: not JSON: "),
        ("a.jsonl", b'"a"\n{"b": 1', "a.jsonl, line 2: not JSON: it ends too early"),
        ("a.jsonl", b'{"b": 1} {"c": 2}', "a.jsonl, line 1: not JSON: trailing characters"),
        ("a.jsonl", b'{\n "b": 1\n}', "a.jsonl, line 1: not JSON: it spans several lines"),
        ("a.jsonl", b"[\n1]", "a.jsonl, row 1: a JSON number; a row is"),
        ("a.jsonl", b'{"b": "\\ud83d"}', "a.jsonl, line 1: not JSON: a \\u escape in it is half of a character"),
        ("a.jsonl", b'{"b": "\xff"}', "a.jsonl, line 1: byte 8 (0xff) is not UTF-8"),
        ("a.jsonl", b'"a"\n\n{"b": "\0"}', "a.jsonl, line 3: a NUL byte"),
        ("a.jsonl", b'{"a":' + b"[" * 100_000, "a.jsonl, line 1: not JSON: nested too deeply"),
        ("a.jsonl", b"[" * 100_000, "a.jsonl, row 1: not JSON: nested too deeply"),
        ("a.jsonl", b"1e999", "a.jsonl, line 1: not JSON: Number out of range"),
        ("a.jsonl", b'"a"\n7\n', "a.jsonl, line 2: a JSON number; a row is"),
        ("a.jsonl", b"true\n", "a.jsonl, line 1: a JSON boolean"),
        ("a.jsonl", b"null\n", "a.jsonl, line 1: null; a row is"),
        ("a.json", b"[]", "a.json: no rows"),
        ("a.json", b'[{"a": 1}, [2]]\n', "a.json, row 2: a JSON list; a row is"),
        ("a.json", b'[{"a": 1}', "a.json, row 2: not JSON: it ends too early"),
        ("a.json", b'[{"a": 1}, {"a": "x', "a.json, row 2: not JSON: it ends too early"),
        ("a.json", b'[{"a": 1}, {"a": tru', "a.json, row 2: not JSON: it ends too early"),
        ("a.json", b'[{"a": 1} {"a": 2}]', "a.json, row 2: not JSON: '{' where ',' belongs"),
        ("a.json", b'[{"a": 1}, {a: 2, "text": "' + b"x" * 50 + b'"}]', "a.json, row 2: not JSON: expecting property"),
        ("a.json", b'[{"a": 1}]\n[{"a": 2}]', "a.json: there is text after the list's end"),
        ("a.json", b'[{"a": "\xff"}]', "a.json: byte 9 (0xff) is not UTF-8"),
        ("a.json", b'["' + b"x" * 500_000 + b'\xff"]', "a.json: byte 500003 (0xff) is not UTF-8"),
        ("a.json", b'["a", NaN]', "a.json, row 2: not JSON: "),
        ("a.json", b'["\\ud83d"]', "a.json, row 1: not JSON: a \\u escape in it is half of a character"),
        ("a.csv", b"a,b\n1,2\n3\n", "a.csv, line 3: 1 cell, but the header has 2"),
        ("a.csv", b"a,b\n1,2,3\n", "a.csv, line 2: 3 cells, but the header has 2"),
        ("a.csv", b"a,b,a\n1,2,3\n", "a.csv, line 1: the column 'a' occurs twice"),
        ("a.csv", b'a,b\n1,2\n3,"4\n5,6\n', "a.csv, line 3: a quote is opened here and never closed"),
        ("a.csv", b'a,b\n"x"y,2\n', "a.csv, line 2: not CSV: "),
        ("a.csv", b"a,b\rc,d\r", "a.csv, line 1: a carriage return within a cell"),
        ("a.csv", b"a,b\nx\0,2\n", "a.csv, line 2: a NUL byte; if the file is UTF-16"),
        ("a.txt", b"a\nb\0c\n", "a.txt, line 2: a NUL byte"),
        ("a.jsonl", b"", "a.jsonl: no rows"),
        ("a.jsonl", b" \n\n", "a.jsonl: no rows"),
        ("a.csv", b"", "a.csv: no rows"),
        ("a.csv", b"\n\n", "a.csv: no rows"),
        ("a.csv", b"a,b\n", "a.csv: no rows"),
        ("a.txt", b"\n", "a.txt: no rows"),
        ("noname", b"", "noname: no rows"),
        ("a.txt.gz", b"plain", "a.txt.gz: not a gzip file"),
        ("a.txt.gz", gzip.compress(b"text" * 100, mtime=0)[:-9], "a.txt.gz: the gzip file is damaged or cut off"),
        ("a.txt.xz", b"plain", "a.txt.xz: not an xz file"),
        ("a.db", b"SQLite format 3\0" + b"\0" * 500, "a.db: SQLite says: "),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    """A user would have to search a million lines for the one that is broken."""
    said = problem(tmp_path / name, data)
    assert said.startswith(message)
    assert "\n" not in said


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "noname", "a.json.gz"])
def test_a_json_list_of_rows_is_read(tmp_path: Path, name: str, indent: int | None) -> None:
    """What `json.dump` writes and most APIs answer would have to be converted by hand."""
    rows = [{"prompt": f'né \\ " ]}} {n}', "n": n, "deep": [{"a": [n]}]} for n in range(5_000)]
    data = json.dumps([*rows, "text"], indent=indent, ensure_ascii=False).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    source = open_input(path)
    found = list(source)
    assert source.format == "json"
    assert [row.columns for row in found] == [*rows, {"prompt": "text"}]
    assert (found[6].index, found[6].at) == (6, f"{path}, row 7")
    assert piped(data) == [*rows, {"prompt": "text"}]


def test_an_element_of_a_list_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that never goes on to its next row would fill the memory."""
    monkeypatch.setattr(lines, "LONGEST_LINE", 1_000)
    assert problem(tmp_path / "a.json", b'["a", "' + b"x" * 300_000 + b'"]').startswith(
        "a.json, row 2: longer than 1,000 characters"
    )


def _zip_of(name: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, "x")
    return packed.getvalue()


def _database(application: int) -> bytes:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"PRAGMA application_id = {application}")
        connection.execute("CREATE TABLE t (x)")
        return bytes(connection.serialize())


def _tar() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"), io.BytesIO())
    return packed.getvalue()


OTHER_KINDS = [
    (_zip_of("xl/workbook.xml"), "is a workbook (Excel or its like); name it .xlsx, or add --format excel"),
    (_zip_of("word/document.xml"), "is a Word document; get its text out first"),
    (_zip_of("ppt/presentation.xml"), "is a presentation; get its text out first"),
    (_zip_of("rows.csv"), "is a ZIP archive; unpack it first"),
    (_database(0), "is an SQLite database; name it .sqlite, or add --format sqlite"),
    (_database(1179402580), "is a run file; get its answers out with: flatout export"),
    (b"\r\xed\x0f\xcesl\x1f{DUCK\xe7\x03\0\0", "is a DuckDB database; name it .duckdb, or add --format duckdb"),
    (_tar(), "is a tar archive; unpack it first"),
    (gzip.compress(_tar(), mtime=0), "is a tar archive; unpack it first"),
    (gzip.compress(gzip.compress(b"a", mtime=0), mtime=0), "is packed twice, with gzip inside; unpack it first"),
    (gzip.compress(bz2.compress(b"a"), mtime=0), "is packed twice, with bzip2 inside; unpack it first"),
    (b"LZIP\x01\x0c\0", "is packed with lzip; unpack it first"),
    (b"\x04\x22\x4d\x18\x64", "is packed with lz4; unpack it first"),
    (b"\x1f\x9d\x90", "is packed with compress; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive; unpack it first"),
    (b"Rar!\x1a\x07\x01\0", "is a RAR archive; unpack it first"),
    (b"%PDF-1.7\n", "is a PDF; get its text out first"),
    (b"\x89PNG\r\n\x1a\n", "is a picture; --image sends pictures that a column names"),
    (b"RIFF\0\0\0\0WEBP", "is sound, a film or a picture; --image sends pictures that a column names"),
    (b"ID3\x04\0\0", "is sound; write it down as text first"),
    (b"{\\rtf1\\ansi hello}", "is a text with layout (RTF); save it as plain text"),
    (pickle.dumps(["a"], protocol=4), "is a Python pickle, which would run code"),
    (b"\0\1\0\0Standard ACE DB\0", "is an Access database; write it as JSONL, CSV or Parquet"),
    (b"<stata_dta><header>", "is a Stata file; write it as JSONL, CSV or Parquet"),
    (b"$FL2@(#) SPSS", "is an SPSS file; write it as JSONL, CSV or Parquet"),
    (b"RDX3\nX\n\0\0\0\3", "is an R file; write it as JSONL, CSV or Parquet"),
    (b"ARROW1\0\0", "is an Arrow (Feather) file; write it as JSONL, CSV or Parquet"),
    (b"Obj\x01\x04", "is an Avro file; write it as JSONL, CSV or Parquet"),
    (b"\x93NUMPY\x01\0", "is a NumPy file; write it as JSONL, CSV or Parquet"),
    (b"\x7fELF\x02", "is a program"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an old Excel or Word file; add --format excel, or save it as CSV"),
    (b"PAR1\x15\x04", "is a Parquet file; name it .parquet, or add --format parquet"),
    (b"\n<!DOCTYPE html>\n<html>", "is an HTML or XML page, not rows"),
]


@pytest.mark.parametrize(("data", "message"), OTHER_KINDS, ids=[message[:40] for _, message in OTHER_KINDS])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_another_kind_of_file_is_named(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    """A renamed workbook or a database would be called broken CSV at some byte, with no way to go on."""
    if name == "a.parquet" and (data.startswith((b"PAR1", b"\x1f\x8b")) or b"<html>" in data):
        return  # pyarrow's own words
    assert problem(tmp_path / name, data).startswith(f"{name}: {message}")


@pytest.mark.parametrize("word", ["ORCID", "PARENT_ID", "PAR1", "GIF89a", "BZh", "ARROW1", "RIFF", "12345678DUCK"])
def test_a_word_that_begins_like_another_kind_of_file_is_a_word(tmp_path: Path, word: str) -> None:
    """A table of researchers, or of parents, would be refused for the name of its first column."""
    for name, data, value in (
        ("a.csv", f"{word},text\n1,é\n", {word: "1", "text": "é"}),
        ("a.txt", f"{word} is a word.\n", {"prompt": f"{word} is a word."}),
    ):
        (tmp_path / name).write_text(data, encoding="utf-8")
        assert columns(tmp_path / name) == [value]


def test_gzip_without_its_suffix_is_unpacked(tmp_path: Path) -> None:
    """A download that lost its suffix, or a packed pipe, would be called a NUL byte on line 1."""
    (tmp_path / "a.csv").write_bytes(gzip.compress(b"a\n1\n"))
    assert columns(tmp_path / "a.csv") == [{"a": "1"}]
    assert piped(gzip.compress(b'{"a": 1}\n')) == [{"a": 1}]


def test_files_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong path would end in a traceback."""
    with pytest.raises(ConfigError, match=r"gone\.csv: no such file$"):
        open_input(tmp_path / "gone.csv")
    with pytest.raises(ConfigError, match="is a directory"):
        open_input(tmp_path)
    (tmp_path / "a.txt").write_text("x")

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError, match=r"a\.txt: cannot be read: Permission denied"):
        open_input(tmp_path / "a.txt")


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without line ends would fill the memory."""
    monkeypatch.setattr(lines, "LONGEST_LINE", 1_000)
    assert problem(tmp_path / "a.jsonl", b'"' + b"x" * 998 + b'"\n"y"') == "a.jsonl, line 1: longer than 1,000 bytes"
    (tmp_path / "b.jsonl").write_bytes(b'"' + b"x" * 997 + b'"\n"y"')
    assert len(columns(tmp_path / "b.jsonl")) == 2


def test_cells_larger_than_the_csv_module_allows_by_itself(tmp_path: Path) -> None:
    """A CSV of long documents would fail at 131,072 characters."""
    (tmp_path / "a.csv").write_text(f"text\n{'x' * 200_000}\n")
    assert len(columns(tmp_path / "a.csv")[0]["text"]) == 200_000


def test_gzip_is_unpacked(tmp_path: Path) -> None:
    """Compressed exports would have to be unpacked by hand."""
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a\n1\n", mtime=0))
    rows = open_input(tmp_path / "a.csv.gz")
    assert (rows.format, rows.columns) == ("csv", ("a",))
    assert [row.columns for row in rows] == [{"a": "1"}]


@pytest.mark.parametrize(
    ("data", "format"),
    [
        (b'{"prompt": "a"}', "jsonl"),
        (b' \n\n "a"', "jsonl"),
        (b'\xef\xbb\xbf"a"', "jsonl"),
        ('\ufeff"a"'.encode("utf-16-be"), "jsonl"),
        (b"hello", "text"),
        (b"[1]", "text"),
        (b"\n" * 5_000 + b"hello", "text"),
    ],
)
def test_stdin_is_sniffed(data: bytes, format: str) -> None:
    """A piped input would be taken for the wrong format."""
    source = open_input("-", stdin=io.BytesIO(data))
    assert (source.format, source.name, source.repeatable) == (format, "stdin", False)
    assert len(list(source)) == 1


def test_a_format_given_wins(tmp_path: Path) -> None:
    """A user could not say what a file without a telling name is."""
    assert piped(b"a,b\n1,2\n", format="csv") == [{"a": "1", "b": "2"}]
    (tmp_path / "a.jsonl").write_text('"x"\n')
    assert columns(tmp_path / "a.jsonl", format="text") == [{"prompt": '"x"'}]
    with pytest.raises(ConfigError, match="the input format is one of jsonl, json, csv"):
        open_input(tmp_path / "a.jsonl", format="xlsx")
    with pytest.raises(ConfigError, match="Parquet cannot be read from a pipe"):
        piped(b"PAR1", format="parquet")


def test_stdin_is_read_once() -> None:
    """A second pass over stdin would silently find nothing."""
    source = open_input("-", stdin=io.BytesIO(b"a\n1\n"), format="csv")
    assert source.columns == ("a",)
    assert [row.line for row in source] == [2]
    with pytest.raises(ConfigError, match="stdin: can be read only once"):
        list(source)


def test_stdin_that_arrives_byte_by_byte() -> None:
    """What a slow pipe wrote before the format was told would be lost."""

    class Slow(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            return super().read1(1)

    source = open_input("-", stdin=Slow(b'\n\xef\xbb\xbf\n{"prompt": "a"}\n"b"'), format="text")
    assert [row.columns["prompt"] for row in source] == ["\ufeff", '{"prompt": "a"}', '"b"']
    assert [row.columns for row in open_input("-", stdin=Slow(b'\xef\xbb\xbf "b"\n'))] == [{"prompt": "b"}]


def test_reading_stdin_leaves_it_open() -> None:
    """A program that still needs its stdin would find it closed."""
    stdin = io.BytesIO(b"one\n")
    list(open_input("-", stdin=stdin))
    assert not stdin.closed


def test_a_named_pipe_is_read_once(tmp_path: Path) -> None:
    """`flatout run <(zcat big.gz)` would wait for ever at the second pass."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text("one\ntwo\n"))
    writer.start()
    source = open_input(pipe)
    writer.join()
    assert not source.repeatable
    assert len(list(source)) == 2


def test_parquet_without_pyarrow_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without the extra would see an ImportError's traceback."""
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(ConfigError, match=r"pip install 'flatout\[parquet\]'"):
        open_input(tmp_path / "a.parquet")


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.dictionaries(st.text(), JSON_VALUES, max_size=4), min_size=1, max_size=5))
def test_jsonl_is_read_as_the_standard_library_reads_it(rows: list[dict[str, Any]]) -> None:
    """A row's values would reach the prompt changed."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if any("\\ud" in line for line in text.splitlines()):
        return
    assert piped(text.encode(), format="jsonl") == [json.loads(line) for line in text.split("\n") if line]


@settings(deadline=None)
@given(
    data=st.binary(max_size=200)
    | st.text(alphabet='{}[]",:\\\n\r\t0a é\0\ufeff', max_size=60).map(str.encode)
    | st.text(max_size=40).map(lambda text: text.encode("utf-16")),
    format=st.sampled_from(["jsonl", "csv", "tsv", "text", None]),
    encoding=st.sampled_from(["utf-8", "cp1252", "utf-16", "utf-16-be", "utf-7", "shift_jis", "utf-8-sig"]),
)
@example(data=b"\xff\xfe", format="csv", encoding="utf-8")
@example(data=b'"', format="csv", encoding="utf-8")
def test_any_bytes_give_rows_or_a_plain_error(data: bytes, format: str | None, encoding: str) -> None:
    """Some strange file would end in a traceback instead of a sentence."""
    with contextlib.suppress(ConfigError):
        rows = list(open_input("-", stdin=io.BytesIO(data), format=format, encoding=encoding))
        assert rows
        assert all(isinstance(row, Row) and row.index == index for index, row in enumerate(rows))


@settings(deadline=None)
@given(data=st.binary(max_size=100), cut=st.integers(0, 40), flip=st.integers(0, 60))
def test_any_gzip_gives_rows_or_a_plain_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cut: int, flip: int
) -> None:
    """A damaged download would end in a traceback."""
    packed = bytearray(gzip.compress(data))
    packed[flip % len(packed)] ^= 0x55
    path = tmp_path_factory.getbasetemp() / "any.txt.gz"
    path.write_bytes(packed[: len(packed) - cut])
    with contextlib.suppress(ConfigError):
        assert list(open_input(path))
