"""A server of Redis that keeps answers in a dict, for tests on the virtual clock."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from flatout.cluster import answers as module
from flatout.testing import run_virtual


class Line:
    """A server that answers, until it is away."""

    def __init__(self, *_: object) -> None:
        self.values: dict[str, bytes] = {}
        self.seconds: set[int] = set()
        self.steps: list[tuple[str, int]] = []
        self.away = False
        self.refusal: str | None = None
        self.ends: dict[str, float] = {}  # of workers' keys, on the event loop's clock
        self.loop: asyncio.AbstractEventLoop | None = None

    def play(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a test on a virtual clock, which is this server's, too."""

        async def begin() -> None:
            self.loop = asyncio.get_running_loop()
            await main()

        run_virtual(begin())

    def _step(self, name: str, count: int) -> None:
        self.steps.append((name, count))
        if self.away:
            raise OSError("nobody is there")

    def read(self, names: Sequence[str]) -> list[bytes | None]:
        self._step("read", len(names))
        return [self.values.get(name) if self._now() < self.ends.get(name, math.inf) else None for name in names]

    def write(self, values: Mapping[str, bytes], seconds: int, remove: Sequence[str] = ()) -> str | None:
        self._step("write", len(values))
        if self.refusal is None:
            self.values.update(values)
            self.seconds.add(seconds)
            self._live(*(name for name in values if ":workers:" in name), seconds=seconds)
        self.remove(remove)
        return self.refusal

    def remove(self, names: Sequence[str]) -> int:
        return sum(self.values.pop(name, None) is not None for name in names)

    def script(self, text: str) -> Callable[[Sequence[str], Sequence[Any]], Any]:
        return self._unclaim if text == module.UNCLAIM else self._claim

    def _now(self) -> float:
        return 0.0 if self.loop is None else self.loop.time()

    def _live(self, *workers: str, seconds: float) -> None:
        self.ends.update(dict.fromkeys(workers, self._now() + seconds))

    def _claim(self, names: Sequence[str], arguments: Sequence[Any]) -> list[Any]:
        """What `claims.lua` does."""
        self._step("claim", len(names) // 2)
        worker, workers, alive, _, renew = arguments
        heard = workers + worker in self.values and self.ends[workers + worker] > self._now()
        self.values[workers + worker] = b"1"
        self._live(workers + worker, seconds=alive)
        pairs = zip(names[::2], names[1::2], strict=True)
        return [int(heard), *(self._told(answer, claim, worker, workers, renew) for answer, claim in pairs)]

    def _unclaim(self, names: Sequence[str], arguments: Sequence[Any]) -> None:
        """What `unclaim.lua` does."""
        (worker,) = arguments
        self.remove([name for name in names if self.values.get(name) == worker.encode()])

    def _told(self, answer: str, claim: str, worker: str, workers: str, renew: int) -> int:
        if answer in self.values and not renew:
            return 2
        holder = workers + self.values.get(claim, b"").decode()
        lives = holder in self.values and self.ends[holder] > self._now()
        if lives and holder != workers + worker:
            return 0
        self.values[claim] = worker.encode()
        return 1

    def close(self) -> None: ...
