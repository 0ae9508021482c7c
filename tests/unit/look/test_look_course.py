"""The course of a run, put together from the stretches of its processes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flatout.look.course import Course, rates, together
from flatout.store import RunReader
from flatout.store.course import Happening, Stretch
from tests.support.store_samples import open_run


def stretch(at: float, **changes: Any) -> Stretch:
    fields = {"began_at": at, "seconds": 1.0, "target": "m", "in_flight": 0, "waiting": 0, "held": {}, "allows": {}}
    return Stretch(**{"sent": 1, "answered": 1, "refused": 0, "failed": 0} | fields | changes)


def written(path: Path, *stretches: Stretch) -> None:
    async def main() -> None:
        async with open_run(path) as run:
            for each in stretches:
                run.note_stretch(each)
            run.note_happening(Happening(at=1.0, kind="down", target="m", what="503"))

    asyncio.run(main())


def test_workers_are_put_together_second_by_second(tmp_path: Path) -> None:
    """With two workers, the picture would show half of the rate, twice."""
    written(tmp_path / "a.flatout", stretch(10.0), stretch(11.0, sent=3), stretch(10.0, sent=5), stretch(9.0))
    course = Course()
    with RunReader.open(tmp_path / "a.flatout") as reader:
        course.refresh(reader)
        course.refresh(reader)
    assert [(each.began_at, each.sent) for each in course.targets["m"]] == [(9.0, 1), (10.0, 6), (11.0, 3)]
    assert [each.kind for each in course.happenings] == ["begin", "down", "end"]


def test_targets_are_put_together(tmp_path: Path) -> None:
    """The rate of a route would be that of its first target."""
    written(tmp_path / "a.flatout", stretch(10.0), stretch(10.0, target="n", sent=5), stretch(11.0, target="n"))
    course = Course()
    with RunReader.open(tmp_path / "a.flatout") as reader:
        course.refresh(reader)
    assert [(each.began_at, each.sent, each.target) for each in course.whole()] == [(10.0, 6, ""), (11.0, 1, "")]


def test_latencies_of_two_processes_are_weighted() -> None:
    """A worker that answered one call would count as much as one that answered a thousand."""
    both = together(
        stretch(1.0, answered=1, latency_p50=9.0, latency_p95=9.0),
        stretch(1.0, answered=3, latency_p50=1.0, latency_p95=2.0),
    )
    assert (both.latency_p50, both.latency_p95) == (3.0, 9.0)
    assert together(stretch(1.0), stretch(1.0)).latency_p50 is None


def test_rates_are_per_second_and_causes_are_shares() -> None:
    """A stretch of ten seconds would look ten times as fast as one of a second."""
    found = rates([stretch(0.0, sent=20, seconds=10.0, held={"requests": 5.0}), stretch(10.0, sent=0, seconds=10.0)])
    assert found is not None
    assert found.sent == 1.0
    assert found.held == {"requests": 0.25}
    assert rates([]) is None


def test_an_older_run_file_has_no_course(tmp_path: Path) -> None:
    """Last year's runs could not be looked at any more."""
    kept = Path(__file__).parents[1] / "store" / "run_files" / "version-5.flatout"
    (tmp_path / "a.flatout").write_bytes(kept.read_bytes())
    course = Course()
    with RunReader.open(tmp_path / "a.flatout") as reader:
        course.refresh(reader)
    assert (course.targets, course.happenings) == ({}, [])
    assert course.whole() == pytest.approx([])
