"""A local model server: llama.cpp's own, in child processes that end with this one.

Why processes and not threads: the model uses whole cores and would block the interpreter's threads. And a server must
never outlive the run that started it, not even after kill -9 (see `worker`).

Why several processes of one thread: a thread pool that computes one step together waits for its slowest thread. On two
idle cores, two threads gave 190 tokens/s and two processes 170; with one other busy process 65 and 96, with two 19 and
96. The processes share one port, and the kernel distributes the connections (Linux; on other systems there is one
process).
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from flatout.errors import ConfigError, FlatoutError
from flatout.values import Endpoint, Limits

from .environment import COMPUTING, environment
from .model import MODEL_NAME, verified

SYSTEM = "You are a helpful assistant."
"""The system prompt of calls that have none. Without one, this model's chat template answers gibberish."""

DEFAULT_SLOTS = 8
"""Calls answered at the same time. More gain nothing: four keep two cores busy."""

DEFAULT_PORT = 8080
"""The default port of `serve_forever`."""

_CONTEXT = 2048  # tokens of prompt and answer together, for each slot; 23 KB of memory a token
_MOST_WORKERS = 4
_GRACE = 2.0  # seconds that a worker has to end before it is killed
_WATCH = 0.5  # seconds between two checks of the workers


def endpoint(base_url: str, slots: int = DEFAULT_SLOTS) -> Endpoint:
    """The endpoint of a local server: no key, and as many calls in flight as it has slots."""
    return Endpoint(
        name="local",
        base_url=base_url,
        key_required=False,
        self_hosted=True,
        limits=Limits(concurrency=slots),
        system=SYSTEM,
        batch="",
    )


