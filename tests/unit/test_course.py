"""What a run file knows of the course of a run: what its targets did in each stretch of time, and what happened."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from flatout import Client, Limits
from flatout.durable.course import recorded
from flatout.events import Events, TargetPaused
from flatout.layers.limit import TargetStatus
from flatout.look.facts import facts_of
from flatout.look.report.gather import gather
from flatout.store import RunReader
from flatout.store.course import Happening, Stretch
from flatout.testing import Faults, ProviderModel, ProviderSettings, SimulatedTransport, VirtualLoop
from tests.support.scripted_wire import Wire
from tests.support.scripted_wire import client as scripted


class Kept:
    """A run file that only keeps what it is given."""

    def __init__(self) -> None:
        self.stretches: list[Stretch] = []
        self.happenings: list[Happening] = []

    def note_stretch(self, stretch: Stretch, /) -> None:
        self.stretches.append(stretch)

    def note_happening(self, happening: Happening, /) -> None:
        self.happenings.append(happening)


def course_of(calls: int, settings: ProviderSettings, **options: Any) -> Kept:
    """The course of calls that all begin at once."""
    kept = Kept()

    async def main() -> None:
        transport = SimulatedTransport(ProviderModel(settings))
        async with (
            Client(model="m", base_url="http://127.0.0.1:1/v1", transport=transport, **options) as client,
            recorded(client, kept),
        ):
            results = await client.gather([f"prompt {n}" for n in range(calls)])
            assert all(result.ok for result in results)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    return kept


def test_every_attempt_is_in_one_stretch() -> None:
    """The picture of a run would show more or fewer requests than there were."""
    kept = course_of(300, ProviderSettings(rpm=6_000, faults=Faults(server_error=0.1)), limits=Limits(rpm=600))
    sent, answered, failed = (
        sum(getattr(stretch, name) for stretch in kept.stretches) for name in ("sent", "answered", "failed")
    )
    assert answered == 300
    assert failed > 10
    assert sent == answered + failed
    assert kept.stretches[-1].in_flight == 0


def test_a_stretch_knows_what_binds() -> None:
    """Nobody could be told why a run is slow, once it is over."""
    kept = course_of(300, ProviderSettings(rpm=6_000), limits=Limits(rpm=600))
    bound = [stretch for stretch in kept.stretches if stretch.waiting]
    assert all(stretch.allows == {"rpm": 600.0} for stretch in kept.stretches)
    assert sum(stretch.held["requests"] for stretch in bound) == pytest.approx(
        sum(stretch.seconds for stretch in bound), rel=0.05
    )


def test_stretches_follow_each_other_second_by_second() -> None:
    """The stretches of several workers could not be put side by side."""
    kept = course_of(300, ProviderSettings(rpm=6_000), limits=Limits(rpm=600))
    starts = [stretch.began_at for stretch in kept.stretches]
    assert all(start == int(start) for start in starts)
    assert len(set(starts)) == len(starts) > 10


def test_stretches_get_longer() -> None:
    """The course of a run of days would take more room than its answers."""
    kept = course_of(90, ProviderSettings(rpm=6_000), limits=Limits(rpm=2))
    lengths = [round(stretch.seconds) for stretch in kept.stretches]
    assert lengths[5] == 1
    assert lengths[-2] == 10
    assert len(lengths) < 900


@pytest.mark.parametrize("phase", [Random(n).uniform(0.0, 60.0) for n in range(12)])
def test_no_stretch_begins_twice_when_they_get_longer(phase: float) -> None:
    """Two stretches with one beginning count as two workers': every longer run would show a peak that never was."""
    kept = Kept()

    class Busy:
        events = Events()

        def status(self) -> list[TargetStatus]:
            return [TargetStatus(target="m", in_flight=4, waiting=0, holds="")]

    async def main() -> None:
        await asyncio.sleep(phase)
        async with recorded(Busy(), kept):
            await asyncio.sleep(11_000.0)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    starts = [stretch.began_at for stretch in kept.stretches]
    assert starts == sorted(set(starts))
    assert {later - start for start, later in pairwise(starts[1:])} == {1.0, 10.0, 60.0}


