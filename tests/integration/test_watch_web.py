"""The live page in a real browser, beside real runs: from before the start, through a kill, to the end."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from flatout.store import RunReader
from flatout.testing import Faults
from tests.support.browsers import blank, complaints, launched
from tests.support.command_samples import end, eventually, provider, questions, start
from tests.support.report_runs import FAILED, HOSTILE, course, happened, row, rows, written

RUN = ("run", "in.jsonl", "-o", "out.jsonl", "--rpm", "60k", "--concurrency")
ROWS = 4_000
COUNT = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that are over."""
    folder = tmp_path_factory.mktemp("web")
    written(folder / "usual.flatout", rows(COUNT), stretches=course(60), happenings=happened(60), total=COUNT)
    draw = Random(1)
    odd = [row(n, draw, id=text, answer=text, output=None, model=text) for n, text in enumerate(HOSTILE)]
    odd.append(row(9, draw, **{**FAILED, "error": HOSTILE[0], "error_message": HOSTILE[1]}))
    written(folder / "hostile.flatout", odd, job={"model": HOSTILE[0]}, command=HOSTILE[1])
    return folder


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Browser]:
    """A real browser. Its driver takes this thread's event loop, so the runs are written before."""
    with launched() as opened:
        yield opened


class Served:
    """A run's page at its own server."""

    def __init__(self, folder: Path, run: str) -> None:
        self.process = start("watch", run, "--web", "--no-open", folder=folder)
        said = ""
        while (found := re.search(r"http://127\.0\.0\.1:\d+/", said)) is None:
            assert self.process.stderr is not None
            line = self.process.stderr.readline().decode()
            assert line, said
            said += line
        self.said, self.address = said, found[0]

    def stop(self) -> None:
        self.process.terminate()
        assert end(self.process).code == 0


@pytest.fixture(scope="module")
def serve() -> Iterator[Any]:
    """Serves runs until the tests are over, each once."""
    opened: dict[tuple[Path, str], Served] = {}

    def serve(folder: Path, run: str) -> Served:
        key = folder, run
        opened[key] = opened.get(key) or Served(folder, run)
        return opened[key]

    yield serve
    for each in opened.values():
        each.stop()


@pytest.fixture
def look(browser: Browser) -> Iterator[Any]:
    """Opens pages; nothing may have gone wrong on them at the end."""
    opened: list[tuple[Page, list[str]]] = []

    def look(address: str, width: int = 1_400, scheme: Any = "light") -> Page:
        page = blank(browser, viewport={"width": width, "height": 900}, color_scheme=scheme)
        opened.append((page, complaints(page)))
        page.goto(address)
        page.wait_for_selector("html[data-ready=yes]")
        return page

    yield look
    for page, wrong in opened:
        assert wrong == []
        page.close()


def drawn(page: Page, name: str, what: str) -> Any:
    """Something of a plot."""
    return page.evaluate(f"drawn.find((each) => each.plot.name === '{name}').chart.{what}")


