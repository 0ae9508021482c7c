"""Read JSON as models write it: amid prose, with raw line breaks in strings, with a trailing comma, or cut off.

The reader passes over the text once, from left to right: an answer of megabytes of ``{`` must not block the event loop.
It guesses nothing: words and strings stay as they are, and half a word or string is dropped. JSON that is broken in any
other way is skipped together with everything in it, since a part of an answer is not an answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

_BRACKET = re.compile(r'\{(?=\s*+["}])|\[')
"""Where JSON may begin. A ``{`` counts only before a name or a ``}``: most braces in prose and code are not."""

_TOKEN = re.compile(
    r'\s*+(?:(?P<text>"(?:[^"\\]++|\\.?)*+(?P<end>"?))|(?P<mark>[{}\[\]:,])|(?P<word>[^\s"{}\[\]:,]++))', re.DOTALL
)
_NESTING = re.compile(r'"(?:[^"\\]++|\\.?)*+"?|[{}\[\]]', re.DOTALL)
_WORD = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null")
_RAW = re.compile(r"[\x00-\x1f]")
"""Characters that JSON allows in strings only as escapes (RFC 8259, section 7)."""

# What may come next: a name, the colon after it, a value, or a comma. The closing bracket may come instead of a comma,
# of the first name or value, and (as a trailing comma) of the name or value after a comma.
_KEY, _COLON, _VALUE, _NEXT = "key", "colon", "value", "next"


class Piece(Struct, frozen=True):
    """An object or a list found in a text.

    Attributes:
        text: as JSON.
        whole: whether it is complete.
        start, stop: its position in the text.
    """

    text: str
    whole: bool
    start: int = 0
    stop: int = 0


def pieces(text: str) -> Iterator[Piece]:
    """The objects and lists in a text, as JSON. The end of the text may cut off the last one."""
    position = 0
    while (bracket := _BRACKET.search(text, position)) is not None:
        piece, position = _piece(text, bracket.start())
        if piece is not None:
            yield piece


def _piece(text: str, position: int) -> tuple[Piece | None, int]:
    """The JSON that begins with a bracket, if it is JSON, and the position to continue from."""
    value, start = _Value(), position
    while (token := _TOKEN.match(text, position)) is not None:
        if not value.take(token):
            # Either a bracket in prose, after which JSON may follow, or broken JSON, whose parts are not an answer.
            return None, _after_closing(text, position, value.depth) if value.begun else token.end() - 1
        position = token.end()
        if not value.depth:
            return Piece(value.json(), True, start, position), position
    return (Piece(value.json(), False, start, len(text)) if value.has_value else None), len(text)


def _after_closing(text: str, position: int, depth: int) -> int:
    """Where the brackets that are open at a position close again; the end of the text if they never do."""
    for token in _NESTING.finditer(text, position):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token[0], 0)
        if depth == 0:
            return token.end()
    return len(text)


class _Open:
    """An object or a list that is not closed yet."""

    __slots__ = ("end", "expects", "filled", "member")

    def __init__(self, bracket: str) -> None:
        self.end, self.member = ("}", _KEY) if bracket == "{" else ("]", _VALUE)
        self.expects = self.member
        self.filled = False


class _Value:
    """A JSON value, taken token by token and written anew. Names and commas are written once their value comes.

    Attributes:
        begun: whether anything but brackets has come.
        has_value: whether the value holds a string, a number or a literal. Brackets alone are not an answer.
    """

    def __init__(self) -> None:
        self.begun = self.has_value = False
        self._open: list[_Open] = []
        self._name = ""
        self._written: list[str] = []

    @property
    def depth(self) -> int:
        """How many brackets are open."""
        return len(self._open)

    def json(self) -> str:
        """The value so far, with its open brackets closed."""
        return "".join([*self._written, *(each.end for each in reversed(self._open))])

    def take(self, token: re.Match[str]) -> bool:
        """Take the next token; False if no JSON continues this way."""
        inner = self._open[-1] if self._open else None
        expects = _VALUE if inner is None else inner.expects
        if (mark := token["mark"]) is not None:
            return self._mark(mark, inner, expects)
        taken = self._text(token, expects) if token["text"] is not None else self._word(token, expects)
        self.begun = self.begun or taken
        return taken

    def _mark(self, mark: str, inner: _Open | None, expects: str) -> bool:
        if mark in "{[":
            if expects is not _VALUE:
                return False
            self._write(mark)
            self._open.append(_Open(mark))
            return True
        if inner is None:
            return False
        if mark == inner.end and expects in (inner.member, _NEXT):
            self._open.pop()
            self._written.append(mark)
            return True
        follows = {(":", _COLON): _VALUE, (",", _NEXT): inner.member}.get((mark, expects))
        inner.expects = follows or expects
        return follows is not None

    def _text(self, token: re.Match[str], expects: str) -> bool:
        if expects not in (_KEY, _VALUE):
            return False
        if not token["end"]:
            return True  # cut off: half a string is dropped
        text = _RAW.sub(lambda raw: f"\\u{ord(raw[0]):04x}", token["text"])
        if expects is _KEY:
            self._name = f"{text}:"
            self._open[-1].expects = _COLON
        else:
            self._write(text)
            self.has_value = True
        return True

    def _word(self, token: re.Match[str], expects: str) -> bool:
        if expects is not _VALUE:
            return False
        if token.end() == len(token.string):
            return True  # cut off: the rest of the word may be missing
        if not _WORD.fullmatch(token["word"]):
            return False
        self._write(token["word"])
        self.has_value = True
        return True

    def _write(self, value: str) -> None:
        if self._open:
            inner = self._open[-1]
            self._written.append(f",{self._name}" if inner.filled else self._name)
            inner.filled, inner.expects = True, _NEXT
        self._name = ""
        self._written.append(value)
