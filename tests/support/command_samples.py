"""The real command in its own processes, and a simulated provider for it in a thread of this process."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from msgspec.structs import replace

from flatout.testing import ProviderModel, ProviderSettings, digest_of, serve

FAST = {"latency": 0.01, "error_latency": 0.0, "output_tokens": 20}
AT_ONCE = 4
"""Processes that run at once. Most of their time is start-up."""

PLENTY = ("--rpm", "60k")
"""A known limit that no test reaches. Without one, the command would start slowly and search for the limit."""

PATIENCE = 120.0
"""Seconds after which something hangs, on however busy a machine."""

ItemT = TypeVar("ItemT")
DoneT = TypeVar("DoneT")


class Done(NamedTuple):
    """A process that has ended."""

    code: int
    out: str
    err: str


class Provider:
    """A simulated provider with a running server."""

    def __init__(self, model: ProviderModel, url: str, loop: asyncio.AbstractEventLoop) -> None:
        self.model = model
        self.url = url
        self._loop = loop

    def stats(self) -> dict[str, Any]:
        """The provider's counts so far."""

        return self._there(self.model.stats)

    def change(self, **settings: Any) -> None:
        """Have it behave otherwise towards the requests that arrive from now on."""

        def change() -> None:
            self.model.settings = replace(self.model.settings, **settings)

        self._there(change)

    @property
    def received(self) -> int:
        return int(self.stats()["received"])

    def options(self, model: str = "any") -> list[str]:
        """The options with which the command uses this provider."""
        return ["-m", model, "--base-url", self.url]

    def wait_for(self, received: int, seconds: float = PATIENCE) -> None:
        """Wait until a number of requests have arrived.

        Bound the requests in flight of a run that is to be met in its middle: it then waits for this process, however
        slow the machine lets that be, and is not over before a test can act.
        """
        eventually(lambda: self.received >= received, seconds)

    def hang_after(self, received: int) -> None:
        """Never answer what comes after so many requests, until `answer_again`.

        A run that is to be killed in its middle stays there, however late this process is let do it.
        """
        real, left = self.model.receive, received

        def receive(*given: Any, **kind: Any) -> Any:
            nonlocal left
            outcome, left = real(*given, **kind), left - 1
            if left < 0:
                outcome.wire = "hang"
            return outcome

        self.model.receive = receive  # type: ignore[method-assign]

    def answer_again(self) -> None:
        """Answer what comes from now on."""
        del self.model.receive  # type: ignore[method-assign]

    def _there(self, work: Callable[[], DoneT]) -> DoneT:
        """Do something in the thread of the server."""

        async def do() -> DoneT:
            return work()

        return asyncio.run_coroutine_threadsafe(do(), self._loop).result(PATIENCE)


@contextmanager
def provider(*, script: Any = None, **settings: Any) -> Iterator[Provider]:
    """Serve a provider on a free port while the context is open."""
    ready: list[Provider] = []
    started = threading.Event()
    stops: list[Callable[[], object]] = []

    async def play() -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        model = ProviderModel(ProviderSettings(**(FAST | settings)), script=script)
        async with await serve(model) as server:
            stops.append(lambda: loop.call_soon_threadsafe(over.set))
            ready.append(Provider(model, server.url, loop))
            started.set()
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(play(),))
    thread.start()
    assert started.wait(PATIENCE)
    try:
        yield ready[0]
    finally:
        stops[0]()
        thread.join(PATIENCE)


def start(
    *arguments: str,
    folder: Path,
    env: dict[str, str] | None = None,
    prepare: Callable[[], None] | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    """Start the command in a folder. Its environment has no keys except those in ``env``.

    Args:
        arguments: the command line.
        folder: its working directory.
        env: variables to add.
        prepare: called in the new process before the command starts.
        stdin, stdout: as for `subprocess.Popen`.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}

    def begin() -> None:
        for number in (signal.SIGINT, signal.SIGHUP):  # background jobs and nohup's inherit one ignored
            signal.signal(number, signal.SIG_DFL)
        if prepare is not None:
            prepare()

    return subprocess.Popen(
        [sys.executable, "-m", "flatout", *arguments],
        cwd=folder,
        env=inherited | {"COLUMNS": "120"} | (env or {}),
        preexec_fn=begin,
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
    )


def end(process: subprocess.Popen[bytes], stdin: bytes | None = None, seconds: float = PATIENCE) -> Done:
    """Wait until the process has ended, and check that it showed no traceback."""
    try:
        out, err = process.communicate(stdin, timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"it hangs; standard error so far: {err.decode()}") from None
    return sound(Done(process.returncode, (out or b"").decode(), (err or b"").decode()))


def wait_until_said(process: subprocess.Popen[bytes], text: str) -> None:
    """Wait until the process writes a line with this text to standard error. `end` does not tell what came before."""
    assert process.stderr is not None
    said = b""
    for line in process.stderr:
        said += line
        if text.encode() in line:
            return
    raise AssertionError(f"it ended, and said only: {said.decode()}")


def sound(done: Done) -> Done:
    """The same, after a check that it shows no traceback."""
    assert "Traceback" not in done.err, done.err
    assert "flatout: unexpected" not in done.err, done.err  # an internal error
    return done


def flatout(
    *arguments: str, folder: Path, stdin: bytes | None = None, seconds: float = PATIENCE, **options: Any
) -> Done:
    """Run the command to its end, within a number of seconds, in an interpreter of its own.

    `tests.support.quick_commands.flatout` starts at once.
    """
    given = subprocess.DEVNULL if stdin is None else subprocess.PIPE
    return end(start(*arguments, folder=folder, stdin=given, **options), stdin, seconds)


def side_by_side(work: Callable[[ItemT], DoneT], items: Iterable[ItemT]) -> list[DoneT]:
    """Do the work for every item, a few at a time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(work, items))


def eventually(holds: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def questions(folder: Path, count: int, name: str = "in.jsonl") -> Path:
    """An input with a number of rows, all different."""
    path = folder / name
    rows = ({"id": f"q{number}", "prompt": f"question {number}"} for number in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def is_answer(answer: Any, prompt: Any, system: str | None = None) -> bool:
    """Whether an answer belongs to this prompt."""
    return isinstance(answer, str) and answer.startswith(f"digest:{digest_of(prompt, system=system)}")


def check_answers(output: Path, count: int) -> None:
    """Check that every one of `questions` has its own answer, in the input's order."""
    rows = rows_of(output)
    assert [row["id"] for row in rows] == [f"q{number}" for number in range(count)]
    assert [row["id"] for row in rows if not is_answer(row["answer"], row["prompt"])] == []


def obey_permissions() -> None:
    """In a new process of root: give up the right to ignore file permissions."""
    drop_from_bounding_set, override = 24, 1
    ctypes.CDLL(None).prctl(drop_from_bounding_set, override, 0, 0, 0)
