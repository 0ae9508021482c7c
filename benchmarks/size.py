"""How much flatout brings along, as it is installed here: ``python -m benchmarks.size``.

Counts the files of each package that an installation needs, those that pip compiles (``.pyc``) among them. Packages
come from this environment: an extra that is not installed here is named, and not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import flatout

LARGEST = 5
WANTED = ("flatout", "flatout[aiohttp]", "flatout[all]")


def brought(wanted: str) -> dict[str, Distribution | None]:
    """What a requirement brings along, itself included; None for what is not installed."""
    found: dict[str, Distribution | None] = {}
    left, seen = [Requirement(wanted)], set()
    while left:
        need = left.pop()
        name = canonicalize_name(need.name)
        if (name, *sorted(need.extras)) in seen:
            continue
        seen.add((name, *sorted(need.extras)))
        try:
            package = found[name] = distribution(name)
        except PackageNotFoundError:
            found[name] = None
        else:
            left += needs(package, need.extras)
    return found


def needs(package: Distribution, extras: Iterable[str]) -> Iterator[Requirement]:
    """What a package requires here, with some of its extras."""
    for need in map(Requirement, package.requires or ()):
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield need


def size(package: Distribution) -> int:
    """The bytes of a package's files."""
    if canonicalize_name(package.name) == "flatout":  # installed editable, its files are elsewhere
        return sum(path.stat().st_size for path in Path(flatout.__file__).parent.rglob("*") if path.is_file())
    paths = (Path(str(package.locate_file(file))) for file in package.files or ())
    return sum(path.stat().st_size for path in paths if path.is_file())


def main() -> None:
    print(f"{'':18}{'packages':>9}{'MB':>8}  the largest")
    for wanted in WANTED:
        found = brought(wanted)
        sizes = {name: size(package) for name, package in found.items() if package is not None}
        largest = sorted(sizes, key=lambda name: -sizes[name])[:LARGEST]
        shown = ", ".join(f"{name} {sizes[name] / 1e6:.1f}" for name in largest)
        print(f"{wanted:18}{len(sizes):>9}{sum(sizes.values()) / 1e6:>8.1f}  {shown}")
        if missing := sorted(name for name, package in found.items() if package is None):
            print(f"{'':18}not installed here: {', '.join(missing)}")


if __name__ == "__main__":
    main()
