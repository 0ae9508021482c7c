"""The documentation as its readers meet it: built strictly, whole, and opened in a real browser."""

from __future__ import annotations

import functools
import http.server
import importlib
import subprocess
import sys
import threading
import zlib
from html import unescape
from pathlib import Path

import pytest

from flatout.cli.app import command
from tests.support.browsers import blank, launched
from tests.support.command_samples import eventually

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build" / "site"
PUBLIC = ("flatout", "flatout.agents", "flatout.events", "flatout.progress", "flatout.telemetry", "flatout.testing")
WIDTHS = (400, 1_400)
DRAWN_TWICE = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.fixture(scope="module")
def said() -> str:
    """What building the site says."""
    build = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def url(said):
    """Where the site is served, on this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(SITE)))
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{serving.server_port}/"
    serving.shutdown()
    thread.join()
    serving.server_close()


@pytest.fixture(scope="module")
def browser():
    """A real browser without a window."""
    with launched() as opened:
        yield opened


@pytest.fixture
def trouble(browser, url):
    """A page, and a list of what goes wrong on it: errors in the console, and whatever it fetches from elsewhere."""
    page, wrong = blank(browser), []
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith((url, "data:", "blob:")) else wrong.append(asked.url))
    page.on("response", lambda answer: wrong.append(answer.url) if answer.status >= 400 else None)
    yield page, wrong
    page.close()


def pages() -> list[str]:
    return sorted(str(page.parent.relative_to(SITE)) for page in SITE.rglob("index.html"))


def inventory() -> set[str]:
    """Every name that the reference has, from the file by which other projects' documentation finds it."""
    head, _, packed = (SITE / "objects.inv").read_bytes().partition(b"zlib.\n")
    assert head
    return {line.split()[0] for line in zlib.decompress(packed).decode().splitlines()}


def options() -> set[str]:
    """Every option of every command."""

    def of(each: object) -> set[str]:
        below = getattr(each, "commands", {})
        return {name for one in each.params for name in one.opts if name.startswith("-")}.union(
            *(of(one) for one in below.values())
        )

    return set().union(*(of(each) for each in command().commands.values()))


def test_every_docstring_is_understood(said):
    """A parameter would be documented under a name that does not exist, or not at all."""
    assert [line for line in said.splitlines() if "griffe" in line] == []


def test_every_public_name_is_in_the_reference(said):
    """Somebody would find a name in an example, and nowhere what it does."""
    events = importlib.import_module("flatout.events")
    own = [name for name, each in vars(events).items() if getattr(each, "__module__", "") == events.__name__]
    names = {
        f"{module}.{name}"
        for module in PUBLIC
        for name in getattr(importlib.import_module(module), "__all__", own)
        if not name.startswith("_")
    }
    assert names
    assert names - inventory() == set()


def test_every_option_is_documented(said):
    """Somebody would have to guess what an option does."""
    page = unescape((SITE / "reference" / "command" / "index.html").read_text(encoding="utf-8"))
    assert [option for option in options() if f"<code>{option}</code>" not in page] == []


def test_every_page_can_be_read(trouble, url):
    """A reader on a telephone would have to scroll sideways, or a page would fetch something from elsewhere."""
    page, wrong = trouble
    widths, wide = list(WIDTHS), []
    for name in pages():
        page.goto(f"{url}{name}/")
        for width in widths:
            page.set_viewport_size({"width": width, "height": 900})
            if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
                wide.append((name, width))
        widths.reverse()  # the next page opens as wide as this one is now
    assert (wide, wrong) == ([], [])


@pytest.mark.parametrize(("words", "leads_to"), [("BudgetExceeded", "reference/errors/"), ("outage", "retries/")])
def test_the_search_finds(trouble, url, words, leads_to):
    """A reader would type into a search box that does nothing."""
    page, wrong = trouble
    page.set_viewport_size({"width": 1_400, "height": 900})
    page.goto(url, wait_until="networkidle")
    search = page.get_by_role("combobox")

    def opens() -> bool:
        """The search begins to listen a little after the page is there; from then on the same keys close it again."""
        page.keyboard.press("Control+k")
        page.evaluate(DRAWN_TWICE)
        return search.is_visible()

    eventually(opens)
    search.fill(words)
    page.get_by_role("listbox").locator(f"a[href*='{leads_to}']").first.click()
    page.wait_for_url(f"**/{leads_to}**")
    assert wrong == []
