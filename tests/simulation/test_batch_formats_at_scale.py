"""One run in batches of six providers' forms at once, with all faults, and processes that die on the way.

Nothing here knows the lane from within: the simulated provider's own account says what was run and paid for.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.batch_world import World

SIX = ("openai", "anthropic", "gemini-file", "mistral", "fireworks", "openrouter")
FAULTS = {
    "lost": 0.1, "failed": 0.02, "missing": 0.02, "expires": 0.1, "poison": 0.002, "unknown_state": 0.3, "cut": 0.2,
}  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "most", "deaths", "one_in"),
    [(600, 40, 20, 60), pytest.param(100_000, 4_000, 60, 200, marks=pytest.mark.soak)],
    ids=["600", "100,000"],
)
def test_every_row_once_over_six_forms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, most: int, deaths: int, one_in: int
) -> None:
    """Rows would be lost, mixed up, or paid for twice, as soon as several things go wrong at once."""
    world = World(SIX, tmp_path, monkeypatch, rows=rows, most=most, faults=FAULTS, enqueued_tokens=40 * most)
    assert world.run_to_the_end(deaths, one_in).unfinished == 0
    failed = world.check(wrong="InvalidRequest")
    assert len(failed) < rows / 50
    assert world.fate.deaths >= deaths
    assert all(model.stats()["answered"] for model in world.models.values())
