"""Where a run is kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flatout.errors import ConfigError
from flatout.runs.output.claim import SOURCE, where
from flatout.runs.output.place import KEPT, kept_runs, prune, run_file_of
from flatout.store import RunFile

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
    assert run_file_of("-", "out.csv", None, JOB) == Path("out.csv.flatout")
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


def test_a_file_elsewhere_has_a_place_that_tells_no_secret() -> None:
    """Whoever lists the folder could read the input; or two files that differ in a query be taken for one."""
    one, two = (run_file_of(f"https://me:hidden@host/a.csv?id={n}&sig=hidden", None, None, JOB) for n in (1, 2))
    assert one != two
    assert one.name.startswith("a.csv-")
    assert "hidden" not in str(one)


def test_a_long_name_is_no_reason_to_fail(cache: Path) -> None:
    """The name of a file in the cache folder would be longer than file systems allow."""
    for name in ("x" * 250, "名" * 80, "\N{GRINNING FACE}" * 60):
        assert len(os.fsencode(run_file_of(name, None, None, JOB).name)) < 100


def test_a_cache_folder_that_cannot_be_made_is_told(cache: Path) -> None:
    """A Python error would be all that a user on a read-only home gets."""
    cache.write_text("")
    with pytest.raises(ConfigError, match="--run-file"):
        run_file_of("in.csv", None, None, JOB)


def kept(source: str, job: dict[str, str] = JOB, at: float = 0.0) -> Path:
    """A run in the cache folder that was written at a time."""
    place = run_file_of(source, None, None, job)
    store = RunFile.open(place, job=job)
    store.set_fact(SOURCE, where(source))
    store.close_now()
    os.utime(place, (at, at))
    return place


def test_each_pipe_is_a_run_of_its_own() -> None:
    """Yesterday's standard input would be gone on with, or refused as another job's."""
    first, second = (run_file_of("-", None, None, JOB) for _ in range(2))
    assert first != second
    assert first.parent == run_file_of("in.csv", None, None, JOB).parent


def test_a_run_without_an_output_is_found_by_its_input(tmp_path: Path) -> None:
    """``flatout status small.csv`` would know nothing of the run that was given for small.csv, nor of a pipe's."""
    assert kept_runs("in.csv") == kept_runs("-") == []
    old, new = kept("in.csv", at=1.0), kept("in.csv", {**JOB, "prompt": "Sing"}, at=2.0)
    piped = kept("-", at=3.0)
    kept("in.csv-more", at=4.0)
    (tmp_path / "other").mkdir()
    kept("other/in.csv", at=5.0)
    assert kept_runs("in.csv") == kept_runs(str(tmp_path / "in.csv")) == [new, old]
    assert kept_runs("-") == [piped]


def test_runs_in_the_cache_folder_are_kept_for_a_month() -> None:
    """Prompts and answers would pile up there for ever; or a run that goes on would lose its file."""
    old, new, written = kept("a.csv", at=1.0), kept("b.csv", at=2.0), kept("-", at=1.0)
    moved = old.with_name(f"{old.name}.1")
    moved.write_bytes(old.read_bytes())
    os.utime(moved, (1.0, 1.0))
    mine = old.with_name("mine.flatout")
    mine.write_text("")
    os.utime(mine, (1.0, 1.0))
    store = RunFile.open(written, job=JOB)
    os.utime(written, (1.0, 1.0))
    os.utime(f"{written}-wal", (1.0, 1.0))
    prune(KEPT + 1.5)
    store.close_now()
    assert [path.exists() for path in (old, moved, new, written, mine)] == [False, False, True, True, True]
