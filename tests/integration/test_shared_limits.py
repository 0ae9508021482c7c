"""One limit for several processes, against a provider in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from typing import Any

SECONDS, PROCESSES, RPM = 15.0, 4, 6_000

SIMULATE = [sys.executable, "-m", "flatout", "simulate", "--port", "0", "--rpm", str(RPM), "--burst", "1"]
ASK = """
import asyncio, sys
from contextlib import aclosing
from flatout import Client, Limits

async def main(url, seconds):
    limits = Limits(rpm=6_000, shared="integration")
    async with Client("any", base_url=url, limits=limits, config={}) as client:
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        async with aclosing(client.as_completed(f"{sys.argv[3]} {n}" for n in range(100_000))) as results:
            async for result in results:
                assert result.ok, result.error
                if loop.time() > ends:
                    break

asyncio.run(main(sys.argv[1], float(sys.argv[2])))
"""


def stats(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url.removesuffix("/v1") + "/__stats", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def test_four_processes_share_one_limit_use_it_and_never_hit_it(tmp_path):
    """Four runs side by side would be refused three times in four, or leave each other's share unused."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    server = subprocess.Popen(
        [*SIMULATE, "--latency", "0.05"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    asking: list[subprocess.Popen[bytes]] = []
    try:
        assert server.stdout is not None
        lines = (server.stdout.readline() for _ in range(20))
        url = next(word.rstrip(".,") for line in lines for word in line.split() if word.startswith("http://"))
        for number in range(PROCESSES):
            asking.append(
                subprocess.Popen([sys.executable, "-c", ASK, url, str(SECONDS), str(number)], env=environment)
            )
        deadline = time.monotonic() + 60
        for process in asking:
            assert process.wait(max(0.1, deadline - time.monotonic())) == 0
        seen = stats(url)
    finally:
        for process in asking:
            process.kill()
            process.wait()
        server.send_signal(signal.SIGTERM)
        server.wait(10)
        if server.stdout is not None:
            server.stdout.close()
    assert seen["refused"] == 0
    # Whole seconds in which all four were at it: the first ones begin sooner, the last end later.
    admitted = seen["admitted_per_second"]
    first = int(seen["first_at"]) + 4
    middle = admitted[first : first + int(SECONDS) - 6]
    assert sum(middle) / len(middle) >= 0.96 * RPM / 60
