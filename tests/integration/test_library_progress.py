"""A script with ``progress=True`` in a real terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from tests.support.command_samples import PATIENCE

SCRIPT = """
import asyncio, flatout, sys
from pathlib import Path
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport

class Seen(SimulatedTransport):
    async def send(self, request):
        while not Path(sys.argv[1]).exists():
            await asyncio.sleep(0.01)
        return await super().send(request)

transport = Seen(ProviderModel(ProviderSettings(latency=0.3)))
results = flatout.run([str(n) for n in range(20)], "m", base_url="http://sim/v1", config={}, transport=transport,
                      limits=flatout.Limits(concurrency=10), progress=True)
print(sum(result.ok for result in results))
"""


def test_a_terminal_shows_the_line_and_keeps_the_last_one(tmp_path: Path) -> None:
    """The progress would go to the program's output, be torn up, or leave the terminal without a cursor."""
    master, slave = pty.openpty()
    line_is_seen = tmp_path / "seen"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(line_is_seen)],
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "24"},
    )
    os.close(slave)
    seen = b""
    try:
        while piece := os.read(master, 65_536):
            seen += piece
            if b"in flight" in seen:
                line_is_seen.touch()
    except OSError:  # how Linux says that the other side has closed
        pass
    output, _ = process.communicate(timeout=PATIENCE)
    os.close(master)
    assert process.returncode == 0
    assert output == b"20\n"
    shown = seen.decode()
    assert "20 (0 %)" in shown
    assert "in flight" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert re.search(r"\x1b\[2K20/20 \(100 %\) · in [^\x1b]*$", shown)
