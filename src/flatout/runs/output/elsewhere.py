"""Writes a file elsewhere: whole on this machine first, and then uploaded.

Stores of objects show a file once all of it has come, so that nobody sees half of one. The answers are in the run file
by then: an upload that fails costs no call, and is all that the same command repeats.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from flatout.errors import ConfigError, StoreError

from .claim import Claim, digest, digest_of
from .whole import temporary

if TYPE_CHECKING:
    from flatout.runs.input.afar import Afar


def check(url: str, claim: Claim) -> None:
    """Check that a file elsewhere may be written there, as far as that shows before.

    Raises:
        ConfigError: nothing can be written there, or another file would be lost.
    """
    place = _place_of(url)
    _check(place, claim)
    if (lacks := place.lacks()) is not None:
        raise ConfigError(f"{place.name}: there is no such {lacks}; make it, or correct its name")


@contextmanager
def whole(url: str, claim: Claim) -> Iterator[BinaryIO]:
    """A block that writes a file, which is uploaded at the end of the block.

    Raises:
        ConfigError: another file would be lost.
        StoreError: it cannot be uploaded.
        OSError: it cannot be written on this machine.
    """
    place = _place_of(url)
    folder = tempfile.gettempdir() if claim.run_file is None else Path(claim.run_file).parent  # room for the answers
    with temporary(Path(folder)) as (path, file):
        yield file
        file.flush()
        _check(place, claim)  # again, because hours may have passed
        claim.written(digest(path))
        try:
            place.put(path)
        except ConfigError as error:
            raise StoreError(f"{error}; the same command uploads the answers, and asks for none again") from None


def _place_of(url: str) -> Afar:
    from flatout.runs.input.elsewhere import place_of  # loaded for those who want it

    return place_of(url)


def _check(place: Afar, claim: Claim) -> None:
    is_there = not claim.overwrite and place.is_there()
    claim.check_elsewhere(place.name, (lambda: digest_of(place.open())) if is_there else None)
