"""Agents: a small loop of model and tools on `flatout.Client`, with stages around it that check its work.

::

    from flatout.agents import Agent, UsageLimits, tool

    outcome = await client.run_agent(Agent(tools=[look_up], limits=UsageLimits(turns=8)), "Who lives at 7 Elm Street?")

`guards` has the built-in guardrails. `mcp_tools` gives an agent the tools of an MCP server.
"""

from __future__ import annotations

from flatout.values.agent_step import Step

from . import guards
from ._agent import Agent
from ._context import idempotency_key
from ._guard import PASSED, Checked, Guardrail, Verdict, fail, stop
from ._mcp import mcp_tools
from ._outcome import Outcome, PlanStep, UsageLimits
from ._oversight import Approval
from ._stages import Classify, Judge, Plan
from ._tool import Tool, tool

__all__ = [
    "PASSED",
    "Agent",
    "Approval",
    "Checked",
    "Classify",
    "Guardrail",
    "Judge",
    "Outcome",
    "Plan",
    "PlanStep",
    "Step",
    "Tool",
    "UsageLimits",
    "Verdict",
    "fail",
    "guards",
    "idempotency_key",
    "mcp_tools",
    "stop",
    "tool",
]
