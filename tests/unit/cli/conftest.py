from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import flatout.cli.execute
import flatout.runs.runner
from tests.support.cli_samples import FakeRunner


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeRunner:
    """A fake runner in the real one's place, in an empty working directory."""
    fake = FakeRunner()
    monkeypatch.setattr(flatout.runs.runner, "Runner", fake)
    monkeypatch.setattr(flatout.cli.execute, "tune_collector", lambda: None)
    monkeypatch.setattr(flatout.cli.execute, "allow_many_files", lambda: None)
    monkeypatch.chdir(tmp_path)
    return fake


@pytest.fixture(autouse=True)
def own_process_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command sets for its process is put back, and the terminal's width is known."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("FLATOUT_DEBUG", raising=False)
    monkeypatch.delenv("FLATOUT_PROGRESS_SECONDS", raising=False)


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Signals act as in a terminal: whoever starts the tests with nohup, or in the background, has some ignored."""
    own = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, action) for number, action in own.items()}
    yield
    for number, action in before.items():
        signal.signal(number, action)
