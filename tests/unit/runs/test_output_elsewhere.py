"""Outputs that are not on this machine: where they go, what they replace, and how a run goes on that has one."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from flatout.cli.run_names import find, find_later
from flatout.errors import ConfigError, StoreError
from flatout.runs.input import afar
from flatout.runs.input.elsewhere import place_of
from flatout.runs.job import RunEnd, RunOptions
from flatout.runs.pending import Pending
from flatout.runs.runner import Runner
from tests.support.scripted_wire import Wire, client

fsspec = pytest.importorskip("fsspec")

OUT = "memory://b/out.jsonl"


@pytest.fixture(autouse=True)
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A file system with one folder, and a cache folder for the run files."""
    monkeypatch.setattr(afar, "PAUSES", (0, 0, 0))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "in.jsonl").write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.makedirs("/b", exist_ok=True)
    yield files
    files.store.clear()


@pytest.fixture
def options(tmp_path: Path) -> RunOptions:
    return RunOptions(source=str(tmp_path / "in.jsonl"), output=OUT, model="m")


def ran(options: RunOptions, wire: Wire | None = None) -> RunEnd:
    job = Runner(options, lambda: client(wire or Wire()))
    job.prepare()
    return asyncio.run(job.run())


def prompts(data: bytes) -> list[str]:
    return [json.loads(line)["prompt"] for line in data.splitlines()]


def left_behind(tmp_path: Path) -> list[str]:
    return sorted(each.name for each in (tmp_path / "cache/flatout/runs").iterdir() if each.suffix != ".flatout")


def test_the_answers_go_there_and_the_run_file_stays_here(bucket: Any, options: RunOptions, tmp_path: Path) -> None:
    """Answers would have to be copied by hand, and nobody would find the run again from another folder."""
    end = ran(options)
    assert end.output == OUT
    assert prompts(bucket.cat_file("/b/out.jsonl")) == ["one", "two"]
    assert find(OUT) == Path(end.run_file)
    assert Path(end.run_file).is_relative_to(tmp_path / "cache")
    assert find_later("memory://b/later.csv").name.startswith("later.csv-")
    assert not left_behind(tmp_path)


def test_packed_and_parquet_outputs_go_there_too(bucket: Any, options: RunOptions) -> None:
    """The answers would come in a form that the name does not tell."""
    ran(replace(options, output="memory://b/out.jsonl.gz"))
    assert prompts(gzip.decompress(bucket.cat_file("/b/out.jsonl.gz"))) == ["one", "two"]
    pytest.importorskip("pyarrow")
    ran(replace(options, output="memory://b/out.parquet"))
    assert bucket.cat_file("/b/out.parquet")[:4] == b"PAR1"


def test_the_same_command_replaces_its_own_file_and_no_other(bucket: Any, options: RunOptions) -> None:
    """A mistyped name would cost somebody a file, or a run could not be taken up again."""
    ran(options)
    wire = Wire()
    ran(options, wire)
    assert not wire.requests
    bucket.pipe_file("/b/out.jsonl", b"of somebody else\n")
    with pytest.raises(ConfigError, match=r"^memory://b/out.jsonl: exists already; .* --overwrite"):
        ran(options)
    assert bucket.cat_file("/b/out.jsonl") == b"of somebody else\n"


