"""Which search is at work, where a limit is not known."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from flatout.policies.pacing.aimd import Aimd
from flatout.policies.pacing.discovery import Discovery


@pytest.mark.parametrize(("others_adapt", "adapts", "shared"), [
    (None, True, False),
    (False, True, False),
    (True, False, False),
    (True, True, True),
])  # fmt: skip
def test_a_number_in_flight_is_shared_only_where_all_programs_adapt_it(others_adapt, adapts, shared):
    """A program alone would wait for others' slots; or each of several would fill a server that bears them once."""
    discovery = Discovery(
        by_rate=False, together=None if others_adapt is None else SimpleNamespace(adapts_together=others_adapt)
    )
    discovery.aimd = Aimd(2.0, 8.0) if adapts else None
    assert discovery.adapts_together is shared
