"""A budget that processes share."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout import Budget, BudgetExceeded, Call, Client, ConfigError
from flatout.money.purse import Purse
from flatout.store import scopes
from flatout.store.scope import Scope
from flatout.testing import run_virtual
from flatout.values.budget import OVER
from tests.support.scripted_wire import Wire, client, completion

PRICES = {"prices": {"sim/m": {"input": 1_000.0, "output": 2_000.0}}}
NOON = 1_795_176_000.0  # 2026-11-20, in UTC
DAY = 86_400.0


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "flatout" / "budgets"


def scope(home: Path, at: float = NOON, **what: Any) -> Scope:
    return Scope(Budget(**{"usd": 10, "per": "day", "scope": "team", **what}), home, lambda: at)


def lend(asked: Scope, need: float, used: float = 0.0) -> float:
    return asyncio.run(asked.lend(need, used)).usd


def test_all_processes_together_keep_it(home: Path):
    """Each process would spend the whole budget."""
    chance = Random(1)
    lent = 0.0
    for _ in range(100):
        lent += lend(scope(home), chance.uniform(0.01, 0.5))  # each is killed: nothing comes back
    assert 9.5 <= lent <= 10.0 + 1e-9
    assert scope(home).left() == pytest.approx(10.0 - lent, abs=1e-9)


def test_what_was_not_used_comes_back(home: Path):
    """Short runs would use up a budget without spending it."""
    for _ in range(50):
        one = scope(home)
        lend(one, 1.0)
        lend(one, 1.0, used=0.05)
        asyncio.run(one.close(0.1))
    assert scope(home).left() == pytest.approx(10.0 - 50 * 0.1)


def test_what_a_killed_process_did_not_spend_is_taken_back(home: Path):
    """Each kill would take a part of the day's money from all others, even when it is known what was spent."""
    killed = scope(home)
    lend(killed, 3.0)
    name, other = killed.borrower, scope(home)
    other.take_back(name, 1.0)
    assert other.left() == 7.0  # it lives
    del killed
    gc.collect()
    other.take_back(name, 1.0)
    assert other.left() == 9.0
    other.take_back(name, 0.0)
    other.take_back("ab" * 16, 0.0)
    assert other.left() == 9.0


def test_no_more_is_taken_back_than_was_borrowed(home: Path):
    """A run that was continued for days would count all its spending for the last one."""
    killed = scope(home)
    lend(killed, 3.0)
    name = killed.borrower
    del killed
    gc.collect()
    scope(home).take_back(name, 100.0)
    assert scope(home).left() == 7.0


def test_accounts_tell_who_has_borrowed(home: Path):
    """Nobody could see why a budget is used up that the provider's bill says is not."""
    lives, dead, month = scope(home), scope(home), scope(home, per="month", usd=100)
    for one in (lives, dead, month):
        lend(one, 2.0)
    name = dead.borrower
    del dead
    gc.collect()
    day, other = scopes.accounts(home, lambda: NOON)
    assert (day.per, day.scope, day.usd, day.spent, day.left) == ("day", "team", 10.0, 0.0, 6.0)
    assert {(lent.borrower, lent.usd, lent.alive) for lent in day.lent} == {
        (lives.borrower, 2.0, True),
        (name, 2.0, False),
    }
    assert {lent.pid for lent in day.lent} == {os.getpid()}
    assert day.until == NOON + DAY / 2
    assert (other.per, other.left, other.until) == ("month", 98.0, NOON + DAY * 10.5)
    mended = scopes.mend(home, "day", "team", 3.2, lambda: NOON)
    assert (mended.spent, mended.left) == (3.2, pytest.approx(4.8))
    assert [lent.borrower for lent in mended.lent] == [lives.borrower]
    with pytest.raises(ConfigError, match="nobody has borrowed from a budget day:other"):
        scopes.mend(home, "day", "other", 3.2)


def test_a_new_day_has_a_new_budget(home: Path):
    """A budget for a day would be one for ever, or money lent at night count for two days."""
    now = [NOON]
    one = Scope(Budget(10, "day", "team"), home, lambda: now[0])
    assert lend(one, 9.0) == 9.0
    assert lend(one, 2.0, used=8.0) == 0.0
    now[0] += DAY
    assert lend(one, 2.0, used=8.0) == 2.0
    assert one.left() == pytest.approx(10 - 1.0 - 2.0)  # a dollar of yesterday's loan is still to be spent
    now[0] -= DAY
    assert one.left() == pytest.approx(2.0)


def test_scopes_and_periods_are_apart(home: Path):
    """One team's runs would be stopped by another's."""
    assert lend(scope(home), 10.0) == 10.0
    assert lend(scope(home), 1.0) == 0.0
    assert lend(scope(home, scope="../other"), 1.0) == 1.0
    assert lend(scope(home, per="month"), 1.0) == 1.0
    assert all(path.parent == home for path in home.rglob("*"))


