"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("flatout", deadline=None)  # no absolute times: a busy machine would fail what is right
settings.load_profile("flatout")
