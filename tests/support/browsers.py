"""A real browser without a window, for pages that flatout makes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.command_samples import PATIENCE

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser; the test is skipped if none is installed. Its driver takes this thread's event loop."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser is installed ({', '.join(BROWSERS)})")
    with sync_playwright() as driver:
        sandbox = [] if os.geteuid() else ["--no-sandbox"]  # Chromium's does not work for root
        opened = driver.chromium.launch(executable_path=found, args=sandbox)
        expect.set_options(timeout=PATIENCE * 1_000)
        yield opened
        opened.close()


def blank(browser: Browser, **options: Any) -> Page:
    """A new page. On a busy machine a browser may need a minute for what is usually there at once."""
    page = browser.new_page(**options)
    page.set_default_timeout(PATIENCE * 1_000)
    return page


def complaints(page: Page) -> list[str]:
    """What goes wrong on a page from now on: messages, errors, dialogs."""
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    return wrong
