"""Servers by other authors: installed once per machine, in a pinned version, and started on a free port.

Our own simulator speaks the wire formats as we understand them, so it cannot reveal a misunderstanding. These servers
can. They are installed in the user's cache folder, apart from the tests' environment, because llmock is also a pytest
plugin. If a server cannot be installed, its tests are skipped with the reason.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .command_samples import PATIENCE
from .ports import free_port

LLMOCK = "llmock==0.2.2"
AIMOCK = "@copilotkit/aimock@1.43.0"

INSTALLATION = 240.0
"""Seconds for an installation. Measured: 17 for llmock, 3 for aimock."""

GRACE = 2.0
"""Seconds that a server gets to stop."""


class Unavailable(Exception):
    """A server cannot be installed on this machine."""


# -- installation -----------------------------------------------------------------------------------------------------


@functools.cache
def llmock() -> Path:
    """The folder with llmock and its dependencies.

    Raises:
        Unavailable: pip cannot install it.
    """
    pip = [sys.executable, "-m", "pip", "-qq", "--disable-pip-version-check", "install", "--only-binary", ":all:"]
    return _installed(LLMOCK, lambda folder: [*pip, "--target", str(folder), LLMOCK])


@functools.cache
def aimock() -> Path:
    """The folder of aimock's package.

    Raises:
        Unavailable: Node.js is missing, or npm cannot install it.
    """
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise Unavailable(f"{AIMOCK} needs Node.js and npm, which are not on this machine")
    quiet = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel", "error", "--prefix"]
    return _installed(AIMOCK, lambda folder: [*quiet, str(folder), AIMOCK]) / "node_modules" / "@copilotkit" / "aimock"


def _installed(requirement: str, command: Callable[[Path], Sequence[str]]) -> Path:
    """The folder of an installation, which is made if it does not exist. It appears complete or not at all."""
    place = _cache() / requirement.replace("/", "+")
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as draft:
        folder = Path(draft) / "new"
        folder.mkdir()
        try:
            done = subprocess.run(command(folder), capture_output=True, text=True, timeout=INSTALLATION, check=False)
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{requirement} was not installed within {INSTALLATION:g} s") from None
        if done.returncode:
            said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            raise Unavailable(f"{requirement} cannot be installed: {said[-1] if said else 'no reason given'}")
        if not place.is_dir():  # another test run was faster
            folder.rename(place)
    return place


def _cache() -> Path:
    configured = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(configured) if Path(configured).is_absolute() else Path.home() / ".cache"
    return root / "flatout-tests" / f"python{sys.version_info.major}.{sys.version_info.minor}"


def or_skip(installation: Callable[[], Path]) -> Path:
    """An installation. If there is none, the test is skipped with the reason."""
    try:
        return installation()
    except Unavailable as error:
        pytest.skip(str(error))


# -- processes --------------------------------------------------------------------------------------------------------


@contextmanager
def running(command: Callable[[int], Sequence[str]], log: Path, **environment: str) -> Iterator[str]:
    """Start a server that answers ``/health``, and end it afterwards.

    Args:
        command: makes the command line for a port.
        log: the file for its output.
        environment: variables to add to those of this process.
    """
    for _ in range(3):  # another program may take the port before the server does
        port = free_port()
        with log.open("wb") as output:
            process = subprocess.Popen(
                command(port), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **environment}
            )
        url = f"http://127.0.0.1:{port}"
        try:
            if _answers(process, url):
                yield url
                return
        finally:
            _end(process)
    raise RuntimeError(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")


@contextmanager
def aimock_started(folder: Path, *options: str, fixtures: Sequence[Any] = ()) -> Iterator[str]:
    """Start aimock, and yield its address. The test is skipped if it cannot be installed.

    Args:
        folder: for its files.
        options: of its command line.
        fixtures: what it answers.
    """
    program = or_skip(aimock) / "dist" / "cli.js"
    node = shutil.which("node")
    assert node is not None
    told = folder / "fixtures.json"
    told.write_text(json.dumps({"fixtures": list(fixtures)}))

    def command(port: int) -> list[str]:
        return [node, str(program), "--port", str(port), "--fixtures", str(told), "--log-level", "silent", *options]

    with running(command, folder / "log") as url:
        yield url


def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                return True
        except (OSError, urllib.error.URLError):
            time.sleep(0.05)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def fetch(url: str, body: Any = None) -> Any:
    """Get JSON from a server: by GET, or by POST with a body."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=PATIENCE) as answer:
        return json.load(answer)
