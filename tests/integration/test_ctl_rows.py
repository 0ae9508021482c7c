"""``flatout ctl``: rows that are skipped and asked again, and a budget that is raised, while several workers ask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flatout.control.asking import ask
from flatout.store import RunReader
from tests.support.command_samples import PATIENCE, end, eventually, provider, start

ROWS, LATER = 400, 390


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.soak), 2])
def test_rows_are_skipped_and_asked_again_and_the_budget_raised(tmp_path: Path, workers: int) -> None:
    """A worker would ask a skipped row, ask an answered row twice, or keep to the old budget."""
    too_long = {n for n in range(ROWS) if n % 40 == 7}
    prompts = [f"row {n} {'word ' * 400 if n in too_long else ''}" for n in range(ROWS)]
    lines = [json.dumps({"id": f"mail-{n}", "prompt": prompt}) + "\n" for n, prompt in enumerate(prompts)]
    (tmp_path / "in.jsonl").write_text("".join(lines))

    def asked(do: str, **given: Any) -> dict[str, Any]:
        return ask(tmp_path / "out.jsonl.flatout", {"do": do, **given})

    with provider(latency=0.05, context_tokens=200) as server:
        name = f"{server.url.removeprefix('http://').removesuffix('/v1')}/any"
        (tmp_path / "flatout.toml").write_text(f'[prices."{name}"]\ninput = 1000.0\noutput = 1000.0\n')
        # So few that the run comes neither to the budget's end nor to the row that is skipped before it is told.
        slowly = ("--rpm", "6000", "--concurrency", "4", "--budget", "8", "--param", "max_tokens=20")
        command = ("run", "in.jsonl", "-o", "out.jsonl", *server.options(), *slowly, "--workers", str(workers))
        process = start(*command, folder=tmp_path)
        try:
            eventually(lambda: server.received > 40)
            asked("pause")
            asked("set", budget=50)
            asked("resume")
            eventually(lambda: server.received > 150)
            again = asked("retry-failed")["rows"]
            asked("skip", row=f"mail-{LATER}")
            asked("set", concurrency=50)
            assert process.wait(PATIENCE) == 1  # some rows failed
        finally:
            end(process)
        stats = server.stats()
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [each["id"] for each in answers] == [f"mail-{n}" for n in range(ROWS)]
    errors = {n: each["error"] for n, each in enumerate(answers) if each["error"]}
    assert "skipped by" in errors.pop(LATER)
    assert set(errors) == too_long
    assert stats["answered"] == ROWS - len(too_long) - 1
    unanswered = stats["received"] - stats["answered"]  # the skipped row may have been on the wire
    assert len(too_long) + 1 <= unanswered <= len(too_long) + again + 1
    with RunReader.open(tmp_path / "out.jsonl.flatout") as reader:
        assert reader.course is not None
        told = [each.what for _, each in reader.course.happenings() if each.kind == "change"]
    rows = ["failed rows are asked again", f"skip row mail-{LATER}"]
    assert told == ["paused", "budget $50", "resumed", *rows, "concurrency 50"]
