"""The real model, the real server, a real kill -9. The model is fetched when it is not in the cache."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flatout.errors import ConfigError
from flatout.local import SYSTEM, LocalServer, model_path, pull
from tests.support.command_samples import PATIENCE, eventually
from tests.support.ports import free_port

pytest.importorskip("xllamacpp", reason="needs the extra 'local'")

PARENT = """
import os, signal, sys
from flatout.local import LocalServer
server = LocalServer(slots=2)
base_url = server.start()
pids = [worker._process.pid for worker in server._workers]
heir = os.fork() if "heir" in sys.argv else -1
if heir:
    print(base_url, heir, *pids, flush=True)
signal.pause()
"""


@pytest.fixture(scope="module", autouse=True)
def model() -> Path:
    return pull()


def ask(base_url: str, prompt: str) -> dict[str, Any]:
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}]
    body = json.dumps({"model": "any", "messages": messages, "max_tokens": 24, "temperature": 0}).encode()
    request = urllib.request.Request(f"{base_url}/chat/completions", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        decoded: dict[str, Any] = json.load(answer)
        return decoded


def is_running(pid: int) -> bool:
    """Whether the process is there and no zombie (where nobody adopts orphans, the dead stay listed)."""
    status = Path(f"/proc/{pid}/stat")
    if Path("/proc").is_dir():
        try:
            return status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_model_in_the_cache_is_the_pinned_one(model: Path) -> None:
    """A model that was damaged or swapped would be served."""
    assert model_path(verify=True) == model


def test_it_answers_many_at_once() -> None:
    """The embedded model would say nothing, or something else than words."""

    async def use() -> list[dict[str, Any]]:
        async with LocalServer(slots=4) as server:
            with ThreadPoolExecutor(4) as pool:
                prompts = [f"Name {number} fruits." for number in range(2, 8)]
                return list(await asyncio.to_thread(lambda: list(pool.map(lambda p: ask(server.base_url, p), prompts))))

    answers = asyncio.run(use())
    for answer in answers:
        assert any(letter.isalpha() for letter in answer["choices"][0]["message"]["content"])
        assert 0 < answer["usage"]["completion_tokens"] <= 24


def test_it_goes_and_comes_back_on_its_port() -> None:
    """`flatout local serve` could not be restarted, or two servers would silently share one port."""
    port = free_port()
    with LocalServer(slots=2, port=port), pytest.raises(ConfigError, match="cannot listen"):
        LocalServer(port=port).start()
    with LocalServer(slots=2, port=port) as server:
        assert ask(server.base_url, "Say hello.")["choices"]


def test_a_file_that_is_no_model_is_a_plain_error(tmp_path: Path) -> None:
    """The user would get a bare exit code instead of llama.cpp's reason."""
    wrong = tmp_path / "wrong.gguf"
    wrong.write_text("this is no model")
    with pytest.raises(ConfigError, match=r"could not start: .*magic"):
        LocalServer(model=wrong, workers=1).start()


@pytest.mark.parametrize("heir", ["", "heir"])
def test_the_server_dies_with_its_parent(heir: str) -> None:
    """After kill -9 of a run the model would keep its memory and its port until the next reboot.

    So it would when the run had forked: the fork inherits the pipe that tells the model of its parent's end.
    """
    heir_pid = -1
    with subprocess.Popen([sys.executable, "-c", PARENT, heir], stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            base_url, *numbers = parent.stdout.readline().split()
            heir_pid, *pids = map(int, numbers)
            assert ask(base_url, "Say hello.")["choices"]
            assert all(is_running(pid) for pid in pids)
            parent.send_signal(signal.SIGKILL)
            parent.wait(PATIENCE)
            eventually(lambda: not any(is_running(pid) for pid in pids))
        finally:
            parent.kill()
            if heir_pid > 0:
                os.kill(heir_pid, signal.SIGKILL)


def test_it_survives_ctrl_c_of_the_terminal() -> None:
    """Ctrl-C would take the server away from the calls that a run still finishes."""
    with LocalServer(slots=1) as server:
        group = os.getpgid(0)
        assert all(os.getpgid(worker._process.pid) != group for worker in server._workers)
