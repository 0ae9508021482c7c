"""All output of the command. No other module of ``cli`` writes anything.

Standard error carries messages for people: `say`, `tell`, `rewrite`. Standard output carries results: `show`,
`show_json`, and answers. Any text may come from others, so control characters are made visible here (see
`flatout.text.visible`).

A run must not die because its terminal or pipe has closed: the messages are then dropped.
"""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from flatout.errors import RunMismatch
from flatout.text.terminal import is_live as is_live
from flatout.text.terminal import write
from flatout.text.visible import clean as clean
from flatout.text.visible import visible, visible_lines

Fact = tuple[str, str]
"""A label and its text. A line without a label continues the one above."""

_LABEL = 12
_INDENT = 2
_NARROWEST = 40  # columns; a narrower terminal breaks lines itself
_COMMAND = re.compile(
    r"flatout (?:run|plan|status|watch|export|trace|report|trust|local|simulate)\b(?:'[^']*'|\"[^\"]*\"|(?![;.] ).)*"
)
_GLUE = "\x00"


def say(text: str) -> None:
    """Write lines to standard error, if it is open; a terminal gets them in its width."""
    write(sys.stderr, f"{_in_width_of(sys.stderr, visible_lines(text))}\n")


def rewrite(text: str) -> None:
    """Replace the last line of standard error, which is a terminal."""
    write(sys.stderr, f"\r\x1b[K{visible(text)}")


def show(text: str, *, fit: bool = False) -> None:
    """Write lines to standard output.

    Args:
        text: the lines.
        fit: break them to a terminal's width.

    Raises:
        BrokenPipeError: the reader has gone.
    """
    if sys.stdout is not None:
        lines = visible_lines(text)
        sys.stdout.write(f"{_in_width_of(sys.stdout, lines) if fit else lines}\n")


def show_json(value: Any) -> None:
    """Write a value to standard output as one line of ASCII JSON.

    Raises:
        BrokenPipeError: as for `show`.
    """
    show(json.dumps(value))


_START_OVER = (
    "use --fresh, or another file, to start over; with --cache, or --reuse and another file, "
    "only what changed is paid for again"
)


def sentence(error: Exception) -> str:
    """An error on one line, with the command's advice."""
    if isinstance(error, RunMismatch):
        return f"{clean(error.difference)}; {_START_OVER}"
    return clean(str(error)) or type(error).__name__


def fitted(text: str, width: int) -> str:
    """Lines broken to a width between words, but never inside a command, so that it can be copied."""
    return "\n".join(line if len(line) <= width else _broken(line, width) for line in text.split("\n"))


def _broken(line: str, width: int) -> str:
    begins = len(line) - len(line.lstrip())
    # Continuation lines align with the text; after a label, that is the column of texts.
    indent = _INDENT + _LABEL if begins == _INDENT and " " in line[_LABEL + 1 : _LABEL + 3] else begins + _INDENT
    whole = _COMMAND.sub(lambda command: command[0].replace(" ", _GLUE), line)
    first, *others = textwrap.wrap(
        whole, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
    others = [each if len(each) <= width else f"{' ' * _INDENT}{each.lstrip()}" for each in others]
    return "\n".join([first, *others]).replace(_GLUE, " ")


def _in_width_of(stream: TextIO | None, text: str) -> str:
    """Lines broken to the terminal's width; unchanged for any other stream."""
    if stream is None or not is_live(stream):
        return text
    try:
        width = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):  # not a terminal after all
        return text
    return fitted(text, width) if width >= _NARROWEST else text


def lay_out(lines: Iterable[Fact]) -> list[str]:
    """Labels in one column, texts in the next."""
    return [f"  {f'{label} ' if label else '':<{_LABEL}}{text}".rstrip() for label, text in lines]


def tell(headline: str, lines: Sequence[Fact]) -> None:
    """Write a headline and labelled lines to standard error."""
    say("\n".join([headline, *lay_out(lines)]))
