"""The rule by which a provider charges tokens, inferred from what it says is left."""

from __future__ import annotations

from random import Random

import pytest

from flatout.policies.pacing.charge import REFUSED, Charge
from flatout.policies.pacing.tokens import Need
from flatout.values import Usage

LIMIT = 60_000.0
CHARGED = {
    "usage": lambda given, output, most: given,  # and the output when the answer is ready
    "max_tokens": lambda given, output, most: max(given, most),
    "input": lambda given, output, most: given,
}


def run(
    charge: Charge,
    rule: str,
    *,
    bucket: bool,
    apart: float,
    calls: int = 60,
    capacity: float = LIMIT,
    times: float = 1.0,
) -> None:
    """Calls that are sent one by one to a provider with a rule, and answered a second later."""
    chance, left, now = Random(1), capacity, 0.0
    waiting: list[tuple[float, Need, float, float, Usage]] = []
    for _ in range(calls):
        now += apart
        given, output = chance.uniform(50, 400), chance.uniform(50, 400)
        for done in [each for each in waiting if each[0] <= now]:
            waiting.remove(done)
            _, need, sent, told, usage = done
            left -= times * usage.output_tokens if rule == "usage" else 0.0
            charge.answered(need, usage)
            charge.told(need, told, LIMIT, sent, refills=bucket)
        if bucket:
            left = min(capacity, left + apart * LIMIT / 60)
        need = Need(given, 225.0, 1_000)
        charge.sent(need)
        left -= times * CHARGED[rule](given, output, 1_000)
        waiting.append((now + 1.0, need, now, left, Usage(input_tokens=int(given), output_tokens=int(output))))


@pytest.mark.parametrize("bucket", [True, False], ids=["bucket", "window"])
@pytest.mark.parametrize("rule", ["usage", "max_tokens", "input"])
@pytest.mark.parametrize("thought", ["usage", "max_tokens", "input"])
def test_a_rule_is_told_from_what_is_left(thought, rule, bucket):
    """Behind a gateway half of the tokens would lie idle, or call after call be refused."""
    charge = Charge(thought)
    run(charge, rule, bucket=bucket, apart=0.1)
    assert charge.rule == rule


def test_a_lump_whose_answers_are_still_to_come_changes_nothing():
    """Only prompts are charged by then: answers would count as free, and the provider would refuse the next minute."""
    charge = Charge("usage")
    run(charge, "usage", bucket=True, apart=0.001, calls=100)
    assert charge.rule == "usage"


@pytest.mark.parametrize("thought", ["usage", "input"])
def test_a_bucket_that_is_full_tells_nothing(thought):
    """What it would have refilled would be taken for what was charged: a slow job would be slowed for good."""
    charge = Charge(thought)
    run(charge, thought, bucket=True, apart=1.0, capacity=1_000.0)
    assert charge.rule == thought


def test_a_rule_is_not_told_from_what_none_explains():
    """Because others use the same key, every call would be reserved for the longest answer."""
    charge = Charge("usage")
    run(charge, "usage", bucket=False, apart=0.2, times=7.0)
    assert charge.rule == "usage"


def test_rules_that_hardly_differ_are_not_changed_for_one_another():
    """Long prompts with short answers are charged about the same by all: each change would cost a little."""
    charge, chance, left = Charge("max_tokens"), Random(2), 1e9
    for number in range(300):
        need = Need(chance.uniform(900, 1_100), 50.0, 100)
        charge.sent(need)
        left -= need.input * chance.uniform(0.95, 1.15)
        charge.answered(need, Usage(output_tokens=50))
        charge.told(need, left, LIMIT, 0.1 * number, refills=False)
        assert charge.rule == "max_tokens"


def test_a_rule_that_was_not_compared_yet_may_charge_for_the_longest_answer():
    """A first lump of calls would go by a guess, and hundreds be refused."""
    charge = Charge("usage")
    assert charge.caution == 1.0
    charge.sent(Need(100.0, 100.0))
    assert charge.caution == 1.0  # nobody asked for more than an answer
    charge.sent(Need(100.0, 100.0, 1_000))
    assert charge.caution == 5.0
    run(charge, "max_tokens", bucket=True, apart=0.1)
    assert charge.caution == 1.0


def test_refusals_although_enough_was_left_tell_that_more_is_charged():
    """Behind a bucket of a second there is no other sign, and the refusals would not end."""
    charge = Charge("usage")
    for count in range(REFUSED):
        assert charge.rule == "usage", count
        charge.refused(Need(300.0, 200.0, 2_000), 1_500.0)
    assert charge.rule == "max_tokens"


@pytest.mark.parametrize("left", [0.0, 500.0, 2_500.0])
def test_refusals_that_the_rule_explains_or_that_none_does_tell_nothing(left):
    """A stray 429 would have every call reserved for the longest answer."""
    charge = Charge("usage")
    for _ in range(9):
        charge.refused(Need(300.0, 200.0, 2_000), left)
    assert charge.rule == "usage"
