"""What ``flatout ctl`` can do with a run, without a socket."""

from __future__ import annotations

from typing import Any

import pytest

from flatout import Client, ConfigError
from flatout.client.change import Change
from flatout.progress._counters import Progress
from flatout.runs.skips import Skip
from flatout.runs.steered import SteeredRun
from flatout.runs.stops import Stops
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport


class Run:
    """A run that only remembers what was done with it."""

    def __init__(self, **options: Any) -> None:
        transport = SimulatedTransport(ProviderModel(ProviderSettings()))
        self.client = Client(model="m", base_url="http://127.0.0.1:1/v1", transport=transport, **options)
        self.progress = Progress(total=10, answered=3, in_flight=2)
        self.ending = Stops()
        self.refreshed = 0
        self.done: list[Any] = []
        self.kept: Any = None

    @property
    def stops(self) -> int:
        return self.ending.count

    @property
    def drains(self) -> bool:
        return self.ending.drains

    def refresh(self) -> None:
        self.refreshed += 1

    def stop(self, *, drain: bool = False, by: str) -> None:
        self.ending.told(drain=drain)
        self.done.append(("stop", drain))

    def steer(self, change: Change, by: str) -> None:
        self.done.append((change, by))

    def skip(self, skip: Skip) -> bool:
        self.done.append(skip)
        return skip.index == 1

    def ask_again(self, *, failed: bool) -> int:
        self.done.append(("again", failed))
        return 3

    def keep_budget(self) -> None:
        self.kept = self.client._engine.stack.purse.standing()

    def note(self, what: str, by: str) -> None:
        self.done.append((what, by))


@pytest.fixture
def run() -> Run:
    return Run(budget=5.0, allow_unknown_price=True)


@pytest.fixture
def steered(run: Run) -> SteeredRun:
    return SteeredRun(run, "a.flatout", lambda: 100.0)


def asked(steered: SteeredRun, do: str, **given: Any) -> dict[str, Any]:
    return steered({"do": do, "by": "ada", **given})


def test_a_status_counts_at_most_once_a_second(run: Run, steered: SteeredRun) -> None:
    """Thousands of questions would cost the run as many walks over everything in flight."""
    for _ in range(100):
        found = asked(steered, "status")
    assert run.refreshed == 1
    assert (found["state"], found["total"], found["finished"], found["in_flight"]) == ("running", 10, 3, 2)
    assert found["budget"]["left"] == 5.0


def test_a_pause_tells_how_many_calls_are_in_flight_now(run: Run, steered: SteeredRun) -> None:
    """Whoever pauses a run would read a number from when the run's counters were last looked at."""
    run.refresh = lambda: setattr(run.progress, "in_flight", 32)  # type: ignore[method-assign]
    assert asked(steered, "pause")["in_flight"] == 32


def test_pause_and_resume_are_done_once(run: Run, steered: SteeredRun) -> None:
    """The run file would fill with pauses that changed nothing."""
    assert asked(steered, "pause")["state"] == "paused"
    asked(steered, "pause")
    assert asked(steered, "status")["state"] == "paused"
    assert asked(steered, "resume")["state"] == "running"
    asked(steered, "resume")
    assert run.done == [(Change(paused=True), "ada"), (Change(paused=False), "ada")]


def test_set_changes_what_is_named(run: Run, steered: SteeredRun) -> None:
    """A user who changes one limit would lose the others, or the money that the run may spend."""
    asked(steered, "set", rpm=6_000, tpm=None, deadline=60, target="x")
    assert asked(steered, "set", budget=8)["budget"] == "$8"
    assert run.done == [
        (Change(limits={"rpm": 6_000, "tpm": None}, deadline=60, target="x"), "ada"),
        ("budget $8", "ada"),
        ("again", False),  # what the old budget held back
    ]
    assert run.client._engine.stack.purse.standing().left == 8.0
    assert run.kept == run.client._engine.stack.purse.standing()


def test_a_stop_after_a_drain_is_a_first_stop(run: Run, steered: SteeredRun) -> None:
    """Calls in flight would be dropped, and paid for twice, by a stop that promises to wait 30 s for them."""
    assert asked(steered, "drain")["state"] == "draining"
    asked(steered, "drain")
    first = asked(steered, "stop")
    assert (first["state"], first["dropped"]) == ("stopping", False)
    assert asked(steered, "status")["state"] == "stopping"
    assert asked(steered, "stop")["dropped"]
    run.done.pop()
    assert [each for each in run.done if each[0] == "stop"] == [("stop", True), ("stop", False)]


def test_a_row_is_skipped_by_its_number_or_its_id(run: Run, steered: SteeredRun) -> None:
    """Another row than the one that was named would be dropped."""
    assert asked(steered, "skip", row=2) == {"under_way": True, "exists": True}
    assert asked(steered, "skip", row="mail-7") == {"under_way": False, "exists": True}
    run.progress.total = None
    assert asked(steered, "skip", row="mail-7") == {"under_way": False, "exists": False}
    run.done.pop()
    assert run.done == [Skip(index=1, by="ada"), Skip(id="mail-7", by="ada")]
    for wrong in (0, -1, True, 1.5, "", None, ["a"], {}):
        with pytest.raises(ConfigError, match="the row is a number, from 1, or an id"):
            asked(steered, "skip", row=wrong)


def test_a_second_stop_says_that_calls_are_dropped(run: Run, steered: SteeredRun) -> None:
    """Whoever stops twice would wait for calls that are gone, and may be billed."""
    assert not asked(steered, "stop")["dropped"]
    assert asked(steered, "stop")["dropped"]


def test_what_is_unknown_is_null_in_a_status(run: Run, steered: SteeredRun) -> None:
    """A program would take a run of unknown cost for one that cost nothing."""
    assert asked(steered, "status")["cost"] == 0.0
    run.progress.unpriced = 2
    assert asked(SteeredRun(run, "a", lambda: 200.0), "status")["cost"] is None


def test_failed_rows_are_asked_again(run: Run, steered: SteeredRun) -> None:
    """Nobody would see in the run file why a row was asked twice."""
    assert asked(steered, "retry-failed") == {"rows": 3}
    assert run.done == [("again", True), ("failed rows are asked again", "ada")]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "nothing to set"),
        ({"rpm": 0}, "rpm is a number above 0"),
        ({"rpm": True}, "rpm is a number above 0"),
        ({"rpm": float("nan")}, "rpm is a number above 0"),
        ({"budget": None}, "budget is a number above 0"),
        ({"deadline": "x"}, "deadline is a number above 0"),
        ({"colour": 1}, "colour cannot be set"),
        ({"rpm": 1, "target": 7}, "the target is a name"),
    ],
)
def test_a_wrong_value_is_refused_in_a_sentence(run: Run, steered: SteeredRun, given: dict[str, Any], why: str) -> None:
    """A slip of the keyboard would stop a run, or change something else."""
    with pytest.raises(ConfigError, match=why):
        asked(steered, "set", **given)
    assert run.done == []


@pytest.mark.parametrize("do", ["explode", None, 7, ["status"], "x" * 10_000])
def test_an_unknown_command_is_refused(steered: SteeredRun, do: Any) -> None:
    """A newer command would fail in a way that nobody understands."""
    with pytest.raises(ConfigError, match="a run can be asked to status, pause"):
        steered({"do": do, "by": "ada"})


def test_a_budget_that_is_not_there_cannot_be_changed() -> None:
    """Calls that were never priced would count as spent."""
    with pytest.raises(ConfigError, match="there is no budget"):
        asked(SteeredRun(Run(), "a.flatout", lambda: 0.0), "set", budget=3)
