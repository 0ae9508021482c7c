"""Writing to people. Standard error is theirs; standard output belongs to answers alone.

A run must not die because whoever watched it has gone: a closed terminal or pipe swallows what is said.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TextIO

Line = tuple[str, str]
"""A label and its text. Lines without a label go on with the one above."""

_CONTROL = dict.fromkeys((*range(32), *range(127, 160)), " ")
_LABEL = 12


def say(text: str) -> None:
    """Write one line to standard error, if anybody is there."""
    if sys.stderr is not None:  # None when whoever started us has closed the descriptor
        with suppress(OSError, ValueError):
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()


def clean(text: str, most: int | None = None) -> str:
    """Somebody else's text on one line: what could move the cursor or colour the terminal is taken out.

    Args:
        text: a message of a provider, a name from the input.
        most: the most characters to keep.
    """
    line = " ".join(text.translate(_CONTROL).split())
    return line if most is None or len(line) <= most else f"{line[: most - 1]}…"


def is_live(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal that can be written over."""
    try:
        return stream is not None and stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")
    except ValueError:  # it is closed
        return False


def lay_out(lines: Iterable[Line]) -> list[str]:
    """Labels in one column, texts in the next."""
    return [f"  {f'{label} ' if label else '':<{_LABEL}}{text}".rstrip() for label, text in lines]


def tell(headline: str, lines: Sequence[Line]) -> None:
    """Write a headline and labelled lines to standard error."""
    say("\n".join([headline, *lay_out(lines)]))
