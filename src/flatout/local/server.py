"""A local model server: llama.cpp's own, in child processes that die with us.

Why processes and not threads: the model takes whole cores and does not share the interpreter kindly, and a server
must never outlive the run that started it, not even after kill -9 (see `worker`).

Why one thread each and several of them: a thread pool that computes one step together waits for its slowest thread.
With nothing else to do, two cores gave 190 tokens/s to two threads and 170 to two processes; with one other busy
process 65 and 96, with two 19 and 96. The processes share one port, over which the kernel spreads the connections
(Linux; elsewhere there is one process).
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
"""The system prompt of calls without one: this model's chat template answers gibberish when there is none."""

DEFAULT_SLOTS = 8
"""Calls answered at the same time. More gain nothing: two cores are busy with four."""

DEFAULT_PORT = 8080
"""Where `serve_forever` listens unless told otherwise."""

_CONTEXT = 2048  # tokens of prompt and answer together, for each slot; 23 KB of memory a token
_MOST_WORKERS = 4
_GRACE = 2.0  # seconds that a worker has to leave before it is killed
_WATCH = 0.5  # seconds between two looks at the workers


def endpoint(base_url: str, slots: int = DEFAULT_SLOTS) -> Endpoint:
    """How flatout reaches a local server: no key, and as many calls in flight as it has slots."""
    return Endpoint(
        name="local",
        base_url=base_url,
        key_required=False,
        self_hosted=True,
        limits=Limits(concurrency=slots),
        system=SYSTEM,
    )


class LocalServer:
    """The embedded model behind an OpenAI-compatible HTTP server on this machine.

    Use it as ``async with LocalServer() as server:`` (the waiting happens in a thread), with a plain ``with``, or by
    `start` and `stop`. It is gone when this process is, however that ends.

    Args:
        slots: calls answered at the same time.
        port: where to listen; 0 takes a free port.
        host: the IPv4 address or name to listen on. There is no key: whoever reaches it may use it.
        context: tokens of prompt and answer together, for each slot. Memory grows by 23 KB a token.
        workers: processes, one core each; as many as there are usable cores, 4 at most, when None. Where ports
            cannot be shared (other systems than Linux) it is always 1, with several threads.
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
        """Where it answers, version included (``http://127.0.0.1:…/v1``); "" before the start."""
        return self._base_url

    @property
    def running(self) -> bool:
        """Whether it was started and every one of its processes is alive."""
        return bool(self._workers) and all(worker.alive for worker in self._workers)

    def endpoint(self) -> Endpoint:
        """The `Endpoint` for this server. Start it first."""
        return endpoint(self._base_url, self.slots)

    def start(self) -> str:
        """Start it, wait until it answers (about a second), and return its base URL. A second start does nothing.

        Raises:
            ConfigError: the extra or the model is missing, the port is taken, or it does not answer in time.
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
        """End its processes and wait for their end (2 s each at most). A second stop does nothing."""
        workers, self._workers = self._workers, []
        self._base_url = ""
        with ExitStack() as burials:  # all are held, also when one of them fails
            for worker in reversed(workers):
                burials.callback(worker.bury)
            for worker in workers:
                worker.dismiss()

    def wait(self) -> None:
        """Block for as long as it runs.

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
            "connections": self.slots + 4,  # a kept connection holds a thread; chance may send all of them to one
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
            await asyncio.wait([starting])  # a second of waiting is better than processes that nobody knows of
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
    """Serve the embedded model until Ctrl-C; ``announce`` gets the base URL once it answers.

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
    """One process of the server, held by the pipe that is its life line."""

    def __init__(self, options: dict[str, object]) -> None:
        program = Path(__file__).with_name("worker.py")
        self._process = subprocess.Popen(  # noqa: S603 - our own program, no shell
            [sys.executable, "-P", str(program), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,  # read after a failed start; a ready worker writes nothing to it
            env=environment(COMPUTING),
            start_new_session=True,  # Ctrl-C is for the run: it still needs the server for what is in flight
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
        said = [line.strip() for line in self._stderr.read().decode(errors="replace").splitlines() if line.strip()]
        errors = [line.split(" E ", 1)[1].strip() for line in said if " E " in line]
        if errors:
            return errors[0]  # llama.cpp's first error is the cause; those after it say that it failed
        return said[-1] if said else f"its process ended with {self._process.wait(_GRACE)}"


def _usable_cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST_WORKERS)


def _ports_are_shared() -> bool:
    """Whether the kernel spreads connections over the listeners of one port; others give all to one of them."""
    return sys.platform == "linux"


def _shares(slots: int, workers: int) -> list[int]:
    """The slots of each worker: together all of them, as even as can be."""
    return [slots // workers + (number < slots % workers) for number in range(workers)]


def _free_port(host: str, port: int) -> int:
    """The port to listen on. Sharing a port silently with a stranger is the danger, so it must be nobody's yet."""
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
