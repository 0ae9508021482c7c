"""One long-lived process that works without a pause against a provider that misbehaves, watched for what grows.

    python -m tests.crash.soak [--minutes 30] [--leak memory|files|tasks]

A client asks a ``flatout simulate`` process over real HTTP: refusals, errors, connections that are reset, answers that
are cut off, answers that never come. It answers batch after batch, with and without run files, half of them broken off
and gone on with. After each, the connections alone meet resets, garbage, silence and halves of answers, and calls are
given up at any moment. Every result is checked. Once per batch the memory, the open files and the tasks are looked at,
and at the end the last quarter of the time is held against the first: exit code 1 when something grew.

``--leak`` grows something on purpose, to see that it would be noticed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager, suppress
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from flatout import Client, Limits, Result, ServerError, TransportError
from flatout.layer import Request
from flatout.testing import digest_of
from flatout.transports.http import HttpTransport
from tests.support.raw_server import Server, reset, serving

ROWS = 200
CONCURRENCY = 32
SAME_FAILURES = 3  # as `flatout.policies.failures.decision.Repeats` has it
TIMEOUT = 0.5  # seconds that an answer which never comes is waited for
FAULTS = {
    "error-429": "0.1%",  # rarer: each pauses the target, and slows it down for a while
    "error-500": "2%",
    "error-503": "0.5%",
    "reset": "2%",
    "truncate": "2%",
    "malformed": "1%",
    "empty": "1%",
    "hang": "0.3%",
}

MORE_MEMORY = (1.1, 10.0)  # the most growth that is no leak: a factor, and MB on top
MORE_FILES = 4  # connections that happen to be open between two batches
MORE_TASKS = 1


class Sample(NamedTuple):
    """The process between two batches: seconds since the start, MB, open files, tasks."""

    at: float
    memory: float
    files: float
    tasks: float

    @classmethod
    def take(cls, began: float) -> Sample:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
        files = sum(1 for _ in Path("/proc/self/fd").iterdir())
        return cls(time.monotonic() - began, memory, files, len(asyncio.all_tasks()))


class Quarters(NamedTuple):
    """What is usual in the first and in the last quarter of the time."""

    first: float
    last: float


def quarters(samples: list[Sample], name: str) -> Quarters:
    """The medians of one figure."""
    end = samples[-1].at
    early = [getattr(each, name) for each in samples if each.at <= end / 4]
    late = [getattr(each, name) for each in samples if each.at >= end * 3 / 4]
    return Quarters(median(early or late), median(late))


def grown(samples: list[Sample]) -> list[str]:
    """What has grown beyond what chance explains."""
    factor, on_top = MORE_MEMORY
    allowed = {
        "memory": quarters(samples, "memory").first * factor + on_top,
        "files": quarters(samples, "files").first + MORE_FILES,
        "tasks": quarters(samples, "tasks").first + MORE_TASKS,
    }
    return [name for name, most in allowed.items() if quarters(samples, name).last > most]


def table(samples: list[Sample]) -> str:
    """The figures, for people."""
    lines = [f"{'':14}{'first quarter':>15}{'last quarter':>15}{'most':>10}"]
    for name, unit in (("memory", "MB"), ("files", "open"), ("tasks", "")):
        first, last = quarters(samples, name)
        most = max(getattr(each, name) for each in samples)
        lines.append(f"{name:8}{unit:6}{first:15.1f}{last:15.1f}{most:10.1f}")
    return "\n".join(lines)


@contextmanager
def provider() -> Iterator[str]:
    """``flatout simulate`` with faults, in a process of its own; yields its base URL."""
    options = [f"--{name}={share}" for name, share in FAULTS.items()]
    command = [sys.executable, "-m", "flatout", "simulate", "--port", "0", "--latency", "0.01", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            found = re.search(r"http://\S+/v1", process.stderr.readline())
            assert found is not None, "the provider did not start"
            yield found[0]
        finally:
            process.terminate()
            process.stderr.read()


def prompts(batch: int, rows: int = ROWS) -> list[str]:
    return [f"batch {batch} row {row}" for row in range(rows)]


def check(asked: list[str], results: list[Result[Any]]) -> None:
    """Every row exactly once, in order, with its own answer.

    The simulator's failures are all alike, so one in some ten thousand calls meets the same three times running, which
    is final by rule: that error, and no other, may stand in an answer's place.
    """
    assert [result.index for result in results] == list(range(len(asked)))
    for prompt, result in zip(asked, results, strict=True):
        if isinstance(result.error, ServerError) and result.attempts >= SAME_FAILURES:
            continue
        assert result.ok, f"{prompt}: {result.error!r}"
        text = result.text if result.reply is not None else result.output
        assert digest_of(prompt) in str(text), f"{prompt} has another's answer"


async def without_a_file(client: Client, batch: int, _: Path) -> None:
    asked = prompts(batch)
    check(asked, await client.gather(asked))


async def with_a_file(client: Client, batch: int, place: Path) -> None:
    asked = prompts(batch)
    check(asked, await client.gather(asked, store=place))
    check(asked, await client.gather(asked, store=place))


async def broken_off(client: Client, batch: int, place: Path) -> None:
    """Left early, cancelled, and then gone on with."""
    asked = prompts(batch)
    async with aclosing(client.as_completed(asked, store=place)) as results:
        async for result in results:
            if result.index >= ROWS // 4:
                break
    task = asyncio.ensure_future(client.gather(asked, store=place))
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    check(asked, await client.gather(asked, store=place))


async def functions(client: Client, batch: int, place: Path) -> None:
    async def twice(item: str, client: Client) -> str:
        first, second = await client.gather([item, f"{item} again"], strict=True)
        assert digest_of(f"{item} again") in (second.text or "")
        return first.text or ""

    asked = prompts(batch, ROWS // 2)
    found = [result async for result in client.map(twice, asked, store=place)]
    check(asked, sorted(found, key=lambda result: result.index))


async def fresh_client(_: Client, batch: int, place: Path, *, url: str) -> None:
    """A client that is made, used and closed: its connections go with it."""
    async with make_client(url) as client:
        await with_a_file(client, batch, place)


# -- connections alone ------------------------------------------------------------------------------------------------

ANSWER = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n"
drawn = random.Random(1)


async def misbehaves(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Each answer is a right one, or something else that networks and servers do."""
    while True:
        await server.read(reader)
        server.requests.clear()
        match drawn.choice(
            ("right", "right", "right", "hints", "slow", "half", "reset", "garbage", "more", "close", "never")
        ):
            case "right":
                writer.write(ANSWER)
            case "hints":
                writer.write(b"HTTP/1.1 103 Hints\r\n\r\n" * 100 + ANSWER)
            case "slow":
                for byte in ANSWER:
                    writer.write(bytes([byte]))
                    await writer.drain()
            case "half":
                return writer.write(ANSWER[: drawn.randrange(len(ANSWER))])
            case "reset":
                writer.write(ANSWER[: drawn.randrange(len(ANSWER))])
                return reset(writer)
            case "garbage":
                writer.write(drawn.randbytes(1_000))
            case "more":
                writer.write(ANSWER + ANSWER.replace(b"fine", b"evil"))
            case "close":
                return writer.write(ANSWER)
            case "never":
                await reader.read(1)
                return None


