"""Programs whose client was made with ``control=PATH``: the names that steer them, and the run files that they write.

A name and a run file belong together if one process has both. They are looked for in the same folder.
"""

from __future__ import annotations

from pathlib import Path

from flatout.errors import ConfigError, FlatoutError

PATIENCE = 1.0
"""Seconds to wait for a program."""


def is_steered(name: Path) -> bool:
    """Whether there is a socket of a name: that of a run file, or one that a program has given."""
    from flatout.control.place import places

    return any(place.is_socket() for place in places(name))


def name_of(run_file: Path, process: int) -> Path | None:
    """The name that steers the process which writes a run file; None if none is found."""
    from flatout.control.place import SUFFIX

    names = [place.with_name(place.name.removesuffix(SUFFIX)) for place in sorted(run_file.parent.glob(f"*{SUFFIX}"))]
    return next((name for name in names if _process(name) == process), None)


def refuse(name: str) -> None:
    """Refuse a name that steers a program where a run file is meant.

    Raises:
        ConfigError: it is one.
    """
    from flatout.runs.output.place import SUFFIX
    from flatout.store.database import Place
    from flatout.store.lock import holder

    steered = Path(name.removesuffix(".ctl"))
    process = _process(steered)
    if process is None:
        return
    files = [
        str(each)
        for each in sorted(steered.parent.glob(f"*{SUFFIX}"))
        if (found := holder(Place.of(each))) is not None and found.pid == process
    ]
    which = f"its run file is {' and '.join(files)}" if files else "its run file is the program's store="
    raise ConfigError(f"{steered} steers a program, as in: flatout ctl {steered} status; {which}")


def _process(name: Path) -> int | None:
    from flatout.control.asking import ask

    if not is_steered(name):
        return None
    try:
        process = ask(name, {"do": "status"}, PATIENCE).get("process")
    except FlatoutError:
        return None
    return process if isinstance(process, int) else None
