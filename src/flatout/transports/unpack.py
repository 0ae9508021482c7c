"""Unpacks compressed bodies, never more at a time than asked for.

flatout asks for uncompressed answers. Some gateways compress all the same, and the answer is paid for. A small body may
unpack to gigabytes, so it is unpacked in steps, between which the caller checks what it has.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from flatout.errors import ProtocolError

STEP = 256 * 1024
"""The most bytes that one step unpacks to. Brotli may exceed it by one of its own blocks."""


class Unpacker(Protocol):
    """Takes the bytes of one compressed body."""

    def feed(self, data: bytes, /) -> Iterator[bytes]:
        """The bytes that these unpack to, `STEP` at a time.

        Raises:
            ProtocolError: they are not compressed in the way that the answer says.
        """
        ...

    def check_end(self) -> None:
        """Check that the compressed data has ended.

        Raises:
            ProtocolError: something is missing.
        """
        ...


def unpacker(coding: str) -> Unpacker:
    """What unpacks a body with this ``Content-Encoding``.

    Some servers put a character set there, or nothing. Such a body is not compressed.

    Raises:
        ProtocolError: it is none that flatout knows, or its package is not installed.
    """
    names = [name for each in coding.lower().split(",") if (name := each.strip()) in _REGISTERED]
    name = names[0] if len(names) == 1 else "identity" if not names else ", ".join(names)
    make = _CODINGS.get(name)
    if make is None:
        raise _not_valid(f"its content-encoding {name[:20]!r} was not asked for")
    try:
        return make()
    except ImportError:
        raise _not_valid(f"it is compressed with {name}, which needs: pip install 'flatout[compression]'") from None


def _not_valid(why: str) -> ProtocolError:
    return ProtocolError(f"the answer is not valid HTTP: {why}", should_retry=False)


def _broken(name: str) -> ProtocolError:
    return ProtocolError(f"the answer is not valid HTTP: it is not the {name} that its content-encoding promises")


class _Identity:
    def feed(self, data: bytes, /) -> Iterator[bytes]:
        yield data

    def check_end(self) -> None:
        pass


class _Zlib:
    """Unpacks gzip and deflate. Several gzip members may follow each other (RFC 1952, 2.2).

    RFC 9110 means zlib's format by "deflate", and some servers send the bare data without zlib's header.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._data: Any = None
        self._begun = False

    def feed(self, data: bytes, /) -> Iterator[bytes]:
        while data:
            if self._data is None:
                self._data = self._member(data[0])
                self._begun = True
            try:
                piece = self._data.decompress(data, STEP)
            except zlib.error:
                raise _broken(self._name) from None
            data = self._data.unconsumed_tail
            if self._data.eof:
                data = self._data.unused_data
                self._data = None
            if piece:
                yield piece

    def check_end(self) -> None:
        if self._data is not None or not self._begun:
            raise _broken(self._name)

    def _member(self, first: int) -> Any:
        bare = self._name == "deflate" and first & 0x0F != 8  # zlib's header begins with 8, its method
        return zlib.decompressobj(-zlib.MAX_WBITS if bare else zlib.MAX_WBITS | 32)


class _Brotli:
    def __init__(self) -> None:
        import brotli  # type: ignore[import-untyped]

        self._data = brotli.Decompressor()
        self._error = brotli.error

    def feed(self, data: bytes, /) -> Iterator[bytes]:
        try:
            piece = self._data.process(data, output_buffer_limit=STEP)
            while piece:
                yield piece
                piece = b"" if self._data.is_finished() else self._data.process(b"", output_buffer_limit=STEP)
        except self._error:
            raise _broken("brotli") from None

    def check_end(self) -> None:
        if not self._data.is_finished():
            raise _broken("brotli")


class _Zstd:
    """Unpacks Zstandard frames, which may follow each other (RFC 8878, 3)."""

    def __init__(self) -> None:
        try:
            from compression import zstd  # type: ignore[import-not-found]  # Python 3.14
        except ImportError:
            from backports import zstd
        self._zstd = zstd
        self._data: Any = None
        self._begun = False

    def feed(self, data: bytes, /) -> Iterator[bytes]:
        while True:
            if self._data is None:
                if not data:
                    return
                self._data = self._zstd.ZstdDecompressor()
                self._begun = True
            try:
                piece = self._data.decompress(data, STEP)
            except self._zstd.ZstdError:
                raise _broken("zstd") from None
            data = b""
            if piece:
                yield piece
            if self._data.eof:
                data = self._data.unused_data
                self._data = None
            elif self._data.needs_input:
                return

    def check_end(self) -> None:
        if self._data is not None or not self._begun:
            raise _broken("zstd")


_CODINGS: dict[str, Callable[[], Unpacker]] = {
    "identity": _Identity,
    "gzip": lambda: _Zlib("gzip"),
    "x-gzip": lambda: _Zlib("gzip"),
    "deflate": lambda: _Zlib("deflate"),
    "br": _Brotli,
    "zstd": _Zstd,
}

_REGISTERED = frozenset(_CODINGS) - {"identity"} | {"compress", "x-compress", "dcb", "dcz", "exi", "pack200-gzip"}
"""The content codings that a body may really have (IANA's registry), without aes128gcm, which is for messages."""
