"""What a worker's lease should hold: whole calls, of each limit what they take."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from flatout.policies.pacing.turns import FAR
from flatout.policies.pacing.wanted import LEAST_CALLS, wanted

COSTS = st.floats(1.0, 1_000.0)


@given(st.lists(COSTS, min_size=1, max_size=12), st.floats(0.0, 3_000.0), st.floats(1.0, 1_000.0))
def test_a_lease_and_what_is_held_already_are_whole_calls(costs, held, rate):
    """A worker would hold a rest that is too little for its next call, and nobody could use it."""
    found = wanted(({"tpm": cost} for cost in costs), {"tpm": rate}, {"tpm": held}, 0.2, lacks=True).units
    sums = list(accumulate(costs))
    if not found:
        assert held >= sums[-1] - 1e-6
        return
    covered = max((each for each in sums if each <= held + 1e-9), default=0.0)
    begins = [held, covered]  # a large rest counts, and a small one is lost
    assert any(abs(begin + found["tpm"].units - each) < 1e-6 for begin in begins for each in sums)
    assert 0.0 < found["tpm"].first <= found["tpm"].units + 1e-6


def test_a_lease_lasts_as_long_as_it_should_by_the_limit_that_binds():
    """It would hold more of a day's requests than go in hours, because they are few beside those of a minute."""

    def calls(rates, seconds):
        found = wanted([{}] * 100, rates, dict.fromkeys(rates, 0.0), seconds, lacks=True).units
        assert len({each.units for each in found.values()}) == 1
        return found["rpm"].units

    assert calls({"rpm": 100.0}, 0.2) == 20.0
    assert calls({"rpm": 100.0, "tpm": 50.0}, 0.2) == 10.0
    assert calls({"rpm": 100.0}, 0.001) == LEAST_CALLS
    assert calls({"rpm": 100.0, "rpd": 1.0}, 0.2) == int(FAR)
    assert calls({"rpm": 100.0, "rpd": 0.01}, 0.2) == 1.0
