"""The pacer of one target: all its limits together, and its pauses."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout.policies.pacing.pacer import Pacer
from flatout.policies.pacing.pause import FIRST_DOUBT, Wait
from flatout.policies.pacing.probe import ALONE
from flatout.policies.pacing.tokens import Need
from flatout.policies.pacing.unknown.climb import START
from flatout.values import Limits, Usage

NONE: dict[str, str] = {}
TIGHT = {"x-ratelimit-limit-requests": "600"}
GATEWAY = {"x-litellm-call-id": "1"}

needs = st.tuples(st.floats(1, 5_000), st.floats(0, 2_000), st.none() | st.integers(1, 4_000))
junk = st.sampled_from(
    [
        "",
        "0",
        "-1",
        "1",
        "nan",
        "inf",
        "-inf",
        "1e308",
        "1e-300",
        "x",
        "6m0s",
        "9" * 400,
        "2026-01-01T00:00:00Z",
        "12ms",
    ]
) | st.text(max_size=12)
names = st.sampled_from(
    [
        *(f"x-ratelimit-{what}-{axis}" for what in ("limit", "remaining", "reset") for axis in ("requests", "tokens")),
        *(f"anthropic-ratelimit-input-tokens-{what}" for what in ("limit", "remaining", "reset")),
        "retry-after",
        "x-litellm-call-id",
    ]
)


def pacer(limits: Limits | None = None, **given) -> Pacer:
    return Pacer(limits or Limits(), 0.0, **given)


def go(made: Pacer, now: float, need: Need | None = None) -> tuple[Need, float]:
    """Admit a call as soon as it may go."""
    need = need or Need(10.0, 10.0)
    at, _ = made.ready_at(need, now)
    assert at < math.inf
    now = max(now, at)
    made.admit(need, now)
    return need, now


def answer(made: Pacer, need: Need, sent: float, now: float, headers: dict[str, str] = NONE) -> None:
    made.answered(need, Usage(input_tokens=10, output_tokens=10), headers, sent, now, 1.8e9 + now)


@settings(max_examples=80, deadline=None)
@given(
    st.floats(1, 1e4),
    st.floats(1e4, 1e6),
    st.floats(1e4, 1e6),
    st.floats(1e4, 1e6),
    st.lists(st.tuples(needs, st.floats(0, 3)), min_size=1, max_size=50),
    st.sampled_from(["usage", "max_tokens", "input"]),
    st.booleans(),
)
def test_no_minute_gets_more_than_any_of_its_limits(rpm, tpm, itpm, otpm, calls, reserve, even):
    """A call that fits one limit would be refused for another."""
    made = pacer(Limits(rpm=rpm, tpm=tpm, itpm=itpm, otpm=otpm), reserve=reserve, even=even)
    now, taken = 0.0, []
    for (given_in, out, most), gap in calls:
        need = Need(given_in, out, most)
        assert made.never(need) is None
        _, now = go(made, now + gap, need)
        taken.append((now, need.costs))
    for name, limit in (("rpm", rpm), ("tpm", tpm), ("itpm", itpm), ("otpm", otpm)):
        largest = max(costs[name] for _, costs in taken)
        for first, (begin, costs) in enumerate(taken):
            inside = sum(costs[name] for at, costs in taken[first:] if at < begin + 60)
            assert inside <= (limit * 0.9884 + costs[name] + largest) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("reserve", "cost"), [("usage", 150.0), ("max_tokens", 4_000.0), ("input", 100.0)], ids=["usage", "max", "input"]
)
def test_tokens_are_reserved_by_the_provider_s_own_rule(reserve, cost):
    """Tokens would be refused that the reservation had promised, or lie idle."""
    made = pacer(Limits(tpm=1e6), reserve=reserve)
    need, _ = go(made, 1.0, Need(100.0, 50.0, 4_000))
    assert need.costs["tpm"] == cost


def test_what_was_not_used_is_handed_back_only_where_the_provider_does_so():
    """A guess that was too high would slow the run for ever, or the next call be refused."""
    freed = {}
    for reserve in ("usage", "max_tokens"):
        made = pacer(Limits(tpm=6_000), reserve=reserve)
        need, now = go(made, 1.0, Need(1_000.0, 1_000.0, 2_000))
        before, _ = made.ready_at(Need(10.0, 10.0), now)
        made.answered(need, Usage(input_tokens=10, output_tokens=10), NONE, now, now + 1, 1.8e9)
        freed[reserve] = before - made.ready_at(Need(10.0, 10.0), now)[0]
    assert freed["usage"] == pytest.approx(1_980 / (6_000 * 0.985 / 60), rel=0.01)
    assert freed["max_tokens"] == 0


def test_cached_input_is_not_counted_where_it_is_exempt():
    """The cheapest prompts would be paced like the dearest."""
    made = pacer(Limits(itpm=6_000))
    need, now = go(made, 1.0, Need(1_000.0, 10.0))
    before = made.ready_at(need, now)[0]
    made.answered(need, Usage(input_tokens=1_000, output_tokens=1, cached_tokens=900), NONE, now, now, 0.0)
    assert before - made.ready_at(need, now)[0] == pytest.approx(900 / (6_000 * 0.985 / 60), rel=0.01)


def test_a_call_beyond_a_minute_s_tokens_is_named():
    """It would wait for tokens that never come, and hold up all behind it."""
    reason = pacer(Limits(tpm=1_000)).never(Need(1_500.0, 1.0))
    assert reason is not None
    assert "1,501" in reason
    assert "1,000" in reason


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([Limits(), Limits(rpm=600, tpm=1e6), Limits(concurrency=2), Limits(adaptive="concurrency")]),
    st.lists(st.tuples(st.dictionaries(names, junk, max_size=6), st.booleans(), st.floats(-1e9, 1e9)), max_size=8),
)
def test_garbage_in_headers_never_stops_a_target_for_good(limits, answers):
    """One odd gateway would end the run, with a traceback or in silence."""
    made, now = pacer(limits), 0.0
    for headers, fine, wall in answers:
        need, now = go(made, now)
        if fine:
            made.answered(need, Usage(input_tokens=10, output_tokens=10), headers, now, now + 0.1, wall)
        else:
            made.refused(need, None, headers, now, now + 0.1, wall)
        now += 0.1
        call = Need(10.0, 10.0)
        assert made.never(call) is None
        at, _ = made.ready_at(call, now)
        assert at - now <= 60 * (len(answers) + 3)


def test_a_limit_that_the_answered_call_exceeds_is_garbage():
    """A header that says 1 where it means nothing would fail every call that follows."""
    made = pacer()
    need, now = go(made, 0.0)
    answer(made, need, now, now + 0.1, {"x-ratelimit-limit-tokens": "1"})
    assert made.never(Need(10.0, 10.0)) is None


def test_an_unknown_target_gets_no_more_than_64_before_its_first_word():
    """A wrong key would cost a thousand requests, and look like an attack."""
    made, now, sent = pacer(), 0.0, 0
    while True:
        at, _ = made.ready_at(Need(), now)
        if max(now, at) >= 1.0:
            break
        _, now = go(made, now)
        sent += 1
    assert sent == START
    assert made.ready_at(Need(), now)[0] >= 1.0


def test_the_first_call_goes_alone_where_asked_to():
    """A wrong key would cost as many requests as the limit allows at once."""
    made = pacer(Limits(rpm=6_000), probe=True)
    go(made, 0.0)
    assert made.ready_at(Need(), 0.0) == (ALONE, "probe")


def test_an_advertised_limit_ends_the_search():
    """What the provider says would be overruled by guessing."""
    made = pacer()
    need, now = go(made, 0.0)
    answer(made, need, now, 0.1, TIGHT)
    assert made.search is None
    assert not made.counts_tokens


def test_one_refusal_pauses_everybody_until_its_time():
    """Each of a thousand callers would find out for itself."""
    made = pacer(Limits(rpm=6_000))
    need, now = go(made, 1.0)
    assert made.refused(need, 5.0, NONE, now, now + 0.1, 0.0).until == pytest.approx(now + 5.1)
    at, cause = made.ready_at(Need(), now + 1)
    assert (at, cause) == (pytest.approx(now + 5.1, abs=0.05), "pause")


def test_after_a_pause_calls_go_one_after_the_other():
    """The end of the pause would be the next storm."""
    made = pacer(Limits(rpm=6_000))
    need, now = go(made, 1.0)
    until = made.refused(need, 5.0, NONE, now, now + 0.1, 0.0).until
    times = []
    for _ in range(20):
        _, now = go(made, max(now, until))
        times.append(now)
    assert times[0] >= until
    assert sum(at < until + 0.1 for at in times) <= 3


def test_a_long_pause_by_a_gateway_that_exaggerates_is_tried_early():
    """A minute would be lost for a place that is free in two seconds."""
    made = pacer(Limits(rpm=6_000))
    need, now = go(made, 1.0)
    made.refused(need, 60.0, GATEWAY, now, now, 0.0)
    assert made.ready_at(Need(), now)[0] == pytest.approx(now + FIRST_DOUBT)
    trial, at = go(made, now)
    assert made.ready_at(Need(), at)[0] >= now + 60  # one alone
    answer(made, trial, at, at + 0.1)
    assert made.ready_at(Need(), at + 0.1)[0] <= at + 0.4


def test_a_trial_that_fails_waits_longer_for_the_next():
    """The gateway would be hammered all through its pause."""
    made = pacer(Limits(rpm=6_000))
    need, now = go(made, 1.0)
    made.refused(need, 60.0, GATEWAY, now, now, 0.0)
    waits = []
    for _ in range(3):
        trial, at = go(made, now)
        waits.append(at - now)
        now = at
        made.refused(trial, 60.0, GATEWAY, now, now, 0.0)
    assert waits == pytest.approx([2, 4, 8])


def push_back(made, count, *, every=1):
    """So many calls sent at once, of which each ``every``-th meets a server without capacity; the others stay."""
    sent = [go(made, 100.0)[0] for _ in range(count)]
    for number, need in enumerate(sent, 1):
        need.number = number
        if number % every == 0:
            made.failed(need, 100.1)
            made.pushed_back(need, 100.0, 100.1)


def test_a_server_without_capacity_gets_fewer_at_once_and_the_limits_stay():
    """A server with 64 places would be sent 500; or one full moment cost the rest of the run its speed."""
    made = pacer(Limits(rpm=6_000))
    rate = made._axes.by_name["rpm"].gcra.rate
    for _ in range(20):
        go(made, 50.0)
    push_back(made, 6)
    assert made.in_flight == 20
    assert made.ready_at(Need(), 102.0)[1] == "concurrency"
    assert made._axes.by_name["rpm"].gcra.rate == rate


def test_some_503s_among_others_say_nothing_of_capacity():
    """A provider that says 503 now and then would be sent one call at a time."""
    made = pacer(Limits(rpm=6_000))
    push_back(made, 200, every=10)
    assert made.ready_at(Need(), 110.0)[0] <= 110.0


def test_a_target_that_is_down_did_not_want_for_capacity():
    """After an outage that said 503 a run would go on with a handful in flight."""
    made = pacer(Limits(rpm=6_000))
    for _ in range(10):
        go(made, 50.0)
    push_back(made, 6)
    made.went_down(102.0)
    assert made.ready_at(Need(), 103.0)[0] <= 103.0


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from([Limits(), Limits(rpm=600), Limits(concurrency=3), Limits(adaptive="concurrency")]),
    st.lists(
        st.tuples(st.sampled_from(["answered", "failed", "overloaded", "throttled", "cancelled"]), st.floats(0, 5)),
        max_size=60,
    ),
)
def test_permits_come_back_and_a_target_is_never_lost(limits, ends):
    """After enough failures of any kind the run would stand still."""
    made, now, open_ = pacer(limits), 0.0, []
    for end, gap in ends:
        now += gap
        at, _ = made.ready_at(Need(), now)
        if at != math.inf:
            open_.append(go(made, now))
            now = open_[-1][1]
        if not open_:
            continue
        need, sent = open_.pop(0)
        match end:
            case "answered":
                answer(made, need, sent, now)
            case "throttled":
                made.refused(need, None, NONE, sent, now, 0.0)
            case "overloaded":
                made.failed(need, now)
                made.pushed_back(need, sent, now)
            case _:
                made.failed(need, now)
    for need, sent in open_:
        answer(made, need, sent, now)
    assert made.in_flight == 0
    assert made.ready_at(Need(), now)[0] - now <= 120


def at_once(made: Pacer, now: float = 0.0) -> int:
    """How many calls may go in one instant."""
    count = 0
    while made.ready_at(Need(10.0, 10.0), now)[0] <= now:
        made.admit(Need(10.0, 10.0), now)
        count += 1
    return count


def test_a_refusal_of_what_is_tried_ahead_is_its_call_s_own_affair_and_ends_the_trial():
    """All calls would pause for the refusal of five, or the next minute would begin with five more refusals."""
    made = pacer(Limits(rpm=600), even=False)
    needs = [go(made, 0.0)[0] for _ in range(12)]
    assert made.refused(needs[11], 1.0, None, 0.0, 0.05, 0.0) == Wait(1.0)
    assert made.even
    assert made.paused_until < 0.05
    _, at = go(made, 0.05)
    assert [go(made, at)[1] for _ in range(10)][-1] >= 0.9


def test_a_trial_explains_no_more_refusals_than_it_can_have_caused():
    """A key that others use up would be asked by every call once more."""
    made = pacer(Limits(rpm=6_000), even=False)
    needs = [go(made, 0.0)[0] for _ in range(20)]
    borne = [made.refused(need, 1.0, None, 0.0, 0.05, 0.0).alone for need in needs]
    assert borne[0] == 1.0
    assert borne[-1] == 0.0


def test_a_long_wait_after_a_trial_is_everybody_s():
    """Each call would find out by itself that the minute is used up."""
    made = pacer(Limits(rpm=600), even=False)
    need, _ = go(made, 0.0)
    assert made.refused(need, 40.0, None, 0.0, 0.05, 0.0).until >= 40.0
    assert made.even


@pytest.mark.parametrize(
    ("limits", "more"),
    [(Limits(rpm=600, burst=0.2), {"even": False}), (Limits(rpm=600), {"even": True})],
    ids=["burst", "refused before"],
)
def test_nothing_is_tried_ahead_where_that_is_forbidden_or_was_refused_before(limits, more):
    """Every run would begin with refusals that the last one has explained."""
    assert at_once(pacer(limits, **more)) <= 2
    assert at_once(pacer(Limits(rpm=600), even=False)) > 2


def test_a_given_burst_goes_at_once():
    """A provider that takes a minute's calls at once would be sent them over a minute."""
    assert at_once(pacer(Limits(rpm=600, burst=60.0))) == pytest.approx(600, rel=0.03)