def test_an_upload_that_fails_is_all_that_is_repeated(
    bucket: Any, options: RunOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers that were paid for would be lost with the connection, or paid for twice."""

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "")

    with monkeypatch.context() as patched:
        patched.setattr(type(bucket), "put_file", refuse)
        told = r"^memory://b/out.jsonl: cannot be written: Permission denied; the same command uploads the answers, and"
        with pytest.raises(StoreError, match=told):
            ran(options)
    assert not bucket.exists("/b/out.jsonl")
    assert not left_behind(tmp_path)
    wire = Wire()
    ran(options, wire)
    assert not wire.requests
    assert prompts(bucket.cat_file("/b/out.jsonl")) == ["one", "two"]


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("https://host/out.jsonl", "https://host/out.jsonl: web servers take no files; name one here, or at s3://"),
        ("sftp://host/out.jsonl", "sftp:// is no place that flatout knows"),
        ("memory://b/out.db::t", "a table is filled on this machine only"),
        ("memory://b/out", "a name without a suffix names no output format"),
        ("memory://b/in.jsonl", "memory://b/in.jsonl: is the input"),
    ],
)
def test_what_cannot_be_written_there_is_said_before_anything_is_sent(
    bucket: Any, tmp_path: Path, output: str, told: str
) -> None:
    """A run of hours would end with a traceback, or over its own input."""
    bucket.pipe_file("/b/in.jsonl", b'{"prompt": "one"}\n')
    job = Runner(RunOptions(source="memory://b/in.jsonl", output=output, model="m"), lambda: client(Wire()))
    with pytest.raises(ConfigError) as caught:
        job.prepare()
    assert told in str(caught.value)


@pytest.mark.parametrize("source", ["memory://b/days", "memory://b/days/", "memory://b/days/*.jsonl"])
def test_an_output_is_no_file_of_its_input(bucket: Any, source: str) -> None:
    """The next run would ask its own answers."""
    bucket.pipe_file("/b/days/a.jsonl", b'{"prompt": "one"}\n')
    job = Runner(RunOptions(source=source, output="memory://b/days/out.jsonl", model="m"), lambda: client(Wire()))
    with pytest.raises(ConfigError, match="would be one of the files of the input"):
        job.prepare()


@pytest.mark.parametrize("afar_from", ["input", "output"])
def test_ctrl_c_while_the_output_is_written_leaves_it_for_the_same_command(
    bucket: Any, options: RunOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, afar_from: str
) -> None:
    """A server that has become silent would hold the program for minutes; or half the output would be there."""
    if afar_from == "input":
        bucket.pipe_file("/b/in.jsonl", (tmp_path / "in.jsonl").read_bytes())
        output = tmp_path / "out.jsonl"
        options = replace(options, source="memory://b/in.jsonl", output=str(output), keep_prompts=False)
    job = Runner(options, lambda: client(Wire()))
    job.prepare()
    speaks, silent = threading.Event(), threading.Event()

    def waits(*_: Any) -> Any:
        silent.set()
        speaks.wait(10)
        return iter(())

    async def main() -> RunEnd:
        ended = asyncio.ensure_future(job.run())
        await asyncio.to_thread(silent.wait, 10)
        job.stop()
        return await ended

    with monkeypatch.context() as patched:
        patched.setattr(Pending, "own_rows", waits)
        patched.setattr(type(bucket), "put_file", waits)
        end = asyncio.run(main())
        assert not speaks.is_set()
        (thread,) = [thread for thread in threading.enumerate() if thread.name == "flatout reads"]
        assert thread.daemon
        speaks.set()
        thread.join(10)
    assert (end.interrupted, end.unwritten, end.unfinished) == (True, True, 0)
    assert not (tmp_path / "out.jsonl").exists()
    wire = Wire()
    assert not ran(options, wire).interrupted
    assert not wire.requests
    data = (tmp_path / "out.jsonl").read_bytes() if afar_from == "input" else bucket.cat_file("/b/out.jsonl")
    assert len(data.splitlines()) == 2


@pytest.mark.parametrize(("url", "most"), [("s3://b/out.jsonl", 2), ("az://b/out.jsonl", 16), ("abfs://b/o.csv", 16)])
def test_an_upload_has_few_blocks_in_memory(bucket: Any, monkeypatch: pytest.MonkeyPatch, url: str, most: int) -> None:
    """A large output would be in memory, and the system would kill the run at its end."""
    given: dict[str, Any] = {}

    def made(url: str, **options: Any) -> Any:
        given.update(options)
        return bucket, url.partition("://")[2]

    monkeypatch.setattr(fsspec, "url_to_fs", made)
    place_of(url)
    assert given["max_concurrency"] <= most
