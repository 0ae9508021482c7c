"""Inputs that are not on this machine: what is read, what is tried again, and what is said."""

from __future__ import annotations

import asyncio
import gzip
import io
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flatout.cli.parse import command_line
from flatout.errors import ConfigError
from flatout.planning.size import SampleSize
from flatout.runs.input import afar
from flatout.runs.input.afar import Afar
from flatout.runs.input.afar_errors import is_passing, why
from flatout.runs.input.names import shown
from flatout.runs.input.read import open_input
from flatout.runs.job import RunOptions
from flatout.runs.output.claim import where
from flatout.runs.plan.planner import Planner
from flatout.runs.runner import Runner
from tests.support.scripted_wire import Wire, client

from .workbooks import workbook

fsspec = pytest.importorskip("fsspec")

ROWS = b"".join(b'{"n": %d, "text": "%060d"}\n' % (n, n) for n in range(2_000))


@pytest.fixture
def bucket() -> Iterator[Any]:
    """An empty file system."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits before another try."""
    monkeypatch.setattr(afar, "PAUSES", (0, 0, 0))


def columns(source: str, **options: Any) -> list[dict[str, Any]]:
    return [row.columns for row in open_input(source, **options)]


def refusal(source: str, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        list(open_input(source, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_each_kind_is_read_as_it_is_here(bucket: Any, tmp_path: Path) -> None:
    """A file would have to be copied here first, or mean something else where it is."""
    files = {
        "a.jsonl": (b'{"n": 1}\n{"n": 2}\n', [{"n": 1}, {"n": 2}]),
        "a.json": (b'[{"n": 1}, {"n": 2}]', [{"n": 1}, {"n": 2}]),
        "a.jsonl.gz": (gzip.compress(b'{"n": 1}\n'), [{"n": 1}]),
        "a.csv": (b"n\n1\n", [{"n": "1"}]),
        "noname": (b'{"n": 1}\n', [{"n": 1}]),
        "a.xlsx": (workbook(tmp_path / "a.xlsx", {"S": [["n"], [1]]}).read_bytes(), [{"n": 1}]),
    }
    if parquet := pytest.importorskip("pyarrow.parquet"):
        made = io.BytesIO()
        parquet.write_table(pytest.importorskip("pyarrow").table({"n": [1, 2, 3]}), made)
        files["a.parquet"] = (made.getvalue(), [{"n": 1}, {"n": 2}, {"n": 3}])
    for name, (data, rows) in files.items():
        if name.endswith("xlsx"):
            pytest.importorskip("python_calamine")
        bucket.pipe_file(f"/b/{name}", data)
        found = open_input(f"memory://b/{name}")
        for _ in range(2):
            assert [row.columns for row in found] == rows, name
        assert found.repeatable
    assert columns("memory://b/a.xlsx::S") == [{"n": 1}]
    assert refusal("memory://b/a.xlsx::T").startswith("memory://b/a.xlsx: has no sheet 'T'")


def test_patterns_and_folders(bucket: Any) -> None:
    """The parts of a data set would have to be named one by one."""
    for place, name in enumerate(("p-1.jsonl", "p-2.jsonl", "sub/p-3.jsonl", "_SUCCESS", ".p.crc", "readme.md")):
        bucket.pipe_file(f"/b/{name}", b'{"n": %d}\n' % place)
    assert [row["n"] for row in columns("memory://b/p-*.jsonl")] == [0, 1]
    assert [row["n"] for row in columns("memory://b/")] == [0, 1, 2]
    assert [row["n"] for row in columns("memory://b")] == [0, 1, 2]
    rows = list(open_input("memory://b/**/*.jsonl"))
    assert rows[-1].at.endswith("b/sub/p-3.jsonl, line 1")
    assert refusal("memory://b/*.csv") == "memory://b/*.csv: matches no file"
    bucket.pipe_file("/b/x.csv", b"n\n1\n")
    assert "is a directory with .csv and .jsonl files; name one kind: 'memory://b/*.csv'" in refusal("memory://b")


def test_what_cannot_be_read_there_is_said(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person would search for the reason, or see a traceback."""
    bucket.pipe_file("/b/shop.db", b"SQLite format 3\0".ljust(200, b"\0"))
    bucket.pipe_file("/b/page", b"<!doctype html><p>Sign in")
    bucket.pipe_file("/b/empty.jsonl", b"")
    bucket.pipe_file("/b/cut.jsonl.gz", gzip.compress(ROWS)[:500])
    for name, message in {
        "memory://b/shop.db": "an SQLite database is read on this machine alone; copy it here first",
        "memory://b/page": "is an HTML or XML page, not rows; was a login or error page downloaded?",
        "memory://b/empty.jsonl": "no rows",
        "memory://b/none.jsonl": "no such file",
        "memory://b/cut.jsonl.gz": "the gzip file is damaged or cut off",
        "sftp://host/a.csv": "sftp:// is no place that flatout knows; use files here and copy them",
        "file:///etc/passwd": "file:// is no place that flatout knows; use files here and copy them",
    }.items():
        assert refusal(name) == f"{name.removesuffix('::t')}{'::t' if '::t' in name else ''}: {message}".replace(
            "::t", ""
        )
    monkeypatch.setitem(sys.modules, "s3fs", None)
    assert refusal("s3://b/a.csv") == "s3://b/a.csv: s3:// needs s3fs, which is not installed: pip install s3fs"
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    assert refusal("https://h/a.csv").endswith("https:// needs aiohttp, which is not installed: pip install aiohttp")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    assert refusal("s3://b/a.csv").endswith("needs fsspec, which is not installed: pip install 'flatout[remote]'")


class Lossy:
    """A file system over a network that fails, as fsspec's are used.

    Attributes:
        data: what the one file holds.
        version: its ETag.
        good: how many bytes a connection hands out before it is lost.
        opened: how often it was opened.
    """

    protocol = "lossy"

    def __init__(self, data: bytes, good: int) -> None:
        self.data, self.version, self.good, self.opened = data, "1", good, 0
        self.parts = True

    def invalidate_cache(self) -> None:
        pass

    def info(self, file: str) -> dict[str, Any]:
        return {"size": len(self.data), "ETag": self.version, "partial": self.parts}

    def open(self, file: str, mode: str, **options: Any) -> io.BytesIO:
        self.opened += 1
        return _Connection(self.data, self.good)


class _Connection(io.BytesIO):
    def __init__(self, data: bytes, left: int) -> None:
        super().__init__(data)
        self._left = left

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= (data := super().read(size)).__len__()
        if self._left < 0:
            raise ConnectionResetError(104, "Connection reset by peer: s3://key:secret@b/x?sig=hidden")
        return data


def test_a_lost_connection_is_made_again_where_it_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A night's input would end, or begin anew, because a server closed a connection."""
    monkeypatch.setattr(afar, "BLOCK", 10_000)
    files = Lossy(ROWS, good=25_000)
    with Afar(files, "b/x", "lossy://b/x").open() as file:
        assert file.read() == ROWS
        file.seek(-10, io.SEEK_END)
        assert file.read() == ROWS[-10:]
    assert files.opened > len(ROWS) // 25_000


def test_connections_that_last_for_less_than_a_block_are_enough() -> None:
    """A server that closes each connection after a megabyte could not be read from at all."""
    data = ROWS * 20
    files = Lossy(data, good=300_000)
    with Afar(files, "b/x", "lossy://b/x").open() as file:
        assert b"".join(iter(lambda: file.read(10_000), b"")) == data  # by blocks: all at once is read in small pieces


def test_a_larger_file_takes_no_more_memory(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a hundred million rows would fill the memory."""
    monkeypatch.setattr(afar, "BLOCK", 200_000)
    peaks = []
    for times in (2, 12):
        bucket.pipe_file(f"/b/{times}.jsonl", ROWS * times)
        found = open_input(f"memory://b/{times}.jsonl")
        tracemalloc.start()
        assert sum(1 for _ in found) == 2_000 * times
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.3 + 100_000, peaks


def test_a_server_without_parts_is_asked_for_the_whole_and_for_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pass over the rows would fetch all of them again, and a lost connection end the run."""
    files = Lossy(ROWS, good=len(ROWS) * 2)
    files.parts = False
    found = Afar(files, "b/x", "lossy://b/x")
    one, two = found.open(), found.open()
    assert one.read(10) == ROWS[:10]
    assert two.read() == ROWS
    assert one.read() == ROWS[10:]
    assert files.opened == 1
    files.good = len(ROWS) - 5
    with pytest.raises(ConfigError, match="lossy://b/x: cannot be read: Connection reset by peer"):
        Afar(files, "b/x", "lossy://b/x").open()
    assert files.opened == 1 + 1 + len(afar.PAUSES)


@pytest.mark.parametrize("change", ["version", "shorter", "longer"])
def test_a_file_that_changes_while_it_is_read_is_not_mixed(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """The first half of a row would come from one version of a file and the second from another."""
    monkeypatch.setattr(afar, "BLOCK", 10_000)
    files = Lossy(ROWS, good=len(ROWS) * 2)
    found = Afar(files, "b/x", "lossy://b/x")
    file = found.open()
    file.read(100)
    files.data = {"version": ROWS, "shorter": ROWS[:20_000], "longer": ROWS * 2}[change]
    files.version = "2"
    with pytest.raises(ConfigError, match="lossy://b/x: has changed while it was read; run the same command again"):
        file.read()
    with pytest.raises(ConfigError, match="has changed"):
        found.open().read(1)


def test_a_network_that_is_gone_is_one_sentence_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run would try for ever, or show a signature with which anybody can read the file."""
    files = Lossy(ROWS, good=10)
    with pytest.raises(ConfigError) as caught:
        Afar(files, "s3://key:secret@b/x?sig=hidden", "s3://b/x").open().read()
    assert str(caught.value) == "s3://b/x: cannot be read: Connection reset by peer"
    assert files.opened == 1 + len(afar.PAUSES)


def test_a_place_that_says_nothing_is_not_waited_for_long(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network, Azure's package would try for seven minutes, in silence."""
    monkeypatch.setattr(afar, "PATIENCE", 0.01)
    said = threading.Event()
    monkeypatch.setattr(type(bucket), "info", lambda *_: said.wait(20))
    try:
        for name in ("b/in.jsonl", "b"):
            with pytest.raises(ConfigError, match=rf"^memory://{name}: cannot be read: no answer in time$"):
                open_input(f"memory://{name}")
    finally:
        said.set()


class Answer(Exception):
    """As an HTTP client raises it for a status: each has a name of its own for that."""

    def __init__(self, status: int, name: str = "status") -> None:
        setattr(self, name, status)
        self.message = "Words"


class Refused(Exception):
    """As the client of a hub raises it."""

    response = SimpleNamespace(status_code=401)


@pytest.mark.parametrize(
    ("error", "passing", "told"),
    [
        (Answer(503), True, "the server answers 503 Words"),
        (Answer(429), True, "the server answers 429 Words"),
        (Answer(403), False, "the server refuses to hand it out (403)"),
        (Answer(403, "status_code"), False, "the server refuses to hand it out (403)"),
        (Answer(401, "code"), False, "the server refuses to hand it out (401)"),
        (Refused(), False, "the server refuses to hand it out (401)"),
        (Answer(404), False, "no such file"),
        (Answer(302), False, "the server sends from one address to another without end"),
        (FileNotFoundError("x"), False, "no such file"),
        (PermissionError("Access Denied"), False, "cannot be read: Access Denied"),
        (TimeoutError(), True, "cannot be read: no answer in time"),
        (EOFError("it ended too early"), True, "cannot be read: it ended too early"),
        (RuntimeError(), True, "cannot be read: RuntimeError"),
    ],
)
def test_what_is_tried_again_and_what_is_said(error: Exception, passing: bool, told: str) -> None:
    """A server that is busy would end a run, or a missing file be asked for again and again."""
    assert is_passing(error) == passing
    assert why(error) == told


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://example.com/rows.jsonl?token=hidden*", "https://example.com/rows.jsonl"),
        ("https://user:hidden@example.com/a.csv", "https://example.com/a.csv"),
        ("https://hidden@example.com/a.xlsx?sig=hidden::Mails", "https://example.com/a.xlsx::Mails"),
        ("s3://bucket/part-*.parquet", "s3://bucket/part-*.parquet"),
        ("rows?.jsonl", "rows?.jsonl"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, told: str) -> None:
    """Whoever sees the screen, the run file or the command to continue could read the file."""
    assert shown(url) == told
    assert "hidden" not in str(where(url))
    assert "hidden" not in command_line(["run", url, "-o", "a.jsonl"])


@pytest.mark.parametrize("plans", [False, True])
def test_a_run_that_is_stopped_waits_for_no_silent_server(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plans: bool
) -> None:
    """Ctrl-C would be answered after a minute, and the program end after another."""
    bucket.pipe_file("/b/a.jsonl", b'{"prompt": "one"}\n')
    speaks, silent = threading.Event(), threading.Event()
    options = RunOptions(source="memory://b/a.jsonl", output=str(tmp_path / "out.jsonl"), model="m")
    job: Any = Runner(options, lambda: client(Wire()))
    if plans:
        job = Planner(job, SampleSize.of(5), 1.0, dry_run=True)
    job.prepare()

    def part(file: Any, start: int, size: int) -> bytes:
        silent.set()
        speaks.wait(10)
        return b""

    monkeypatch.setattr(afar._Parts, "_part", part)

    async def main() -> Any:
        ended = asyncio.ensure_future(job.run())
        await asyncio.to_thread(silent.wait, 10)
        job.stop()
        return await ended

    end = asyncio.run(main())
    assert not speaks.is_set()
    assert end is None if plans else (end.interrupted, end.unfinished) == (True, 1)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "flatout reads"]
    assert thread.daemon
    speaks.set()
    thread.join(10)


def test_listed_files_keep_their_whole_names(bucket: Any) -> None:
    """Keys of object stores may have signs that end the path of a web address: their suffix would be cut off."""
    for name in ("what?.jsonl", "no #1.jsonl"):
        bucket.pipe_file(f"/b/{name}", b'{"n": "%s"}\n' % name.encode())
    found = list(open_input("memory://b/"))
    assert [row.at for row in found] == ["memory:///b/no #1.jsonl, line 1", "memory:///b/what?.jsonl, line 1"]
    assert [row.columns["n"] for row in found] == ["no #1.jsonl", "what?.jsonl"]