def test_a_client_spends_no_more_than_the_scope_has(home: Path):
    """A budget for a day would be kept by one run, and begin anew with the next."""

    async def main() -> tuple[int, Any, float]:
        wire = Wire(lambda _: completion("x", tokens=30))  # 0.09 each
        async with client(wire, budget=Budget(1, "day", "team"), config=PRICES) as made:
            results = await made.gather([Call(f"p{n}", max_tokens=30) for n in range(8)])
            refused = [result.error for result in results if not result.ok]
            return len(wire.prompts), refused[0] if refused else None, made.spent

    first, second = run_virtual(main()), run_virtual(main())
    assert first[:2] == (8, None)
    assert first[2] + second[2] <= 1.0
    assert second[0] < 8
    assert isinstance(second[1], BudgetExceeded)
    assert "of the budget of $1 a day (team) is left" in str(second[1])


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.0, 3.0), st.booleans()), min_size=1, max_size=6),  # when each ends; by a kill?
    st.floats(0.3, 3.0),
    st.integers(1, 12),
    st.integers(0, 1_000),
)
def test_however_many_processes_spend_and_are_killed_the_budget_is_kept(tmp_path_factory, ends, usd, at_once, seed):
    """A team's budget would be exceeded by what several processes have in flight, or by what killed ones had."""
    chance, billed = Random(seed), [0.0]
    budget, home = Budget(usd, "day", "team"), tmp_path_factory.mktemp("budgets")

    async def spend(purse: Purse) -> None:
        while True:
            held = purse.take("kind", 0.05) or await purse.reserve("kind", 0.05)
            cost = chance.choice((0.002, 0.004, 0.05))
            billed[0] += cost  # it is sent: whatever becomes of the process, the provider bills it
            await asyncio.sleep(cost)
            purse.pay(cost)
            purse.release(held, cost)

    async def process(end: float, killed: bool) -> None:
        purse = Purse(budget, lender=Scope(budget, home, lambda: NOON))
        calls = [asyncio.create_task(spend(purse)) for _ in range(at_once)]
        done, going = await asyncio.wait(calls, timeout=end)
        for call in going:
            call.cancel()
        ended = [*await asyncio.gather(*going, return_exceptions=True), *(call.exception() for call in done)]
        assert all(isinstance(error, BudgetExceeded | asyncio.CancelledError) for error in ended)
        if not killed and not going:
            await purse.close()

    async def main() -> None:
        await asyncio.gather(*(process(*end) for end in ends))
        for end in ends:  # and again, one after another
            await process(*end)

    run_virtual(main())
    assert billed[0] <= usd * (1 + OVER)


def test_what_is_borrowed_and_not_needed_goes_back(home: Path):
    """A gateway that is killed would have its loan for ever, and others could not spend it."""
    purse = Purse(Budget(10, "day", "team"), lender=scope(home))

    async def main() -> None:
        held, other = await purse.reserve("kind", 0.05), await purse.reserve("kind", 0.03)
        purse.pay(0.001)
        purse.release(held, 0.001)
        await purse.give_back()
        assert scope(home).left() == pytest.approx(10 - 0.001 - 0.03)
        standing = purse.standing()
        assert standing is not None
        assert standing.left == pytest.approx(10 - 0.001 - 0.03)
        purse.pay(0.002)
        purse.release(other, 0.002)
        await purse.give_back()
        assert scope(home).left() == pytest.approx(10 - 0.003)
        purse.release(await purse.reserve("kind", 0.05), None)
        await purse.close()

    run_virtual(main())
    assert scope(home).left() == pytest.approx(10 - 0.003)


def test_a_file_that_is_none_is_told(home: Path):
    """A damaged file would end the run with a traceback, or the budget not be kept."""
    lend(scope(home), 1.0)
    (path,) = home.glob("*.budget")
    path.write_bytes(b"x" * 5_000)
    with pytest.raises(ConfigError, match=r"the budget \$10 a day \(team\) cannot be kept in .*not a database"):
        scope(home).check()
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 9")
    with pytest.raises(ConfigError, match="is not a file of this flatout"):
        scope(home).check()
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError, match="cannot be kept in"):
        scope(home).check()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"usd": 0}, "budget is a number above 0, not 0"),
        ({"usd": float("nan")}, "budget is a number above 0, not nan"),
        ({"usd": True}, "budget is a number above 0, not True"),
        ({"usd": 5, "per": "week"}, "a budget is per 'run', 'day' or 'month', not 'week'"),
        ({"usd": 5, "scope": " "}, "a budget's scope is a name, such as 'team', not ' '"),
        ({"usd": 5, "scope": "a\nb"}, "a budget's scope is a name"),
        ({"usd": 5, "scope": 3}, "a budget's scope is a name"),
    ],
)
def test_a_budget_that_is_none_is_refused(wrong: dict[str, Any], said: str):
    """It would be kept as another one than was meant."""
    with pytest.raises(ConfigError, match=said):
        Budget(**wrong)


