"""Agents killed with SIGKILL at random instants: they go on at their turn, and nothing in the world is done twice.

``FLATOUT_AGENT_KILLS`` says how often.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.crash.seed import SEED

KILLS = int(os.environ.get("FLATOUT_AGENT_KILLS", "12"))
INTENTS, TURNS = 8, 12
LIFE = 0.2  # seconds, at most, from a process' first call to the kill

PROGRAM = """
import asyncio, json, os, sys
from flatout import Client, StepUnknown
from flatout.agents import Agent, idempotency_key, tool
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport

log = os.open("log.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def note(**what):
    os.write(log, (json.dumps(what) + "\\n").encode())

@tool(side_effects=True)
async def send(to: str) -> str:
    note(effect=to, key=idempotency_key())
    await asyncio.sleep(0.03)
    return "sent to " + to

def script(body):
    turn = sum(message["role"] == "assistant" for message in body["messages"])
    intent = body["messages"][0]["content"]
    note(turn=f"{intent} {turn}")
    if turn == TURNS - 1:
        return "done " + intent
    function = {"name": "send", "arguments": json.dumps({"to": f"{intent} {turn}"})}
    return {"content": None, "tool_calls": [{"id": "c", "type": "function", "function": function}]}

async def main():
    transport = SimulatedTransport(ProviderModel(ProviderSettings(latency=0.02), script=script))
    async with Client("m", base_url="http://sim/v1", config={}, transport=transport) as client:
        agent = Agent(tools=[send])
        async for r in client.map(agent, [f"i{n}" for n in range(INTENTS)], store="run.flatout"):
            answer = r.output.answer if r.ok else type(r.error).__name__
            note(result=r.index, answer=answer)

asyncio.run(main())
note(end=True)
""".replace("TURNS", str(TURNS)).replace("INTENTS", str(INTENTS))


def lines(folder: Path) -> list[dict[str, object]]:
    log = folder / "log.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=folder, stderr=subprocess.PIPE)


def kill_once(folder: Path, chance: random.Random) -> bool:
    """Start the program, kill it soon after its first sign of life; whether it was still at work."""
    before = len(lines(folder))
    process = start(folder)
    until = time.monotonic() + 60
    while process.poll() is None and len(lines(folder)) == before and time.monotonic() < until:
        time.sleep(0.005)
    time.sleep(chance.random() * LIFE)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return alive


def test_killed_agents_do_nothing_twice(tmp_path):
    """A mail would be sent, or money paid, twice; or turns that are paid for be paid again."""
    chance = random.Random(SEED)
    kills = sum(kill_once(tmp_path, chance) for _ in range(KILLS))
    last = start(tmp_path)
    _, complaint = last.communicate(timeout=120)
    assert last.returncode == 0, complaint.decode()

    seen = lines(tmp_path)
    effects = Counter(str(line["effect"]) for line in seen if "effect" in line)
    assert set(effects.values()) <= {1}, f"seed {SEED}"
    turns = [str(line["turn"]) for line in seen if "turn" in line]
    assert len(turns) <= INTENTS * TURNS + kills * INTENTS, f"seed {SEED}"
    results = {line["result"]: line["answer"] for line in seen if "result" in line}
    assert set(results) == set(range(INTENTS))
    for index, answer in results.items():
        if answer == f"done i{index}":
            assert all(effects[f"i{index} {turn}"] == 1 for turn in range(TURNS - 1)), f"seed {SEED}"
        else:
            assert answer == "StepUnknown", f"seed {SEED}"
    keys = [line["key"] for line in seen if "effect" in line]
    assert len(set(keys)) == len(keys)
