"""The soak's verdict. The soak itself takes half an hour: `make soak`."""

from __future__ import annotations

import pytest

from tests.crash.soak import Sample, grown, table


def soaked(**growth: float) -> list[Sample]:
    """Forty samples of half an hour, of which some figures grow by so much in a sample."""
    usual = {"memory": 60.0, "files": 38.0, "tasks": 1.0}
    return [
        Sample(n * 45.0, **{name: value + n * growth.get(name, 0.0) + n % 2 for name, value in usual.items()})
        for n in range(40)
    ]


def test_what_goes_up_and_down_has_not_grown() -> None:
    """The soak would fail by chance, and soon nobody would look at it."""
    assert grown(soaked()) == []
    assert grown(soaked(memory=0.3)) == []


@pytest.mark.parametrize(("name", "growth"), [("memory", 0.7), ("files", 0.2), ("tasks", 0.1)])
def test_what_grows_is_named(name: str, growth: float) -> None:
    """A leak would be found by those whose run of a day ends with a full memory."""
    samples = soaked(**{name: growth})
    assert grown(samples) == [name]
    assert name in table(samples)
