"""Small pieces of HTML for notebooks. They carry other people's text, which must not become markup."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from .visible import visible_lines

MOST = 2_000
"""Characters of a text that are shown."""


def escaped(text: str) -> str:
    """Text as HTML. Invisible characters are replaced by their escapes."""
    return escape(visible_lines(text))


def table(rows: Iterable[tuple[str, str]], footer: Iterable[str]) -> str:
    """Labelled texts below each other, each cut to `MOST` characters, and a line of facts."""
    cells = "".join(
        f'<tr><th style="text-align: left; vertical-align: top">{escaped(label)}</th>'
        f'<td style="text-align: left; white-space: pre-wrap">{escaped(_cut(text))}</td></tr>'
        for label, text in rows
    )
    return f"<table>{cells}</table><small>{escaped(' · '.join(footer))}</small>"


def _cut(text: str) -> str:
    return text if len(text) <= MOST else f"{text[: MOST - 1]}…"
