"""Inputs from an object store, and outputs to it: the real s3fs against moto's server, on this machine.

Both are installed by hand (``pip install 'moto[server]' s3fs``): with what they need, they are 150 MB.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from flatout.errors import ConfigError
from flatout.runs.input import afar
from flatout.runs.input.read import open_input
from tests.support.command_samples import PLENTY, flatout, provider

by_hand = "moto and s3fs are installed by hand"
s3fs = pytest.importorskip("s3fs", reason=by_hand)
moto = pytest.importorskip("moto.server", reason=by_hand)
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

COUNT = 2_000
ROWS = b"".join(b'{"n": %d, "prompt": "%0500d"}\n' % (n, n) for n in range(COUNT))


def parquet(day: int) -> bytes:
    made = io.BytesIO()
    pq.write_table(pa.table({"prompt": [f"{day} {n}" for n in range(300)]}), made)
    return made.getvalue()


FILES = {
    "a.jsonl": ROWS,
    "a.jsonl.gz": gzip.compress(ROWS, 1),
    "days/day=1/part-0.parquet": parquet(1),
    "days/day=2/part-0.parquet": parquet(2),
    "days/_SUCCESS": b"",
    "odd/no #1.jsonl": b'{"prompt": "one"}\n',
    "odd/what?.jsonl": b'{"prompt": "two"}\n',
}


@pytest.fixture(scope="module", autouse=True)
def bucket() -> Iterator[None]:
    server = moto.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patched.setenv("AWS_ACCESS_KEY_ID", "key-id")
        patched.setenv("AWS_SECRET_ACCESS_KEY", "hidden-key")
        patched.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patched.setattr(afar, "BLOCK", 400_000)
        files = s3fs.S3FileSystem(skip_instance_cache=True)
        files.mkdir("bucket")
        for name, data in FILES.items():
            files.pipe_file(f"bucket/{name}", data)
        yield
    server.stop()


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_file_is_read_in_blocks(name: str) -> None:
    """A data set would have to be copied here first."""
    assert [row.columns["n"] for row in open_input(f"s3://bucket/{name}")] == list(range(COUNT))


@pytest.mark.parametrize("name", ["days", "days/", "days/*/part-*.parquet"])
def test_a_folder_and_a_pattern_are_one_input(name: str) -> None:
    """What a data set's tools write there, in many files, would have to be named one by one."""
    found = [row.columns for row in open_input(f"s3://bucket/{name}")]
    assert found == [{"day": str(day), "prompt": f"{day} {n}"} for day in (1, 2) for n in range(300)]


def test_keys_may_have_any_sign() -> None:
    """A key with a sign that means something in web addresses would be cut off there."""
    assert [row.columns["prompt"] for row in open_input("s3://bucket/odd/")] == ["one", "two"]


@pytest.mark.parametrize("name", ["bucket/nothing.jsonl", "nothing/a.jsonl"])
def test_what_is_not_there_is_one_sentence(name: str) -> None:
    """A person would get a traceback."""
    with pytest.raises(ConfigError, match=f"^s3://{name}: no such file$"):
        list(open_input(f"s3://{name}"))


def test_a_run_reads_from_there_and_writes_here_and_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command would find no credentials, or write them into the run file; answers would not get there whole."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with provider() as server:
        command = ("run", "s3://bucket/days", "--prompt", "{{ day }}: {{ prompt }}", *server.options(), *PLENTY)
        done = flatout(*command, "-o", "out.jsonl", folder=tmp_path)
        assert done.code == 0, done.err
        there = flatout(*command, "-o", "s3://bucket/out.jsonl.gz", folder=tmp_path)
        again = flatout(*command, "-o", "s3://bucket/out.jsonl.gz", folder=tmp_path)
        lost = flatout(*command, "-o", "s3://no-bucket/out.jsonl", folder=tmp_path)
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in written] == [f"{day} {n}" for day in (1, 2) for n in range(300)]
    assert all(row["answer"] for row in written)
    assert (there.code, again.code) == (0, 0), (there.err, again.err)
    stored = s3fs.S3FileSystem(skip_instance_cache=True).cat_file("bucket/out.jsonl.gz")
    assert [json.loads(line)["prompt"] for line in gzip.decompress(stored).splitlines()] == [
        row["prompt"] for row in written
    ]
    status = flatout("status", "s3://bucket/out.jsonl.gz", folder=tmp_path)
    assert (status.code, "600 answered" in status.out) == (0, True), status.out + status.err
    assert (lost.code, "s3://no-bucket/out.jsonl: there is no such bucket" in lost.err) == (2, True)
    for run_file in (tmp_path / "out.jsonl.flatout", *(tmp_path / "cache").rglob("*.flatout")):
        assert b"hidden" not in run_file.read_bytes()
