"""Unpacks input that is packed with gzip, zstd, bzip2 or xz, whatever its name says, and packs output.

Each is a stream within a stream: nothing but one chunk is in memory.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Literal, cast

from msgspec import Struct

from flatout.errors import ConfigError

from .decode import CHUNK

HEAD = 16
"""Bytes at the start of a file that tell how it is packed."""

_GZIP_LEVEL = 6  # as the command gzip has it

Mode = Literal["rb", "wb"]


def _gzip(stream: BinaryIO, mode: Mode) -> Any:
    import gzip

    # Without a name and a time in it, the same content always makes the same file.
    return gzip.GzipFile(filename="", fileobj=stream, mode=mode, compresslevel=_GZIP_LEVEL, mtime=0)


def _zstd(stream: BinaryIO, mode: Mode) -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found]  # Python 3.14
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            raise ConfigError(
                "is packed with zstd, which needs another package before Python 3.14: "
                "pip install 'flatout[compression]'"
            ) from None
    return zstd.ZstdFile(stream, mode=mode)


def _bzip2(stream: BinaryIO, mode: Mode) -> Any:
    import bz2

    return bz2.BZ2File(stream, mode=mode)


def _xz(stream: BinaryIO, mode: Mode) -> Any:
    import lzma

    return lzma.LZMAFile(stream, mode=mode)


class Packing(Struct, frozen=True):
    """One way to pack a file.

    Attributes:
        name: its name, for messages.
        suffixes: the endings that say so.
        magic: matches the first bytes.
        open: opens the stream within a stream, for reading or writing.
    """

    name: str
    suffixes: tuple[str, ...]
    magic: re.Pattern[bytes]
    open: Callable[[BinaryIO, Mode], Any]


PACKINGS = (
    Packing("gzip", (".gz", ".gzip"), re.compile(rb"\x1f\x8b"), _gzip),
    Packing("zstd", (".zst", ".zstd"), re.compile(rb"\x28\xb5\x2f\xfd"), _zstd),
    # Its letters alone might begin a text.
    Packing("bzip2", (".bz2",), re.compile(rb"BZh[1-9](?:1AY&SY|\x17\x72\x45\x38\x50\x90)"), _bzip2),
    Packing("xz", (".xz",), re.compile(rb"\xfd7zXZ\0"), _xz),
)


def packing_of(head: bytes) -> Packing | None:
    """How a file is packed that begins with ``head``; None if it is not."""
    return next((each for each in PACKINGS if each.magic.match(head)), None)


def packing_named(name: str) -> Packing | None:
    """How a file is packed by its name."""
    return next((each for each in PACKINGS if name.lower().endswith(each.suffixes)), None)


def without_packing(name: str) -> str:
    """A file's name in lower case, without the ending that says how it is packed."""
    packing = packing_named(name)
    lower = name.lower()
    return lower if packing is None else lower[: lower.rindex(".")]


def unpacking(stream: BinaryIO, packing: Packing, name: str) -> BinaryIO:
    """What is packed in a stream. Closing it closes the stream too.

    Raises:
        ConfigError: the package for it is not installed; while reading: it is not packed so, damaged or cut off.
    """
    try:
        inner = packing.open(stream, "rb")
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    return cast(BinaryIO, io.BufferedReader(_Unpacked(stream, inner, f"{name}: ", packing.name), CHUNK))


@contextmanager
def packed(stream: BinaryIO, packing: Packing) -> Iterator[BinaryIO]:
    """A stream that packs what is written to it into another, which stays open."""
    with packing.open(stream, "wb") as inner, io.BufferedWriter(inner, CHUNK) as file:
        yield cast(BinaryIO, file)


def check_packing(packing: Packing, name: str) -> None:
    """Check that a file can be packed so.

    Raises:
        ConfigError: the package for it is not installed.
    """
    try:
        packing.open(io.BytesIO(), "wb").close()
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None


class _Unpacked(io.RawIOBase):
    """The content of a packed stream, whose errors are plain sentences."""

    def __init__(self, stream: BinaryIO, inner: Any, where: str, packing: str) -> None:
        self._stream = stream
        self._inner = inner
        self._where = where
        self._packing = packing

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's buffer is wider than any that comes
        try:
            return int(self._inner.readinto(buffer))
        except OSError as error:
            if error.errno is not None:  # the system's own: the disk failed
                raise
            raise self._damaged() from None
        except Exception as error:
            if isinstance(error, EOFError | zlib.error) or type(error).__name__ in ("ZstdError", "LZMAError"):
                raise self._damaged() from None
            raise

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
            self._stream.close()
        super().close()

    def _damaged(self) -> ConfigError:
        return ConfigError(f"{self._where}the {self._packing} file is damaged or cut off")
