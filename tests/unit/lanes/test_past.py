"""What past batches say about the next one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.lanes.past import (
    ALIKE,
    ENOUGH,
    FILE,
    LARGEST,
    LATELY,
    MARGIN,
    PROMPT,
    Past,
    batch_seconds,
    recall,
    remember,
)
from flatout.values import Endpoint, Target

DAY, HOUR = 86_400.0, 3_600.0


def at(address: str, model: str = "t") -> Target:
    return Target(Endpoint(name="e", base_url=address), model)


t, other = at("https://one.example/v1"), at("https://one.example/v1", "other")


def batches(*seconds: float, rows: int = 100, server: str = "https://one.example/v1") -> list[Past]:
    return [Past("e/t", rows, each, 0.0, server) for each in seconds]


def test_the_providers_word_counts_until_enough_is_known() -> None:
    """One fast batch says little: the same one took 14 to 84 minutes over one day."""
    assert batch_seconds([], t, 100) == (PROMPT * DAY, "the provider promises 1 d")
    assert batch_seconds(batches(*[HOUR] * (ENOUGH - 1)), t, 100)[0] == PROMPT * DAY


def test_a_promise_of_a_day_is_good_for_answers_within_a_day() -> None:
    """--within 24h would otherwise never use a batch."""
    assert batch_seconds([], t, 100)[0] < DAY - 600


def test_past_batches_tell() -> None:
    """With them, a batch can be used for answers within a few hours."""
    seconds, why = batch_seconds(batches(HOUR, 2 * HOUR, HOUR, HOUR, HOUR), t, 100)
    assert (seconds, why) == (MARGIN * 2 * HOUR, "the last 5 batches took up to 2 h")


def test_only_batches_that_are_alike_tell() -> None:
    """Ten rows are done sooner than a hundred thousand, and each model has a queue of its own."""
    small = batches(*[60.0] * 9, rows=10)
    assert batch_seconds(small, t, 10 * ALIKE)[0] == MARGIN * 60
    assert batch_seconds(small, t, 10 * ALIKE + 1)[0] == PROMPT * DAY
    assert batch_seconds(small, other, 10)[0] == PROMPT * DAY


def test_batches_of_another_server_tell_nothing() -> None:
    """A run at another address of the same name would leave its batches too late, or never begin one."""
    past = batches(*[HOUR] * 9, server="https://two.example/v1")
    assert batch_seconds(past, t, 100)[0] == PROMPT * DAY
    assert batch_seconds(past, at("https://two.example/v1"), 100)[0] == MARGIN * HOUR
    earlier = batches(*[HOUR] * 9, server="")  # an earlier version did not note the server
    assert batch_seconds(earlier, t, 100)[0] == MARGIN * HOUR


def test_only_late_batches_tell() -> None:
    """A bad day is not remembered for ever."""
    assert batch_seconds(batches(10 * HOUR, *[HOUR] * LATELY), t, 100)[0] == MARGIN * HOUR


@given(st.lists(st.floats(0, 10 * DAY), max_size=30))
def test_the_time_is_never_more_than_the_providers_word(seconds: list[float]) -> None:
    """The provider gives a batch up after that."""
    assert batch_seconds(batches(*seconds), t, 100)[0] <= PROMPT * DAY


def test_batches_are_remembered(tmp_path: Path) -> None:
    """The next run would know nothing."""
    folder = tmp_path / "deep" / "folder"
    assert recall(folder) == []
    remember(folder, [])
    assert not folder.exists()
    remember(folder, batches(1.0))
    remember(folder, batches(2.0, 3.0))
    assert recall(folder) == batches(1.0, 2.0, 3.0)
    assert (folder / FILE).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"target": "t", "rows": 0, "seconds": 1, "at": 0}', b"\xff"])
def test_a_broken_line_costs_nothing(tmp_path: Path, line: bytes) -> None:
    """The file is a help, and never a reason to fail."""
    remember(tmp_path, batches(1.0))
    with (tmp_path / FILE).open("ab") as file:
        file.write(line + b"\n")
    remember(tmp_path, batches(2.0))
    assert recall(tmp_path) == batches(1.0, 2.0)


def test_the_file_stays_small(tmp_path: Path) -> None:
    """A cron line runs for years."""
    many = batches(*[1.0] * 500)
    for _ in range(12):
        remember(tmp_path, many)
    remember(tmp_path, batches(2.0))
    assert (tmp_path / FILE).stat().st_size <= LARGEST + 100 * len(many)
    assert recall(tmp_path)[-1].seconds == 2.0
    assert list(tmp_path.iterdir()) == [tmp_path / FILE]
