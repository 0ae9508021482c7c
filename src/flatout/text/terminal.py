"""What the library and the command need to know of a terminal, and how they write to it."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TextIO


def is_live(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal on which lines can be replaced."""
    try:
        return stream is not None and stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")
    except ValueError:  # it is closed
        return False


def write(stream: TextIO | None, text: str) -> None:
    """Write text, if the stream is open. A program must not die because its terminal or pipe has closed."""
    if stream is not None:  # None if our parent closed the descriptor
        with suppress(OSError, ValueError):
            stream.write(text)
            stream.flush()