def test_headers_do_not_overrule_a_given_burst():
    """Users who forbid bursts would see them nevertheless."""
    made = pacer(Limits(rpm=600, burst=1.0))
    need, now = go(made, 0.0)
    full = {"x-ratelimit-limit-requests": "600", "x-ratelimit-remaining-requests": "599"}
    answer(made, need, now, 0.1, {**full, "x-ratelimit-reset-requests": "100ms"})
    assert at_once(made, 0.1) <= 10


def test_a_call_from_before_a_search_is_not_counted_in_it():
    """Calls in flight would be counted twice, and more than a server takes be sent at once."""
    made = pacer()
    early, now = go(made, 0.0)
    told, now = go(made, now)
    answer(made, told, now, now + 0.1, {"x-ratelimit-limit-requests": "60000"})
    assert made.search is None
    now += 1.0
    for _ in range(40):
        need, now = go(made, now)
        made.refused(need, 0.1, NONE, now, now + 0.01, 0.0)
        now += 0.5
        if made.search is not None:
            break
    assert made.search is not None
    before = made.search.ended
    answer(made, early, 0.0, now)
    assert made.search.ended == before


def test_a_trial_goes_on_only_where_answers_tell_nothing():
    """A minute of a share would go in a lump, or a silent provider's limit be spent in ten times the time."""
    rest = []
    for headers in (NONE, {"x-ratelimit-limit-requests": "6000"}):
        made = pacer(Limits(rpm=600), even=False)
        need, now = go(made, 0.0)
        answer(made, need, now, 0.4, headers)
        rest.append([go(made, 0.4)[1] for _ in range(300)][-1])
    assert rest[0] < 8.0
    assert rest[1] > 25.0