def test_a_run_is_seen_from_before_its_start_through_a_kill_to_its_end(tmp_path: Path, serve: Any, look: Any) -> None:
    """The page would stand still, lose what the user had zoomed or opened, or take a dead run for a living one."""
    questions(tmp_path, ROWS)
    (tmp_path / "out.jsonl.flatout").touch()  # as in the instant in which a run creates it
    served = serve(tmp_path, "out.jsonl")
    assert "there is no run of out.jsonl yet" in served.said
    page = look(served.address)
    heading, state = page.locator("h1"), page.locator(".standing p")
    expect(heading).to_have_text("There is no run yet.")
    with provider(latency=0.3, faults=Faults(invalid=0.1)) as server:
        first = start(*RUN, "2", *server.options(), folder=tmp_path)
        server.wait_for(12)
        expect(state).to_have_text("live")
        expect(page.locator("#plot-requests")).to_be_visible()

        area = page.locator("#plot-requests .u-over")
        area.hover(position={"x": 20, "y": 50})
        page.mouse.down()
        area.hover(position={"x": 200, "y": 50})
        page.mouse.up()
        zoomed = drawn(page, "requests", "scales.x.max")
        page.select_option("select", "failed")
        expect(page.locator(".find p")).to_have_text(re.compile("^1–"))  # else the opened row may go
        page.locator(".open").first.click()
        page.locator(".opened").wait_for()
        page.locator("details summary", has_text="About this run").click()

        first.kill()
        first.communicate()
        expect(state).to_have_text("broken off: its process has gone")
        expect(page.get_by_text("The run broke off")).to_be_visible()
        second = start(*RUN, "200", *server.options(), folder=tmp_path)
        expect(state).to_have_text("live")
        assert end(second).code == 1
    with RunReader.open(tmp_path / "out.jsonl.flatout") as reader:
        summary = reader.summary()
    expect(state).to_have_text("finished")
    expect(heading).to_have_text(re.compile(f"^{summary.answered:,} of {ROWS:,} rows answered"))
    assert drawn(page, "requests", "scales.x.max") == zoomed
    assert page.evaluate("document.querySelector('select').value") == "failed"
    expect(page.locator(".find p")).to_have_text(f"1–{min(25, summary.failed)} of {summary.failed}")
    assert page.locator(".opened").count() == 1
    expect(page.get_by_text("flatout run in.jsonl")).to_be_visible()
    eventually(lambda: sum(drawn(page, "latency", "data[2]")) == summary.answered)
    page.evaluate("source.onerror()")
    expect(state).to_contain_text("flatout watch has ended")


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1_400, "light")])
def test_it_fits_and_finds_rows(folder: Path, serve: Any, look: Any, width: int, scheme: str) -> None:
    """The page would be wider than a phone, or white at night, or know fewer rows than the run."""
    page = look(serve(folder, "usual.flatout").address, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 29)"}[scheme]
    stretches = list(course(60))
    assert drawn(page, "requests", "data[1]") == [each.sent for each in stretches]
    found = page.locator(".find p")
    expect(found).to_have_text(f"1–25 of {COUNT}")
    page.fill("input[type=search]", "Mail 277:")
    expect(found).to_have_text("1–1 of 1")
    page.locator(".open").click()
    expect(page.locator(".opened")).to_contain_text("Is this mail spam or ham?")
    page.fill("input[type=search]", "")
    page.fill("input[placeholder='column=value']", "label=spam")
    page.keyboard.press("Enter")
    spam = sum(b'"spam"' in (one.output or b"") for one in rows(COUNT))
    expect(found).to_have_text(f"1–25 of {spam}")
    page.click("th[data-column=provider] button")
    expect(page.locator("th[data-column=provider]")).to_have_attribute("aria-sort", "descending")


def test_news_that_come_while_rows_are_asked_for_are_not_missed(folder: Path, serve: Any, look: Any) -> None:
    """The rows of a run that has just finished would stay those of a moment before, for ever."""
    page = look(serve(folder, "usual.flatout").address)
    asked = """async () => {
      while (looking) await new Promise((resolve) => setTimeout(resolve, 10));
      let asked = 0, arrives;
      const first = new Promise((resolve) => { arrives = resolve; });
      view.source.some = async () => { if (!asked++) await first; return { total: 0, rows: [] }; };
      look();
      look();
      arrives();
      while (looking) await new Promise((resolve) => setTimeout(resolve, 10));
      return asked;
    }"""
    assert page.evaluate(asked) == 2


def test_what_is_new_stays_when_the_first_rows_arrive_after_it(folder: Path, serve: Any, browser: Browser) -> None:
    """The page of a run that ends while it is opened would show what was known before, for ever."""
    page, rows, news = blank(browser), list[Any](), list[Any]()
    page.route("**/rows?*", lambda asked: rows.append(asked))
    page.route("**/events", lambda asked: news.append(asked))  # nothing else is new
    page.goto(serve(folder, "usual.flatout").address)
    page.locator("h1").wait_for()
    eventually(lambda: rows)
    page.evaluate("update({ ...latest, runs: [{ ...latest.runs[0], headline: 'It is over' }] })")
    assert page.locator("html[data-ready=yes]").count() == 0  # it has no rows yet
    page.unroute("**/rows?*")
    for each in rows:
        each.continue_()
    page.wait_for_selector("html[data-ready=yes]")
    assert page.locator(".open").count() > 0
    expect(page.locator("h1")).to_have_text("It is over.")
    page.close()


def test_nothing_of_a_run_is_executed(folder: Path, serve: Any, look: Any) -> None:
    """A model's answer would run in the browser of whoever watches."""
    page = look(serve(folder, "hostile.flatout").address)
    for opener in page.locator(".open").all():
        if opener.text_content() != "(no text)":
            opener.click()
    page.locator(".opened pre").first.wait_for()
    expect(page.locator(".opened pre", has_text=HOSTILE[0]).first).to_be_visible()
    assert page.evaluate("window.broken === undefined")
    assert page.locator("main script, main img, main svg").count() == 0


def test_a_taken_port_is_said(folder: Path, serve: Any) -> None:
    """A user would see a traceback."""
    served = serve(folder, "usual.flatout")
    port = served.address.split(":")[-1].strip("/")
    done = end(start("watch", "usual.flatout", "--web", "--no-open", "--port", port, folder=folder))
    assert (done.code, "try another --port" in done.err) == (2, True)
    curl = shutil.which("curl")
    if curl is not None:
        asked = [curl, "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: evil.example", served.address]
        assert subprocess.run(asked, capture_output=True, text=True, check=True, timeout=30).stdout == "421"
