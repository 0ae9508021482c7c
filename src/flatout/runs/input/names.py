"""What the name of an input says: a file, a part of one, several files, or a place elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from .database import is_query

_ELSEWHERE = re.compile(r"(?:[a-z][a-z0-9+.-]+)://", re.IGNORECASE)


class Parted(NamedTuple):
    """A name that may name a part of a file.

    Attributes:
        name: how messages name the input: without a query, which may be long.
        file: the file.
        part: the table, query or sheet that follows ``::``; None if there is none.
    """

    name: str
    file: Path
    part: str | None


def parted(name: str) -> Parted:
    """Take a name apart. A file whose own name has ``::`` in it is that file."""
    file, separator, part = name.partition("::")
    if not separator or not file or _exists(name):
        return Parted(name, Path(name), None)
    return Parted(file if is_query(part) else name, Path(file), part)


def parted_url(url: str) -> tuple[str, str | None]:
    """The URL of a file elsewhere, and the part of it that follows ``::``."""
    place, separator, part = url.rpartition("::")
    return (place, part) if separator and is_elsewhere(place) else (url, None)


def file_of(source: str) -> str:
    """The file that an input's name means, for those who only need to know which."""
    return str(parted(source).file)


def is_elsewhere(name: str) -> bool:
    """Whether a name is that of a place that is not a file here, such as ``s3://…``."""
    return _ELSEWHERE.match(name) is not None


def shown(url: str) -> str:
    """A URL without a password, and without its query, which may be a signature; a path as it is."""
    if not is_elsewhere(url):
        return url
    url, part = parted_url(url)
    scheme, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return (
        f"{scheme}://{place.rpartition('@')[2]}{slash}{re.split('[?#]', path)[0]}{'' if part is None else f'::{part}'}"
    )


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        return False
