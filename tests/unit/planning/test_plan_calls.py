"""`Client.plan`: what it asks, keeps, counts and refuses."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from flatout import Call, Client, ConfigError, Limits, Route, RunMismatch
from flatout.config.folders import state_folder
from flatout.lanes.past import Past, remember
from flatout.testing import Faults, ProviderModel, ProviderSettings, SimulatedTransport, run_virtual
from flatout.values.plan import Plan, Range

PRICES = {"prices": {"sim/m": {"input": 1.0, "output": 4.0}, "sim/n": {"input": 2.0, "output": 8.0}}}
AT_ONCE = ProviderSettings(latency=0.0)
CALLS = [f"{n} {'word ' * (n % 90)}" for n in range(400)]


def client(provider: ProviderModel, **options: Any) -> Client:
    return Client(
        **{
            "model": "m",
            "base_url": "http://sim/v1",
            "transport": SimulatedTransport(provider),
            "config": PRICES,
            "limits": Limits(rpm=600),
            **options,
        }
    )


def planned(
    calls: Any = CALLS, *, provider: ProviderModel | None = None, made: dict[str, Any] | None = None, **options
):
    """The plan of calls, and how many requests that took."""
    model = provider or ProviderModel(ProviderSettings(latency=0.5))

    async def main() -> Plan:
        async with client(model, **(made or {})) as it:
            return await it.plan(calls, **options)

    before = model.stats()["received"]
    run = asyncio.run if "store" in options else run_virtual  # a run file is written in a thread, in real time
    return run(main()), model.stats()["received"] - before


def test_a_plan_asks_its_sample_and_no_more():
    """A plan would cost as much as the job, or be a guess."""
    plan, sent = planned()
    assert sent == plan.asked == 50
    assert (plan.calls, plan.left) == (400, 350)
    assert plan.cost is not None
    assert plan.cost.p10 < plan.cost.p50 < plan.cost.p90
    assert 0.0 < plan.spent < plan.cost.p50
    (model,) = plan.models
    assert model.held_by == "requests"
    assert model.limits["rpm"] == 600
    assert plan.seconds is not None
    assert plan.seconds.p50 == pytest.approx(35.0, rel=0.1)


def test_the_run_does_not_pay_for_the_sample_again(tmp_path: Path):
    """The sample would be paid for twice."""
    model, store = ProviderModel(AT_ONCE), tmp_path / "run.flatout"

    async def main() -> tuple[Plan, Plan, int]:
        async with client(model, limits=Limits(rpm=1e6)) as it:
            first = await it.plan(CALLS, store=store)
            again = await it.plan(CALLS, store=store)
            results = await it.gather(CALLS, store=store)
            return first, again, sum(result.ok for result in results)

    first, again, answered = asyncio.run(main())
    assert (first.asked, first.finished, first.left) == (50, 50, 350)
    assert (again.asked, again.finished, again.left, again.spent) == (50, 50, 350, 0.0)
    assert again.cost is not None
    assert first.cost is not None
    assert again.cost.p50 == pytest.approx(first.cost.p50, rel=0.05)
    assert answered == 400
    assert model.stats()["received"] == 400


@pytest.mark.parametrize("dry_run", [True, False], ids=["dry run", "sample"])
def test_a_run_file_of_other_calls_is_refused(tmp_path: Path, dry_run: bool):
    """Answers to other questions would be taken for the sample's, or for a part of the job that is done."""
    store = tmp_path / "run.flatout"
    planned(store=store, provider=ProviderModel(AT_ONCE))
    with pytest.raises(RunMismatch, match="belongs to another job"):
        planned([f"other {call}" for call in CALLS], store=store, dry_run=dry_run)
    with pytest.raises(RunMismatch, match="belongs to another job: server"):
        planned(store=store, dry_run=dry_run, made={"base_url": "http://other/v1"})


def test_a_dry_run_sends_nothing_and_says_what_it_assumes(tmp_path: Path):
    """Somebody who only wanted to look would have paid, or would take a guess for a measurement."""
    plan, sent = planned(dry_run=True, store=tmp_path / "run.flatout")
    assert sent == 0
    assert not plan.measured
    assert not (tmp_path / "run.flatout").exists()
    assert plan.left == 400
    assert plan.cost is not None
    assert plan.cost.p90 > 4 * plan.cost.p10
    assert any("256 tokens" in each for each in plan.assumed)


def test_a_sample_keeps_to_its_money():
    """A sample of dear calls would cost more than the user allowed."""
    dear = {"prices": {"sim/m": {"input": 1_000.0, "output": 4_000.0}}}
    plan, sent = planned(made={"config": dear}, sample_budget=3.0)
    assert 1 <= sent < 50
    assert plan.spent <= 3.0
    assert any("money" in each for each in plan.assumed)
    assert plan.cost is not None


