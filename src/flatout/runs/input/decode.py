"""From bytes to lines of UTF-8: byte order marks, other encodings, and a look at the start of a pipe.

The reader works on UTF-8 bytes alone, which makes it fast. Any other encoding is converted to UTF-8 on the way.
"""

from __future__ import annotations

import codecs
import io
from typing import BinaryIO, cast

from flatout.errors import ConfigError

CHUNK = 128 * 1024
"""Bytes that are read at a time."""

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def check_encoding(encoding: str) -> None:
    """Refuse an encoding that Python does not know, or one that is not for text (such as base64).

    Raises:
        ConfigError: naming the encoding.
    """
    try:
        b"a".decode(encoding)
    except UnicodeError:
        return  # for example half of a UTF-16 character
    except (LookupError, ValueError):
        raise ConfigError(f"unknown encoding {encoding!r}; common ones are utf-8, utf-16, cp1252, latin-1") from None


def not_utf8(error: UnicodeDecodeError, where: str, before: int = 0) -> str:
    """The message for a line that is not UTF-8, with advice. ``before`` counts the line's bytes before the bad part."""
    return (
        f"{where}: byte {before + error.start + 1} (0x{error.object[error.start]:02x}) is not UTF-8; "
        "if the file is Windows-1252, add --encoding cp1252"
    )


def as_utf8(stream: BinaryIO, encoding: str, name: str) -> BinaryIO:
    """The stream's text as UTF-8 without a byte order mark. A mark overrides the encoding UTF-8, but no other.

    Bytes that should be UTF-8 already pass through unchecked.
    """
    head, stream = peeked(stream, least=3)
    codec = codecs.lookup(encoding).name
    if codec in ("utf-8", "utf-8-sig"):
        if head.startswith(codecs.BOM_UTF8):
            stream.read(len(codecs.BOM_UTF8))
            return stream
        if not head.startswith(_UTF16):
            return stream
        codec = "utf-16"
    return cast(BinaryIO, io.BufferedReader(_Transcoded(stream, codec, name), CHUNK))


def peeked(stream: BinaryIO, *, least: int = 0, own: bool = False) -> tuple[bytes, BinaryIO]:
    """The start of a stream, and a stream that still begins with it. Closing the second closes the first if ``own``.

    A pipe hands out only what has been written so far. This function reads on until it has ``least`` bytes or, if that
    is 0, the first letter (within `CHUNK` bytes).
    """
    read = getattr(stream, "read1", stream.read)
    head = b""
    while len(head) < CHUNK and not (len(head) >= least if least else len(head) >= 4 and first_letter(head)):
        more = read(CHUNK)
        if not more:
            break
        head += more
    return head, cast(BinaryIO, io.BufferedReader(_Prefixed(head, stream, own), CHUNK))


def first_letter(head: bytes) -> bytes:
    """The first byte that belongs to a letter: not a blank, a byte order mark, or NUL, which UTF-16 is full of."""
    return head.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n")[:1]


class _Prefixed(io.RawIOBase):
    """A stream with bytes put back in front of it."""

    def __init__(self, head: bytes, stream: BinaryIO, own: bool) -> None:
        self._head = memoryview(head)
        self._stream = stream
        self._read = getattr(stream, "read1", stream.read)
        self._own = own

    def close(self) -> None:
        if self._own:
            self._stream.close()
        super().close()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's buffer is wider than any that comes
        if not self._head:
            self._head = memoryview(self._read(len(buffer)))
        size = min(len(buffer), len(self._head))
        buffer[:size] = self._head[:size]
        self._head = self._head[size:]
        return size


class _Transcoded(io.RawIOBase):
    """The text of a stream in another encoding, converted to UTF-8."""

    def __init__(self, stream: BinaryIO, codec: str, name: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(codec)()
        self._name = name
        self._ready = memoryview(b"")
        self._lines: int | None = None
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's buffer is wider than any that comes
        while not self._ready and not self._ended:
            self._ready = memoryview(self._more().encode("utf-8", "surrogatepass"))
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def _more(self) -> str:
        chunk = self._stream.read(CHUNK)
        self._ended = not chunk
        try:
            text = self._decoder.decode(chunk, final=self._ended)
        except UnicodeError as error:
            raise ConfigError(self._message(error)) from None
        if self._lines is None and text:
            text = text.removeprefix("\ufeff")
            self._lines = 0
        self._lines = (self._lines or 0) + text.count("\n") if text else self._lines
        return text

    def _message(self, error: UnicodeError) -> str:
        if not isinstance(error, UnicodeDecodeError):
            return f"{self._name}: {error}"
        before = error.object[: error.start].decode(error.encoding, "ignore")
        line = (self._lines or 0) + before.count("\n") + 1
        return f"{self._name}, line {line}: byte 0x{error.object[error.start]:02x} is not {error.encoding} text"
