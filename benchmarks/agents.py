"""What the loop of an agent costs beyond its calls: ``python -m benchmarks.agents [--peer PYTHON]``.

An agent of so many turns, one tool a turn, against the very same calls made by hand; the transport answers at once, so
that all there is to measure is CPU. ``--peer`` names an interpreter that has pydantic-ai, whose loop is measured with
its model replaced by a function. Rounds alternate; figures are medians of the rounds.

Last figures (two cores, shared with other work, Python 3.11, 10 turns a run): see docs/agents.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from flatout import Call, Client
from flatout.agents import Agent
from flatout.layer import Request, Response

from .agents_peer import cpu
from .rounds import added


async def add_async(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Instant:
    """Answers at once: a tool call, or after so many turns the end."""

    def __init__(self, turns: int) -> None:
        self._last = turns - 1
        function = {"name": "add_async", "arguments": '{"a": 1, "b": 2}'}
        asked = {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "function": function}]}
        self._tool = self._body(asked, "tool_calls")
        self._end = self._body({"role": "assistant", "content": "done"}, "stop")
        self.sent: list[Any] | None = None

    @staticmethod
    def _body(message: Any, reason: str) -> bytes:
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        return json.dumps({"choices": [{"message": message, "finish_reason": reason}], "usage": usage}).encode()

    async def send(self, request: Request) -> Response:
        if self.sent is not None:
            self.sent.append(json.loads(request.body)["messages"])
        turn = request.body.count(b'"role":"tool"')
        return Response(200, {}, self._end if turn >= self._last else self._tool)

    async def close(self) -> None:
        pass


async def rounds(turns: int, runs: int, count: int) -> tuple[list[float], list[float]]:
    """CPU µs a turn: of the agent, and of its calls alone."""
    wire = Instant(turns)
    agent = Agent(tools=[add_async], instructions="Add.")
    whole: list[float] = []
    alone: list[float] = []
    async with Client("m", base_url="http://bench/v1", config={}, transport=wire) as client:  # type: ignore[arg-type]
        wire.sent = []
        assert (await client.run_agent(agent, "go")).turns == turns
        talks, wire.sent = wire.sent, None
        schema = [tool.schema for tool in agent.kit]
        calls = [Call(messages=talk[1:], system="Add.", tools=schema, reasks=0) for talk in talks]
        for _ in range(count):
            before = cpu()
            for _ in range(runs):
                await client.run_agent(agent, "go")
            middle = cpu()
            for _ in range(runs):
                for call in calls:
                    await client.result(call)
            whole.append((middle - before) / runs / turns * 1e6)
            alone.append((cpu() - middle) / runs / turns * 1e6)
    return whole, alone


def peer(python: str, turns: int, runs: int) -> tuple[str, float] | str:
    """The other framework's name and CPU µs a turn, or why there is none."""
    script = Path(__file__).with_name("agents_peer.py")
    done = subprocess.run([python, str(script), str(turns), str(runs)], capture_output=True, text=True, timeout=300)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["it failed"])[-1]
    found = json.loads(done.stdout)
    return found["name"], found["us"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peer", default=sys.executable, help="an interpreter that has pydantic-ai")
    options = parser.parse_args()
    whole, alone = asyncio.run(rounds(options.turns, options.runs, options.rounds))
    beyond = added(whole, alone)
    print(f"{options.turns} turns a run, one tool a turn; CPU µs a turn, medians of {options.rounds} rounds")
    print(f"flatout, call and loop   {statistics.median(whole):8.0f}")
    print(f"the calls alone          {statistics.median(alone):8.0f}")
    print(f"the loop beyond them     {beyond:8.0f}   (to stay below 150)")
    other = peer(options.peer, options.turns, options.runs)
    if isinstance(other, str):
        print(f"pydantic-ai: skipped ({other})")
    else:
        print(f"{other[0]}, its loop {other[1]:8.0f}   × {other[1] / beyond:.1f}")


if __name__ == "__main__":
    main()