def test_what_was_taken_ahead_is_known_for_the_next_run():
    """Each run would try a few calls at a time what the last one has proved."""
    made = pacer(Limits(rpm=600), even=False)
    sent = [go(made, 0.0)]
    answer(made, *sent[0], 0.4)
    sent = [go(made, 0.5) for _ in range(300)]
    for need, at in sent:
        answer(made, need, at, 9.0)
    depths, owes = made.depths()
    assert depths["rpm"] > 20.0
    assert owes > 20.0
    assert at_once(pacer(Limits(rpm=600), even=False, depths=depths)) > 200
    assert at_once(pacer(Limits(rpm=600), even=False, depths=depths, idle=1.0)) <= 11


def test_a_bucket_that_is_refused_again_soon_is_none():
    """A window of ten seconds would refuse the second burst of each run."""
    made = pacer(Limits(rpm=600), even=False)
    answer(made, *go(made, 0.0), 0.4)
    sent = [go(made, 0.5) for _ in range(100)]
    made.refused(sent[-1][0], 1.0, None, sent[-1][1], 3.0, 0.0)
    assert made.depths()[0]
    need, at = go(made, 3.1)
    made.refused(need, 1.0, None, at, at + 0.1, 0.0)
    assert not made.depths()[0]


def test_a_trial_that_headers_ended_may_still_be_refused_and_is_not_tried_again():
    """Each run at a provider that counts by the second and says so would begin with refusals."""
    made = pacer(Limits(rpm=600), even=False)
    needs = [go(made, 0.0)[0] for _ in range(8)]
    told = {"x-ratelimit-limit-requests": "600", "x-ratelimit-remaining-requests": "5"}
    answer(made, needs[0], 0.0, 0.1, {**told, "x-ratelimit-reset-requests": "500ms"})
    made.refused(needs[7], 1.0, {}, 0.02, 0.12, 0.0)
    assert made.even


def test_what_was_not_sent_is_given_back():
    """Turns that calls gave back, because they had to wait for money, would be missing from the limit."""
    pacer = Pacer(Limits(rpm=600, tpm=60_000), 0.0)
    need = Need(input=100.0, output=100.0)
    pacer.admit(need, 0.0)
    for _ in range(1_000):
        other = Need(input=100.0, output=100.0)
        before = pacer.ready_at(other, 0.0)
        pacer.admit(other, 0.0)
        pacer.unsent(other, 0.0)
        assert pacer.ready_at(Need(input=100.0, output=100.0), 0.0)[0] == pytest.approx(before[0], abs=1e-6)
    assert pacer.in_flight == 1
