"""`flatout report` in this process."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import pytest

from flatout.cli import main
from tests.support.report_runs import rows, written


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "a.jsonl.flatout", rows(5))


def test_the_page_is_beside_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    """A user would not find the page, or need --overwrite to see how the run went on."""
    for _ in range(2):
        assert main(["report", "a.jsonl"]) == 0
        assert capsys.readouterr().err.endswith(" KB written to a.jsonl.html\n")
    page = Path("a.jsonl.html")
    assert page.stat().st_mode & 0o077 == 0, "prompts and answers are in it"
    assert "<title>a.jsonl – flatout report</title>" in page.read_text()


def test_no_other_file_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped name would cost a user a file, or the run itself."""
    Path("page.html").write_text("mine")
    assert main(["report", "a.jsonl", "-o", "page.html"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["report", "a.jsonl", "-o", "a.jsonl.flatout", "--overwrite"]) == 2
    assert Path("page.html").read_text() == "mine"
    assert main(["report", "a.jsonl", "-o", "page.html", "--overwrite"]) == 0


def test_several_runs_are_one_page(tmp_path: Path) -> None:
    """A user could not compare two runs."""
    written(tmp_path / "b.jsonl.flatout", rows(5, seed=2))
    assert main(["report", "a.jsonl", "b.jsonl", "-o", "both.html"]) == 0
    assert "a.jsonl and b.jsonl" in Path("both.html").read_text()


def test_the_page_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user would have to find the file in a browser."""
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert main(["report", "a.jsonl", "--open"]) == 0
    assert opened == [Path("a.jsonl.html").absolute().as_uri()]


def test_a_run_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped name would end in a traceback."""
    assert main(["report", "none.jsonl"]) == 2
    assert "there is no run file none.jsonl" in capsys.readouterr().err
