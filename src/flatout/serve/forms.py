"""The forms in which clients upload files (RFC 7578), read as they come: a file may be larger than memory."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator

from msgspec import Struct

from flatout.http_server.requests import Request

from .guard import Denied

MOST_HEAD = 16 * 1024
"""The most bytes of a part's head."""

MOST_PARTS = 100
"""OpenAI's forms have a handful. Without a bound, millions of small parts would keep the event loop busy."""

_NAME = re.compile(rb'[;\s]name="([^"]*)"')
_FILENAME = re.compile(rb'[;\s]filename="([^"]*)"')


class Part(Struct, frozen=True):
    """One part of a form: a field, or a file.

    Attributes:
        name: the field's name; "" if it has none.
        filename: the file's name, as the client calls it.
    """

    name: str
    filename: str


async def form(request: Request) -> AsyncIterator[Part | bytes]:
    """The parts of a form: each is followed by its content, in pieces.

    Raises:
        Denied: the request is no form, or it ends before the form does.
        Refusal: the rest of it will not come.
    """
    kind, _, rest = request.headers.get(b"content-type", b"").partition(b";")
    boundary = re.search(rb'boundary="?([^";,]{1,70})', rest)
    if kind.strip().lower() != b"multipart/form-data" or boundary is None:
        raise Denied(400, "a form (multipart/form-data) is expected")
    reader = _FormReader(boundary[1].rstrip())
    async for piece in request.pieces():
        for each in reader.feed(piece):
            yield each
    if not reader.ended:
        raise Denied(400, "the form has no end: its last boundary is missing")


class _FormReader:
    """Finds the parts in the bytes of a form.

    Args:
        boundary: what stands between them.

    Attributes:
        ended: whether the form's end was there. What comes after it is not looked at.
    """

    def __init__(self, boundary: bytes) -> None:
        self._mark = b"\r\n--" + boundary
        self._rest = b"\r\n"  # what may be the beginning of a mark or of a head; the first mark may begin the form
        self._in_head = False
        self._parts = 0  # that have begun; what comes before the first one means nothing
        self.ended = False

    def feed(self, piece: bytes) -> Iterator[Part | bytes]:
        """Take a piece of the form, and find what it completes."""
        self._rest += piece
        while not self.ended:
            found = self._head() if self._in_head else self._content()
            if found is None:
                return
            if found:
                yield found

    def _content(self) -> bytes | None:
        """The content up to the next mark, or what of it has come; None for nothing."""
        at = self._rest.find(self._mark)
        whole = at >= 0
        end = at if whole else max(0, len(self._rest) - len(self._mark) + 1)
        if not whole and not end:
            return None
        content = self._rest[:end] if self._parts else b""
        self._rest = self._rest[end + len(self._mark) * whole :]
        self._in_head = whole
        return content

    def _head(self) -> Part | None:
        """The part that begins after a mark; None if its head has not come, or the form ends."""
        if self._rest.startswith(b"--"):
            self.ended = True
            return None
        head, blank, rest = self._rest.partition(b"\r\n\r\n")
        if not blank:
            if len(head) > MOST_HEAD:
                raise Denied(400, f"the head of a part of the form has more than {MOST_HEAD:,} bytes")
            return None
        self._rest, self._in_head = rest, False
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise Denied(400, f"a form has at most {MOST_PARTS} parts")
        line = next((each for each in head.split(b"\r\n") if each.lower().startswith(b"content-disposition:")), b"")
        return Part(_value(_NAME, line), _value(_FILENAME, line))


def _value(parameter: re.Pattern[bytes], line: bytes) -> str:
    found = parameter.search(line)
    return found[1].decode("utf-8", "replace") if found is not None else ""
