"""Runs in the batch lane and their money: budgets, shared ones too, and what batches cost and save."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flatout import Budget, Client, ConfigError
from flatout.lanes.batch.money import Record
from flatout.store import RunReader
from flatout.store.ledger import MONEY
from flatout.store.scope import Scope
from flatout.testing._clock import EPOCH

from .test_batches import DAY, Job, job, small

__all__ = ["job", "small"]

COST = (1_000 * 0.25 + 1_000 * 2.0) / 1e6 / 2
"""What a row costs in a batch, in US dollars."""


class Bounded(Job):
    """A job with a budget, whose answers have at most 2,000 tokens and cost half of that."""

    budget: Budget | float | None = None
    model = "openai/gpt-5-mini"
    config: Mapping[str, Any] = {}

    def client(self) -> Client:
        return Client(self.model, api_key=self.key, transport=self.wire, config=self.config, seed=1, budget=self.budget)

    def run(self, *, seconds: float = 10 * DAY, **options: Any) -> Any:
        return super().run(seconds=seconds, **{"params": {"max_tokens": 2_000}, **options})

    @property
    def spent(self) -> float:
        return COST * sum(self.wire.runs.values())

    def record(self) -> Record:
        with RunReader.open(self.run_file) as reader:
            return Record.of(reader.fact(MONEY))


@pytest.fixture
def bounded(tmp_path: Path) -> Bounded:
    return Bounded(tmp_path, rows=100)


def test_a_budget_that_suffices_is_not_in_the_way(bounded: Bounded) -> None:
    """Runs with a budget would take longer, or not end."""
    bounded.budget = 100 * 2_000 * 2.0 / 1e6
    assert bounded.run().unfinished == 0
    bounded.check()


def test_a_budget_is_kept_by_batches(bounded: Bounded) -> None:
    """Fifty thousand rows would be paid for, whatever the user is ready to spend."""
    bounded.budget = 50 * COST
    end = bounded.run()
    assert end.unfinished
    assert (end.interrupted, end.under_way) == (False, False)
    assert 0.8 * bounded.budget < bounded.spent <= bounded.budget * 1.004
    assert bounded.runner is not None
    progress = bounded.runner.progress
    assert progress.held == end.unfinished
    assert "of the budget of" in progress.failures["BudgetExceeded"].example
    assert progress.failures["BudgetExceeded"].count == end.unfinished
    bounded.budget = 200 * COST  # it is raised, and the same command goes on
    assert bounded.run().unfinished == 0
    bounded.check()


def test_rows_wait_until_money_is_known(bounded: Bounded) -> None:
    """A budget for the whole job would be of no use, because the worst cases of its rows together exceed it."""
    bounded.budget = 135 * COST
    assert bounded.run().unfinished == 0
    bounded.check()
    assert bounded.spent <= bounded.budget


def test_a_budget_is_kept_over_commands(bounded: Bounded) -> None:
    """Each line of cron would have the whole budget for itself, while batches are open that use it up."""
    bounded.budget = 50 * COST
    for _ in range(12):
        bounded.run(detach=True)
        for each in bounded.wire.jobs.values():
            each["ends_at"] = min(each["ends_at"], each["created_at"] + 1.0)
    end = bounded.run(detach=True)
    assert end.unfinished
    assert not end.under_way
    assert 0.8 * bounded.budget < bounded.spent <= bounded.budget * 1.004


def test_open_batches_take_their_money_from_the_budget(bounded: Bounded) -> None:
    """A second command would submit other rows for money that the first one's batches need."""
    bounded.budget = 24 * COST
    assert bounded.run(detach=True).under_way
    rows = bounded.record().aside[1].rows
    for _ in range(3):
        bounded.run(detach=True)
    assert list(bounded.record().aside) == [1]
    assert sum(file.count(b'"custom_id"') for file in bounded.wire.files.values()) == rows < 24


def test_a_budget_that_comes_later_waits_for_what_is_open(bounded: Bounded) -> None:
    """What was submitted without a budget would not count, until it has exceeded it."""
    bounded.run(detach=True, limit=40)
    bounded.budget = 45 * COST
    end = bounded.run()
    assert end.unfinished
    assert bounded.spent <= bounded.budget * 1.004


