"""Reports in a real browser: nothing goes wrong, nothing of a run is executed, and the plots are the run's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace
from playwright.sync_api import Browser, Page, expect

from flatout.look.report.gather import gather
from flatout.look.report.page import page as page_of
from flatout.store import Item
from tests.support.browsers import blank, complaints, launched
from tests.support.report_runs import BEGAN, FAILED, HOSTILE, TARGET, course, happened, row, rows, written

COUNT = 1_000
MISFITS = 3


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Browser]:
    """A real browser. Its driver takes this thread's event loop, so the runs are written before."""
    with launched() as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages of several runs."""
    folder = tmp_path_factory.mktemp("reports")
    attempts = [
        (one.index, attempt, TARGET, BEGAN, 0.1, None, None if attempt == 1 else "ServerError: HTTP 500")
        for one in rows(COUNT)
        if one.attempts > 1
        for attempt in range(1, one.attempts + 1)
    ]
    usual = written(
        folder / "usual.flatout",
        usual_rows(),
        stretches=course(120),
        happenings=happened(120),
        attempts=attempts,
        total=COUNT,
    )
    draw = Random(1)
    odd = [row(n, draw, id=text, answer=text, output=None, model=text) for n, text in enumerate(HOSTILE)]
    odd.append(row(9, draw, **{**FAILED, "error": HOSTILE[0], "error_message": HOSTILE[1]}))
    hostile = written(folder / "hostile.flatout", odd, job={"model": HOSTILE[0]}, command=HOSTILE[1])
    models = written(folder / "models.flatout", rows(200), job={"models": ["a/m", "b/m"], "samples": None})
    empty = written(folder / "empty.flatout", total=10)
    for place in (usual, hostile, models, empty):
        place.with_suffix(".html").write_text(page_of(gather([place])), "utf-8")
    (folder / "both.html").write_text(page_of(gather([usual, models])), "utf-8")
    return folder


def usual_rows() -> Iterator[Item]:
    """The rows of the usual run; some answers do not fit the schema."""
    for one in rows(COUNT):
        misfit = {"state": "failed", "error": "SchemaMismatch", "error_message": "label is missing"}
        yield replace(one, **misfit) if one.index in range(500, 500 + MISFITS) else one


class Watched:
    """A page, and a list of what goes wrong on it."""

    def __init__(self, page: Page, at: Path) -> None:
        self.page = page
        self.wrong = complaints(page)
        page.on("request", lambda asked: self.wrong.append(asked.url) if asked.url not in known(at) else None)
        page.goto(at.as_uri())
        page.wait_for_selector("html[data-ready=yes]")

    def rows(self) -> list[list[str]]:
        """The cells of the rows on the table's page."""
        lines: list[list[str]] = self.page.evaluate(
            "[...document.querySelectorAll('.rows tbody tr:not(.peek):not(.opened)')]"
            ".map((line) => [...line.cells].map((cell) => cell.textContent))"
        )
        return lines

    def shows(self, words: str) -> None:
        """Wait until the table says so. Nothing is evaluated in the page meanwhile: its policy forbids that."""
        expect(self.page.locator(".find p")).to_have_text(re.compile(f"{re.escape(words)}$"))


def known(at: Path) -> tuple[str, ...]:
    return (at.as_uri(), "data:,")


@pytest.fixture
def look(browser: Browser, folder: Path) -> Iterator[Any]:
    """Opens the pages; nothing may have gone wrong on them at the end."""
    opened: list[Watched] = []

    def look(name: str, width: int = 1_400, scheme: Any = "light") -> Watched:
        page = blank(browser, viewport={"width": width, "height": 900}, color_scheme=scheme)
        opened.append(Watched(page, folder / f"{name}.html"))
        return opened[-1]

    yield look
    for each in opened:
        assert each.wrong == []
        each.page.close()


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1_400, "light")])
@pytest.mark.parametrize("name", ["usual", "hostile", "models", "empty", "both"])
def test_a_page_opens_without_a_complaint(look: Any, name: str, width: int, scheme: str) -> None:
    """A page would be broken, or wider than a phone, or white at night."""
    found = look(name, width, scheme).page
    assert found.evaluate("document.documentElement.scrollWidth") <= width
    paper = found.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 29)"}[scheme]
    widths = found.evaluate("[...document.querySelectorAll('.plot')].map((box) => box.scrollWidth - box.clientWidth)")
    assert max(widths, default=0) <= 0


def test_nothing_of_a_run_is_executed(look: Any) -> None:
    """A model's answer would run in the browser of whoever looks at it."""
    found = look("hostile").page
    openers = found.locator(".open").all()
    for opener in openers:
        opener.click()
    expect(found.locator(".opened")).to_have_count(len(openers))
    assert found.evaluate("window.broken === undefined")
    assert found.locator("main script, main img, main svg").count() == 0
    texts = found.locator(".opened pre").all_text_contents()
    assert HOSTILE[0] in texts
    assert "\\u202egnp.tset \\u001b[31mred\\u001b[0m \\u2028 \\u0000 ]]> --> {{ broken }}" in texts


def test_the_policy_stops_what_would_get_in(look: Any) -> None:
    """If a text did become markup one day, its script would run."""
    watched = look("usual")
    with watched.page.expect_console_message(lambda said: "img-src" in said.text):  # the last thing that is refused
        watched.page.evaluate(
            """() => {
              document.querySelector("footer").innerHTML = '<img src="x" onerror="window.broken = 1">';
              const made = document.createElement("script");
              made.textContent = "window.broken = 2";
              document.body.append(made);
            }"""
        )
    assert watched.page.evaluate("window.broken === undefined")
    assert sum("Content Security Policy" in each and "script-src" in each for each in watched.wrong) == 2
    watched.wrong.clear()