def test_flatout_toml_has_budgets_of_both_forms():
    """A budget in the file would be refused, or not be kept."""
    for form in (5, 5.0, {"usd": 5}, {"usd": 5, "per": "month", "scope": "team"}):
        made = Client("local", config={"budget": form}, transport=Wire())
        budget = made._engine.stack.purse.budget
        assert budget == (Budget(**form) if isinstance(form, dict) else Budget(5))
    with pytest.raises(ConfigError, match="per"):
        Client("local", config={"budget": {"usd": 5, "per": "week"}}, transport=Wire())


def test_calls_of_unknown_price_are_sent_only_if_that_is_allowed():
    """A run with a budget would be impossible with a new model, or spend what nobody counts without a word."""

    async def main() -> None:
        async with client(Wire(), budget=1.0, allow_unknown_price=True) as made:
            assert (await made.result(Call("x", max_tokens=5))).ok
            assert (made.spent, made.unpriced) == (0.0, 1)
        async with client(Wire(), budget=1.0) as made:
            refused = (await made.result(Call("x", max_tokens=5))).error
            assert isinstance(refused, ConfigError)
            assert "--allow-unknown-price" in str(refused)

    run_virtual(main())


def test_a_process_that_knows_nothing_yet_leaves_most_of_it_to_others(home: Path):
    """The worst cases of its waiting calls would take a whole day's budget, of which it spends a tenth."""

    async def main() -> float:
        budget = Budget(10.0, "day", "team")
        purse = Purse(budget, lender=Scope(budget, home, lambda: NOON))
        waiting = [asyncio.create_task(purse.reserve("m", 0.2)) for _ in range(200)]
        await asyncio.wait(waiting, timeout=0.5)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return scope(home).left()

    assert run_virtual(main()) >= 8.0


def test_a_gateway_that_is_killed_loses_little_more_than_it_spent(home: Path):
    """Each kill under load would take 2 % of the day's money from everybody: 20 dollars of 1,000, for a few cents."""
    asked, held, lends = scope(home, usd=1_000), list[float](), list[float]()
    purse, lend = Purse(Budget(1_000, "day", "team"), lender=asked), asked.lend

    async def counted(need: float, used: float) -> Any:
        lends.append(need)
        return await lend(need, used)

    asked.lend = counted  # type: ignore[method-assign]

    async def main() -> None:
        for _ in range(20):  # seconds, of 100 calls at one cent each
            for _ in range(100):
                one = await purse.reserve("kind", 0.05)
                purse.pay(0.01)
                purse.release(one, 0.01)
                held.append(1_000 - scope(home, usd=1_000).left() - purse.spent)
            await purse.give_back()

    asyncio.run(main())
    assert max(held[:100]) == pytest.approx(20.0, rel=0.01)  # nothing is known in the first second
    assert max(held[100:]) < 3.0
    assert len(lends) < 60


def test_calls_that_are_cancelled_while_they_borrow_lose_no_money(home: Path):
    """Each client that hangs up at that moment would leave a loan that nobody spends, until the budget is gone."""
    purse = Purse(Budget(10.0, "day", "team"), lender=scope(home))

    async def cancelled(worst: float) -> None:
        asking = asyncio.create_task(purse.reserve("m", worst))
        for _ in range(3):  # until the loan is on its way
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        assert asking.cancelled()

    async def main() -> tuple[float, float]:
        for worst in (1.0, 2.0, 3.0):
            await cancelled(worst)
        purse.release(await purse.reserve("m", 3.0), None)
        borrowed = scope(home).left()
        await cancelled(5.0)
        await purse.close()
        return borrowed, scope(home).left()

    assert asyncio.run(main()) == (pytest.approx(7.0), 10.0)


def test_what_cannot_be_given_back_now_stays_to_be_spent(home: Path, monkeypatch: pytest.MonkeyPatch):
    """After a moment in which the file was locked, neither this process nor others could spend that money."""
    lent = scope(home)
    purse = Purse(Budget(10, "day", "team"), lender=lent)

    def locked() -> Any:
        raise sqlite3.OperationalError("database is locked")

    async def main() -> float:
        purse.release(await purse.reserve("kind", 1.0), None)
        monkeypatch.setattr(lent, "_opened", locked)
        with pytest.raises(ConfigError, match="locked"):
            await purse.give_back()
        monkeypatch.undo()
        await purse.give_back()
        return scope(home).left()

    assert asyncio.run(main()) == pytest.approx(10.0)