class LocalServer:
    """The embedded model behind an OpenAI-compatible HTTP server on this machine.

    Use it as ``async with LocalServer() as server:`` (a thread does the waiting), with a plain ``with``, or through
    `start` and `stop`. It ends with this process, however that ends.

    Args:
        slots: calls answered at the same time.
        port: the port to listen on; 0 takes a free port.
        host: the IPv4 address or name to listen on. There is no key: anybody who can connect may use it.
        context: tokens of prompt and answer together, for each slot. Memory grows by 23 KB a token.
        workers: processes, one core each; None for the number of usable cores, but at most 4. On systems that cannot
            share ports (all but Linux) it is always 1, with several threads.
        model: a GGUF file to serve instead of the embedded model.
        start_timeout: seconds until the server must answer.

    Raises:
        ConfigError: a number is out of its range.
    """

    def __init__(
        self,
        *,
        slots: int = DEFAULT_SLOTS,
        port: int = 0,
        host: str = "127.0.0.1",
        context: int = _CONTEXT,
        workers: int | None = None,
        model: Path | None = None,
        start_timeout: float = 60.0,
    ) -> None:
        if slots < 1 or context < 1 or (workers is not None and workers < 1):
            raise ConfigError("the local server needs at least 1 slot, 1 token of context and 1 worker")
        if not 0 <= port <= 65_535:
            raise ConfigError(f"a port is a number from 0 to 65535, not {port}")
        self.slots = slots
        self._port = port
        self._host = host
        self._context = context
        self._count = min(workers or _usable_cores(), slots) if _ports_are_shared() else 1
        self._model = model
        self._start_timeout = start_timeout
        self._workers: list[_Worker] = []
        self._base_url = ""

    def __repr__(self) -> str:
        if not hasattr(self, "_base_url"):
            return "<LocalServer not made>"
        state = self._base_url if self.running else "stopped"
        return f"<LocalServer {state} slots={self.slots} workers={self._count}>"

    @property
    def base_url(self) -> str:
        """The server's address with the version (``http://127.0.0.1:…/v1``); "" before the start."""
        return self._base_url

    @property
    def running(self) -> bool:
        """Whether it was started and all its processes are alive."""
        return bool(self._workers) and all(worker.alive for worker in self._workers)

    def endpoint(self) -> Endpoint:
        """The `Endpoint` for this server. Start it first."""
        return endpoint(self._base_url, self.slots)

    def start(self) -> str:
        """Start the server, wait until it answers (about a second), and return its base URL.

        A second start does nothing.

        Raises:
            ConfigError: the extra or the model is missing, the port is taken, or the server does not answer in time.
        """
        if self._workers:
            return self._base_url
        model = verified(self._model)
        deadline = time.monotonic() + self._start_timeout
        port = _free_port(self._host, self._port)
        try:
            for share in _shares(self.slots, self._count):
                self._workers.append(_Worker(self._options(model, port, share)))
            for worker in self._workers:
                worker.wait_until_ready(deadline)
            _wait_until_healthy(self._host, port, deadline)
        except BaseException:
            self.stop()
            raise
        self._base_url = f"http://{self._host}:{port}/v1"
        return self._base_url

    def stop(self) -> None:
        """End its processes and wait for each (2 s at most). A second stop does nothing."""
        workers, self._workers = self._workers, []
        self._base_url = ""
        with ExitStack() as burials:  # buries all of them, even if one burial fails
            for worker in reversed(workers):
                burials.callback(worker.bury)
            for worker in workers:
                worker.dismiss()

    def wait(self) -> None:
        """Block while the server runs.

        Raises:
            FlatoutError: one of its processes ended by itself.
        """
        while self._workers:
            if not self.running:
                raise FlatoutError("a process of the local model server has ended")
            time.sleep(_WATCH)

    def _options(self, model: Path, port: int, slots: int) -> dict[str, object]:
        return {
            "model": str(model),
            "name": MODEL_NAME,
            "host": self._host,
            "port": port,
            "share_port": self._count > 1,
            "slots": slots,
            "context": self._context,
            "threads": 1 if _ports_are_shared() else _usable_cores(),
            # an idle connection holds a thread, and all connections may go to one worker by chance
            "connections": self.slots + 4,
        }

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        starting = asyncio.ensure_future(asyncio.to_thread(self.start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.wait([starting])  # better wait a second than leave processes that nobody knows of
            self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(asyncio.to_thread(self.stop))


def serve_forever(
    port: int = DEFAULT_PORT,
    host: str = "127.0.0.1",
    slots: int = DEFAULT_SLOTS,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serve the embedded model until Ctrl-C. ``announce`` gets the base URL once the server answers.

    Raises:
        ConfigError: it cannot start; see `LocalServer.start`.
        FlatoutError: one of its processes ended by itself.
    """
    try:
        with LocalServer(slots=slots, port=port, host=host) as server:
            if announce is not None:
                announce(server.base_url)
            server.wait()
    except KeyboardInterrupt:
        return


class _Worker:
    """One process of the server. It lives as long as its standard input, a pipe, stays open."""

    def __init__(self, options: dict[str, object]) -> None:
        program = Path(__file__).with_name("worker.py")
        self._process = subprocess.Popen(  # noqa: S603 - our own program, no shell
            [sys.executable, "-P", str(program), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,  # read after a failed start; a ready worker writes nothing to it
            env=environment(COMPUTING),
            start_new_session=True,  # Ctrl-C is for the run, which still needs the server for calls in flight
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._stdin, self._stdout, self._stderr = self._process.stdin, self._process.stdout, self._process.stderr

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def wait_until_ready(self, deadline: float) -> None:
        seconds = max(0.0, deadline - time.monotonic())
        if not select.select([self._stdout], [], [], seconds)[0]:
            raise ConfigError("the local model server did not start in time")
        if self._stdout.readline().strip() != b"ready":
            raise ConfigError(f"the local model server could not start: {self._reason()}")

    def dismiss(self) -> None:
        self._stdin.close()

    def bury(self) -> None:
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stdout.close()
        self._stderr.close()

    def _reason(self) -> str:
        lines = [line.strip() for line in self._stderr.read().decode(errors="replace").splitlines() if line.strip()]
        errors = [line.split(" E ", 1)[1].strip() for line in lines if " E " in line]
        if errors:
            return errors[0]  # llama.cpp's first error is the cause; the later ones only say that it failed
        return lines[-1] if lines else f"its process ended with {self._process.wait(_GRACE)}"


def _usable_cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST_WORKERS)


def _ports_are_shared() -> bool:
    """Whether the kernel distributes connections over all listeners of a port. Elsewhere one listener gets them all."""
    return sys.platform == "linux"


def _shares(slots: int, workers: int) -> list[int]:
    """The slots of each worker, as even as possible."""
    return [slots // workers + (number < slots % workers) for number in range(workers)]


def _free_port(host: str, port: int) -> int:
    """The port to listen on. It must be free, because a shared port could silently belong to a stranger's server."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise ConfigError(f"the local model server cannot listen on {host}:{port}: {error.strerror or error}") from None


def _wait_until_healthy(host: str, port: int, deadline: float) -> None:
    while True:
        if _is_healthy(host, port):
            return
        if time.monotonic() > deadline:
            raise ConfigError("the local model server did not start in time")
        time.sleep(0.05)


def _is_healthy(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=2.0)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