def test_the_plots_show_the_runs_values(look: Any) -> None:
    """A plot would draw something else than the run file holds."""
    found = look("usual").page
    drawn = found.evaluate(
        "Object.fromEntries(drawn.map(({ plot, chart }) => "
        "[plot.name, Object.fromEntries(chart.series.map((series, at) => [series.label, [...chart.data[at]]]))]))"
    )
    stretches = list(course(120))
    assert drawn["requests"]["sent"] == [each.sent for each in stretches]
    assert drawn["requests"]["limit on requests"] == [25.0] * 120
    assert drawn["in_flight"]["in flight"] == [each.in_flight for each in stretches]
    assert drawn["waiting"]["waiting"] == [each.waiting for each in stretches]
    assert sum(drawn["latency"]["the provider's part"]) == sum(one.state == "answered" for one in usual_rows())
    inked = found.evaluate(
        "drawn.map(({ chart }) => new Set(chart.ctx.getImageData(0, 0, chart.ctx.canvas.width, "
        "chart.ctx.canvas.height).data).size > 20)"
    )
    assert all(inked)


def test_a_legend_says_what_is_pointed_at_or_nothing(look: Any) -> None:
    """A legend full of dashes would look as if nothing were known."""
    page = look("usual").page
    values = page.locator("#plot-requests .u-value")
    assert values.all_text_contents() == [""] * values.count()
    page.hover("#plot-requests .u-over", position={"x": 100, "y": 100})
    expect(values.first).not_to_have_text("")
    time, sent, *_ = values.all_text_contents()
    at = round(float(time.removesuffix(" s")))
    assert sent == str(list(course(120))[at].sent)


def test_the_table_sorts_filters_and_searches(look: Any) -> None:
    """Nobody would find the slowest, the failed, or a certain row among ten thousand."""
    watched = look("usual")
    page, items = watched.page, list(usual_rows())
    watched.shows("1–25 of 1,000")
    page.click("th[data-column=seconds] button")
    slowest = sorted(items, key=lambda one: -float(f"{one.seconds:.4g}"))
    page.wait_for_selector("th[data-column=seconds][aria-sort=descending]")
    expect(page.locator(".rows tbody td").first).to_have_text(f"{slowest[0].index + 1:,}")
    assert [line[0] for line in watched.rows()] == [f"{one.index + 1:,}" for one in slowest[:25]]

    page.select_option("select", "failed")
    failed = [one for one in items if one.error]
    watched.shows(f"of {len(failed)}")
    assert all("failed" in line for line in watched.rows())
    page.select_option("select", "cut off")
    cut = [one for one in items if one.finish_reason == "length"]
    watched.shows(f"of {len(cut)}")

    page.select_option("select", label=f"schema mismatch ({MISFITS})")
    watched.shows(f"1–{MISFITS} of {MISFITS}")

    page.select_option("select", "all")
    page.fill("input[type=search]", "Mail 777:")
    watched.shows("1–1 of 1")
    assert watched.rows()[0][0] == "778"
    page.fill("input[type=search]", "no such words")
    watched.shows("No row is like that.")


def test_a_row_opens_with_what_happened_to_it(look: Any) -> None:
    """A user would see that a row was tried again, and not why."""
    watched = look("usual")
    watched.page.select_option("select", "retried")
    watched.shows(f"of {sum(one.attempts > 1 for one in rows(COUNT))}")
    watched.page.locator(".open").first.click()
    opened = watched.page.locator(".opened").first
    opened.wait_for()
    told = opened.inner_text()
    assert "Is this mail spam or ham?" in told
    assert "tokens 3.1 s" in told
    assert "ServerError: HTTP 500" in told


def test_what_needs_attention_leads_to_its_rows(look: Any) -> None:
    """A user would read that rows failed, and have to look for them."""
    watched = look("usual")
    watched.page.get_by_role("button", name="Show these rows").first.click()
    failed = sum(one.error == "ServerError" for one in rows(COUNT))
    watched.shows(f"of {failed}")


def test_a_table_that_goes_on_beside_the_page_says_so(look: Any) -> None:
    """On a phone, whoever compares runs would take the columns that fit for all; and further on, not know the rows."""
    page = look("both", 300).page
    wide = page.locator(".wide").first
    box, name = wide.bounding_box(), wide.locator("tbody th").first
    at_first = name.bounding_box()
    edge = {"x": box["x"] + box["width"] - 3, "y": box["y"] + 1, "width": 2, "height": 2}  # no text is there
    shaded = page.screenshot(clip=edge)
    wide.evaluate("box => box.scrollLeft = box.scrollWidth")
    assert wide.evaluate("box => box.scrollLeft") > 0
    assert page.screenshot(clip=edge) != shaded
    assert name.bounding_box() == at_first


def test_it_prints(look: Any) -> None:
    """A page on paper would be a search field and white plots."""
    watched = look("usual", scheme="dark")
    stroke = "drawn[0].chart.series[1].stroke()"
    dark = watched.page.evaluate(stroke)
    watched.page.emulate_media(media="print")
    assert watched.page.locator(".find").is_hidden()
    assert watched.page.locator("th[data-column=row] button").is_visible()
    light = watched.page.evaluate(f"window.dispatchEvent(new Event('beforeprint')), {stroke}")
    assert (dark, light) == ("#56b4e9", "#0072b2")
    assert len(watched.page.pdf()) > 20_000
