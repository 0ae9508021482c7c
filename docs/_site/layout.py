"""The map of the code: every module with its docstring's first sentence, room by room, in the order of the imports."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "flatout"

_END = re.compile(r"(?<=[.?!])(?=\s|$)")
"""Where a sentence ends."""


def layout() -> str:
    """All rooms from the top down, and then each package with its modules."""
    packages = [part for room in rooms() if room.is_dir() for part in _package(room)]
    return "\n\n".join([_table(rooms()), *packages])


def rooms() -> list[Path]:
    """The modules and packages of the top level, from the top down, as the rules for imports have them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    [order] = [each for each in contracts if each["name"] == "Imports point one way"]
    names = [name for level in order["layers"] for name in level.split(" | ")] + sorted(order["exhaustive_ignores"])
    return [folder if (folder := SOURCE / name).is_dir() else SOURCE / f"{name}.py" for name in names]


def purpose(place: Path) -> str:
    """The first sentence of a module's or a package's docstring, as Markdown."""
    module = place / "__init__.py" if place.is_dir() else place
    docstring = ast.get_docstring(ast.parse(module.read_text("utf-8"))) or ""
    return _END.split(docstring, maxsplit=1)[0].replace("\n", " ").replace("``", "`")


def _package(folder: Path) -> Iterator[str]:
    name = folder.relative_to(SOURCE).as_posix()
    yield f"{'#' * min(4, name.count('/') + 2)} {name}/ {{ #{_anchor(folder)} }}"
    yield purpose(folder)
    if modules := sorted(module for module in folder.glob("*.py") if module.stem != "__init__"):
        yield _table(modules)
    for inner in sorted(each.parent for each in folder.glob("*/__init__.py")):
        yield from _package(inner)


def _table(places: Iterable[Path]) -> str:
    rows = [f"| {_name(place)} | {purpose(place).replace('|', '&#124;')} |" for place in places]
    return "\n".join(["| | |", "|---|---|", *rows])


def _name(place: Path) -> str:
    return f"[`{place.name}/`](#{_anchor(place)})" if place.is_dir() else f"`{place.name}`"


def _anchor(folder: Path) -> str:
    return folder.relative_to(SOURCE).as_posix().replace("/", "-")
