"""Real commands in the batch lane over HTTP, killed with SIGKILL: every row once, paid once, no batch submitted twice.

The moments are drawn over the whole life of a command: before or after a request, as the provider sees it; before or
after a commit, as the disk sees it; and at any time. ``FLATOUT_BATCH_KILLS`` says how often; `make soak` kills far more
often, at other moments.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

from flatout.testing import BatchSettings
from tests.crash.seed import SEED
from tests.support.batch_victim import ROWS
from tests.support.command_samples import Provider, is_answer, provider, rows_of
from tests.support.warm import Warm

KILLS = int(os.environ.get("FLATOUT_BATCH_KILLS", "120"))
AT_ONCE = 2
PER_JOB = 10
"""Kills of one run; then it may end."""

BATCHES = 8
QUICK = BatchSettings(time=0.05, validating=0.01, finalizing=0.01, most_rows=ROWS)
MOMENTS = {"request": 16, "commit": 16, "time": 1}
"""Of which one is drawn. A run has some 50 of each: it goes on where it was killed, so all are met."""

LIFE = 0.3
"""The most seconds of a life that ends at any time."""

UNDER_WAY = 3

FORMS = {"openai": "v1", "anthropic": "v1", "mistral": "v1", "gemini": "v1beta"}
"""The forms of batches, and where the address of each ends."""

CONFIG = """
[endpoints.{form}]
base_url = "{url}"
provider = "{form}"
key_env = "FLATOUT_API_KEY"
"""


def say(figures: str) -> None:
    """For `make soak`, which shows what tests print."""
    sys.stdout.write(f"\n{figures} (seed {SEED})\n")


class Deaths:
    """Kills processes by the number of a request, at the provider: each has a key of its own."""

    def __init__(self, provider: Provider) -> None:
        self._real = provider.model.receive_about_batches
        self._armed: dict[str, list[Any]] = {}
        provider.model.receive_about_batches = self._receive  # type: ignore[method-assign]

    def arm(self, key: str, number: int, after: bool, kill: Any) -> None:
        self._armed[f"Bearer {key}"] = [number, after, kill]

    def disarm(self, key: str) -> None:
        self._armed.pop(f"Bearer {key}", None)

    def _receive(self, now: float, wall: float, ask: Any) -> Any:
        armed = self._armed.get(ask.authorization)
        if armed is None:
            return self._real(now, wall, ask)
        armed[0] -= 1
        dies = armed[0] == -1
        if dies and not armed[1]:
            armed[2]()
        answer = self._real(now, wall, ask)
        if dies:
            armed[2]()
        return answer


class Lives:
    """Runs that are killed, until there were enough kills."""

    def __init__(self, folder: Path, provider: Provider, deaths: Deaths) -> None:
        self._folder = folder
        self._provider = provider
        self._deaths = deaths
        self._numbers = count()
        self.kills = self.jobs = 0

    def live(self, _worker: int) -> None:
        """Kill one run after the other, in a process that forks them."""
        with Warm("tests.support.batch_victim") as warm:
            self._next().finish(warm, learns=True)
            while self.kills < KILLS:
                job = self._next()
                for _ in range(PER_JOB):
                    code = job.live(warm)
                    self.kills += code == -signal.SIGKILL
                    if code == 0:
                        break
                job.finish(warm)

    def _next(self) -> Job:
        number = next(self._numbers)
        self.jobs += 1
        form = list(FORMS)[number % len(FORMS)]
        return Job(self._folder / f"job{number}", number, self._provider, self._deaths, form)


class Job:
    """One run, which is killed again and again."""

    def __init__(self, folder: Path, number: int, provider: Provider, deaths: Deaths, form: str) -> None:
        folder.mkdir()
        self.folder = folder
        self.key = f"key-{number}"
        self.chance = random.Random(f"{SEED} {number}")
        self.deaths = deaths
        self.moments: list[str] = []
        self.prompts = [f"job {number} row {row}" for row in range(ROWS * BATCHES)]
        (folder / "in.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in self.prompts))
        self.command = ["run", "in.jsonl", "-o", "out.jsonl", "--lane", "batch", "-q"]
        self.command += ["-m", f"{form}/any", "--config", "flatout.toml"]
        url = provider.url.removesuffix("v1") + FORMS[form]
        (folder / "flatout.toml").write_text(CONFIG.format(form=form, url=url))

    def live(self, warm: Warm) -> int:
        """One life, which is cut off if it does not end before; returns the exit code."""
        chance = self.chance
        command = [*self.command, *(["--detach"] if chance.random() < 0.3 else [])]
        way, after = chance.choice(("request", "commit", "time")), chance.random() < 0.5
        number, seconds = chance.randrange(MOMENTS[way]), chance.uniform(0.0, LIFE)
        self.moments.append(f"{way} {number} {after} {seconds:.3f}")
        commit = (number, after) if way == "commit" else None
        process = warm.start(*command, folder=self.folder, key=self.key, given=commit)
        if way == "request":
            self.deaths.arm(self.key, number, after, process.kill)
        elif way == "time" and not process.ends_within(seconds):
            process.kill()
        code = process.wait()
        self.deaths.disarm(self.key)
        assert code in (-signal.SIGKILL, 0, UNDER_WAY), f"{self}: {process.said()}"
        return code

    def finish(self, warm: Warm, *, learns: bool = False) -> None:
        """The last life, after which every row must have its own answer."""
        if learns:
            warm.learn(*self.command, folder=self.folder, key=self.key)
        process = warm.start(*self.command, folder=self.folder, key=self.key)
        assert process.wait() == 0, f"{self}: {process.said()}"
        written = rows_of(self.folder / "out.jsonl")
        assert [row["prompt"] for row in written] == self.prompts, str(self)
        assert all(is_answer(row["answer"], row["prompt"]) for row in written), str(self)

    def __str__(self) -> str:
        return f"seed {SEED}, {self.key}, killed at {self.moments}"


def test_a_killed_command_pays_for_nothing_twice(tmp_path: Path) -> None:
    """After a power failure a whole batch would be submitted, and paid for, a second time; or its rows be lost."""
    with provider(batch=QUICK) as server:
        deaths = Deaths(server)
        lives = Lives(tmp_path, server, deaths)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lives.live, range(AT_ONCE)))
        stats = server.stats()
    rows = ROWS * BATCHES * lives.jobs
    say(f"{lives.kills} kills of {lives.jobs} runs")
    assert lives.kills >= KILLS
    assert (stats["duplicates"], stats["answered"]) == (0, rows)
    assert stats["batches"]["files"] == 0
    assert (stats["batches"]["created"], stats["batches"]["open"]) == (BATCHES * lives.jobs, 0)
