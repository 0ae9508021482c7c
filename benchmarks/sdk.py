"""What a vendor's SDK costs with flatout beneath it, against the SDK by itself: ``python -m benchmarks.sdk``.

The same calls with the same SDK, to the same simulator in a process of its own: over ``flatout.sdk``, and over the
SDK's own HTTP client. CPU is that of the program's process; rounds alternate, and figures are medians of them. The SDKs
are in an environment of their own (``make .venv-sdk``), whose interpreter ``--python`` names.

Last figures: see docs/sdk.md.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import flatout
from benchmarks.rounds import medians, ratio
from flatout import Client, Limits
from flatout.testing import ProviderModel, ProviderSettings, serve

ROOT = Path(__file__).parents[1]
KEY = "sk-test-1234567890"
AT_ONCE = 64
PROMPT = "Explain the CAP theorem in three sentences. " * 9

Ask = Callable[[], Awaitable[Any]]


def chat(ai: Any) -> Ask:
    messages = [{"role": "user", "content": PROMPT}]
    return lambda: ai.chat.completions.create(model="gpt-5-mini", messages=messages)


def streamed(ai: Any) -> Ask:
    async def ask() -> None:
        messages = [{"role": "user", "content": PROMPT}]
        async for _ in await ai.chat.completions.create(model="gpt-5-mini", messages=messages, stream=True):
            pass

    return ask


def messages(ai: Any) -> Ask:
    said = [{"role": "user", "content": PROMPT}]
    return lambda: ai.messages.create(model="claude-sonnet-4-5", max_tokens=500, messages=said)


def own_openai(url: str) -> Any:
    import openai

    return openai.AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0)


def own_anthropic(url: str) -> Any:
    import anthropic

    return anthropic.AsyncAnthropic(api_key=KEY, base_url=url.removesuffix("/v1"), max_retries=0)


KINDS: dict[str, tuple[Callable[[Any], Ask], Callable[[str], Any], Callable[[Client], Any]]] = {
    "openai, chat": (chat, own_openai, flatout.sdk.openai),
    "openai, streamed": (streamed, own_openai, flatout.sdk.openai),
    "anthropic, messages": (messages, own_anthropic, flatout.sdk.anthropic),
}
"""What is asked, of the SDK by itself, and of the SDK over flatout."""


async def cpu(ask: Ask, calls: int) -> float:
    """CPU seconds a call."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with places:
            await ask()

    began = time.process_time()
    await asyncio.gather(*(one() for _ in range(calls)))
    return (time.process_time() - began) / calls


async def measure(url: str, calls: int, rounds: int) -> None:
    """Measure and print each kind."""
    limits = Limits(rpm=10_000_000, concurrency=AT_ONCE)
    async with Client("gpt-5-mini", base_url=url, api_key=KEY, limits=limits, config={}) as client:
        made = {maker: maker(url) for _, maker, _ in KINDS.values()}  # one of each, as its program would have
        for name, (kind, own, over) in KINDS.items():
            alone, beneath = kind(made[own]), kind(over(client))
            await cpu(alone, AT_ONCE), await cpu(beneath, AT_ONCE)
            figures = [(await cpu(alone, calls), await cpu(beneath, calls)) for _ in range(rounds)]
            first, second = (each * 1e6 for each in medians(figures))
            times = ratio([over for _, over in figures], [alone for alone, _ in figures])
            print(f"{name:20} {first:6.0f} µs a call alone, {second:6.0f} over flatout: {times:.2f} ×")


async def serving() -> None:
    """The simulator, until its input ends."""
    async with await serve(ProviderModel(ProviderSettings(latency=0.0))) as server:
        print(server.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--python", default=str(ROOT / ".venv-sdk" / "bin" / "python"))
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serving())
    elif importlib.util.find_spec("openai") is None:
        if not Path(options.python).exists():
            sys.exit("the vendors' SDKs are not installed: make .venv-sdk")
        again = [options.python, "-m", "benchmarks.sdk", f"--calls={options.calls}", f"--rounds={options.rounds}"]
        sys.exit(subprocess.run(again, cwd=ROOT, check=False).returncode)
    else:
        served = [sys.executable, "-m", "benchmarks.sdk", "--serve"]
        with subprocess.Popen(served, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            asyncio.run(measure(server.stdout.readline().strip(), options.calls, options.rounds))
            assert server.stdin is not None
            server.stdin.close()


if __name__ == "__main__":
    main()
