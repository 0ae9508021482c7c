"""The store's SQL, by name.

Every statement lives in a ``.sql`` file under ``sql/``. One line above it names and describes it::

    -- counts: Count items by what became of them.
    SELECT …

So each statement can be read, and tried in any SQLite tool, without the Python around it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

_HEADER = re.compile(r"^-- (?P<name>\w+): (?P<description>\S.*)$", re.MULTILINE)


@cache
def queries(topic: str) -> Mapping[str, str]:
    """The statements of ``sql/<topic>.sql``, by name."""
    return parse((files(__package__) / "sql" / f"{topic}.sql").read_text("utf-8"))


def parse(text: str) -> dict[str, str]:
    """Split the text of a ``.sql`` file into its named statements.

    Raises:
        ValueError: a statement has no header, or two have the same name.
    """
    before, *parts = _HEADER.split(text)
    if before.strip():
        raise ValueError(f"a statement without a header: {before.strip()[:60]!r}")
    found: dict[str, str] = {}
    for name, _, statement in zip(parts[0::3], parts[1::3], parts[2::3], strict=True):
        if name in found:
            raise ValueError(f"two statements are named {name!r}")
        found[name] = statement.strip().rstrip(";")
    return found


@cache
def migrations() -> tuple[str, ...]:
    """The scripts that bring a run file from version i to version i + 1, in order."""
    folder = files(__package__) / "sql" / "migrations"
    scripts = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    return tuple(script.read_text("utf-8") for script in scripts)
