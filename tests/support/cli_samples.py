"""A fake runner for tests of the command."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from flatout.progress._counters import Progress
from flatout.runs.job import RunEnd, RunOptions


class FakeRunner:
    """Replaces the runner: it does what a test sets, and records its arguments."""

    def __init__(self) -> None:
        self.job = self
        self.progress = Progress()
        self.run_file = Path("out.jsonl.flatout")
        self.options = RunOptions(source="")
        self.make_client: Callable[[], Any] = dict
        self.fails_to_prepare: BaseException | None = None
        self.fails_to_run: BaseException | None = None
        self.interrupted = False
        self.unfinished: int | None = 0
        self.stops = 0
        self.sent = 0
        self.moved: Path | None = None
        self.while_running: Callable[[], Awaitable[None]] | None = None

    def __call__(self, options: RunOptions, make_client: Callable[[], Any], **_: object) -> FakeRunner:
        self.options, self.make_client = options, make_client
        return self

    def prepare(self) -> None:
        if self.fails_to_prepare is not None:
            raise self.fails_to_prepare

    async def run(self) -> RunEnd:
        if self.while_running is not None:
            await self.while_running()
        if self.fails_to_run is not None:
            raise self.fails_to_run
        return RunEnd(
            interrupted=self.interrupted,
            unfinished=self.unfinished,
            run_file=str(self.run_file),
            output=self.options.output,
        )

    def destinations(self) -> list[str]:
        return [name for name in (self.options.models or [self.options.model]) if name]

    def refresh(self) -> None:
        pass

    def stop(self) -> None:
        self.stops += 1
