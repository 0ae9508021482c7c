from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from flatout import Client
from flatout.runs.job import RunOptions
from flatout.runs.runner import Runner

TABLES = {"mine": {"base_url": "http://10.0.0.1:8000/v1"}, "openai": {"base_url": "http://10.0.0.2/v1"}}


def destinations(folder: Path, given: str | None = None, **options: Any) -> list[str]:
    folder = Path(tempfile.mkdtemp(dir=folder))
    (folder / "in.jsonl").write_text('{"prompt": "a"}\n')
    job = RunOptions(source=str(folder / "in.jsonl"), output=str(folder / "out.jsonl"), **options)
    runner = Runner(job, lambda: Client(given, config={"endpoints": TABLES}))
    runner.prepare()
    return runner.job.destinations()


def test_a_run_says_which_hosts_it_sends_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user would read ``openai/…`` on the first line, and not that flatout.toml has it go elsewhere."""
    monkeypatch.setenv("GROQ_API_KEY", "k")
    assert destinations(tmp_path, model="groq/a") == ["groq/a"]
    assert destinations(tmp_path, model="openai/a") == ["openai/a at 10.0.0.2"]
    assert destinations(tmp_path, given="mine/a") == ["mine/a at 10.0.0.1:8000"]
    several = ["mine/a", "groq/b", "mine/c"]
    assert destinations(tmp_path, models=several) == ["mine/a and mine/c at 10.0.0.1:8000", "groq/b"]
