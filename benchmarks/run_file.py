"""What durability costs: CPU per row through `RunFile.finish`, beside a bare ``executemany`` loop over the same rows.

    python benchmarks/run_file.py [--rows 50000] [--concurrent 1000]

The bare loop commits groups of the same size with the same pragmas into a table without constraints, in one thread,
with nobody waiting: what remains is the price of the waiting, the threads, the attempts and the checks.

Last figures (two cores, Linux, Python 3.11, SQLite 3.40; 50,000 rows of 1.5 KB, 1,000 at once), CPU µs a row:
bare loop 12, finish() 18 (ratio 1.5), note_attempt() and finish() 26 (2.2), finished() 1.0 (0.08).
With 64 at once the groups are small and finish() takes 29.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from flatout.store import Item, RunFile, RunReader

GROUP = 500


def item(index: int) -> Item:
    return Item(
        index=index,
        id=f"row-{index}",
        fingerprint=index.to_bytes(16, "big"),
        input=b'{"text": "%s"}' % (b"i" * 200),
        prompt=b'{"messages": [{"role": "user", "content": "%s"}]}' % (b"p" * 600),
        state="answered",
        answer="a" * 300,
        finish_reason="stop",
        model="openai/gpt-5-mini",
        input_tokens=200,
        output_tokens=80,
        cost=0.0002,
        attempts=1,
        seconds=0.8,
        waits=b'{"provider": 0.8}',
        finished_at=1_790_000_000.0 + index,
    )


def bare(path: Path, items: list[Item]) -> None:
    fields = Item.__struct_fields__
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"CREATE TABLE items ({', '.join(f'{f}_' for f in fields)}, PRIMARY KEY (index_))")
    for start in range(0, len(items), GROUP):
        connection.execute("BEGIN")
        rows = map(msgspec.structs.astuple, items[start : start + GROUP])
        connection.executemany(f"INSERT INTO items VALUES ({', '.join('?' * len(fields))})", rows)
        connection.execute("COMMIT")
    connection.close()


async def through_finish(path: Path, items: list[Item], concurrent: int, notes: bool) -> None:
    remaining = iter(items)

    async def worker() -> None:
        for one in remaining:
            if notes:
                await run.note_attempt(one.index, 1, "openai/gpt-5-mini", one.finished_at, 0.001)
            await run.finish(one)

    async with RunFile.open(path, job={"model": "m"}, group_rows=GROUP) as run:
        await asyncio.gather(*(worker() for _ in range(concurrent)))


async def spinning(items: list[Item], concurrent: int) -> None:
    """What a thousand tasks cost that wait for nothing."""
    remaining = iter(items)

    async def worker() -> None:
        for _ in remaining:
            await asyncio.sleep(0)

    await asyncio.gather(*(worker() for _ in range(concurrent)))


def resume(path: Path) -> None:
    with RunReader.open(path) as reader:
        for _ in reader.finished():
            pass


def measured(work: Callable[[], object], rows: int) -> tuple[float, float]:
    """CPU of all threads and wall time, in µs a row."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return (time.process_time() - cpu) / rows * 1e6, (time.perf_counter() - wall) / rows * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--concurrent", type=int, default=1_000)
    asked = parser.parse_args()
    items = [item(index) for index in range(asked.rows)]
    with tempfile.TemporaryDirectory() as folder:
        names: Iterator[Path] = (Path(folder) / f"{n}.flatout" for n in itertools.count())
        loop_path, run_path, noted_path = itertools.islice(names, 3)
        base, base_wall = measured(lambda: bare(loop_path, items), asked.rows)
        print(f"{'':34}{'CPU µs/row':>12}{'wall µs/row':>13}{'ratio':>8}")
        print(f"{'bare executemany loop':34}{base:12.1f}{base_wall:13.1f}{1:8.2f}")
        for name, work in (
            ("finish()", lambda: asyncio.run(through_finish(run_path, items, asked.concurrent, notes=False))),
            (
                "note_attempt() and finish()",
                lambda: asyncio.run(through_finish(noted_path, items, asked.concurrent, notes=True)),
            ),
            ("finished(), as on resume", lambda: resume(run_path)),
            ("(tasks that wait for nothing)", lambda: asyncio.run(spinning(items, asked.concurrent))),
        ):
            cpu, wall = measured(work, asked.rows)
            print(f"{name:34}{cpu:12.1f}{wall:13.1f}{cpu / base:8.2f}")


if __name__ == "__main__":
    main()
