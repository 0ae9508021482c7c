"""What holds for all tests."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
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

TESTS = Path(__file__).parent
LONGEST = TESTS / "integration" / "test_site.py"
"""It opens every page of the documentation, and begins first."""

LONG_UNTIL = 0.4
"""The share of the unit tests' files among which all longer files are begun: none of these is then left for the end."""

SELDOM = 50_000, 20, 100
"""When the garbage collector looks. Python's own thresholds take 8 % of the time of simulations."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the tests themselves from the garbage collector: many a test collects, and would pay for thousands."""
    gc.disable()
    done = yield
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*SELDOM)
    return done


@pytest.fixture(scope="module", autouse=True)
def collected() -> Iterator[None]:
    """Collect what the tests of a file have left, and look at what is kept no more: many a test collects itself.

    After some thousand tests each of its collections would take 0.3 s.
    """
    yield
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin files that wait (crash, integration) beside files that compute, so that no processor is idle for long."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    place: dict[Path, float] = {}
    for folders, until in (("crash", "integration"), LONG_UNTIL), (("simulation",), LONG_UNTIL), (("unit",), 1.0):
        these = [path for path in files if path.relative_to(TESTS).parts[0] in folders]
        place |= {path: until * number / len(these) for number, path in enumerate(these)}
    order = sorted(files, key=lambda path: (path != LONGEST, place.get(path, 0.0)))
    items[:] = [item for path in order for item in files[path]]
