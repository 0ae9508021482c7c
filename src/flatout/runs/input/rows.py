"""One row of an input, and its place in it."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from flatout.errors import ConfigError

JSON_FORMATS = frozenset({"jsonl", "json"})
"""The formats whose rows are JSON: one a line, or all in one list."""

LINED_FORMATS = frozenset({"jsonl", "csv", "tsv", "text"})
"""The formats that have lines."""


class InputSource(Struct, frozen=True):
    """Where rows come from: the file's name as the user wrote it, and its format."""

    name: str = "input"
    format: str = "jsonl"

    @property
    def unit(self) -> str:
        """The unit in which rows are numbered: the file's lines, or its rows if it has no lines."""
        return "line" if self.format in LINED_FORMATS else "row"

    def at(self, line: int) -> str:
        """A place in the source, in words: ``mails.csv, line 7``."""
        return f"{self.name}, {self.unit} {line}"


class Variant(Struct, frozen=True, gc=False):
    """One of several ways to ask a row.

    Attributes:
        model: the model to ask; None for the recipe's.
        sample: the number of the sample, from 0; None if there is only one.
        first: whether it is the row's first variant.
    """

    model: str | None
    sample: int | None
    first: bool


class Row(Struct, frozen=True, gc=False):
    """One row of the input.

    Attributes:
        index: its place in the input, from 0; blank lines do not count.
        line: the line it starts on, from 1; in a format without lines the row's number, from 1.
        columns: its values by name. A JSON string or a line of text is the column ``prompt``.
        source: where it comes from.
        variant: the way to ask it; None if there is only one.
    """

    index: int
    line: int
    columns: dict[str, Any]
    source: InputSource = InputSource()
    variant: Variant | None = None

    @property
    def at(self) -> str:
        """The row's place, in words: ``mails.csv, line 7``."""
        return self.source.at(self.line)

    def naming(self, error: ConfigError) -> ConfigError:
        """The same error with the row's place in front, unless it is there already."""
        told = str(error)
        return error if told.startswith(f"{self.at}: ") else ConfigError(f"{self.at}: {told}")
