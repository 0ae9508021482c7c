"""A process that belongs to a run: its garbage collector, and its limit on open files."""

from __future__ import annotations

import gc
import resource
from contextlib import suppress

_MOST_FILES = 65_536  # more connections than one address has ports for


def tune_collector() -> None:
    """Keep the garbage collector from scanning every call in flight again and again.

    With 5,000 calls in flight, Python's default settings cost more than the calls themselves (480 against 200 µs a
    call). The command owns its process, so it may change them; the library never does that to its host.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def allow_many_files() -> None:
    """Raise the limit on open files.

    Every connection is one, and the usual soft limit of 1,024 is meant for programs that use select.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
