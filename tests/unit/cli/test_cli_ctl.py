"""The command line of ``flatout ctl``."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from flatout import ConfigError
from flatout.cli.ctl import _said, _wanted, ctl
from flatout.control.asking import NotUnderWay
from flatout.runs.job import REACH, Reach
from flatout.store import Item, RunFile


def test_values_are_written_as_for_run() -> None:
    """A value that ``flatout run`` takes would be refused here, or mean something else."""
    values = ["rpm=10k", "tpm=2M", "concurrency=64", "rpd=none", "budget=$5", "deadline=2h"]
    assert _wanted(values, "x") == {
        "target": "x",
        "rpm": 10_000.0,
        "tpm": 2_000_000.0,
        "concurrency": 64,
        "rpd": None,
        "budget": 5.0,
        "deadline": 7_200.0,
    }


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([], "takes names with values"),
        (["rpm"], "takes names with values, such as rpm=6000, not 'rpm'"),
        (["rpm=fast"], "rpm is a number above 0"),
        (["budget=5/day"], "budget is an amount"),
        (["deadline=soon"], "deadline is a time"),
        (["colour=red"], "colour cannot be set"),
    ],
)
def test_wrong_values_are_refused_before_anything_is_asked(values: list[str], why: str) -> None:
    """Half of a change would be made."""
    with pytest.raises(ConfigError, match=why):
        _wanted(values, None)


def test_wrong_commands_are_refused() -> None:
    """A mistyped command would wait for a run that does not know it."""
    with pytest.raises(ConfigError, match="knows status, pause"):
        ctl("x", "paus")
    with pytest.raises(ConfigError, match="pause takes no values"):
        ctl("x", "pause", ["rpm=3"])
    with pytest.raises(ConfigError, match="--target is for set"):
        ctl("x", "skip", ["3"], "openai/gpt-5-mini")
    with pytest.raises(ConfigError, match="skip takes one row"):
        ctl("x", "skip", ["3", "4"])


def test_each_command_says_what_was_done_and_what_comes() -> None:
    """A user would not know whether calls go on, or how to undo a change."""
    assert _said("pause", "a.jsonl", {"state": "paused", "in_flight": 3}) == (
        "paused; 3 calls in flight may finish, deadlines go on. To go on: flatout ctl a.jsonl resume"
    )
    assert _said("resume", "a", {"state": "running"}) == "resumed"
    assert _said("resume", "a", {"state": "draining"}) == "the run is draining"
    assert _said("drain", "a", {"state": "draining", "in_flight": 1}).startswith(
        "draining: 1 call in flight may finish,"
    )
    assert _said("skip", "a", {"row": 17, "under_way": True}) == (
        "row 17 is skipped: it was under way, and is dropped. To ask it after all: flatout ctl a retry-failed"
    )
    assert _said("skip", "a", {"row": "x", "under_way": False, "exists": False}) == (
        "row x will be skipped if it comes: nobody knows all rows yet, which come through a pipe"
    )
    assert _said("stop", "a", {"state": "stopping", "in_flight": 3, "dropped": True}) == (
        "stopping: 3 calls in flight dropped, perhaps paid for; give the run's command again to continue it"
    )
    limits = {"x": {"rpm": 6_000.0}}
    assert _said("set", "a", {"limits": limits, "budget": "$2", "deadline": 7_200.0}) == (
        "set; in force now: budget $2; deadline 2 h 00 min a call; x: rpm 6,000"
    )
    assert _said("retry-failed", "a", {"rows": 1}).startswith("asking again now: 1 row that failed so far")
    assert _said("set", "a", {"limits": {"x": {"rpm": 6_000.0}, "y": {}}}) == (
        "set; in force now: x: rpm 6,000; y: no known limit"
    )


def test_who_is_not_reached_reads_one_true_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever wants to slow a run down would have to guess whether it begins, ends, or cannot be steered at all."""
    for name in ("PATIENCE", "MOMENT"):
        monkeypatch.setattr(f"flatout.cli.ctl.{name}", 0.0)
    run_file = tmp_path / "a.jsonl.flatout"
    with pytest.raises(ConfigError, match=r"there is no run of .*flatout yet"):
        ctl(str(run_file), "pause")

    def refused() -> str:
        with pytest.raises(ConfigError) as error:
            ctl(str(run_file), "pause")
        return str(error.value)

    async def main() -> None:
        async with RunFile.open(run_file, job={"model": "m"}, command="flatout run a.jsonl -o b.jsonl") as store:
            assert refused().endswith(") is starting: it reads its input")
            for how, why in (("over", "writes its output"), ("unheard", "no socket"), ("plan", "flatout plan")):
                await asyncio.to_thread(store.set_fact_now, REACH, Reach(os.getpid(), how))  # type: ignore[arg-type]
                assert why in refused()
            await asyncio.to_thread(store.set_fact_now, REACH, Reach(0, "over"))  # what an earlier process said
            assert "is starting" in refused()

    asyncio.run(main())
    assert "no run of" in refused()


def test_a_run_that_is_about_to_go_on_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever continues a run and lowers its limit at once would read that there is nothing to steer."""
    run_file = tmp_path / "a.jsonl.flatout"

    async def write() -> None:
        async with RunFile.open(run_file, job={"model": "m"}, command="flatout run a.jsonl -o b.jsonl"):
            pass

    asyncio.run(write())
    tries = iter([NotUnderWay("not yet"), {"state": "running"}])

    def asked(*_: object) -> dict[str, str]:
        if isinstance(answer := next(tries), NotUnderWay):
            raise answer
        return answer

    monkeypatch.setattr("flatout.control.asking.ask", asked)
    monkeypatch.setattr("flatout.cli.ctl._PAUSE", 0.0)
    assert ctl(str(run_file), "status") == 0


def test_a_run_that_is_over_says_what_to_do_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes too late would not know how to ask the failed rows again, or which row has its answer."""
    monkeypatch.setattr("flatout.cli.ctl.MOMENT", 0.0)
    run_file = tmp_path / "a.jsonl.flatout"

    async def write() -> None:
        async with RunFile.open(run_file, job={"model": "m"}, command="flatout run a.jsonl -o b.jsonl") as store:
            store.set_total(2)
            await store.finish(Item(index=0, id="x", fingerprint=b"f" * 16, state="answered", finished_at=1.0))

    asyncio.run(write())
    with pytest.raises(ConfigError, match=r"again: flatout run a\.jsonl -o b\.jsonl --retry-failed"):
        ctl(str(run_file), "retry-failed")
    with pytest.raises(ConfigError, match=r"to continue it with other options, add them to: flatout run a\.jsonl"):
        ctl(str(run_file), "set", ["budget=3"])
    for name in ("1", "x"):
        with pytest.raises(ConfigError, match=f"row {name} has its result already: it is answered"):
            ctl(str(run_file), "skip", [name])
    with pytest.raises(ConfigError, match="nothing to steer"):
        ctl(str(run_file), "skip", ["2"])
