"""The jobs of `benchmarks.routes` with LiteLLM's Router over the same servers: run by it, in an environment of its own.

Needs nothing of flatout. ``plain`` gives it the limits, and the check that enforces them, as its documentation shows.
``tuned`` is the best of what was tried: a target that refuses a call gets no rest, and as many calls are in flight as
the limits allow at the servers' latency, which somebody would have to know.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # otherwise it downloads its price list

RETRIES = 6

WAYS = {
    "plain": (500, {"optional_pre_call_checks": ["enforce_model_rate_limits"]}),
    "tuned": (80, {"disable_cooldowns": True}),
}
"""The calls in flight, and options of the router."""


async def job(way: str, urls: list[str], rpm: int, calls: int) -> dict[str, object]:
    import litellm
    from litellm import Router

    litellm.suppress_debug_info = True
    in_flight, options = WAYS[way]
    router = Router(
        model_list=[
            {
                "model_name": "both",
                "litellm_params": {
                    "model": "openai/m",
                    "api_base": url,
                    "api_key": f"key-{place}",
                    "rpm": rpm,
                    "timeout": 60,
                    "max_retries": 0,
                },
            }
            for place, url in enumerate(urls)
        ],
        num_retries=RETRIES,
        routing_strategy="simple-shuffle",
        **options,
    )
    turn, lost = asyncio.Semaphore(in_flight), 0

    async def ask(number: int) -> None:
        nonlocal lost
        async with turn:
            try:
                await router.acompletion(model="both", messages=[{"role": "user", "content": f"question {number}"}])
            except Exception:
                lost += 1

    began = time.monotonic()
    await asyncio.gather(*map(ask, range(calls)))
    return {"seconds": time.monotonic() - began, "lost": lost}


def main(way: str, rpm: int, calls: int, urls: list[str]) -> None:
    from importlib.metadata import version

    found = asyncio.run(job(way, urls, rpm, calls))
    print(json.dumps({"name": f"LiteLLM {version('litellm')}, {way}", **found}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
