"""How many files this process may open. Every connection is one, and systems allow as few as 256."""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path

RESERVE = 32
"""Files that are left for others: the run file with its log and lock, name look-ups, and the program's own."""

NONE_LEFT = frozenset({errno.EMFILE, errno.ENFILE})
"""What the system says when no file can be opened: in this process, or at all."""


def free() -> int | None:
    """How many connections this process may open beside what is open now; None where there is no bound."""
    try:
        import resource
    except ImportError:  # Windows, where sockets are no files
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