async def connections(transport: HttpTransport, server: Server) -> None:
    """Requests of all sizes; some are given up at any moment. What is answered is answered rightly, and no connection
    is kept for longer than it should be."""

    async def ask() -> None:
        body = bytes(drawn.choice((2, 2, 2, 1_000_000)))
        with suppress(TransportError, TimeoutError):
            async with asyncio.timeout(drawn.choice((0.0, 0.001, 0.01, TIMEOUT))):
                answer = await transport.send(Request("POST", server.url, {}, body))
            assert answer.body == b"fine"

    await asyncio.gather(*(ask() for _ in range(ROWS)))
    await server.has_open(0)


BATCHES = (without_a_file, with_a_file, broken_off, functions)


def make_client(url: str) -> Client:
    limits = Limits(rpm=600_000, concurrency=CONCURRENCY)
    return Client("any", base_url=url, api_key="none", limits=limits, timeout=TIMEOUT, retries=12, config={})


async def soak(url: str, folder: Path, seconds: float, leak: str | None) -> list[Sample]:
    """Batches until the time is over, with a sample after each."""
    samples: list[Sample] = []
    kept: list[Any] = []  # what `leak` asks for
    began = said = time.monotonic()
    transport = HttpTransport(connect_timeout=1.0, keepalive=0.2)
    async with make_client(url) as client, serving(misbehaves) as server:
        for batch in count():
            if time.monotonic() - began > seconds:
                break
            place = folder / f"{batch}.flatout"
            if batch % 10 == 9:
                await fresh_client(client, batch, place, url=url)
            else:
                await BATCHES[batch % len(BATCHES)](client, batch, place)
            clear(folder, place)
            await connections(transport, server)
            if leak is not None:
                kept.append(leaked(leak))
            samples.append(Sample.take(began))
            if time.monotonic() - said > 60:
                said = time.monotonic()
                say(f"{samples[-1].at / 60:5.1f} min, {batch + 1:,} batches, {samples[-1].memory:.1f} MB")
        await transport.close()
    return samples


def clear(folder: Path, place: Path) -> None:
    place.unlink(missing_ok=True)
    assert not list(folder.iterdir()), "something was left beside the run file"


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def leaked(what: str) -> Any:
    if what == "tasks":
        return asyncio.ensure_future(asyncio.sleep(86_400))
    return os.dup(0) if what == "files" else bytes(os.urandom(1_000_000))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--leak", choices=("memory", "files", "tasks"))
    asked = parser.parse_args()
    with provider() as url, tempfile.TemporaryDirectory() as name:
        samples = asyncio.run(soak(url, Path(name), asked.minutes * 60, asked.leak))
    say(table(samples))
    found = grown(samples)
    say(f"{len(samples):,} batches, every result right; grown: {', '.join(found) or 'nothing'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
