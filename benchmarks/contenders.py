"""The scripts that the call path is measured against, and its own: each posts some prompts, some of them at once.

Each imports what it needs when it runs, so that a new process pays for its own imports alone.
"""

from __future__ import annotations

import asyncio
import json

PROMPTS = [f"{i}: " + "Explain the CAP theorem in three sentences. " * 9 for i in range(1_000)]


def prompts(count: int) -> list[str]:
    return [PROMPTS[i % len(PROMPTS)] for i in range(count)]


async def bare(url: str, count: int, concurrency: int) -> int:
    import aiohttp

    gate = asyncio.Semaphore(concurrency)
    good = 0
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers={"authorization": "Bearer x"}) as session:

        async def one(prompt: str) -> None:
            nonlocal good
            async with gate:
                body = {"model": "bench", "messages": [{"role": "user", "content": prompt}]}
                async with session.post(f"{url}/chat/completions", json=body) as answer:
                    data = json.loads(await answer.read())
            good += bool(data["choices"][0]["message"]["content"])

        await asyncio.gather(*(one(prompt) for prompt in prompts(count)))
    return good


async def flat(url: str, count: int, concurrency: int) -> int:
    from flatout import Client, Limits

    limits = Limits(concurrency=concurrency)
    async with Client("bench", base_url=url, api_key="x", limits=limits) as client:
        return sum(result.ok for result in await client.gather(prompts(count)))


async def naive(url: str, count: int, concurrency: int) -> int:
    import httpx

    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with httpx.AsyncClient(limits=limits, timeout=None) as client:

        async def one(prompt: str) -> bool:
            body = {"model": "bench", "messages": [{"role": "user", "content": prompt}]}
            answer = await client.post(f"{url}/chat/completions", json=body)
            return bool(answer.json()["choices"][0]["message"]["content"])

        return sum(await asyncio.gather(*(one(prompt) for prompt in prompts(count))))
