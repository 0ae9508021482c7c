"""Notes which run files have batches at providers, so that they are found from any folder.

Each is a small file of its own in the user's state folder, so several processes never meet in one.
"""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

FOLDER = "batches"
"""The folder's name in the folder of the user's decisions."""


def note(folder: Path, run_file: Path) -> None:
    """Note a run file.

    Raises:
        OSError: it cannot be written. Nothing but the list is incomplete.
    """
    place = _place(folder, run_file)
    place.parent.mkdir(parents=True, exist_ok=True)
    whole = folder / f"{place.name}.{os.getpid()}"  # whoever reads the list meanwhile forgets what names no file
    whole.write_text(str(run_file.absolute()), encoding="utf-8", errors="surrogateescape")
    whole.replace(place)


def forget(folder: Path, run_file: Path) -> None:
    """Forget a run file. Harmless if it is not noted."""
    with suppress(OSError):
        _place(folder, run_file).unlink()


def noted(folder: Path) -> list[Path]:
    """The run files that are noted and still there. Others are forgotten."""
    found = []
    with suppress(OSError):
        for place in sorted((folder / FOLDER).iterdir()):
            with suppress(OSError):
                run_file = Path(place.read_text(encoding="utf-8", errors="surrogateescape"))
                if run_file.is_absolute() and run_file.is_file():
                    found.append(run_file)
                else:
                    place.unlink()
    return sorted(found)


def _place(folder: Path, run_file: Path) -> Path:
    name = blake2b(str(run_file.absolute()).encode(errors="surrogateescape"), digest_size=16).hexdigest()
    return folder / FOLDER / name
