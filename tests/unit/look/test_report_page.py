"""The page of a report: what runs in it, and what it is made of."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from html.parser import HTMLParser
from pathlib import Path
from random import Random

import pytest

import flatout.look.report
from flatout.look.report.gather import gather
from flatout.look.report.page import LIVE, SCRIPTS, embedded, page
from tests.support.report_runs import FAILED, HOSTILE, row, rows, written

ASSETS = Path(flatout.look.report.__file__).parent / "assets"
ROOT = Path(__file__).parents[3]


class Parsed(HTMLParser):
    """The elements of a page, the texts of its scripts and styles, its policy, and whatever it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[tuple[str, str]] = []
        self.policy = ""
        self.fetched: list[str] = []
        self.handlers: list[str] = []
        self._within = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.handlers += [name for name in given if name.startswith("on")]
        self.fetched += [str(given[name]) for name in ("src", "href", "action") if name in given]
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""
        if tag in ("script", "style"):
            self._within = "data" if given.get("type") == "application/json" else tag
            self.texts.append((self._within, ""))

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within:
            self.texts[-1] = (self._within, self.texts[-1][1] + data)


def hostile(tmp_path: Path) -> str:
    draw = Random(1)
    items = [row(n, draw, id=text, answer=text, output=None, model=text) for n, text in enumerate(HOSTILE)]
    items.append(row(9, draw, **{**FAILED, "error": HOSTILE[0], "error_message": HOSTILE[1]}))
    job = {"model": HOSTILE[0]}
    return page(gather([written(tmp_path / "<script>.flatout", items, job=job, command=HOSTILE[0])]))


def test_nothing_of_a_run_can_end_the_element_that_holds_it(tmp_path: Path) -> None:
    """A model's answer could run in the browser of whoever looks at it."""
    found = Parsed(hostile(tmp_path))
    kinds = [kind for kind, _ in found.texts]
    assert kinds == ["style", "style", "data", *["script"] * len(SCRIPTS)]
    data = dict(found.texts)["data"]
    assert not re.search("[<>&\u2028\u2029]", data)
    assert HOSTILE[0] in json.loads(data)["runs"][0]["attention"][0]["title"]
    assert found.handlers == []


def test_the_policy_allows_the_pages_own_scripts_and_nothing_else(tmp_path: Path) -> None:
    """A script that got in after all would run, or the page's own ones would not."""
    found = Parsed(hostile(tmp_path))
    policy = dict(part.strip().split(" ", 1) for part in found.policy.split(";"))
    for kind in ("script", "style"):
        digests = [
            b64encode(hashlib.sha256(text.encode()).digest()).decode() for each, text in found.texts if each == kind
        ]
        assert policy[f"{kind}-src"] == " ".join(f"'sha256-{digest}'" for digest in digests)
    assert (policy["default-src"], policy["img-src"]) == ("'none'", "data:")
    assert found.fetched == ["data:,"]


def test_half_of_a_surrogate_pair_does_no_harm(tmp_path: Path) -> None:
    """The page of a run with an odd answer could not be written."""
    report = gather([written(tmp_path / "a.flatout", [row(0, Random(1), answer="a \ud800 b", output=None)])])
    assert page(report).encode()
    assert json.loads(embedded(report))["rows"]["count"] == 1


def test_what_is_vendored_is_what_was_published() -> None:
    """The plots would be drawn by something else than the library that its licence names."""
    for line in (ASSETS / "uPlot.sha256").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((ASSETS / name).read_bytes()).hexdigest() == digest, name
    version = re.search(r"^UPLOT := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert version is not None
    assert f"(v{version[1]})" in (ASSETS / "uPlot.iife.min.js").read_text()[:100]
    assert "MIT" in (ASSETS / "uPlot.LICENSE").read_text()


@pytest.mark.parametrize("name", LIVE)
def test_scripts_make_no_markup_of_text(name: str) -> None:
    """A text of a run would become markup, or be sent somewhere."""
    if not name.startswith("uPlot"):
        text = (ASSETS / name).read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text)
        assert name in set(LIVE) - set(SCRIPTS) or not re.search(r"fetch\(|EventSource|https?:", text)


def test_a_page_of_ten_thousand_rows_is_small(tmp_path: Path) -> None:
    """The page could not be mailed or opened; a tenth of the rows must take a tenth of the room."""
    few = len(page(gather([written(tmp_path / "a.flatout", rows(100))])))
    many = len(page(gather([written(tmp_path / "b.flatout", rows(600))])))
    assert few + (many - few) / 500 * 10_000 < 3_000_000