def test_a_sample_that_fails_stops_early():
    """With a wrong request, fifty calls would fail where eight would have shown it."""
    plan, sent = planned(provider=ProviderModel(ProviderSettings(faults=Faults(invalid=1.0))))
    assert sent == 8
    assert plan.cost is None
    assert plan.seconds is None
    assert plan.models[0].failures == {"InvalidRequest": 8}
    assert any("no call of the sample" in each for each in plan.assumed)


def test_models_stand_side_by_side():
    """Nobody could choose between models by their price."""
    plan, sent = planned(models=["m", "n"], samples=2, sample=20)
    assert sent == plan.asked == 40
    assert plan.calls == 1_600
    cheap, dear = plan.models
    assert cheap.cost is not None
    assert dear.cost is not None
    assert plan.cost is not None
    assert dear.cost.p50 == pytest.approx(2.0 * cheap.cost.p50, rel=0.4)
    assert plan.cost.p50 == pytest.approx(cheap.cost.p50 + dear.cost.p50, rel=0.1)
    assert plan.seconds is not None
    assert cheap.seconds is not None
    assert plan.seconds.p50 < 1.5 * cheap.seconds.p50  # they have their own limits, and run at the same time


def test_what_a_cache_answers_is_left_out(tmp_path: Path):
    """Calls that cost nothing would be in the bill."""
    model, made = ProviderModel(ProviderSettings()), {"cache": tmp_path / "answers.db"}

    async def fill() -> None:
        async with client(model, **made) as it:
            await it.gather(CALLS[:100])

    run_virtual(fill())
    plan, _ = planned([*CALLS, *CALLS[100:150]], provider=model, made=made)
    assert (plan.cached, plan.duplicates) == (100, 50)
    assert plan.left + plan.asked == 300


def test_duplicates_are_told_without_a_cache():
    """Somebody would pay for the same answer many times, and not hear that a cache saves that."""
    plan, _ = planned([*CALLS, *CALLS[:40]])
    assert plan.duplicates == 40
    assert plan.left == 390


def test_calls_that_do_not_fit_the_model_are_counted():
    """Their failures would be paid for, or found when the job is over."""
    calls = ["word " * 100] * 60 + ["word " * 700_000]
    plan, sent = planned(
        calls,
        made={"model": "openai/gpt-5-mini", "base_url": None, "api_key": "k", "config": {}},
        dry_run=True,
    )
    assert sent == 0
    assert plan.too_long == 1
    (model,) = plan.models
    assert model.context == 400_000
    assert model.longest > 400_000
    assert plan.left == 60


def test_lanes_stand_side_by_side():
    """Nobody could see that half the price is to be had."""
    plan, _ = planned(made={"model": "openai/gpt-5-mini", "base_url": None, "api_key": "k", "config": {}}, dry_run=True)
    live, flex, batch = plan.models[0].lanes
    assert live.cost is not None
    assert flex.cost is not None
    assert batch.cost is not None
    assert flex.cost.p50 == batch.cost.p50 == pytest.approx(live.cost.p50 / 2)
    assert (live.seconds, batch.seconds, batch.within) == (plan.seconds, None, 86_400.0)
    assert live.seconds is not None
    assert flex.seconds is not None
    assert live.seconds.p90 < flex.seconds.p10
    assert 60.0 < flex.seconds.p50 < 900.0 + live.seconds.p50
    assert any(re.match("openai/gpt-5-mini: answers of the flex lane after 1 to 15", each) for each in plan.assumed)
    assert any(each.startswith("openai/gpt-5-mini: batches take up to a day") for each in plan.assumed)
    assert "50,000 calls" in batch.refuses
    own, _ = planned(dry_run=True)
    live, flex, batch = own.models[0].lanes
    assert (live.offered, flex.offered, batch.offered) == (True, False, True)
    assert "only an upload shows whether this server has batches" in batch.refuses


