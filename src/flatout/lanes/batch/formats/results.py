"""Reads files of results: lines as they arrive, in constant memory; or documents, which name further files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flatout.errors import ProtocolError
from flatout.lanes.batch.format import Found
from flatout.providers.failures.problem import decode_json
from flatout.providers.wire.answer import as_dict

MAX_LINE = 128 * 2**20
"""The longest line, in bytes. An answer with a picture or a thousand embeddings is far smaller."""


class Lines:
    """Reads JSON lines that may be cut anywhere.

    A line that is whole but unusable is skipped: its row then counts as missing, and the rows after it, which were paid
    for, are not lost. Only the first line must be usable, because a web page or an error is no file of results.

    Args:
        found: the row in a line.

    Raises:
        ValueError: (by ``found``) there is no row in the line.
    """

    more: Sequence[str] = ()

    def __init__(self, found: Callable[[bytes], Found]) -> None:
        self._found = found
        self._pieces: list[bytes] = []  # of the unfinished line
        self._waiting = 0  # bytes of them
        self._any = False
        self.skipped = 0

    def feed(self, data: bytes, /) -> Sequence[Found]:
        """The rows in the next bytes.

        Raises:
            ProtocolError: this is no file of results.
        """
        head, *rest = data.split(b"\n")
        self._pieces.append(head)
        self._waiting += len(head)
        if not rest:
            self._refuse_long()
            return ()
        first = b"".join(self._pieces)
        tail = rest.pop()
        self._pieces = [tail]
        self._waiting = len(tail)
        self._refuse_long()
        return [row for line in (first, *rest) if (row := self._row(line)) is not None]

    def end(self) -> Sequence[Found]:
        """The rows in what is left.

        Raises:
            ProtocolError: the file broke off.
        """
        line = b"".join(self._pieces).strip()
        self._pieces = []
        if not line:
            return ()
        try:
            return [self._found(line)]
        except ValueError:
            raise ProtocolError("a file of results broke off in the middle of a line") from None

    def _row(self, line: bytes) -> Found | None:
        line = line.strip()
        if not self._any:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            return None
        try:
            row = self._found(line)
        except ValueError:
            if not self._any:
                raise ProtocolError("a file of results does not begin with a row") from None
            self.skipped += 1
            return None
        self._any = True
        return row

    def _refuse_long(self) -> None:
        if self._waiting > MAX_LINE:
            raise ProtocolError(f"a line of a file of results is longer than {MAX_LINE:,} bytes")


class Document:
    """Reads one JSON object that holds rows, or names the files that do.

    Args:
        found: the rows in the object, and the further files.

    Raises:
        ValueError: (by ``found``) it is no such object.
    """

    def __init__(self, found: Callable[[dict[str, Any]], tuple[Sequence[Found], Sequence[str]]]) -> None:
        self._found = found
        self._pieces: list[bytes] = []
        self._size = 0
        self.more: Sequence[str] = ()

    def feed(self, data: bytes, /) -> Sequence[Found]:
        """No rows: they are known at the end.

        Raises:
            ProtocolError: the document is too long.
        """
        self._pieces.append(data)
        self._size += len(data)
        if self._size > MAX_LINE:
            raise ProtocolError(f"a page of results is longer than {MAX_LINE:,} bytes")
        return ()

    def end(self) -> Sequence[Found]:
        """All rows.

        Raises:
            ProtocolError: the document broke off, or holds something else.
        """
        try:
            rows, self.more = self._found(as_dict(decode_json(b"".join(self._pieces))))
        except ValueError:
            raise ProtocolError("a page of results broke off, or is none") from None
        return rows
