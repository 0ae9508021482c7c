"""Programs that share the limits of a provider, each in a process of its own, and so is the provider."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from .command_samples import PATIENCE, eventually

RPM = 3_000
"""A limit at which the programs and the provider are idle most of the time, so that a busy machine lets them run."""

BURST = 5.0
"""Seconds of the limit that a provider takes at once in tests where no call may be refused: a busy machine bunches what
several programs send. Two that did not share would run past it in as many seconds."""

SIMULATE = [sys.executable, "-m", "flatout", "simulate", "--port", "0"]
ASK = """
import asyncio, json, sys, time
from contextlib import aclosing
from pathlib import Path
from flatout import Client, Limits

async def watch(still):
    while True:
        began = time.time()
        await asyncio.sleep(0.005)
        if time.time() - began > 0.01:
            still.append((began, time.time()))

async def main(url, folder, name, limits):
    still, folder = [], Path(folder)
    watching = asyncio.create_task(watch(still))
    limits = Limits(**json.loads(limits))
    async with Client("any", base_url=url, limits=limits, config={}) as client:
        (folder / name).touch()
        while not (folder / "go").exists():
            await asyncio.sleep(0.05)
        async with aclosing(client.as_completed(f"{name} {n}" for n in range(100_000))) as results:
            async for result in results:
                assert result.ok, result.error
                if (folder / "enough").exists():
                    break
    watching.cancel()
    (folder / f"still-{name}").write_text(json.dumps(still))

asyncio.run(main(*sys.argv[1:]))
"""


def stats(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url.removesuffix("/v1") + "/__stats", timeout=PATIENCE) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def reset(url: str) -> None:
    """Have the provider forget its counts."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/__reset", data=b"", timeout=PATIENCE):
        pass


class Programs:
    """Some that share a name, at a provider.

    Attributes:
        url: where it is.
        asking: the programs.
    """

    def __init__(self, folder: Path, url: str, environment: dict[str, str]) -> None:
        self.url = url
        self.asking: list[subprocess.Popen[bytes]] = []
        self._folder, self._environment = folder, environment

    def start(self, count: int, *, shared: str = "integration", **limits: object) -> None:
        """Start so many, and let them ask once all are ready, until their end is waited for."""
        limits["shared"] = shared
        for number in range(count):
            command = [ASK, self.url, str(self._folder), f"ready{number}", json.dumps(limits)]
            self.asking.append(subprocess.Popen([sys.executable, "-c", *command], env=self._environment))
        eventually(lambda: len(list(self._folder.glob("ready*"))) == count)
        (self._folder / "go").touch()

    def wait_until_busy(self) -> None:
        """Wait until a second's worth of requests was admitted: on a busy computer programs begin late."""
        self.wait_until(RPM // 60)

    def wait_until(self, admitted: int) -> None:
        """Wait until so many requests were admitted."""
        eventually(lambda: stats(self.url)["admitted"] >= admitted)

    def kill(self, number: int) -> None:
        """End one as nobody would wish to be ended."""
        self.asking[number].kill()
        self.asking[number].wait()

    def wait(self, numbers: range) -> None:
        """Let all end, and wait for the end of some, which is to be a good one."""
        (self._folder / "enough").touch()
        for number in numbers:
            assert self.asking[number].wait(PATIENCE) == 0

    def watch(self, seconds: float) -> list[tuple[float, int]]:
        """The time, and how many requests were admitted until then, about once a second."""
        ends = time.time() + seconds
        seen = [(time.time(), int(stats(self.url)["admitted"]))]
        while time.time() < ends:
            time.sleep(1.0)
            seen.append((time.time(), int(stats(self.url)["admitted"])))
        return seen

    def still(self) -> list[tuple[float, float]]:
        """When a program stood still, from when to when: the machine was busy with others."""
        return [span for file in self._folder.glob("still-*") for span in json.loads(file.read_text())]


def use(seen: list[tuple[float, int]], still: list[tuple[float, float]], count: int) -> float:
    """The share of the limit that some programs used in the better half of some seconds.

    While the machine lets one of them stand still, its part cannot be used; that is no more than half of a second here.
    """
    shares = []
    for (began, before), (ended, after) in pairwise(seen):
        lost = sum(max(0.0, min(ended, to) - max(began, since)) for since, to in still) / count
        seconds = max(ended - began - lost, 0.5 * (ended - began))
        shares.append(min(1.0, (after - before) / (RPM / 60 * seconds)))
    better = sorted(shares)[len(shares) // 2 :]
    return sum(better) / len(better)


@contextmanager
def programs(folder: Path, *provider: str) -> Iterator[Programs]:
    """Programs that can be started, at a provider of their own."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder)}
    server = subprocess.Popen(
        [*SIMULATE, *provider], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    assert server.stdout is not None
    made: Programs | None = None
    try:
        lines = (server.stdout.readline() for _ in range(20))
        url = next(word.rstrip(".,") for line in lines for word in line.split() if word.startswith("http://"))
        made = Programs(folder, url, environment)
        yield made
    finally:
        for process in made.asking if made is not None else ():
            process.kill()
            process.wait()
        server.send_signal(signal.SIGTERM)
        server.wait(10)
        server.stdout.close()
