"""The list of run files with batches, in the user's state folder."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from flatout.lanes.noted import FOLDER, forget, note, noted


def test_run_files_are_found_from_anywhere(tmp_path: Path) -> None:
    """Batches of another folder would be forgotten, and paid for."""
    state, runs = tmp_path / "state", [tmp_path / "b.flatout", tmp_path / "ä\udcff.flatout"]
    for run in runs:
        run.touch()
        note(state, run)
        note(state, run)
    assert noted(state) == sorted(runs)
    forget(state, runs[0])
    forget(state, runs[0])
    assert noted(state) == runs[1:]


def test_a_run_file_that_is_noted_again_is_never_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at the list, in another terminal, would forget a batch whose run was just being noted."""
    state, run, opens = tmp_path / "state", tmp_path / "run.flatout", io.open
    looks: list[list[Path]] = []

    def opens_and_looks(file: Any, mode: str = "r", *more: Any, **options: Any) -> Any:
        opened = opens(file, mode, *more, **options)
        if mode == "w":
            looks.append(noted(state))
        return opened

    run.touch()
    note(state, run)
    monkeypatch.setattr(io, "open", opens_and_looks)
    note(state, run)
    assert looks == [[run]]
    assert noted(state) == [run]


def test_run_files_that_have_gone_are_dropped(tmp_path: Path) -> None:
    """The list would name files that were deleted years ago."""
    state, run = tmp_path / "state", tmp_path / "run.flatout"
    assert noted(state) == []
    run.touch()
    note(state, run)
    run.unlink()
    (state / FOLDER / "strange").write_text("no path")
    assert noted(state) == []
    assert list((state / FOLDER).iterdir()) == []
