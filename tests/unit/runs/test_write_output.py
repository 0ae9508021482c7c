from __future__ import annotations

import csv
import errno
import io
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout.durable.records import item_of
from flatout.errors import ConfigError, RateLimited, StoreError, Truncated
from flatout.runs.input.read import open_input
from flatout.runs.output import write as writing
from flatout.runs.output.answered import ANSWER_COLUMNS, AnsweredRow, answer_names
from flatout.runs.output.claim import Claim
from flatout.runs.output.export import _answered
from flatout.runs.output.write import check_output, write
from flatout.values import Reply, Result, Usage

HEADER = (
    "answer,error,finish_reason,model,input_tokens,output_tokens,cost,attempts,seconds,provider_seconds,queued_seconds"
)


def rows(*columns: dict[str, Any], **answer: Any) -> Callable[[], Iterator[AnsweredRow]]:
    return lambda: (AnsweredRow(columns=each, **answer) for each in columns)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_jsonl_has_the_inputs_columns_and_then_the_answer(tmp_path: Path) -> None:
    """The answers could not be matched with the rows, or unknown numbers would be shown as 0."""
    path = tmp_path / "a.jsonl"
    assert write(path, rows({"id": 1, "text": "é"}, answer={"spam": True}, cost=0.5, attempts=1)) == 1
    (line,) = read_jsonl(path)
    assert list(line) == ["id", "text", *ANSWER_COLUMNS]
    assert line["answer"] == {"spam": True}
    assert (line["cost"], line["input_tokens"], line["error"]) == (0.5, None, None)
    assert "é" in path.read_text()


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_what_could_not_be_used_has_a_column_where_there_is_some(tmp_path: Path, name: str) -> None:
    """What a model said would be lost where it does not fit; or a column that is always empty stand in every output."""
    path = tmp_path / name
    said = rows({"raw_answer": "mine"}, answer=None, raw_answer='{"na')
    write(path, said)
    assert "flatout_raw_answer" not in str(shown(path))
    write(path, said, raw=True)
    assert shown(path)["raw_answer"] == "mine"
    assert shown(path)["flatout_raw_answer"] == '{"na'


def shown(path: Path) -> dict[str, Any]:
    """The first row."""
    if path.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        return dict(parquet.read_table(path).to_pylist()[0])
    if path.suffix == ".csv":
        return next(csv.DictReader(path.read_text().splitlines()))
    return read_jsonl(path)[0]


def test_csv_has_a_header_of_every_column(tmp_path: Path) -> None:
    """A column that only later rows have would be lost, or shift the others."""
    path = tmp_path / "a.csv"
    assert write(path, rows({"a": "x,y", "b": None}, {"b": 'say "hi"', "c": [1, "é"]}, answer={"k": 1.5})) == 2
    assert path.read_bytes().decode().split("\n") == [
        f"a,b,c,{HEADER}",
        '"x,y",,,"{""k"":1.5}",,,,,,,,,,',
        ',"say ""hi""","[1,""é""]","{""k"":1.5}",,,,,,,,,,',
        "",
    ]
    write(path, rows({"a": True, "b": 2**70}), ("b", "a"))
    assert path.read_text().startswith(f"b,a,{HEADER}\n{2**70},true,,")


def test_tsv(tmp_path: Path) -> None:
    """A .tsv file would have commas."""
    write(tmp_path / "a.tsv", rows({"a": "x,y"}, answer="1\t2"))
    assert (tmp_path / "a.tsv").read_text().splitlines()[1].startswith('x,y\t"1\t2"\t')


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_names_that_the_input_has_already(tmp_path: Path, suffix: str) -> None:
    """The user's own column would be overwritten by the answer, in some rows or in all."""
    path = tmp_path / f"a.{suffix}"
    own = [{"text": "x"}, {"answer": "mine", "model": "m", "flatout_model": "mm"}]
    write(path, rows(*own, answer="new", model="gpt"))
    found = [row.columns for row in open_input(path)]
    assert [row["flatout_answer"] for row in found] == ["new", "new"]
    assert [row["flatout_flatout_model"] for row in found] == ["gpt", "gpt"]
    assert found[1]["answer"] == "mine"
    assert answer_names([])["error"] == "error"


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_row_that_does_not_fit_the_columns_is_refused(tmp_path: Path, suffix: str) -> None:
    """Data of a row would be dropped or overwritten in silence when the input changed."""
    with pytest.raises(ConfigError, match="the column 'answer', which the input did not have before"):
        write(tmp_path / f"a.{suffix}", rows({"a": 1}, {"a": 1, "answer": 2}), ("a",))
    assert names_in(tmp_path) == []


