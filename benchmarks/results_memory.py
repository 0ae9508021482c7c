"""What a result of `gather` keeps in memory: ``python -m benchmarks.results_memory [--results 20000]``.

Counted by `tracemalloc`, so it does not depend on the machine, only on the version of Python. The prompts are the
program's own, and not counted. Each answer is a text of 500 characters.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import tracemalloc

from flatout import Client, Limits

from .server import serving


async def kept(url: str, count: int, *, keep_raw: bool) -> tuple[float, float]:
    """Bytes a result, and bytes of its text."""
    limits = Limits(concurrency=100)
    async with Client("bench", base_url=url, api_key="x", config={}, limits=limits, keep_raw=keep_raw) as client:
        await client.gather(["warm"] * 500)
        prompts = [f"{index}: Explain the CAP theorem." for index in range(count)]
        tracemalloc.start()
        results = await client.gather(prompts)
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] / count
        tracemalloc.stop()
        text = results[0].text
        assert text is not None
        return taken, text.__sizeof__()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=int, default=20_000)
    count = parser.parse_args().results
    print(f"{count:,} results{'':20}{'bytes a result':>16}{'beside the text':>18}")
    with serving() as url:
        for name, keep_raw in (("default", False), ("keep_raw=True", True)):
            taken, text = asyncio.run(kept(url, count, keep_raw=keep_raw))
            print(f"{name:34}{taken:>16,.0f}{taken - text:>18,.0f}")


if __name__ == "__main__":
    main()
