"""What the first call costs, and what comes before it: ``python -m benchmarks.cold_start``.

Each round starts new interpreters and asks each for its CPU and wall time. `a bare loop` is an aiohttp session and
``json``, the least that could work. The import of asyncio stands apart: both need it. Bytecode is compiled beforehand,
as pip does it, into a folder of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .rounds import medians
from .server import serving

CHILD = """
import sys, time
began = time.process_time()
marks = {}

def mark(name):
    global began
    now = time.process_time()
    marks[name] = (now - began) * 1e3
    began = now
"""

SAY = """
import json
print(json.dumps(marks))
"""

FLATOUT = """
import flatout
mark("import flatout")
import asyncio
mark("import asyncio")
from flatout import Client

async def main():
    async with Client("bench", base_url=sys.argv[1], api_key="x", config={}) as client:
        assert (await client.call("hi")).text
        mark("to the first answer")
        assert client.spent == 0.0
        mark("its cost, asked for")

asyncio.run(main())
"""

BARE = """
import asyncio
mark("import asyncio")
import aiohttp, json

async def main():
    async with aiohttp.ClientSession(headers={"authorization": "Bearer x"}) as session:
        body = {"model": "bench", "messages": [{"role": "user", "content": "hi"}]}
        async with session.post(f"{sys.argv[1]}/chat/completions", json=body) as answer:
            assert json.loads(await answer.read())["choices"][0]["message"]["content"]
        mark("to the first answer")

asyncio.run(main())
"""

COMMANDS = {
    "a bare interpreter": ("-c", "pass"),
    "import flatout": ("-c", "import flatout"),
    "flatout --help": ("-m", "flatout", "--help"),
}


def child(environment: dict[str, str], *arguments: str) -> tuple[float, float, bytes]:
    """CPU and wall milliseconds of an interpreter of its own, and what it printed."""
    before, began = used(), time.perf_counter()
    printed = subprocess.run([sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, check=True).stdout
    return (used() - before) * 1e3, (time.perf_counter() - began) * 1e3, printed


def used() -> float:
    """CPU seconds of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    whole: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    scripts = {"flatout": CHILD + FLATOUT + SAY, "a bare loop": CHILD + BARE + SAY}
    steps: dict[str, list[dict[str, float]]] = {name: [] for name in scripts}
    with serving() as url, tempfile.TemporaryDirectory() as folder:
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment = {**kept, "PYTHONPYCACHEPREFIX": str(Path(folder) / "bytecode"), "XDG_CACHE_HOME": folder}
        for round_ in range(rounds + 1):  # the first one compiles
            for name, arguments in COMMANDS.items():
                cpu, wall, _ = child(environment, *arguments)
                if round_:
                    whole[name].append((cpu, wall))
            for name, script in scripts.items():
                printed = child(environment, "-c", script, url)[2]
                if round_:
                    steps[name].append(json.loads(printed))
    print(f"\nWhole processes, medians of {rounds}{'':19}{'CPU ms':>10}{'wall ms':>10}")
    for name, figures in whole.items():
        cpu, wall = medians(figures)
        print(f"{name:50}{cpu:>10.0f}{wall:>10.0f}")
    print("\nA first call in a started interpreter, CPU ms")
    for name, found in steps.items():
        for step in found[0]:
            print(f"{name + ': ' + step:50}{statistics.median(each[step] for each in found):>10.1f}")


if __name__ == "__main__":
    main()
