"""What surrounds the code: the first page that people see, and the rules by which the project is checked."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from runpy import run_path

import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILES = re.compile(
    r"https://(?:github\.com/flatout/flatout/blob|raw\.githubusercontent\.com/flatout/flatout)/main/([^#]+)"
)


MAP = run_path(str(ROOT / "docs/_site/layout.py"))


def links(page: Path) -> list[str]:
    """The targets of a page's Markdown links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))


def test_the_first_page_can_be_read_anywhere():
    """On PyPI every link of the README that is relative to the repository would lead nowhere."""
    assert [link for link in links(ROOT / "README.md") if not link.startswith(("https://", "#"))] == []


def test_the_first_page_names_files_that_are_there():
    """A link to a page that was moved would lead nowhere."""
    named = [found[1] for link in links(ROOT / "README.md") if (found := FILES.match(link))]
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_guides_that_docstrings_name_are_there():
    """Somebody who reads ``help(flatout.Client)`` would be sent to a page that was moved."""
    named = re.compile(re.escape(PROJECT["urls"]["Documentation"]) + r"([\w-]+)/")
    pages = {page for module in MAP["SOURCE"].rglob("*.py") for page in named.findall(module.read_text("utf-8"))}
    assert "retries" in pages
    assert [page for page in sorted(pages) if not (ROOT / "docs" / f"{page}.md").is_file()] == []


def test_every_python_that_is_promised_is_tested():
    """Somebody would install flatout on a Python on which nobody has run it."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/check.yml").read_text())
    tested = set(workflow["jobs"]["check"]["strategy"]["matrix"]["python"])
    promised = {line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)}
    assert promised <= tested
    assert PROJECT["requires-python"].removeprefix(">=") in promised


def test_the_versions_are_one():
    """A release would be published under another version than the one that it reports."""
    from flatout import __version__

    assert __version__ == PROJECT["version"]


def test_the_map_has_every_module_and_says_what_it_is_for():
    """A newcomer would look for a module on the map in vain, or find no word about it."""
    modules = sorted(MAP["SOURCE"].rglob("*.py"))
    assert [each.name for each in modules if not re.fullmatch(r"[\w`].{5,160}[.]", MAP["purpose"](each))] == []
    rows = re.findall(r"^\| (?:\[)?`([\w.]+)/?`", MAP["layout"](), re.MULTILINE)
    own = [each.name for each in modules if each.name != "__init__.py"]
    rooms = [each.name for each in MAP["rooms"]() if each.is_dir()]
    assert sorted(rows) == sorted([*own, *rooms])


def test_the_map_names_files_that_are_there():
    """An answer to "where is …?" would lead nowhere after a module was moved."""
    named = re.findall(r"`([\w/]+\.py)`", (ROOT / "docs/layout.md").read_text(encoding="utf-8"))
    assert named
    assert [name for name in named if not (MAP["SOURCE"] / name).is_file()] == []
