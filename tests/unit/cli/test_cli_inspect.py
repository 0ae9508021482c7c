from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flatout.cli import main
from flatout.cli.terminal import lay_out
from flatout.look.facts import facts_of
from flatout.look.left import how_to_continue
from flatout.runs.job import BUDGET
from flatout.runs.output.claim import Claim
from flatout.store import Item, RunFile, RunReader
from flatout.values.budget import Standing

COMMAND = "flatout run in.jsonl -o a.jsonl"


@contextmanager
def writing(*items: Item, total: int | None = 10, state: str | None = None, fact: Any = None) -> Iterator[None]:
    """A run file a.jsonl.flatout that is being written while the context is open."""

    async def begin() -> RunFile:
        run = RunFile.open("a.jsonl.flatout", job={}, command=COMMAND)
        run.set_total(total)
        run.set_fact_now(BUDGET, fact)
        for item in items:
            await run.finish(item)
        return run

    run = asyncio.run(begin())
    try:
        yield
    finally:
        if state is not None:
            run.mark(state)  # type: ignore[arg-type]  # as the test says
        run.close_now()


def item(index: int, **changes: Any) -> Item:
    values: dict[str, Any] = {
        "index": index,
        "fingerprint": bytes(16),
        "input": b'{"q":"x"}',
        "state": "answered",
        "answer": "yes",
        "input_tokens": 10,
        "output_tokens": 2,
        "cost": 0.25,
        "finished_at": 1.0,
    }
    return Item(**{**values, **changes})


FAILED = {"state": "failed", "answer": None, "error": "RateLimited", "error_message": "too \x1b[31mfast"}


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["status", "a.jsonl", *arguments]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


def test_status_of_a_run_that_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    """A user could not look how far a run is without disturbing it."""
    with writing(item(0), item(1), item(2, **FAILED)):
        said = told(capsys)
    assert said.startswith("a.jsonl.flatout: running (process ")
    assert "3 of 10 (30 %) finished: 2 answered, 1 failed" in said
    assert "1 × RateLimited" in said
    assert "row 3: too \\x1b[31mfast" in said
    assert "→ state your limits" in said
    assert "30 in, 6 out" in said
    assert "$0.7500" in said
    assert "to continue" not in said


def test_status_says_what_each_target_of_a_route_did(capsys: pytest.CaptureFixture[str]) -> None:
    """A user could not tell which provider answered, and which one was paid."""
    first = json.dumps([{"target": "a/m", "attempts": 1, "cost": 0.25, "output_tokens": 2}])
    second = json.dumps(
        [{"target": "a/m", "left": "RateLimited", "attempts": 2, "cost": 0.0}, {"target": "b/m", "attempts": 1}]
    )
    trails = {0: first, 1: second, 3: second, 4: "{", 5: "[1]"}
    items = [item(index, trail=trail.encode()) for index, trail in trails.items()]
    with writing(*items, item(2), item(6, **FAILED, trail=second.encode())):
        said, facts = told(capsys), json.loads(told(capsys, "--json"))
    told_of = "targets b/m 2 answers (66 %) in 3 attempts, unknown a/m 1 answer (33 %) in 7 attempts, $0.2500 cost"
    assert told_of in " ".join(said.split())
    assert list(facts["targets"]) == ["b/m", "a/m"]
    assert facts["targets"]["a/m"] == {
        "answered": 1,
        "attempts": 7,
        "cost": 0.25,
        "unknown_costs": 0,
        "input_tokens": 0,
        "output_tokens": 2,
    }
    assert facts["targets"]["b/m"]["unknown_costs"] == 3


def test_status_of_a_run_without_a_route_names_no_targets(capsys: pytest.CaptureFixture[str]) -> None:
    """Each run would have a line that says the model's name again."""
    with writing(item(0), total=1):
        assert "targets" not in told(capsys)
        assert json.loads(told(capsys, "--json"))["targets"] == {}


def test_status_of_an_interrupted_run_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    """A user would not know that running the same command again is enough."""
    with writing(item(0), item(1, state="unsent", answer=None, cost=None), state="interrupted"):
        pass
    said = told(capsys)
    assert said.startswith("a.jsonl.flatout: interrupted\n")
    assert f"to continue {COMMAND}\n" in said
    assert "1 held back, to be sent when the run continues" in said


HELD_BACK = {"state": "unsent", "answer": None, "cost": None, "error": "BudgetExceeded", "error_message": "used up"}
USED_UP = {"budget": "$0.01 a day", "left": 0.0, "over": 0.0, "exposed": 0.0, "per": "day", "usd": 0.01}


