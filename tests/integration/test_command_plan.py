"""``flatout plan`` and the run after it, in their own processes, with a provider over HTTP."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.support.command_samples import (
    PLENTY,
    Done,
    Provider,
    check_answers,
    end,
    provider,
    questions,
    start,
    wait_until_said,
)
from tests.support.quick_commands import flatout

JOB = ("in.jsonl", "-o", "out.jsonl")


def priced(folder: Path, server: Provider, input_: float = 1.0, output: float = 4.0) -> None:
    """Give the simulated models a price."""
    host = server.url.split("/")[2]
    (folder / "flatout.toml").write_text(
        "".join(f'[prices."{host}/{name}"]\ninput = {input_}\noutput = {output}\n' for name in ("any", "other"))
    )


def plan(folder: Path, server: Provider, *options: str, code: int = 0) -> Done:
    done = flatout("plan", *JOB, *server.options(), *PLENTY, *options, folder=folder)
    assert done.code == code, done.err
    return done


def budget_left(folder: Path) -> float:
    left: float = json.loads(flatout("status", "out.jsonl", "--json", folder=folder).out)["budget"]["left"]
    return left


def test_the_run_after_a_plan_sends_only_what_the_plan_left(tmp_path: Path) -> None:
    """The sample would be paid for twice, or the answers of the plan be missing from the output."""
    questions(tmp_path, 300)
    with provider() as server:
        priced(tmp_path, server)
        told = plan(tmp_path, server).out
        assert server.received == 50
        assert "250 calls left of 300: $" in told
        assert "50 calls asked and kept" in told
        assert "Assumed" in told
        again = json.loads(plan(tmp_path, server, "--json").out)
        assert server.received == 50
        assert (again["asked"], again["left"], again["spent"]) == (50, 250, 0.0)
        status = flatout("status", "out.jsonl", "--json", folder=tmp_path)
        assert json.loads(status.out)["answered"] == 50
        done = flatout("run", *JOB, *server.options(), *PLENTY, "--budget", "1000", folder=tmp_path)
        assert done.code == 0, done.err
        assert "50 finished before" in done.err
        assert server.received == 300
        check_answers(tmp_path / "out.jsonl", 300)
        left = budget_left(tmp_path)
        assert left < 1_000.0
        nothing = plan(tmp_path, server, "--budget", "1000")
        assert "nothing is left to ask" in nothing.err
        assert server.received == 300
        assert budget_left(tmp_path) == pytest.approx(left)


def test_a_dry_run_sends_nothing_and_leaves_no_file(tmp_path: Path) -> None:
    """A look at the price would cost money, or leave a run file that the run then stumbles over."""
    questions(tmp_path, 100)
    with provider() as server:
        priced(tmp_path, server)
        told = plan(tmp_path, server, "--dry-run").out
        assert server.received == 0
        assert "100 calls left of 100: $" in told
        assert "nothing was asked" in told
        assert sorted(each.name for each in tmp_path.iterdir()) == ["flatout.toml", "in.jsonl"]


def test_a_plan_goes_on_with_the_run_if_it_is_told_to(tmp_path: Path) -> None:
    """A script could not plan and run in one command, or a dear run would begin unasked."""
    questions(tmp_path, 120)
    with provider() as server:
        priced(tmp_path, server, 1_000.0, 1_000.0)
        stopped = plan(tmp_path, server, "--confirm-above", "0.5", "--sample-budget", "100", code=1)
        assert server.received == 50
        assert "nobody is here to confirm that" in stopped.err
        assert "out.jsonl.flatout keeps the 50 answers so far" in stopped.err
        went_on = plan(tmp_path, server, "--yes")
        assert server.received == 120
        assert "70 calls left of 120" in went_on.out
        check_answers(tmp_path / "out.jsonl", 120)
        command = flatout("status", "out.jsonl", folder=tmp_path)
        assert command.code == 0


def test_several_models_stand_side_by_side(tmp_path: Path) -> None:
    """Nobody could choose between models by what they cost."""
    questions(tmp_path, 60)
    with provider() as server:
        priced(tmp_path, server)
        told = json.loads(plan(tmp_path, server, "-m", "other", "--sample", "10%", "--json").out)
        assert server.received == 12
        assert [model["left"] for model in told["models"]] == [54, 54]
        assert told["calls"] == 120


def test_a_plan_that_was_interrupted_stops(tmp_path: Path) -> None:
    """After Ctrl-C the sample would go on, or a traceback follow."""
    questions(tmp_path, 200)
    often = {"FLATOUT_PROGRESS_SECONDS": "0.1"}
    with provider(latency=3_600.0) as server:
        priced(tmp_path, server)
        process = start("plan", *JOB, *server.options(), *PLENTY, folder=tmp_path, env=often)
        server.wait_for(8)
        process.send_signal(signal.SIGINT)
        wait_until_said(process, "Ctrl-C again drops them")
        process.send_signal(signal.SIGINT)
        assert end(process).code == 130


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--sample", "0"), "a sample has at least one call"),
        (("--sample", "some"), "a number of calls or a share of them"),
        (("--dry-run", "--yes"), "--dry-run asks nothing"),
        (("--prompt", "{{ nothing }}"), "nothing"),
    ],
    ids=str,
)
def test_a_plan_that_makes_no_sense_is_a_sentence(tmp_path: Path, options: tuple[str, ...], why: str) -> None:
    """A slip would end in a traceback, or be paid for."""
    questions(tmp_path, 20)
    with provider() as server:
        priced(tmp_path, server)
        done = plan(tmp_path, server, *options, code=2)
        assert why in done.err
        assert "Traceback" not in done.err
        assert server.received == 0


def test_what_cannot_be_planned_is_a_sentence(tmp_path: Path) -> None:
    """Standard input would be eaten by the plan, and a sample be asked at an unknown price."""
    questions(tmp_path, 20)
    with provider() as server:
        stdin = flatout("plan", "-", *server.options(), folder=tmp_path)
        assert (stdin.code, "standard input" in stdin.err) == (2, True)
        unpriced = plan(tmp_path, server, code=2)
        assert "is not known" in unpriced.err
        assert "--allow-unknown-price" in unpriced.err
        (tmp_path / "in.jsonl").write_text("")
        empty = plan(tmp_path, server, code=2)
        assert "no rows" in empty.err
        assert server.received == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_run_that_leaves_its_forecast_says_so_once(tmp_path: Path, workers: str) -> None:
    """A bill of many times the forecast would come as a surprise."""
    questions(tmp_path, 400)
    words = ["short"]

    def answer(_: object) -> str:
        return " ".join(words)

    with provider(script=answer) as server:
        priced(tmp_path, server)
        plan(tmp_path, server)
        words[:] = ["long"] * 400
        done = flatout("run", *JOB, *server.options(), *PLENTY, "--workers", workers, folder=tmp_path)
        assert done.code == 0, done.err
        assert done.err.count("the rows that the plan left will cost about $") == 1
