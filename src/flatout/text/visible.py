r"""Make other people's text safe to show in a terminal or a log.

File names, model names, providers' messages and the contents of run files come from others. Printed as they are, they
could move the cursor, colour the screen, or hide what they say: by an escape sequence, a right-to-left override, a
zero-width character. Here each such character is replaced by its escape: ``\x1b``, ``\u202e``.
"""

from __future__ import annotations

from unicodedata import category

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of control and format characters, lone surrogates, and line and paragraph separators."""

_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
"""Letters and marks that show nothing, although Unicode does not count them as control or format characters."""


class _Escapes(dict[int, str]):
    """A table for `str.translate`."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        unseen = character in _BLANK or category(character) in _UNSEEN
        return character.encode("unicode_escape").decode() if unseen else character


_LINE = _Escapes()
_LINES = _Escapes({9: "\t", 10: "\n"})


def visible(text: str) -> str:
    """A text with every invisible character escaped, line breaks included."""
    return text.translate(_LINE)


def visible_lines(text: str) -> str:
    """A text with every invisible character escaped, except line breaks and tabs."""
    return text.translate(_LINES)


def clean(text: str, most: int | None = None) -> str:
    """Somebody else's text on one line.

    Args:
        text: a message of a provider, a name from the input.
        most: the most characters to keep.
    """
    line = visible(" ".join(text.split()))
    return line if most is None or len(line) <= most else f"{line[: most - 1]}…"