def test_status_of_a_run_that_its_budget_holds(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever runs the command again as it is told would be stopped by the same budget at once."""
    with writing(item(0), item(1, **HELD_BACK), state="interrupted", fact=USED_UP):
        pass
    how = "with a larger --budget, or when the day ends (UTC)"
    assert f"to continue {how}: {COMMAND}" in " ".join(told(capsys).split())
    with RunReader.open("a.jsonl.flatout") as reader:
        assert how_to_continue(facts_of(reader)) == how


def test_status_of_a_killed_run(capsys: pytest.CaptureFixture[str]) -> None:
    """A run whose process was killed would be shown as running for ever."""
    with writing(item(0), state="running"):
        pass
    assert told(capsys).startswith("a.jsonl.flatout: broken off: its process has gone\n")


def test_status_of_a_finished_run(capsys: pytest.CaptureFixture[str]) -> None:
    """A finished run would ask to be gone on with."""
    with writing(item(0), total=1, state="finished"):
        pass
    said = told(capsys)
    assert said.startswith("a.jsonl.flatout: finished\n")
    assert "1 of 1 (100 %) finished: 1 answered" in said
    assert "to continue" not in said
    assert "RateLimited" not in said


def test_status_says_what_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown price or token count would be shown as 0."""
    unknown = {"cost": None, "input_tokens": None, "output_tokens": None}
    with writing(item(0, **unknown), total=None, state="interrupted"):
        pass
    said = told(capsys)
    assert "tokens      unknown" in said
    assert "cost        unknown" in said
    assert "1 finished" in said


def test_status_says_what_is_known_in_part(capsys: pytest.CaptureFixture[str]) -> None:
    """A sum would be shown as the whole, although a part of it is missing."""
    with writing(item(0), item(1, cost=None, input_tokens=None, output_tokens=None), state="finished"):
        pass
    said = told(capsys)
    assert "10 in, 2 out, and those of 1 row unknown" in said
    assert "at least $0.2500, and 1 row of unknown cost" in said


def test_status_says_how_many_answers_came_from_the_cache_and_how_the_budget_stands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A user would take a cheap run for a small one, and not know what a budget may be exceeded by."""
    cached = item(1, attempts=0, cost=0.0)
    with writing(item(0, attempts=1), cached, fact=Standing("$5", 4.75, 0.02, 1.66)):
        said = told(capsys)
        facts = json.loads(told(capsys, "--json"))
    assert "cached      1 answer\n" in said
    assert "budget      $5; may be exceeded by $0.0200; by $1.66 had all answers in flight been the longest" in said
    over = told(capsys)  # nothing is in flight any more
    assert "may be exceeded" not in over
    assert "budget      $4.75 of $5 left; could have been exceeded by $1.66 had all answers" in over
    assert facts["cached"] == 1
    assert facts["budget"] == {"budget": "$5", "left": 4.75, "over": 0.02, "exposed": 1.66}


def test_status_says_for_how_many_rows_a_budget_lasts(capsys: pytest.CaptureFixture[str]) -> None:
    """A user would learn only at the end of the money that half of the rows are without an answer."""
    spent = [item(number) for number in range(4)]  # $1
    begun = Standing("$1.50", 1.5, 0.02, 0.0, usd=1.5)
    with writing(*spent, fact=begun):
        assert "budget      $0.5000 of $1.50 left; enough for about 2 rows more; may be" in told(capsys)
    with writing(item(5, state="failed", error="BudgetExceeded", cost=0.0), fact=begun):
        assert "budget      $0.5000 of $1.50 left; may be" in told(capsys)  # it has refused one: how many more fit?
    with writing(fact=Standing("$5", 5.0, 0.02, 0.0, usd=5.0)):
        assert "budget      $4.00 of $5 left; may be" in told(capsys)
    with writing(item(4, cost=None), fact=begun):
        assert "budget      $1.50; may be" in told(capsys)


@pytest.mark.parametrize("fact", [None, {"budget": "$5"}, [1], "\x1b[31m"])
def test_a_budget_of_no_sense_is_not_shown(capsys: pytest.CaptureFixture[str], fact: Any) -> None:
    """A run file of somebody else's would break the command, or the terminal."""
    with writing(item(0), fact=fact):
        assert "budget" not in told(capsys)


def test_status_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    """A monitoring script would have to read text for people."""
    with writing(item(0), item(1, **FAILED), state="interrupted"):
        pass
    facts = json.loads(told(capsys, "--json"))
    assert (facts["state"], facts["total"], facts["finished"], facts["left"]) == ("interrupted", 10, 2, 8)
    assert facts["errors"][0]["error"] == "RateLimited"
    assert facts["errors"][0]["row"] == 2
    assert facts["unsettled"] == {"attempts": 0, "cost": None, "unknown_costs": 0}


def test_an_error_class_of_somebody_elses_is_only_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    """A name in a run file would be looked up, and its surprise be a traceback."""
    for name in ("annotations", "FlatoutError", "TYPE_CHECKING", "__builtins__", "nonsense"):
        with writing(item(1, **{**FAILED, "error": name}), state="finished"):
            pass
        assert name in told(capsys)
        Path("a.jsonl.flatout").unlink()


def test_the_run_file_itself_is_taken_too(capsys: pytest.CaptureFixture[str]) -> None:
    """The name that the summary prints would not be accepted."""
    with writing(item(0), state="finished"):
        pass
    assert main(["status", "a.jsonl.flatout"]) == 0
    assert "finished" in capsys.readouterr().out


def test_a_file_that_is_no_run_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """`flatout status answers.csv` would end in an error of SQLite's."""
    Path("x.csv").write_text("a,b\n1,2\n")
    assert main(["status", "x.csv"]) == 2
    assert "x.csv is not a run file" in capsys.readouterr().err


def test_export_writes_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    """A user could not take out the answers of a run that goes on."""
    with writing(item(0), item(1, **FAILED)):
        assert main(["export", "a.jsonl", "-o", "b.csv"]) == 0
        assert capsys.readouterr().err == "flatout: 2 rows written to b.csv\n"
        assert main(["export", "a.jsonl", "-o", "f.jsonl", "--only", "failed"]) == 0
    assert Path("b.csv").read_text().count("\n") == 3
    (failed,) = map(json.loads, Path("f.jsonl").read_text().splitlines())
    assert failed["error"].startswith("RateLimited: too")


def test_export_options_reach_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option would be accepted and do nothing."""
    given: list[Any] = []

    def write(*places: object, **options: object) -> int:
        assert options.pop("warn") is not None
        given.extend((places, options))
        return 0

    monkeypatch.setattr("flatout.runs.output.export.export", write)
    assert (
        main(
            [
                "export",
                "r.flatout",
                "-o",
                "-",
                "--only",
                "answered",
                "--format",
                "csv",
                "--delimiter",
                ";",
                "--neutralise",
            ]
        )
        == 0
    )
    assert given[1].pop("claim") == Claim(run_file="r.flatout", mine=[])
    assert given == [
        (Path("r.flatout"), "-"),
        {"select": "answered", "format": "csv", "delimiter": ";", "neutralise": True, "salvaged": False},
    ]
    assert main(["export", "r.flatout", "-o", "-", "--overwrite"]) == 0
    assert given[-1]["claim"].overwrite


def test_labels_and_texts_never_touch() -> None:
    """A line would read "perhaps paid4 attempts"."""
    said = lay_out([("rows", "4"), ("perhaps paid", "4 attempts"), ("", "and more")])
    assert said == ["  rows        4", "  perhaps paid 4 attempts", "              and more"]


def test_rows_that_cannot_be_read_are_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows would be missing from the output with exit code 0."""

    def write(*_: object, warn: Any, **__: object) -> int:
        warn("1 row could not be read: 4")
        return 499

    monkeypatch.setattr("flatout.runs.output.export.export", write)
    for options, code in (((), 1), (("--salvage",), 0)):
        assert main(["export", "r.flatout", "-o", "out.csv", *options]) == code
        assert "499 rows written to out.csv\nflatout: 1 row could not be read: 4" in capsys.readouterr().err


def test_a_run_without_an_output_is_named_by_its_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A user would have to copy a name with a digest in it from the lines of the run, if they are still there."""
    from flatout.runs.output import place

    for name in ("one.flatout", "two.flatout"):
        with writing(item(0), total=1, state="finished"):
            pass
        Path("a.jsonl.flatout").rename(name)
    monkeypatch.setattr(place, "kept_runs", lambda source: [Path("two.flatout"), Path("one.flatout")])
    Path("in.csv").write_text("q\nx\n")
    assert main(["status", "in.csv"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("two.flatout: finished\n")
    assert said.err == "flatout: the latest of 2 runs of in.csv\n"


def test_a_delimiter_is_for_csv(capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody would wait for semicolons and get tabs."""
    assert main(["export", "r.flatout", "-o", "a.tsv", "--delimiter", ";"]) == 2
    assert "--delimiter is for CSV, and the format is tsv" in capsys.readouterr().err
