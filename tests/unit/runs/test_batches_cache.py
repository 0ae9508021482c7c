"""Runs in the batch lane with a cache: what was answered is not paid for again, and equal rows are asked once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flatout import Client
from flatout.testing import digest_of

from .test_batches import Job, small

__all__ = ["small"]


class Cached(Job):
    """A job with a cache."""

    given: dict[str, Any]

    def client(self) -> Client:
        return Client("openai/gpt-5-mini", api_key=self.key, transport=self.wire, config={}, seed=1, **self.given)

    def reuse_other_run(self) -> None:
        """Have no cache, but the answers of a run of other questions."""
        self.given = {}
        output, self.output = self.output, self.folder / "earlier.jsonl"
        self.write(["another question"])
        self.run()
        self.given = {"reuse": f"{self.output}.flatout"}
        self.output = output
        self.wire.runs.clear()

    def answers(self) -> list[str]:
        return [row["answer"] for row in self.written()]


@pytest.fixture
def cached(tmp_path: Path) -> Cached:
    job = Cached(tmp_path, rows=40)
    job.given = {"cache": str(tmp_path / "answers.cache")}
    return job


@pytest.mark.parametrize("lanes", [("batch", "batch"), ("live", "batch"), ("batch", "live")])
def test_all_lanes_share_the_cache(cached: Cached, lanes: tuple[str, str]) -> None:
    """Whoever adds a row to an input would pay for all rows again."""
    cached.run(lane=lanes[0])
    cached.prompts = ["new", *cached.prompts]
    cached.write(cached.prompts)
    cached.run(lane=lanes[1], fresh=True)
    assert cached.answers() == [digest_of(prompt) for prompt in cached.prompts]
    assert set(cached.wire.runs.values()) == {1}
    assert [row["cached"] for row in cached.written()] == [False] + [True] * 40
    assert sum(row["cost"] for row in cached.written()[1:]) == 0


def test_an_earlier_run_is_reused(cached: Cached, tmp_path: Path) -> None:
    """Answers of an earlier run would be paid for again, because the lane is another."""
    cached.given = {}
    cached.run(model="openai/gpt-5-mini")
    cached.given = {"reuse": str(cached.run_file)}
    cached.output = tmp_path / "other.jsonl"
    cached.run(model="openai/gpt-5-mini")
    assert cached.answers() == [digest_of(prompt) for prompt in cached.prompts]
    assert set(cached.wire.runs.values()) == {1}


@pytest.mark.parametrize("kept", ["cache", "reuse"])
@pytest.mark.parametrize("detach", [False, True])
def test_equal_rows_stand_in_a_batch_once(cached: Cached, detach: bool, kept: str) -> None:
    """A question that occurs ten times in an input would be paid for ten times."""
    if kept == "reuse":
        cached.reuse_other_run()
    cached.prompts = [f"prompt {n % 20}" for n in range(60)]
    cached.write(cached.prompts)
    for _ in range(4 if detach else 1):
        cached.run(detach=detach)
        for each in cached.wire.jobs.values():
            each["ends_at"] = 0.0
    assert cached.answers() == [digest_of(prompt) for prompt in cached.prompts]
    assert len(cached.wire.runs) == 20
    assert set(cached.wire.runs.values()) == {1}


@pytest.mark.parametrize("kept", ["cache", "reuse"])
def test_a_row_whose_twin_fails_is_asked_itself(cached: Cached, kept: str) -> None:
    """It would wait for ever, or share the failure of another row."""
    if kept == "reuse":
        cached.reuse_other_run()
    cached.prompts = ["prompt 1"] * 3
    cached.write(cached.prompts)
    fates = iter([400, "answered"])
    cached.wire.fate = lambda _: next(fates)
    assert cached.run().unfinished == 0
    assert [row["error"] is None for row in cached.written()] == [False, True, True]