def test_batches_take_as_long_as_the_last_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """ "Within a day" would be all that is said to somebody whose batches take half an hour."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    took = [600.0 * n for n in range(1, 8)]
    remember(state_folder(), [Past("openai/gpt-5-mini", 400, seconds, 0.0) for seconds in took])
    remember(state_folder(), [Past("openai/gpt-5-mini", 10, 60.0, 0.0)])
    plan, _ = planned(made={"model": "openai/gpt-5-mini", "base_url": None, "api_key": "k", "config": {}}, dry_run=True)
    assert plan.models[0].lanes[2].seconds == Range.of(took)
    assert any("as long as your last ones" in each for each in plan.assumed)


def test_calls_that_ask_for_flex_themselves_are_the_flex_lane():
    """Half of half the price would be promised, and live calls at the price of flex."""
    made = {"model": "openai/gpt-5-mini", "base_url": None, "api_key": "k", "config": {}}
    usual, _ = planned(made=made, dry_run=True)
    plan, _ = planned(made=made, dry_run=True, service_tier="flex")
    live, flex, batch = plan.models[0].lanes
    assert live.cost is not None
    assert usual.cost is not None
    assert live.cost.p50 == pytest.approx(usual.cost.p50)
    assert (flex.cost, flex.seconds, live.seconds) == (plan.cost, plan.seconds, None)
    assert batch.cost is not None
    assert batch.cost.p50 == pytest.approx(usual.cost.p50 / 2)


def test_prompts_that_begin_alike_are_told():
    """Somebody would pay in full for the same rules with every row, and not hear that the provider keeps them."""
    made = {"model": "anthropic/claude-sonnet-4-5", "base_url": None, "api_key": "k", "config": {}}
    system = " ".join(f"Rule {n}: mail {n} goes to team {n % 17}." for n in range(300))
    plan, _ = planned(made=made, dry_run=True, system=system)
    assert plan.cost is not None
    saved = plan.models[0].saved_by_caching
    assert saved is not None
    assert 0.1 * plan.cost.p50 < saved.p50 < plan.cost.p50
    for options in ({"made": made}, {"made": {**made, "prompt_cache": "auto"}, "system": system}):
        other, _ = planned(dry_run=True, **options)
        assert other.models[0].saved_by_caching is None
    own, _ = planned(dry_run=True, system=system)
    assert own.models[0].saved_by_caching is None


def test_an_unknown_limit_is_told():
    """A time that nobody can know would be taken for a forecast."""
    plan, _ = planned(made={"limits": None}, sample=8)
    assert any("no limit of sim/m is known" in each for each in plan.assumed)


@pytest.mark.parametrize(
    ("calls", "options", "why"),
    [
        ([], {}, "nothing to plan"),
        ("a prompt", {}, "give a list of calls"),
        (CALLS, {"sample": 0}, "at least one call"),
        (CALLS, {"sample": "none"}, "a number of calls or a share"),
        (CALLS, {"sample": "200%"}, "a number of calls or a share"),
        (CALLS, {"sample": 1.5}, "a number of calls or a share"),
        (CALLS, {"temprature": 0}, "temperature"),
        (lambda item, client: None, {}, "what an agent or a function will ask"),
    ],
    ids=["no calls", "one prompt", "no sample", "a word", "too large a share", "half a call", "a slip", "a function"],
)
def test_a_plan_that_makes_no_sense_is_refused(calls: Any, options: dict[str, Any], why: str):
    """A wrong argument would end in a traceback, or in a plan of something else."""
    with pytest.raises(ConfigError, match=why):
        planned(calls, **options)


def test_a_price_that_is_not_known_is_refused_unless_the_user_says_so():
    """The sample would cost nobody knows what."""
    with pytest.raises(ConfigError, match=r"the price of sim/m is not known"):
        planned(made={"config": {}})
    plan, sent = planned(made={"config": {}, "allow_unknown_price": True})
    assert sent == 50
    assert (plan.cost, plan.spent, plan.unpriced) == (None, None, 50)
    assert "spent=None" in repr(plan)
    assert plan.seconds is not None
    assert any("price of sim/m" in each for each in plan.assumed)


def test_a_share_of_the_calls_can_be_asked():
    """A sample could not grow with the job."""
    _, sent = planned(sample="5%")
    assert sent == 20


def test_nothing_left_is_a_sentence(tmp_path: Path):
    """A plan of a finished run would divide by nothing."""
    store = tmp_path / "run.flatout"
    planned(CALLS[:10], store=store, provider=ProviderModel(AT_ONCE))
    with pytest.raises(ConfigError, match="nothing is left to ask"):
        planned(CALLS[:10], store=store)


def test_a_plan_shows_what_matters():
    """A plan in a notebook would be a page of numbers."""
    plan, _ = planned([Call(call) for call in CALLS])
    assert repr(plan).startswith("Plan(calls=400, left=350, cost=")


def test_a_route_is_planned_with_all_its_targets():
    """A job with the keys of two accounts would be forecast as if it had one."""
    both = {"limits": {"sim/m": {"rpm": 600}, "sim/n": {"rpm": 600}}, **PRICES}
    made = {"model": Route("m", "n"), "config": both, "limits": None}
    one, _ = planned(made={"config": both, "limits": None})
    plan, sent = planned(made=made)
    assert sent == 50
    (model,) = plan.models
    assert model.limits["rpm"] == 1_200
    assert plan.seconds is not None
    assert one.seconds is not None
    assert plan.seconds.p50 < 0.65 * one.seconds.p50
