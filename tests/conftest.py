"""What holds for all tests."""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path

from hypothesis import settings

MEMORY = Path("/dev/shm")
ROOM = 2 << 30
"""Bytes that must be free there. A run of all tests takes far less, and a small container has 64 MB."""

if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ROOM:
    # The tests commit many thousand times, and a commit waits for the disk. A kill -9 leaves the same files in memory.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

# No deadline: a busy machine would fail what is right. And the same examples each time: what fails is then the change's
# fault, on every machine, and not what chance has found there; `make soak` looks for that.
settings.register_profile("flatout", deadline=None, max_examples=50, derandomize=True)
settings.register_profile("soak", deadline=None, max_examples=1_000)
settings.load_profile("flatout")


def pytest_collection_finish() -> None:
    """Keep the tests themselves from the garbage collector: many a test collects, and would pay for thousands."""
    gc.collect()
    gc.freeze()
