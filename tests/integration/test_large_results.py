"""A large file of results is read as a stream, whatever its size."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MOST = 100.0
"""MB that a process may grow. It commits results in groups of 16 MB, which several parts of it hold at once."""


@pytest.mark.parametrize("megabytes", [60, pytest.param(500, marks=pytest.mark.soak)])
def test_results_of_any_size_need_little_memory(megabytes: int) -> None:
    """A batch of 50,000 long answers could not be collected on a small machine, and would be paid for in vain."""
    command = [sys.executable, "-m", "tests.support.large_results", str(megabytes * 10), "100000"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=300, check=True)
    assert float(done.stdout.split()[-1]) < MOST