def test_formulas_are_made_harmless_on_request(tmp_path: Path) -> None:
    """A spreadsheet would run a formula that a model, or a mail, wrote."""
    path = tmp_path / "a.csv"
    bad = ["=1+1", "+cmd", "-x", "@sum", "\tx", "\rx", "-1+1|cmd"]
    good = ["-5", "+3.5", "-1e-7", "plain", "a=b", ""]
    write(path, rows(*({"a": each} for each in [*bad, *good, -5]), answer="=A1"), neutralise=True)
    found = [row.columns for row in open_input(path)]
    assert [row["a"] for row in found] == [f"'{each}" for each in bad] + [*good, "-5"]
    assert found[0]["answer"] == "'=A1"
    write(path, rows({"a": "=1+1"}))
    assert "\n=1+1," in path.read_text()


def test_unusual_values(tmp_path: Path) -> None:
    """One strange character in one answer would keep a million rows from being written."""
    odd = {"half": "a\ud800b", "nul": "a\0b", "big": 2**70, "nan": float("nan")}
    write(tmp_path / "a.jsonl", rows(odd))
    assert read_jsonl(tmp_path / "a.jsonl")[0]["half"] == "a\ud800b"
    write(tmp_path / "a.csv", rows(odd))
    assert next(iter(open_input(tmp_path / "a.csv"))).columns["nul"] == "a\ufffdb"
    assert next(iter(open_input(tmp_path / "a.csv"))).columns["nan"] == ""


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    """A crash while writing would leave half a file in place of yesterday's whole one."""
    path = tmp_path / "a.jsonl"
    path.write_text("old")

    def broken() -> Iterator[AnsweredRow]:
        yield AnsweredRow(columns={})
        assert path.read_text() == "old"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, broken, ())
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["a.jsonl"]


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    """A full disk would end in a traceback and leave a partial file behind, making it fuller."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing.os, "fsync", full)
    with pytest.raises(StoreError, match=rf"a\.{suffix}: cannot be written: the disk is full$"):
        write(tmp_path / f"a.{suffix}", rows({"a": 1}))
    assert names_in(tmp_path) == []


def test_a_folder_that_went_away(tmp_path: Path) -> None:
    """A traceback would be all that a user gets who deleted the folder during the run."""
    with pytest.raises(StoreError, match="cannot be written: No such file or directory"):
        write(tmp_path / "gone" / "a.jsonl", rows({}))


def test_permissions_and_links(tmp_path: Path) -> None:
    """Other users could read the answers, or a link to another disk would be replaced by a file."""
    old = os.umask(0o027)
    try:
        write(tmp_path / "a.jsonl", rows({}))
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.jsonl").stat().st_mode) == 0o600
    (tmp_path / "link.jsonl").symlink_to("b.jsonl")
    write(tmp_path / "link.jsonl", rows({}))
    assert (tmp_path / "link.jsonl").is_symlink()
    assert len(read_jsonl(tmp_path / "b.jsonl")) == 1


def test_devices_are_written_to_and_never_replaced() -> None:
    """`-o /dev/null`, run as root, would replace the device by a file."""
    check_output("/dev/null")
    assert write("/dev/null", rows({"a": 1})) == 1
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    if Path("/dev/full").exists():
        with pytest.raises(StoreError, match="/dev/full: cannot be written: the disk is full"):
            write("/dev/full", rows({"a": "x" * 100_000}))
    with pytest.raises(ConfigError, match="Parquet can only be written to a file"):
        check_output("/dev/null", format="parquet")


def test_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers could not be piped into another program."""
    out = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", out)
    check_output("-")
    assert write("-", rows({"a": 1}, answer="x")) == 1
    assert write("-", rows({"a": 1}), format="csv") == 1
    first, *rest = out.buffer.getvalue().decode().splitlines()  # type: ignore[attr-defined]  # it is a BytesIO
    assert json.loads(first)["answer"] == "x"
    assert rest == [f"a,{HEADER}", "1,,,,,,,,,,,"]


