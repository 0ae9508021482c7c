"""What a turn costs in another framework's loop (pydantic-ai), its model replaced by a function: run by `agents`.

Needs nothing of flatout, so that it can run in an environment of its own.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main(turns: int, runs: int) -> None:
    import pydantic_ai
    from pydantic_ai import Agent
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
    from pydantic_ai.models.function import FunctionModel

    def script(messages: list[object], info: object) -> ModelResponse:
        if len(messages) >= 2 * turns - 1:
            return ModelResponse(parts=[TextPart("done")])
        return ModelResponse(parts=[ToolCallPart("add", {"a": 1, "b": 2})])

    agent = Agent(FunctionModel(script))

    @agent.tool_plain
    async def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    async def one() -> None:
        assert (await agent.run("go")).output == "done"

    async def measured() -> float:
        for _ in range(5):
            await one()
        before = cpu()
        for _ in range(runs):
            await one()
        return (cpu() - before) / runs / turns * 1e6

    print(json.dumps({"name": f"pydantic-ai {pydantic_ai.__version__}", "us": asyncio.run(measured())}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
