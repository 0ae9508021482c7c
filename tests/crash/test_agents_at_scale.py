"""Many agents at once against a provider over HTTP that fails now and then: the limit used in full, and kills survived.

``AGENTS=1000`` is the whole size, which takes about three minutes.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from flatout.store import RunReader
from tests.crash.seed import SEED

AGENTS = int(os.environ.get("AGENTS", "75"))
CALLS = 6  # five turns with a tool, and the answer
RPM = 6_000 if AGENTS > 500 else 3_600  # a busy machine must let the small run's processes use it
LEAST = 0.95 if AGENTS > 500 else 0.85  # of the limit; the small run belongs to every test run, on busy machines too
KILLS = 5
BURST = 1.0 if AGENTS > 500 else 1.25
"""Seconds of the limit that may come at once. In the small run that is a call of each agent, which they send while a
busy machine holds up the provider."""

LATENCY = 0.15  # the median; one in a hundred takes three times as long

PROVIDER = """
import asyncio, json, os
from flatout.testing import Faults, ProviderModel, ProviderSettings, serve

log = os.open("asked.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def script(body):
    turn = sum(message["role"] == "assistant" for message in body["messages"])
    intent = body["messages"][0]["content"]
    os.write(log, f"{intent} {turn}\\n".encode())
    if turn == CALLS - 1:
        said = [message["content"] for message in body["messages"] if message["role"] == "tool"]
        return intent + " did " + ", ".join(said)
    function = {"name": "send", "arguments": json.dumps({"to": f"{intent} {turn}"})}
    return {"content": None, "tool_calls": [{"id": "c", "type": "function", "function": function}]}

async def main():
    faults = Faults(server_error=0.01, malformed=0.005, truncated=0.005, reset=0.005, empty=0.005)
    settings = ProviderSettings(
        rpm=RPM, burst=BURST, burst_full=False, charge_failed=True, latency=LATENCY, faults=faults
    )
    async with await serve(ProviderModel(settings, seed=5, script=script)) as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""

CLIENT = """
import asyncio, json, os, sys, time
from flatout import Client, Limits
from flatout.agents import Agent, idempotency_key, tool

effects = os.open("effects.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

@tool(side_effects=True)
async def send(to: str) -> str:
    os.write(effects, (json.dumps([to, idempotency_key()]) + "\\n").encode())
    await asyncio.sleep(0.01)
    return "sent " + to

async def note_stalls():
    "Other processes may keep this one from running; what it does itself is no excuse."
    with open("stalls.log", "a", buffering=1) as file:
        at, cpu = time.monotonic(), time.process_time()
        while True:
            await asyncio.sleep(0.02)
            now, used = time.monotonic(), time.process_time()
            if (stall := now - at - (used - cpu) - 0.2) > 0:  # the pacing makes up for the first 0.2 s
                file.write(json.dumps([now, stall]) + "\\n")
            at, cpu = now, used

async def main():
    stalls = asyncio.create_task(note_stalls())
    intents = [f"i{n}" for n in range(AGENTS)]
    results = {}
    limits = Limits(rpm=RPM, burst=0.2)  # so nothing is tried ahead, in none of the lives
    async with Client("m", base_url=sys.argv[1], config={}, limits=limits) as client:
        async for r in client.map(Agent(tools=[send]), intents, store="run.flatout"):
            assert r.index not in results
            results[r.index] = r.output.answer if r.ok else type(r.error).__name__
    stalls.cancel()
    with open("results.json", "w") as file:
        json.dump(results, file)

asyncio.run(main())
"""


def program(text: str) -> list[str]:
    for name in ("AGENTS", "CALLS", "RPM", "BURST", "LATENCY"):
        text = text.replace(name, str(globals()[name]))
    return [sys.executable, "-c", text]


class Provider:
    """The simulated provider, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "asked.log"
        self._process = subprocess.Popen(program(PROVIDER), cwd=folder, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/__stats", timeout=10) as answer:
            made: dict[str, Any] = json.load(answer)
        return made

    def asked(self) -> list[str]:
        """The conversations that it was asked to go on with, each time."""
        return self._log.read_text().splitlines() if self._log.exists() else []

    def end(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=20)


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    made = Provider(tmp_path)
    yield made
    made.end()


def start(folder: Path, url: str) -> subprocess.Popen[bytes]:
    with (folder / "err").open("wb") as err:
        return subprocess.Popen([*program(CLIENT), url], cwd=folder, stdout=err, stderr=err)


def finished(process: subprocess.Popen[bytes], folder: Path) -> dict[int, str]:
    assert process.wait(600) == 0, (folder / "err").read_text()
    return {int(index): answer for index, answer in json.loads((folder / "results.json").read_text()).items()}


def say(*figures: object) -> None:
    sys.stdout.write("\n" + "\n".join(map(str, figures)))


def effects(folder: Path) -> Counter[str]:
    done = [json.loads(line) for line in (folder / "effects.log").read_text().splitlines()]
    assert len({key for _, key in done}) == len(done), "an idempotency key was used twice"
    return Counter(to for to, _ in done)


def right(index: int) -> str:
    return f"i{index} did " + ", ".join(f"sent i{index} {turn}" for turn in range(CALLS - 1))


class Seen(NamedTuple):
    """What the provider had received at some time between two."""

    received: int
    asked: float
    told: float


def test_agents_use_the_limit_in_full(provider, tmp_path):
    """Agents would leave a part of the limit unused, run into 429s, or mix up their answers."""
    process = start(tmp_path, provider.url)
    seen: list[Seen] = []
    while process.poll() is None:
        asked = time.monotonic()
        seen.append(Seen(provider.stats()["received"], asked, time.monotonic()))
        time.sleep(0.1)
    results = finished(process, tmp_path)
    stats = provider.stats()

    assert results == {index: right(index) for index in range(AGENTS)}
    assert set(effects(tmp_path).values()) == {1}
    assert len(effects(tmp_path)) == AGENTS * (CALLS - 1)
    assert stats["refused"] == 0, stats
    assert sum(stats["faults"].values()) > 0.01 * AGENTS * CALLS, "the provider was too good"
    share = used(seen, stats["received"], tmp_path)
    whole = stats["received"] / (stats["last_at"] - stats["first_at"]) / (RPM / 60)
    say(f"{AGENTS} x {CALLS}: {stats['received']} requests, {share:.1%} of the limit ({whole:.1%} with its ends)")
    say(f"faults {stats['faults']}, most in flight {stats['most_in_flight']}")
    assert share >= LEAST


def used(seen: list[Seen], received: int, folder: Path) -> float:
    """The share of the limit from the first second to the last ones, in which too few agents are left to fill it.

    Seconds in which the agents' process was kept waiting by others on this machine do not count.
    """
    busy = [each for each in seen if 0.1 * received <= each.received <= 0.9 * received]
    (first, _, began), (last, ended, _) = busy[0], busy[-1]
    stalls = map(json.loads, (folder / "stalls.log").read_text().splitlines())
    stalled = sum(seconds for at, seconds in stalls if began <= at <= ended)
    return (last - first) / (ended - began - stalled) / (RPM / 60)


class Kill(NamedTuple):
    """What was under way when a process was killed.

    Attributes:
        asked: the conversations that the provider was asked to go on with by this process.
        kept: those whose answers the run file has, of all processes.
        at_provider: requests that were being served.
    """

    asked: set[str]
    kept: set[str]
    at_provider: int

    @property
    def in_flight(self) -> int:
        return len(self.asked - self.kept)

    @property
    def agents(self) -> int:
        """How many agents had calls in flight."""
        return len({each.split()[0] for each in self.asked - self.kept})

    def __repr__(self) -> str:
        return f"asked {len(self.asked)}, in flight {self.in_flight} ({self.at_provider} at the provider)"


def kill_at(share: float, provider: Provider, folder: Path) -> Kill:
    """Let the agents run until a share of the calls was made, and kill them in the middle."""
    before = len(provider.asked())
    process = start(folder, provider.url)
    until = time.monotonic() + 200
    while process.poll() is None and provider.stats()["received"] < share * AGENTS * CALLS:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert process.poll() is None, (folder / "err").read_text()
    process.send_signal(signal.SIGSTOP)  # so that what is counted is what is killed
    at_provider = provider.stats()["in_flight"]
    process.send_signal(signal.SIGKILL)
    process.wait(20)
    time.sleep(3 * LATENCY)  # what is under way at the provider ends
    with RunReader.open(folder / "run.flatout") as file:
        kept = {each for index in range(AGENTS) for each in calls_kept(file, index)}
    return Kill(set(provider.asked()[before:]), kept, at_provider)


def calls_kept(file: RunReader, index: int) -> Iterator[str]:
    """The conversations of an agent whose answers the run file has."""
    for place, entry in file.journal(index).items():
        if not place.startswith("step "):
            answer = json.loads(entry.value)
            asked = answer.get("tool_calls")
            yield json.loads(asked[0]["arguments"])["to"] if asked else f"i{index} {CALLS - 1}"


def test_killed_five_times_nothing_is_done_twice(provider, tmp_path):
    """After crashes mails would be sent twice, or whole runs be paid again."""
    chance = random.Random(SEED)
    shares = sorted(chance.uniform(0.05, 0.7) for _ in range(KILLS))
    kills = [kill_at(share, provider, tmp_path) for share in shares]
    before = len(provider.asked())
    results = finished(start(tmp_path, provider.url), tmp_path)
    stats, done = provider.stats(), effects(tmp_path)
    last = Kill(set(provider.asked()[before:]), set(), 0)

    assert set(done.values()) == {1}, f"seed {SEED}"
    assert set(results) == set(range(AGENTS))
    unknown = [index for index, answer in results.items() if answer != right(index)]
    assert {results[index] for index in unknown} <= {"StepUnknown"}, f"seed {SEED}"
    for index in set(range(AGENTS)) - set(unknown):
        assert all(done[f"i{index} {turn}"] for turn in range(CALLS - 1)), f"seed {SEED}"

    for kill, later in pairwise([*kills, last]):
        assert not kill.kept & later.asked, f"seed {SEED}: what was paid for and kept was asked for again"
    lives = Counter(each for life in (*kills, last) for each in life.asked)
    again = sum(times - 1 for times in lives.values())
    say(f"seed {SEED}: {again} calls paid again, {len(unknown)} steps unknown, {stats['refused']} refused")
    say(*kills)
    assert again <= sum(kill.in_flight for kill in kills), f"seed {SEED}"
    second = RPM / 60
    assert all(kill.in_flight == kill.agents for kill in kills), f"seed {SEED}: an agent lost two calls at once"
    assert len(unknown) <= KILLS * 0.5 * second, f"seed {SEED}"
    assert stats["refused"] == 0, f"seed {SEED}"