def test_outputs_that_cannot_be_written_are_found_before_the_first_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A night's answers would be paid for before the user learns of a typing error in the path."""
    (tmp_path / "in.csv").write_text("a\n")
    (tmp_path / "link.csv").symlink_to("in.csv")
    for name, message in {
        "out.xls.tmp": "the suffix .tmp names no output format; use .jsonl, .csv, .tsv or .parquet",
        "out.xlsx": r"workbooks are read, not written; write \.csv, which spreadsheets open",
        "out.parquet.gz": r"Parquet is packed inside; name it \.parquet",
        "out.gz": r"its name says how it is packed, and not its format; use \.jsonl\.gz",
        "out.db": "a database holds tables; name one: .*out.db::answers",
        "out.db::": "'' is no name of a table",
        "out.db::../x": "'../x' is no name of a table",
        "out.db::select 1": "a query cannot be written to",
        "in.csv::t": "names no output format",
        "out": "a name without a suffix names no output format",
        "": "is a directory",
        "gone/out.csv": "gone does not exist",
        "in.csv": "is the input",
        "link.csv": "is the input",
        f"{'x' * 300}.csv": "cannot be written: File name too long",
    }.items():
        with pytest.raises(ConfigError, match=message):
            check_output(tmp_path / name, claim=Claim(source=str(tmp_path / "in.csv")))
    with pytest.raises(ConfigError, match="the output format is one of"):
        check_output(tmp_path / "out.csv", format="text")
    check_output(tmp_path / "out.csv", claim=Claim(source=str(tmp_path / "in.csv")))
    check_output(tmp_path / "out.csv", claim=Claim())
    check_output(tmp_path / "out.dat", format="jsonl")
    assert names_in(tmp_path) == ["in.csv", "link.csv"]
    monkeypatch.setattr(writing.os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(ConfigError, match="is not writable"):
        check_output(tmp_path / "out.csv")
    monkeypatch.setattr(writing.os, "access", lambda path, mode: Path(path) == tmp_path)
    with pytest.raises(ConfigError, match=r"in\.csv: is not writable"):
        check_output(tmp_path / "in.csv")


def test_parquet_without_pyarrow_is_found_before_the_first_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All answers would be paid for and then not be written."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'flatout\[parquet\]'"):
        check_output(tmp_path / "a.parquet")


def test_too_many_columns_for_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A JSONL file whose keys are data would fill the memory as a CSV header."""
    monkeypatch.setattr(writing, "MOST_COLUMNS", 10)
    wide = rows(*({f"k{n}": 1} for n in range(11)))
    with pytest.raises(ConfigError, match=r"more than 10 different columns; write \.jsonl"):
        write(tmp_path / "a.csv", wide)
    assert write(tmp_path / "a.jsonl", wide) == 11


def test_results_become_rows() -> None:
    """What was paid for an answer that could not be used would be missing from the output."""

    class Label(pydantic.BaseModel):
        spam: bool

    usage = Usage(input_tokens=3, output_tokens=5)
    reply = Reply(text="hi", usage=usage, model="m-1", finish_reason="stop")
    good = as_written(Result(index=0, reply=reply, attempts=1, cost=0.1, elapsed=2.0))
    assert (good.answer, good.error, good.input_tokens, good.model, good.seconds) == ("hi", None, 3, "m-1", 2.0)
    assert as_written(Result(index=0, reply=reply, output=Label(spam=True))).answer == {"spam": True}
    cut = Truncated("cut off\n at 5 tokens", reply=reply)
    bad = as_written(Result(index=0, error=cut, attempts=2))
    assert (bad.answer, bad.error, bad.output_tokens) == (None, "Truncated: cut off at 5 tokens", 5)
    none = as_written(Result(index=0, error=RateLimited("too\r\nfast")))
    assert (none.error, none.input_tokens, none.cost) == ("RateLimited: too fast", None, None)
    assert as_written(Result(index=0, error=RateLimited(""))).error == "RateLimited"


def as_written(result: Result[Any]) -> AnsweredRow:
    """A result's row of the output, which comes of what the run file keeps of it."""
    return _answered(item_of(result, made=b"{}", row=b"{}"))


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@settings(max_examples=40, deadline=None)
@given(
    columns=st.lists(st.dictionaries(st.text(), JSON_VALUES, max_size=3), min_size=1, max_size=4), answer=JSON_VALUES
)
def test_whatever_is_written_as_jsonl_is_read_back(
    columns: list[dict[str, Any]], answer: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Answers or data would change between the run and the file."""
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    write(path, rows(*columns, answer=answer))
    taken = {name for each in columns for name in each}
    name = answer_names(taken)["answer"]
    for row, given_columns in zip(open_input(path), columns, strict=True):
        assert {key: row.columns[key] for key in given_columns} == given_columns
        assert row.columns[name] == answer


@settings(max_examples=40, deadline=None)
@given(
    columns=st.lists(st.dictionaries(TEXTS, TEXTS | JSON_VALUES, max_size=3), min_size=1, max_size=4),
    suffix=st.sampled_from(["csv", "tsv"]),
)
def test_whatever_is_written_as_csv_is_read_back(
    columns: list[dict[str, Any]], suffix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Line breaks, quotes or tabs in an answer would tear the table apart."""
    path = tmp_path_factory.getbasetemp() / f"any.{suffix}"
    write(path, rows(*columns, answer="x"))
    for row, given_columns in zip(open_input(path), columns, strict=True):
        for name, value in given_columns.items():
            cell = row.columns[name.replace("\0", "\ufffd")]
            if isinstance(value, str):
                assert cell == value.replace("\0", "\ufffd")
            else:
                assert (json.loads(cell) if cell else None) == value
