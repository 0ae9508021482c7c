"""What ``--prompt-cache auto`` saves, and what it costs in time.

    python -m benchmarks.prompt_caches

2,000 rows begin with the same 3,000 tokens. They go to a simulated provider on the virtual clock, once without and once
with ``prompt_cache="auto"``: in Anthropic's format, in OpenAI's as its earlier models cache, and as GPT-5.6 and later
do. The prices are the real ones. The time is that of the whole job.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Literal, NamedTuple

from flatout import Call, Client, Limits
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport, run_virtual

ROWS, COMMON = 2_000, 3_000

RULES = " ".join(
    f"Rule {number}: a mail that mentions item {number} belongs to team {number % 17}." for number in range(1_000)
)


class Format(NamedTuple):
    """A model, and how its provider caches."""

    model: str
    prompt_cache: Literal["prefix", "breakpoints"]
    seconds: float


FORMATS = (
    Format("anthropic/claude-sonnet-4-5", "breakpoints", 300.0),
    Format("openai/gpt-5-mini", "prefix", 300.0),
    Format("openai/gpt-5.6", "breakpoints", 1_800.0),
)


class Outcome(NamedTuple):
    """What one job took."""

    dollars: float
    seconds: float
    read: int
    written: int
    given: int
    answers: list[str]


def rules(tokens: int) -> str:
    """A text with this number of tokens, as the simulated provider counts them."""
    return RULES[: int(tokens * 4.4)]


def calls(rows: int, *, as_system: bool) -> list[Call]:
    """The rows: the common part is the system prompt, or the beginning of each prompt."""
    common = rules(COMMON)
    if as_system:
        return [Call(f"Mail {row}: where is my parcel?", system=common, max_tokens=20) for row in range(rows)]
    return [Call(f"{common}\n\nMail {row}: where is my parcel?", max_tokens=20) for row in range(rows)]


def job(
    form: Format,
    mode: Literal["auto", "off"],
    *,
    rows: int = ROWS,
    rpm: float | None = 2_000,
    limits: Limits | None = None,
    latency: float = 2.0,
    as_system: bool = True,
    streamed: bool = False,
) -> Outcome:
    """Run the rows on the virtual clock."""
    settings = ProviderSettings(
        rpm=rpm,
        latency=latency,
        output_tokens=20,
        prompt_cache=form.prompt_cache,
        prompt_cache_seconds=form.seconds,
        headers="anthropic" if form.model.startswith("anthropic") else "openai",
    )
    model = ProviderModel(settings)

    async def main() -> Outcome:
        transport, began = SimulatedTransport(model), asyncio.get_running_loop().time()
        async with Client(
            form.model,
            api_key="k",
            transport=transport,
            config={},
            limits=limits,
            prompt_cache=mode,
            first_byte=60.0 if streamed else None,
        ) as client:
            results = await client.gather(calls(rows, as_system=as_system))
            seconds = asyncio.get_running_loop().time() - began
            counts = model.stats()
            failed = [result.error for result in results if not result.ok]
            assert not failed, failed[0]
            return Outcome(
                client.spent,
                seconds,
                counts["cached_tokens"],
                counts["cache_write_tokens"],
                counts["prompt_tokens"],
                [result.text for result in results],
            )

    return run_virtual(main())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    rows = parser.parse_args().rows
    cases = {
        "2,000 a minute, unknown to flatout": {"rpm": 2_000},
        "2,000 a minute, given": {"rpm": 2_000, "limits": Limits(rpm=2_000)},
        "200 a minute, given": {"rpm": 200, "limits": Limits(rpm=200)},
        "no limit, 64 at once": {"rpm": None, "limits": Limits(concurrency=64)},
        "2,000 a minute, in the prompt": {"rpm": 2_000, "limits": Limits(rpm=2_000), "as_system": False},
        "2,000 a minute, 20 s an answer": {"rpm": 2_000, "limits": Limits(rpm=2_000), "latency": 20.0},
    }
    for form in FORMATS:
        print(f"{form.model} ({form.prompt_cache})")
        for name, case in cases.items():
            off, auto = (job(form, mode, rows=rows, **case) for mode in ("off", "auto"))  # type: ignore[arg-type]
            assert off.answers == auto.answers
            print(
                f"  {name:36} ${off.dollars:.3f} → ${auto.dollars:.3f} ({auto.dollars / off.dollars:.2f} ×), "
                f"{off.seconds:.1f} s → {auto.seconds:.1f} s ({auto.seconds / off.seconds:.3f} ×), "
                f"read {auto.read / auto.given:.1%} (without {off.read / off.given:.1%})"
            )


if __name__ == "__main__":
    main()
