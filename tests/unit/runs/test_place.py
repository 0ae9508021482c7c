"""Where a run is kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flatout.errors import ConfigError
from flatout.runs.place import run_file_of

JOB = {"prompt": "Say {{ text }}", "model": "openai/gpt-5-mini"}


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def test_a_run_with_an_output_is_kept_beside_it() -> None:
    """Nobody would find it, or `flatout status OUTPUT` not know it."""
    assert run_file_of("in.csv", "out.csv", None, JOB) == Path("out.csv.flatout")
    assert run_file_of("in.csv", "out.csv", "here", JOB) == Path("here")
    assert run_file_of("-", None, None, JOB) == Path("stdin.flatout")
    place = run_file_of("in.csv", None, None, JOB)
    assert run_file_of("in.csv", "/dev/null", None, JOB) == place  # no file may be made beside that


def test_without_an_output_the_same_job_has_the_same_place_and_another_has_not(cache: Path) -> None:
    """The same command would pay again, or another prompt be refused as a change of this one."""
    place = run_file_of("in.csv", None, None, JOB)
    assert place.parent == cache / "flatout" / "runs"
    assert place.parent.is_dir()
    assert place.name.startswith("in.csv-")
    assert run_file_of(str(Path("in.csv").absolute()), "-", None, dict(reversed(JOB.items()))) == place
    others = [run_file_of("in.csv", None, None, {**JOB, "prompt": "Sing"}), run_file_of("other.csv", None, None, JOB)]
    assert len({place, *others}) == 3


def test_a_long_name_is_no_reason_to_fail(cache: Path) -> None:
    """The name of a file in the cache folder would be longer than file systems allow."""
    for name in ("x" * 250, "名" * 80, "\N{GRINNING FACE}" * 60):
        assert len(os.fsencode(run_file_of(name, None, None, JOB).name)) < 100


def test_a_cache_folder_that_cannot_be_made_is_told(cache: Path) -> None:
    """A Python error would be all that a user on a read-only home gets."""
    cache.write_text("")
    with pytest.raises(ConfigError, match="--run-file"):
        run_file_of("in.csv", None, None, JOB)
