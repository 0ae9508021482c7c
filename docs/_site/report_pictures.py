"""Takes the pictures of ``docs/report.md`` from a real page in a real browser."""

from __future__ import annotations

import os
import shutil
import tempfile
from base64 import b64decode, b64encode
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from flatout.look.report.gather import gather
from flatout.look.report.page import page
from tests.support.report_runs import course, happened, rows, written

DOCS = Path(__file__).parents[1]
SECONDS, ROWS = 500, 9_500

AS_WEBP = """async (png) => {
  const picture = new Image();
  picture.src = png;
  await picture.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width: picture.width, height: picture.height });
  canvas.getContext("2d").drawImage(picture, 0, 0);
  return canvas.toDataURL("image/webp", 0.85).split(",")[1];
}"""


def main() -> None:
    """Write the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        run = written(
            Path(folder) / "answers.jsonl.flatout",
            rows(ROWS),
            stretches=course(SECONDS),
            happenings=happened(SECONDS),
            total=ROWS,
        )
        at = Path(folder) / "answers.jsonl.html"
        at.write_text(page(gather([run])), encoding="utf-8")
        with sync_playwright() as driver:
            browser = driver.chromium.launch(
                executable_path=shutil.which("chromium"), args=[] if os.geteuid() else ["--no-sandbox"]
            )
            take(browser, at.as_uri(), "report.webp", 1_200, 1_250, "light")
            take(browser, at.as_uri(), "report-dark.webp", 400, 1_000, "dark")
            browser.close()


def take(browser: Browser, url: str, name: str, width: int, height: int, scheme: str) -> None:
    """Take one picture of the top of a page."""
    opened = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
    opened.goto(url)
    opened.wait_for_selector("html[data-ready]")
    png = "data:image/png;base64," + b64encode(opened.screenshot()).decode()
    blank = browser.new_page()
    (DOCS / name).write_bytes(b64decode(blank.evaluate(AS_WEBP, png)))


if __name__ == "__main__":
    main()
