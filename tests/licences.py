"""Says which installed packages have a licence that does not go with Apache-2.0: ``python tests/licences.py``.

A package that comes in by way of another one, or changes its licence, would otherwise be noticed by nobody until a
user's lawyer does. Every package of the environment counts, the tools among them. To accept another licence, add it
here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions

# Permissive ones, by their SPDX names and by the names that older packages give them; and MPL-2.0, whose terms hold for
# its own files alone.
ACCEPTED = re.compile(
    r"""
      (the\ )? (mit(-0)? | isc | 0bsd | zlib | unlicense | cc0-1\.0) (\ licen[sc]e)? (\ \(iscl\)?)?
    | (new\ |modified\ |[23]-clause\ )? bsd ([-\ ][23]-clause)? (\ licen[sc]e)?
    | apache ([-\ ] (licen[sc]e[,\ ]* | software\ licen[sc]e)? (version\ )? (2(\.0)?)? )?
    | (psf-2\.0 | python-2\.0 | python\ software\ foundation\ licen[sc]e)
    | (mpl-2\.0 | mozilla\ public\ licen[sc]e\ 2\.0\ \(mpl\ 2\.0\)?)
    """,
    re.VERBOSE | re.IGNORECASE,
)


def accepted(expression: str) -> bool:
    """Whether a licence expression leaves a choice that is accepted: one of those joined by OR, all joined by AND."""
    alternatives = re.split(r"\s+OR\s+", expression.strip("() "))
    return any(all(map(_is_accepted, re.split(r"\s+AND\s+", each))) for each in alternatives)


def licence_of(package: Distribution) -> str:
    """What a package says of its licence: the SPDX expression, else its classifiers, else its own words."""
    known = package.metadata
    classified = [line.split(" :: ") for line in known.get_all("Classifier", [])]
    classifiers = [parts[-1] for parts in classified if parts[0] == "License"]
    own_words = (known.get("License") or "").strip().partition("\n")[0]
    return known.get("License-Expression") or " OR ".join(classifiers) or own_words or "unknown"


def refused() -> Iterator[str]:
    """The packages whose licences are not accepted, with these."""
    for package in distributions():
        if not accepted(licence := licence_of(package)):
            yield f"{package.name} {package.version}: {licence}"


def _is_accepted(licence: str) -> bool:
    return ACCEPTED.fullmatch(licence.strip("() ")) is not None


if __name__ == "__main__":
    if found := sorted(set(refused())):
        sys.exit("\n".join(["These licences are not known to go with Apache-2.0 (see tests/licences.py):", *found]))
