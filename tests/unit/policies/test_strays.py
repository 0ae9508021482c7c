"""Refusals without a reason: borne, while those of a limit are not."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.policies.strays import CONFIRMED, CUTS, FASTER, FORGIVEN, LATELY, REMEMBERED, STRAY, Doubt, Tolerance


def test_one_refusal_among_many_answers_is_its_calls_own():
    """A run would be slowed down for everybody by a gateway's hiccup."""
    tolerance = Tolerance(FORGIVEN)
    for _ in range(50):
        assert tolerance.alone(1.0) == 1.0
        for _ in range(13):
            tolerance.answered()


def test_several_at_once_are_everybodys():
    """A limit would be stormed, each refusal taken for an exception."""
    tolerance = Tolerance(FORGIVEN)
    told = [tolerance.alone(1.0) for _ in range(int(CONFIRMED))]
    assert told[-1] is None
    tolerance.answer_all()
    assert tolerance.alone(1.0) == 1.0


def test_a_long_wait_is_everybodys():
    """A provider that asks for a minute's silence would be talked to by all the others."""
    assert Tolerance(FORGIVEN).alone(STRAY + 1) is None


def begun(every: int) -> tuple[Doubt, int]:
    """A doubt whose test has just begun, after one refusal in so many requests; and how many were sent."""
    doubt = Doubt()
    for cuts in range(1, CUTS + 2):
        testing = doubt.cut(every * cuts, cuts)
    assert testing
    return doubt, every * cuts


def test_the_first_refusal_is_believed_and_a_lone_one_later_is_not():
    """A limit of sixty a minute would be asked again at once; or a hiccup would slow a run of thousands."""
    doubt = Doubt()
    assert doubt.alone(20, 1.0) is None
    doubt.believed(20)
    assert doubt.alone(200, 1.0) == 1.0
    assert doubt.alone(220, 1.0) is None


def test_more_is_borne_where_belief_was_disproved():
    """Each hiccup of a provider would cost the run as much as the first."""
    doubt = Doubt()
    for _ in range(3):
        doubt.disproved()
    doubt.alone(20, None)
    assert all(doubt.alone(sent, None) is not None for sent in range(60, 600, 40))


def test_cut_upon_cut_without_effect_is_put_to_the_test():
    """A provider that refuses one in fifty, whatever the rate, would bring a run to a standstill."""
    doubt = Doubt()
    assert [doubt.cut(50 * n, n) for n in range(1, CUTS + 3)] == [False] * CUTS + [True, False]
    assert doubt.strays
    assert doubt.factor > FASTER


@pytest.mark.parametrize("share", [0.02, 0.15, 0.5])
def test_strays_pass_the_test(share):
    """They would be taken for a limit again and again, each time at a fraction of the pace."""
    passed = 0
    for seed in range(200):
        doubt, sent = begun(every=max(2, round(1 / share)))
        random = Random(seed)
        ends = sent + int(doubt.requests)
        heard = [doubt.alone(at, 1.0) for at in range(sent + 1, ends + 60) if random.random() < share]
        passed += None not in heard
    assert passed >= 180


def test_a_limit_fails_the_test_after_few_refusals():
    """Every limit that is hard to find would be stormed while it is looked for."""
    doubt, sent = begun(every=10)
    refusals = 0
    for at in range(sent + 1, sent + int(doubt.requests)):
        if Random(at).random() < 1.0 - 1.0 / doubt.factor:
            refusals += 1
            if doubt.alone(at, None) is None:
                break
    assert doubt.believed(at)
    assert not doubt.strays
    assert refusals <= 6


def test_a_failed_test_is_not_repeated_soon():
    """A limit would be stormed every few seconds."""
    doubt, sent = begun(every=10)
    doubt.believed(sent + 1)
    assert not any(doubt.cut(sent + 10 * cuts, cuts) for cuts in range(1, 2 * CUTS + 1))
    assert doubt.cut(sent + 10 * (2 * CUTS + 1), 2 * CUTS + 1)


def test_where_nearly_all_is_refused_nothing_is_tested():
    """A provider that is closed would be asked ten times as often."""
    doubt = Doubt()
    assert not any(doubt.cut(10 * n, 9 * n) for n in range(1, 20))


def test_refusals_far_apart_are_not_held_together():
    """The few that any search meets in an hour would be taken for strays, and the limit be stormed."""
    doubt = Doubt()
    assert not any(doubt.cut((LATELY // 2 + 1) * n, n) for n in range(1, 50))


def test_refusals_are_believed_again_once_strays_have_ended():
    """A limit would be overlooked for the rest of a run, because a provider had a bad minute."""
    doubt, sent = begun(every=10)
    for _ in range(60):
        sent += 10
        doubt.alone(sent, None)
    assert doubt.strays
    for _ in range(12):
        sent += REMEMBERED
        doubt.alone(sent, None)
    assert not doubt.strays


def flows(doubt: Doubt, sent: int, share: float, seed: int, *, by_limit: bool = False) -> int:
    """Two thousand requests, of which a share is refused; by a limit none at half the pace. How many went at that."""
    slow, random = 0, Random(seed)
    for at in range(sent + 1, sent + 2_000):
        ebbs = doubt.ebbs(at)
        slow += ebbs
        refused = random.random() < share and not (by_limit and (ebbs or not doubt.strays))
        if refused and doubt.alone(at, None) is None:
            doubt.believed(at)
    return slow


@pytest.mark.parametrize("share", [0.03, 0.15])
def test_strays_are_borne_on_although_less_is_sent_for_a_moment(share):
    """Each trial of half the pace would end in a search for a limit that is not there; or take half of the time."""
    held = 0
    for seed in range(50):
        doubt, sent = begun(every=round(1 / share))
        assert flows(doubt, sent, share, seed) < 600
        held += doubt.strays
    assert held >= 35


def test_a_limit_that_was_taken_for_strays_is_found_out():
    """It would be overrun by a tenth for the rest of the run."""
    found = 0
    for seed in range(50):
        doubt, sent = begun(every=10)
        flows(doubt, sent, 0.1, seed, by_limit=True)
        found += not doubt.strays
    assert found >= 48


@given(st.lists(st.tuples(st.sampled_from(["ebbs", "alone", "believed", "cut", "disproved"]), st.integers(-5, 500))))
def test_nothing_that_happens_in_any_order_breaks_it(events):
    """An answer that comes late would end the run with a traceback."""
    doubt, sent, refused = Doubt(), 1, 0
    for what, step in events:
        sent = max(1, sent + step)
        match what:
            case "alone":
                refused += 1
                wait = doubt.alone(sent, 1.0)
                assert wait is None or wait == 1.0
            case "ebbs":
                doubt.ebbs(sent)
            case "believed":
                doubt.believed(sent)
            case "cut":
                doubt.cut(sent, refused)
            case "disproved":
                doubt.disproved()
        assert doubt.factor >= 0.0
