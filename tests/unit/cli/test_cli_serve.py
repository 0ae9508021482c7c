"""``flatout serve``: what its options ask for. The gateway itself is tested in ``tests/unit/serve``."""

from __future__ import annotations

from typing import Any

import pytest

from flatout import Budget, Limits
from flatout.cli import main


def test_options_reach_the_client_and_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option would be accepted and do nothing: two gateways would each use the whole limit."""
    made: dict[str, Any] = {}
    served: list[Any] = []
    monkeypatch.setattr(
        "flatout.cli.serve._serve", lambda with_, asked, verbose: (made.update(with_), served.append(asked))
    )
    given = "-m a/1 -m b/2 --rpm 10k --concurrency 9 --shared team --budget 20/day --timeout 5 --retries 0 --port 8701"
    assert main(["serve", *given.split(), "--run-file", "g.flatout"]) == 0
    assert made == {
        "model": "a/1",
        "limits": Limits(rpm=10_000, concurrency=9, shared="team"),
        "budget": Budget(20.0, "day"),
        "timeout": 5.0,
        "retries": 0,
    }
    (asked,) = served
    assert (asked.models, asked.port, asked.store) == (("a/1", "b/2"), 8701, "g.flatout")
