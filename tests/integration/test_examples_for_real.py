"""The examples that need a real server: a stranger's first five minutes, and a test of one's own over HTTP."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from tests.support.command_samples import PATIENCE

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_the_first_five_minutes_work(tmp_path):
    """Somebody who tries flatout as the quickstart says would be stopped by an error, and not come back."""
    start, steps = next(pair for pair in _pairs(blocks("quickstart.md", "console")) if "flatout simulate" in pair[0])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    provider = subprocess.Popen(
        start.removeprefix("$ ").replace("8100", "0").split(), env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        port = re.search(r"127\.0\.0\.1:(\d+)", provider.stderr.readline())[1]
        script = "\n".join(line.removeprefix("$ ") for line in steps.replace("8100", port).splitlines())
        done = subprocess.run(
            ["bash", "-ec", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE
        )
    finally:
        provider.terminate()
        provider.communicate()
    assert done.returncode == 0, done.stderr
    assert "3 answered" in done.stderr
    assert "OLTP or OLAP?" in done.stdout  # what the trace of row 2 shows


def test_a_test_over_http_works():
    """Somebody who writes a test against a real server, as the page says, would get no answer."""
    names: dict[str, object] = {}
    for source in blocks("testing.md", "python"):
        exec(source, names)
    assert asyncio.run(names["over_http"]()).startswith("digest:")


def _pairs(given: list[str]) -> list[tuple[str, str]]:
    return list(pairwise(given))
