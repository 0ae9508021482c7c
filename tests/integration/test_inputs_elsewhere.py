"""Inputs from a real web server: with parts and without, over connections that are lost, and what goes wrong there."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from flatout.errors import ConfigError
from flatout.runs.input import afar, elsewhere
from flatout.runs.input.read import open_input
from tests.support.command_samples import PLENTY, Provider, flatout, provider
from tests.support.web_files import WAYS, Files, web

pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")

COUNT = 20_000
ROWS = b"".join(b'{"n": %d, "prompt": "%060d"}\n' % (n, n) for n in range(COUNT))


@pytest.fixture(scope="module")
def files() -> Iterator[Files]:
    with web() as served:
        served.files["a.jsonl"] = ROWS
        served.files["a.jsonl.gz"] = gzip.compress(ROWS, 1)
        served.files["cut.jsonl.gz"] = gzip.compress(ROWS, 1)[:1000]
        served.files["page.jsonl"] = served.files["page"] = b"<!doctype html><p>Please sign in"
        yield served


@pytest.fixture(scope="module")
def server() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks, and no waiting before another try."""
    monkeypatch.setattr(afar, "PAUSES", (0, 0, 0))
    monkeypatch.setattr(afar, "BLOCK", 400_000)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize("way", WAYS)
def test_all_rows_come_whatever_the_server_can_do(files: Files, way: str, name: str) -> None:
    """Rows would be missing or come twice where a server hands out no parts, or a connection is lost."""
    found = open_input(f"{files.url}/{way}/{name}?token=hidden")
    for _ in range(2):
        assert [row.columns["n"] for row in found] == list(range(COUNT))
    if way in ("plain", "chunked"):
        assert files.asked[f"/{way}/{name}"] <= 4, "a server without parts is asked for the whole once"


def test_parquet_is_read_in_parts(files: Files) -> None:
    """All of a table would be fetched for its first rows, or none of it be readable at all."""
    pa = pytest.importorskip("pyarrow")
    made = io.BytesIO()
    pytest.importorskip("pyarrow.parquet").write_table(pa.table({"n": list(range(COUNT))}), made, row_group_size=1000)
    files.files["a.parquet"] = made.getvalue()
    for way in ("parts", "cut", "plain"):
        found = open_input(f"{files.url}/{way}/a.parquet")
        assert [row.columns["n"] for row in found] == list(range(COUNT))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("parts/none.jsonl", "no such file"),
        ("status/403", "the server refuses to hand it out (403)"),
        ("status/401", "the server refuses to hand it out (401)"),
        ("status/500", "the server answers 500 Internal Server Error"),
        ("loop/a.jsonl", "the server sends from one address to another without end"),
        ("parts/page.jsonl", "is an HTML or XML page, not rows; was a login or error page downloaded?"),
        ("parts/page", "is an HTML or XML page, not rows; was a login or error page downloaded?"),
        ("parts/cut.jsonl.gz", "the gzip file is damaged or cut off"),
    ],
)
def test_what_goes_wrong_is_one_sentence(files: Files, path: str, message: str) -> None:
    """A person would get a traceback, or the page of a login as rows; or a signature would be shown."""
    with pytest.raises(ConfigError) as caught:
        list(open_input(f"{files.url}/{path}?sig=hidden"))
    assert str(caught.value) == f"{files.url}/{path}: {message}"


def test_a_host_that_is_not_there(files: Files) -> None:
    """A mistyped address would hang, or be told as a missing file."""
    with pytest.raises(ConfigError, match=r"^http://127\.0\.0\.1:1/a\.csv: cannot be read: Connection refused$"):
        open_input("http://user:hidden@127.0.0.1:1/a.csv")


def test_a_server_that_is_busy_is_asked_again(files: Files) -> None:
    """A moment's overload would end a run of a night."""
    files.files["few.jsonl"] = b'"x"\n'
    assert len(list(open_input(f"{files.url}/busy/few.jsonl"))) == 1


def test_a_server_that_falls_silent_is_not_waited_for(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run would hang for ever on a connection on which nothing comes any more."""
    monkeypatch.setattr(elsewhere, "SILENCE", 0.2)
    assert sum(1 for _ in open_input(f"{files.url}/stall/a.jsonl")) == COUNT


def test_a_run_reads_goes_on_and_hides_what_is_secret(files: Files, server: Provider, tmp_path: Path) -> None:
    """A run from a web server could not be continued; or whoever reads the run file could read the input."""
    rows = [{"id": n, "prompt": f"row {n}"} for n in range(60)]

    def serve_rows() -> None:
        files.files["run.jsonl"] = "".join(json.dumps(row) + "\n" for row in rows).encode()

    serve_rows()
    url = f"{files.url.replace('//', '//me:hidden1@')}/parts/run.jsonl?X-Amz-Signature=hidden2"
    command = ("run", url, "-o", "out.jsonl", *server.options(), *PLENTY)
    half = flatout(*command, "--limit", "40", "--workers", "2", folder=tmp_path)
    assert half.code == 0, half.err
    whole = flatout(*command, folder=tmp_path)
    assert whole.code == 0, whole.err
    assert server.received == 60
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["id"] for row in written] == list(range(60))
    rows[3]["prompt"] = "another"
    serve_rows()
    changed = flatout(*command, folder=tmp_path)
    assert changed.code == 2
    assert "run.jsonl, line 4" in changed.err
    seen = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    for told in (half.err, whole.err, changed.err, seen.decode("utf-8", "replace")):
        assert "hidden" not in told
    assert server.received == 60
