"""Reads a JSON file that holds one list, element by element, with one element in memory.

`json.dump` and most APIs write such files. The standard library finds where an element ends. The reader of rows then
decodes it, so that a row means the same in a list and on a line of its own.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import BinaryIO

from flatout.errors import ConfigError

from .decode import CHUNK, not_utf8
from .rows import InputSource

_BLANKS = " \t\r\n"
_NEAR = 12  # characters; an error this close to the end of the text read so far may only mean that more is to come

_raw_decode = json.JSONDecoder().raw_decode


def elements(stream: BinaryIO, source: InputSource, longest: int) -> Iterator[bytes]:
    """The elements of a list, as JSON, in order.

    Args:
        stream: UTF-8.
        source: for messages.
        longest: the most characters of one element.

    Raises:
        ConfigError: the text is not a list, ends too early, or an element is too long.
    """
    text = _Ahead(stream, source)
    text.take("[")
    number = 1
    while text.letter() != "]":
        if number > 1:
            text.take(",", number)
        yield text.element(number, longest).encode()
        number += 1
    text.take("]")
    if text.letter():
        raise ConfigError(f"{source.name}: there is text after the list's end")


class _Ahead:
    """A stream's text, read only as far as needed."""

    def __init__(self, stream: BinaryIO, source: InputSource) -> None:
        self._stream = stream
        self._source = source
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._text = ""
        self._at = 0
        self._read = 0
        self._ended = False

    def letter(self) -> str:
        """The next letter that is not blank; "" at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _BLANKS:
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def take(self, wanted: str, number: int = 1) -> None:
        """Skip the letter that must come now."""
        found = self.letter()
        if found != wanted:
            where = self._source.at(number)
            raise ConfigError(f"{where}: not JSON: {f'{found!r} where {wanted!r} belongs' if found else _EARLY}")
        self._at += 1

    def element(self, number: int, longest: int) -> str:
        """The next element's text."""
        self.letter()
        while True:
            try:
                _, end = _raw_decode(self._text, self._at)
            except RecursionError:
                raise ConfigError(f"{self._source.at(number)}: not JSON: nested too deeply") from None
            except ValueError as error:
                end = len(self._text)
                if end - self._at <= longest and not (self._may_go_on(error) and self._more()):
                    raise ConfigError(f"{self._source.at(number)}: not JSON: {self._why(error)}") from None
            else:
                if end < len(self._text) or not self._more():  # a number might go on
                    found, self._at = self._text[self._at : end], end
                    return found
            if end - self._at > longest:
                raise ConfigError(f"{self._source.at(number)}: longer than {longest:,} characters")

    def _may_go_on(self, error: ValueError) -> bool:
        if not isinstance(error, json.JSONDecodeError):
            return False
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - _NEAR

    def _why(self, error: ValueError) -> str:
        if not isinstance(error, json.JSONDecodeError):
            return str(error)
        return _EARLY if self._may_go_on(error) else f"{error.msg[:1].lower()}{error.msg[1:]}"

    def _more(self) -> bool:
        """Read as much again as is held, so that a long element is scanned from its start only a few times."""
        if self._ended:
            return False
        held = self._text[self._at :]
        data = self._stream.read(max(CHUNK, len(held)))
        self._ended = not data
        self._read += len(data)
        try:
            self._text, self._at = held + self._decode(data, final=self._ended), 0
        except UnicodeDecodeError as error:
            before = self._read - len(error.object)
            raise ConfigError(not_utf8(error, self._source.name, before)) from None
        return True


_EARLY = "it ends too early"