def test_an_unknown_price_is_refused(bounded: Bounded) -> None:
    """A budget would be kept for the live price alone, or not at all."""
    bounded.budget = 1.0
    bounded.model = "together/a"
    bounded.config = {"prices": {"together/a": {"input": 1.0, "output": 1.0}}}
    with pytest.raises(ConfigError, match="the price of together/a@batch is not known"):
        bounded.run()
    assert bounded.wire.requests == []


def left_of(folder: Path, budget: Budget) -> float:
    return Scope(budget, folder, lambda: EPOCH).left()


@pytest.fixture
def day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Shared budgets are kept in the test's folder, on this day; Unix time."""
    day = [EPOCH]
    monkeypatch.setattr("flatout.stack._lender", lambda budget: Scope(budget, tmp_path, lambda: day[0]))
    return day


@pytest.mark.parametrize("per", ["run", "day"])
@pytest.mark.usefixtures("day")
def test_a_shared_budget_holds_the_money_of_open_batches(bounded: Bounded, tmp_path: Path, per: Any) -> None:
    """A team would spend its money a second time while batches are open, or never get back what they did not need."""
    folder, budget = tmp_path, Budget(1.0, per=per, scope="team")
    bounded.budget = budget
    assert bounded.run(detach=True).under_way
    aside = sum(each.usd for each in bounded.record().aside.values())
    assert aside == pytest.approx(100 * 2_000 * 2.0 / 1e6 / 2, rel=0.1)
    assert left_of(folder, budget) == pytest.approx(1.0 - aside, abs=1e-6)
    bounded.run(detach=True)
    assert left_of(folder, budget) == pytest.approx(1.0 - aside, abs=1e-6)
    assert bounded.run().unfinished == 0
    bounded.check()
    assert left_of(folder, budget) == pytest.approx(1.0 - bounded.spent, abs=1e-6)


@pytest.mark.usefixtures("day")
def test_a_command_that_is_killed_leaves_the_money_of_its_batches(
    bounded: Bounded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had set aside would be given back as if nobody needed it, and be spent by others."""

    async def killed(*_: object) -> None: ...

    budget = bounded.budget = Budget(1.0, scope="team")
    with monkeypatch.context() as patch:
        patch.setattr(Scope, "close", killed)
        bounded.run(detach=True)
    bounded.runner = None
    gc.collect()
    aside = sum(each.usd for each in bounded.record().aside.values())
    assert left_of(tmp_path, budget) < 1.0 - aside
    bounded.run(detach=True)
    assert left_of(tmp_path, budget) == pytest.approx(1.0 - aside, abs=1e-6)
    assert bounded.run().unfinished == 0
    assert left_of(tmp_path, budget) == pytest.approx(1.0 - bounded.spent, abs=1e-6)


def test_batches_count_on_the_day_on_which_they_were_submitted(
    bounded: Bounded, tmp_path: Path, day: list[float]
) -> None:
    """What yesterday's batches did not need would be spent today, beyond the budget of today."""
    budget = bounded.budget = Budget(1.0, per="day", scope="team")
    bounded.run(detach=True)
    before = left_of(tmp_path, budget)
    day[0] += DAY
    assert bounded.run().unfinished == 0
    bounded.check()
    assert Scope(budget, tmp_path, lambda: day[0]).left() == pytest.approx(1.0)
    assert left_of(tmp_path, budget) == pytest.approx(before)


def test_what_batches_cost_and_save_is_known(bounded: Bounded) -> None:
    """Nobody would see that the lane is worth its wait."""
    bounded.run(detach=True)
    bounded.run()
    record = bounded.record()
    assert record.whole().cost == pytest.approx(100 * COST)
    assert record.whole().saved == pytest.approx(100 * COST)
    assert sorted(record.paid) == sorted(range(1, 8))
    assert bounded.runner is not None
    assert bounded.runner.progress.batches.saved == pytest.approx(100 * COST)
