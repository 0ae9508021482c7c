"""What holds for all tests."""

from __future__ import annotations

import gc

from hypothesis import settings

# No deadline: a busy machine would fail what is right.
settings.register_profile("flatout", deadline=None, max_examples=50)
settings.register_profile("soak", deadline=None, max_examples=1_000)
settings.load_profile("flatout")


def pytest_collection_finish() -> None:
    """Keep the tests themselves from the garbage collector: many a test collects, and would pay for thousands."""
    gc.collect()
    gc.freeze()