def test_a_pause_is_written_with_its_end_and_reason() -> None:
    """A gap in the picture would have no explanation."""
    kept = Kept()

    async def main() -> None:
        wire = Wire()
        async with scripted(wire) as client, recorded(client, kept):
            now = asyncio.get_running_loop().time()
            for until in (now + 20.0, now + 20.5, now + 40.0):
                client.events.emit(TargetPaused(at=now, target="m", until=until, reason="429"))
            client.events.emit(TargetPaused(at=now, target="m", until=None, reason="no money"))

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    found = [(each.kind, each.what, each.until and round(each.until - each.at, 3)) for each in kept.happenings]
    assert found == [("pause", "429", 20.0), ("pause", "429", 40.0), ("stop", "no money", None)]


PRICES = {"prices": {"127.0.0.1:1/m": {"input": 1.0, "output": 10.0}}}


def kept_run(place: Path, *, beside: int = 0, **settings: Any) -> float:
    """A run of forty calls, and the US dollars that they are known to cost. Calls of the program may go beside them."""

    async def main() -> float:
        transport = SimulatedTransport(ProviderModel(ProviderSettings(**settings)))
        async with Client(model="m", base_url="http://127.0.0.1:1/v1", transport=transport, config=PRICES) as client:
            others = asyncio.ensure_future(client.gather(["a much longer prompt " * 20] * beside))
            results = await client.gather([f"prompt {n}" for n in range(40)], store=place)
            await others
            return client.spent if not beside else sum(result.cost or 0.0 for result in results)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())


def test_what_an_attempt_of_unknown_cost_leaves_known_is_told_everywhere(tmp_path: Path) -> None:
    """A watched run would seem cheaper than its summary says, and the plot of the money would end below the words."""
    place = tmp_path / "calls.flatout"
    spent = kept_run(place, faults=Faults(server_error=0.3))
    with closing(sqlite3.connect(place)) as file, file:
        file.execute("UPDATE run SET command = 'flatout run'")  # so that all calls are the run's
    with RunReader.open(place) as reader:
        facts, known_by_row = facts_of(reader), reader.summary().cost
    assert facts.unknown_costs
    assert facts.cost == pytest.approx(spent)
    assert known_by_row is not None
    assert known_by_row < spent
    money = next(plot for plot in gather([place]).runs[0].plots if plot.name == "money")
    assert money.series[0].values[-1] == pytest.approx(spent, rel=1e-4)


def test_what_a_program_asks_beside_a_run_is_not_the_runs_money(tmp_path: Path) -> None:
    """A program that judges each answer with another call would seem to have spent all of that on the run's rows."""
    place = tmp_path / "calls.flatout"
    spent = kept_run(place, beside=40)
    with RunReader.open(place) as reader:
        facts = facts_of(reader)
    assert facts.cost == pytest.approx(spent)
    money = next(plot for plot in gather([place]).runs[0].plots if plot.name == "money")
    assert money.series[0].values[-1] == pytest.approx(spent, rel=1e-4)


def test_a_run_file_has_its_course_and_the_providers_own_seconds(tmp_path: Path) -> None:
    """A report of a run could say nothing of its course, and would take our queue for the provider's time."""
    path = tmp_path / "calls.flatout"

    async def main() -> None:
        async with scripted(Wire(), limits=Limits(rpm=600_000)) as client:
            results = await client.gather(["a", "b"], store=path)
            again = await client.gather(["a", "b"], store=path)
        assert all(result.provider_seconds is not None for result in results)
        assert [result.provider_seconds for result in again] == [result.provider_seconds for result in results]
        assert all(result.queued_seconds <= result.elapsed for result in results)

    asyncio.run(main())
    with RunReader.open(path) as reader:
        assert reader.course is not None
        stretches = [stretch for _, stretch in reader.course.stretches()]
        assert sum(stretch.answered for stretch in stretches) == 2
        assert [happening.kind for _, happening in reader.course.happenings()] == ["begin", "end", "begin", "end"]
        last = max(number for number, _ in reader.course.happenings())
        assert list(reader.course.happenings(last)) == []
        assert all(item.provider_seconds is not None for item in reader.items())


def test_the_virtual_clock_stands_still_while_the_run_file_is_written(tmp_path: Path) -> None:
    """Tests of durable runs would run out of virtual time by chance, since timers would fire meanwhile."""

    async def main() -> float:
        transport = SimulatedTransport(ProviderModel(ProviderSettings(latency=1.0)))
        async with Client(model="m", base_url="http://127.0.0.1:1/v1", transport=transport) as client:
            for n in range(20):
                (result,) = await client.gather(["a"], store=tmp_path / f"{n}.flatout")
                assert result.ok
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(main()) < 120.0
