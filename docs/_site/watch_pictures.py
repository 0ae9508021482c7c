"""Takes the pictures of ``docs/watch.md`` of a real run while it goes: ``make picture``.

A ``flatout run`` works against a simulated provider that refuses a row now and then, until it has shown what it does.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import tempfile
from contextlib import chdir
from pathlib import Path

from playwright.sync_api import sync_playwright

from flatout.cli.tree_text import lines
from flatout.look.watch.app import Watch
from flatout.testing import Faults
from tests.support.command_samples import provider, questions, start

from .picture import FONT
from .report_pictures import DOCS, take

RUN, ROWS, RPM = "answers.jsonl", 3_000, 1_200
SHOWN_AT = 1_900  # received requests; the first minute's came at once, so this is in the middle of the second minute
CONFIG = """
[endpoints.acme]
base_url = "{url}"
[prices."acme/small"]
input = 0.25
output = 2.0
"""
COMMAND = ("run", "mails.jsonl", "-o", RUN, "-m", "acme/small", "--config", "acme.toml", "--rpm", str(RPM), "--quiet")
SIZE = (98, 33)  # columns and lines

LOADED_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)  # from another machine


def main() -> None:
    """Write both pictures."""
    faults = Faults(invalid=0.003)
    with tempfile.TemporaryDirectory() as folder, provider(rpm=RPM, latency=1.2, faults=faults) as server:
        questions(Path(folder), ROWS, "mails.jsonl")
        Path(folder, "acme.toml").write_text(CONFIG.format(url=server.url))
        run = start(*COMMAND, folder=Path(folder))
        try:
            server.wait_for(SHOWN_AT, 600.0)
            with chdir(folder):
                (DOCS / "watch.svg").write_text(asyncio.run(terminal()), encoding="utf-8")
            browser(Path(folder))
        finally:
            run.kill()
            run.communicate()


async def terminal() -> str:
    """The first screen of ``flatout watch``."""
    app = Watch(lambda: Path(f"{RUN}.flatout"), RUN, lines)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("w")  # the last minute
        await pilot.pause(6.0)
        drawn = LOADED_FONT.sub("", app.export_screenshot(title=f"flatout watch {RUN}"))
    return re.sub(r"font-family: Fira Code[^;]*;", f"font-family: {FONT};", drawn)


def browser(folder: Path) -> None:
    """The live page."""
    watch = start("watch", RUN, "--web", "--no-open", folder=folder)
    assert watch.stderr is not None
    try:
        url = re.search(rb"http://\S+", watch.stderr.readline())
        assert url is not None
        with sync_playwright() as driver:
            chromium = driver.chromium.launch(
                executable_path=shutil.which("chromium"), args=[] if os.geteuid() else ["--no-sandbox"]
            )
            take(chromium, url[0].decode(), "watch-web.webp", 1_200, 1_500, "light")
            chromium.close()
    finally:
        watch.send_signal(signal.SIGINT)
        watch.communicate(timeout=30)


if __name__ == "__main__":
    main()
