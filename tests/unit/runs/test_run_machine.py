"""Whatever happens to a run, in whatever order: each row has its own answer once, and nothing is paid for twice."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from flatout import Limits
from flatout.runs.job import RunOptions
from flatout.runs.output.claim import Claim
from flatout.runs.output.export import export
from flatout.runs.runner import Runner
from flatout.store import RunReader
from flatout.testing import digest_of
from tests.support.scripted_wire import Wire, client, refusal
from tests.support.store_samples import copy_as_if_killed

MEMORY = Path("/dev/shm")  # a crash of the process needs no disk, and hundreds of fsyncs take seconds
moments = st.integers(1, 12)


class RunMachine(RuleBasedStateMachine):
    """`asked` counts what was paid for, `lost` what was in flight at a kill, `again` what is to be tried again."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.home = Path(self.folder.name)
        self.lives = 0
        self.rows = 0
        self.bad: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.again: Counter[str] = Counter()
        self.place = self.home / "0" / "out.jsonl.flatout"
        self.place.parent.mkdir()
        self.append(8, set())

    @rule(count=st.integers(1, 9), bad=st.sets(st.integers(0, 8)))
    def append(self, count: int, bad: set[int]) -> None:
        """Rows are added, some of which the provider refuses."""
        self.bad |= {f"prompt {self.rows + number}" for number in bad if number < count}
        self.rows += count
        with (self.home / "in.jsonl").open("w") as file:
            file.writelines(json.dumps({"prompt": f"prompt {row}"}) + "\n" for row in range(self.rows))

    @rule()
    def mend(self) -> None:
        """The provider would take them now."""
        self.bad.clear()

    @rule(retry_failed=st.booleans())
    def run(self, retry_failed: bool) -> None:
        if retry_failed and self.place.exists():
            self.again.update(f"prompt {index}" for index, row in self.found().items() if row.state == "failed")
        self.start(lambda _: None, retry_failed=retry_failed)
        found = self.found()
        assert sorted(found) == list(range(self.rows))
        written = [json.loads(line) for line in (self.place.parent / "out.jsonl").read_text().splitlines()]
        assert [row["prompt"] for row in written] == [f"prompt {row}" for row in range(self.rows)]

    @rule(moment=moments)
    def stop(self, moment: int) -> None:
        """Ctrl-C when so many calls are under way."""

        def after(runner: Runner) -> None:
            if self.sent == moment:
                runner.stop()

        self.start(after)

    @rule(moment=moments)
    def kill(self, moment: int) -> None:
        """Go on with the files as a kill -9 would leave them when so many calls were sent."""
        self.lives += 1
        next_life = self.home / str(self.lives) / self.place.name
        paid: list[Counter[str]] = []

        def after(_: Runner) -> None:
            if self.sent == moment:
                copy_as_if_killed(self.place, next_life)
                paid.append(Counter(self.asked))

        before = Counter(self.asked)
        self.start(after)
        if not paid:
            return
        self.place, self.asked = next_life, paid[0]
        there = {f"prompt {index}" for index in self.found()}
        self.lost.update(prompt for prompt in self.asked - before if prompt not in there)

    @precondition(lambda self: self.place.exists())
    @rule()
    def export(self) -> None:
        found = self.found()
        claim = Claim.of(self.place, overwrite=True)
        assert export(self.place, str(self.home / "so-far.jsonl"), claim=claim) == len(found)
        shown = [json.loads(line) for line in (self.home / "so-far.jsonl").read_text().splitlines()]
        assert [row["prompt"] for row in shown] == [f"prompt {index}" for index in sorted(found)]

    def start(self, after: Callable[[Runner], None], **options: Any) -> None:
        """Run the command; ``after`` each call that is sent."""
        self.sent = 0

        async def answer(prompt: str) -> Any:
            self.asked[prompt] += 1
            self.sent += 1
            after(runner)
            await asyncio.sleep(0)
            return refusal(400) if prompt in self.bad else digest_of(prompt)

        async def main() -> None:
            runner.prepare()
            await runner.run()

        output = str(self.place.with_suffix(""))
        given = RunOptions(source=str(self.home / "in.jsonl"), output=output, model="any", **options)
        runner = Runner(given, lambda: client(Wire(answer), limits=Limits(rpm=600_000, concurrency=4)))
        asyncio.run(main())
        self.check()

    def found(self) -> dict[int, Any]:
        with RunReader.open(self.place) as reader:
            return {item.index: item for item in reader.items()}

    def check(self) -> None:
        for index, item in self.found().items():
            prompt = f"prompt {index}"
            if item.state == "answered":
                assert item.answer == digest_of(prompt)
            assert self.asked[prompt] <= 1 + self.lost[prompt] + self.again[prompt], f"{prompt} was paid for twice"
            assert json.loads(item.input) == {"prompt": prompt}

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()


RunMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=8, deadline=None)
TestRun = RunMachine.TestCase
