"""How many files this process may open. Every connection uses one, and some systems allow only 256."""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path

RESERVE = 32
"""Files that are kept free: for the run file with its log and lock, name look-ups, and the program itself."""

NONE_LEFT = frozenset({errno.EMFILE, errno.ENFILE})
"""The system's errors if no more files can be opened: by this process, or by any."""


def free() -> int | None:
    """How many more connections this process may open; None if there is no bound."""
    try:
        import resource
    except ImportError:  # on Windows, sockets are not files
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    return max(1, soft - _open_now() - RESERVE)


def _open_now() -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            return sum(1 for _ in Path(folder).iterdir())
    return 0
