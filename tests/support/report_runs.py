"""Run files of runs that look like real ones, written at once: for the pages that show them."""

from __future__ import annotations

import asyncio
import json
import math
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

from flatout.store import Item, RunFile
from flatout.store.course import Happening, Stretch

BEGAN = 1_790_000_000.0
TARGET = "openai/gpt-5-mini"
HOSTILE = (
    "</script><script>window.broken = 1</script>",
    "<img src=x onerror='window.broken = 2'>",
    "\u202egnp.tset \x1b[31mred\x1b[0m \u2028 \x00 ]]> --> {{ broken }}",
    "\"'><svg/onload=window.broken=3>",
)


def written(
    path: Path,
    items: Iterable[Item] = (),
    *,
    stretches: Iterable[Stretch] = (),
    happenings: Iterable[Happening] = (),
    attempts: Iterable[tuple[Any, ...]] = (),
    job: dict[str, Any] | None = None,
    total: int | None = None,
    command: str | None = "flatout run mails.csv --prompt '{{ text }}' -o answers.jsonl -m openai/gpt-5-mini",
) -> Path:
    """Write a run file that holds all this, as of a process that was at work from the first stretch to the last."""
    recorded = list(stretches)

    async def main() -> None:
        async with RunFile.open(path, job=job or {"model": TARGET}, command=command, group_seconds=0.0) as run:
            run.set_total(total)
            for attempt in attempts:
                await run.note_attempt(*attempt)
            together: list[Item] = []
            for item in items:
                together.append(item)
                if len(together) == 1_000:
                    await asyncio.gather(*map(run.finish, together))
                    together = []
            await asyncio.gather(*map(run.finish, together))
            for stretch in recorded:
                run.note_stretch(stretch)
            for happening in happenings:
                run.note_happening(happening)
            run.mark("finished")

    asyncio.run(main())
    if recorded:
        times = recorded[0].began_at, recorded[-1].began_at + recorded[-1].seconds
        with closing(sqlite3.connect(path)) as connection, connection:
            for kind, at in zip(("begin", "end"), times, strict=True):
                connection.execute("UPDATE happenings SET at = ? WHERE kind = ?", (at, kind))
    return path


def row(index: int, draw: Random, **changes: Any) -> Item:
    """A row of a run that labels mails, like those of a real provider."""
    provider = math.exp(draw.gauss(math.log(1.4), 0.5))
    label = draw.choices(("ham", "spam", "unsure"), (60, 30, 10))[0]
    text = f"Mail {index}: " + " ".join(
        draw.choices(("parcel", "invoice", "meeting", "lunch", "offer", "thanks"), k=30)
    )
    fields: dict[str, Any] = {
        "index": index,
        "id": f"mail-{index}",
        "fingerprint": index.to_bytes(16, "big"),
        "input": json.dumps({"text": text}).encode(),
        "prompt": json.dumps({"prompt": f"Is this mail spam or ham?\n\n{text}", "model": TARGET}).encode(),
        "state": "answered",
        "answer": json.dumps({"label": label, "reason": f"It is about {text.split()[2]}."}),
        "output": json.dumps({"label": label, "reason": f"It is about {text.split()[2]}."}).encode(),
        "finish_reason": "stop",
        "model": "gpt-5-mini-2026-08-07",
        "input_tokens": 60 + draw.randrange(20),
        "output_tokens": 12 + draw.randrange(12),
        "cost": 0.00041 + draw.random() * 1e-4,
        "attempts": 1,
        "seconds": provider + draw.random() * 6,
        "provider_seconds": provider,
        "waits": json.dumps({"tokens": 3.1, "first_byte": provider * 0.8, "body": provider * 0.2}).encode(),
        "finished_at": BEGAN + 2 + index / 20,
    }
    return Item(**fields | changes)


FAILED = {
    "state": "failed",
    "answer": None,
    "output": None,
    "error": "ServerError",
    "error_message": "HTTP 500 from api.openai.com: the server had an error while processing your request",
    "finish_reason": None,
    "attempts": 4,
    "cost": None,
}


def rows(count: int, seed: int = 1, **changes: Any) -> Iterable[Item]:
    """Many rows: a few failed, a few cut off, a few tried again."""
    draw = Random(seed)
    for index in range(count):
        kind = draw.random()
        if kind < 0.008:
            yield row(index, draw, **FAILED, **changes)
        elif kind < 0.012:
            yield row(index, draw, **{**FAILED, "error": "ContentFiltered", "error_message": "the filter stepped in"})
        elif kind < 0.025:
            yield row(index, draw, finish_reason="length", **changes)
        elif kind < 0.05:
            yield row(index, draw, attempts=2, **changes)
        else:
            yield row(index, draw, **changes)


def course(seconds: int, rate: float = 20.0, target: str = TARGET, seed: int = 2) -> Iterable[Stretch]:
    """The course of a run of so many seconds: a ramp, an even rate below the limit, a pause in the middle."""
    draw = Random(seed)
    for at in range(seconds):
        paused = seconds // 2 <= at < seconds // 2 + 25
        sent = 0 if paused else int(rate * min(1.0, (at + 1) / 20) + draw.random() * 2)
        median = 1.4 + 0.3 * math.sin(at / 40)
        yield Stretch(
            began_at=BEGAN + at,
            seconds=1.0,
            target=target,
            sent=sent,
            answered=sent,
            refused=1 if at == seconds // 2 else 0,
            failed=int(draw.random() < 0.02),
            in_flight=0 if paused else int(sent * median),
            waiting=max(0, 900 - at * 2),
            held={"pause": 1.0} if paused else {"tokens": 0.93},
            allows={"rpm": 1_500.0, "tpm": 100_000.0},
            input_tokens=sent * 70,
            output_tokens=sent * 18,
            cost=sent * 0.00045,
            latency_p50=None if paused else median,
            latency_p95=None if paused else median * 2.4 + draw.random(),
        )


def happened(seconds: int) -> tuple[Happening, ...]:
    """What happens in such a run."""
    at = BEGAN + seconds // 2
    return (
        Happening(at=at, until=at + 25, kind="pause", target=TARGET, what="429: retry after 25 s"),
        Happening(at=BEGAN + seconds // 4, kind="change", target=TARGET, what="rpm 1200 → 1500", by="ada"),
    )
