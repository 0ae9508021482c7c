"""Inputs from Google's and Azure's stores and from a hub of data sets, and outputs to them, with the real packages.

``make .venv-clouds`` installs these, and emulators of the two stores, in an environment of their own.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.command_samples import PLENTY, Done, eventually, provider, sound
from tests.support.hub import REPOSITORY, TOKEN, hub
from tests.support.ports import free_port

CLOUDS = Path(__file__).parents[2] / ".venv-clouds"
BIN = CLOUDS / "bin"

pytestmark = pytest.mark.skipif(not BIN.exists(), reason="the stores' packages are not installed: make .venv-clouds")

IN = b'{"prompt": "one"}\n{"prompt": "two"}\n'

FILL = """
import sys, fsspec
files = fsspec.filesystem(sys.argv[1])
files.mkdir("bucket")
files.pipe_file("bucket/in.jsonl", sys.argv[2].encode())
"""

ACCOUNT = (
    "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;BlobEndpoint={url}/devstoreaccount1;AccountKey={key}"
)
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The key of every emulator of Azure's store."""


class Store(NamedTuple):
    """A store that runs.

    Attributes:
        root: the address of the place with ``in.jsonl`` in it.
        nowhere: the address of a place that does not exist.
        env: what its package reads.
        refused: the same with a wrong key; None if the emulator checks none.
        status: what the store answers to that.
    """

    root: str
    nowhere: str
    env: dict[str, str]
    refused: dict[str, str] | None
    status: int


@contextmanager
def emulator(*command: str | Path) -> Iterator[str]:
    """The address of a program that serves at ``PORT``."""
    port = free_port()
    asked = [str(part).replace("PORT", str(port)) for part in command]

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    with subprocess.Popen(asked, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=CLOUDS) as server:
        try:
            eventually(listens)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def fill(scheme: str, env: dict[str, str]) -> None:
    command = [str(BIN / "python"), "-W", "ignore", "-c", FILL, scheme, IN.decode()]
    subprocess.run(command, env={**os.environ, **env}, capture_output=True, check=True)


@contextmanager
def google() -> Iterator[Store]:
    with emulator(BIN / "gcp-storage-emulator", "start", "--host", "127.0.0.1", "--port", "PORT", "--in-memory") as url:
        env = {"STORAGE_EMULATOR_HOST": url}
        fill("gs", env)
        yield Store("gs://bucket", "gs://nothing", env, None, 0)


@contextmanager
def azure() -> Iterator[Store]:
    program = CLOUDS / "node_modules/azurite/dist/src/blob/main.js"
    plain = ("--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent")
    with emulator("node", program, "--blobPort", "PORT", *plain) as url:
        right, wrong = (
            {"AZURE_STORAGE_CONNECTION_STRING": ACCOUNT.format(url=url, key=key)} for key in (KEY, "aGlkZGVu")
        )
        fill("az", right)
        yield Store("az://bucket", "az://nothing", right, wrong, 403)


@contextmanager
def hugging_face() -> Iterator[Store]:
    with hub({"in.jsonl": IN}) as url:
        env = {"HF_ENDPOINT": url, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_TOKEN": TOKEN}
        root = f"hf://datasets/{REPOSITORY}"
        yield Store(root, "hf://datasets/me/nothing", env, {**env, "HF_TOKEN": "hf_wrong"}, 401)


def flatout(*arguments: str, folder: Path, env: dict[str, str]) -> Done:
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "HF_HOME": str(folder / "hub"), **env}
    command = [str(BIN / "python"), "-m", "flatout", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    return sound(Done(done.returncode, done.stdout, done.stderr))


@pytest.mark.soak
@pytest.mark.parametrize("kind", [google, azure, hugging_face])
def test_a_store_is_read_and_written(kind: Any, tmp_path: Path) -> None:
    """Rows would not come, or answers not get there; or a wrong key would be tried for long, and then a riddle."""
    with kind() as store, provider() as server:
        out, asked = f"{store.root}/days/out.jsonl", [*server.options(), *PLENTY]

        def run(source: str, to: str, env: dict[str, str]) -> Done:
            return flatout("run", source, "-o", to, *asked, folder=tmp_path, env=env)

        first = run(f"{store.root}/in.jsonl", out, store.env)
        again = run(f"{store.root}/in.jsonl", out, store.env)
        assert (first.code, again.code, server.received) == (0, 0, 2), first.err + again.err
        back = run(f"{store.root}/days/*.jsonl", "back.jsonl", store.env)
        assert back.code == 0, back.err
        nowhere = run("back.jsonl", f"{store.nowhere}/out.jsonl", store.env)
        assert nowhere.code == 2
        assert f"{store.nowhere}/out.jsonl: there is no such " in nowhere.err
        if store.refused is not None:
            refused = run(f"{store.root}/in.jsonl", "none.jsonl", store.refused)
            told = f"{store.root}/in.jsonl: the server refuses to hand it out ({store.status})"
            assert (refused.code, told in refused.err) == (2, True), refused.err
    rows = [json.loads(line) for line in (tmp_path / "back.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == ["one", "two"]
    assert all(row["answer"].startswith("digest:") for row in rows)
