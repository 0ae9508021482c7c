"""Server-sent events, the framing of every streamed answer: bytes in, in whatever pieces, events out.

The format is WHATWG's (HTML, "Server-sent events"), read a little more leniently at its end: some servers close
without the last blank line, and an answer should not be lost over that. Names that streams of answers have no use
for (``id``, ``retry``) are skipped, and so are comments, which providers send to keep a connection alive.
"""

from __future__ import annotations

from msgspec import Struct

from flatout.errors import ProtocolError

MAX_EVENT = 16 * 2**20
"""Bytes that one event may have. A whole answer in one event is far below; above it, something is wrong."""

_BOM = b"\xef\xbb\xbf"


class ServerSentEvent(Struct, frozen=True, gc=False):
    """One event: its data, and the name that the server gave it ("" when it gave none)."""

    data: bytes
    name: str = ""


class EventParser:
    """Takes a stream apart into events, the same ones however the bytes are cut.

    Args:
        max_event: bytes that one event may have, unfinished lines included.
    """

    __slots__ = ("_data", "_first", "_held", "_max", "_name", "_pieces", "_waiting")

    def __init__(self, max_event: int = MAX_EVENT) -> None:
        self._max = max_event
        self._pieces: list[bytes] = []  # the line that has not ended yet
        self._data: list[bytes] = []  # the lines of the event that has not ended yet
        self._name = ""
        self._held = 0  # bytes of those lines, each with its line break
        self._waiting = 0  # bytes of the line
        self._first = True

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events that end in this piece of the stream.

        Raises:
            ProtocolError: an event is larger than ``max_event``.
        """
        if not chunk:
            return []
        self._pieces.append(chunk)
        self._waiting += len(chunk)
        if b"\n" not in chunk and b"\r" not in chunk and not self._had_return():
            self._refuse_large()
            return []
        block = b"".join(self._pieces)
        lines = block.splitlines(keepends=True)
        # A carriage return at the very end may be the first half of a line break, so its line waits for more.
        rest = lines.pop() if not lines[-1].endswith(b"\n") else b""
        self._pieces = [rest] if rest else []
        events = self._take(lines)
        self._waiting = len(rest)
        self._refuse_large()
        return events

    def close(self) -> list[ServerSentEvent]:
        """The event that the end of the stream ends, if there is one."""
        rest = b"".join(self._pieces)
        self._pieces = []
        return self._take([*rest.splitlines(), b""])

    def _had_return(self) -> bool:
        return len(self._pieces) > 1 and self._pieces[-2].endswith(b"\r")

    def _refuse_large(self) -> None:
        if self._waiting + self._held > self._max:
            raise ProtocolError(f"one event of the stream is larger than {self._max:,} bytes")

    def _take(self, lines: list[bytes]) -> list[ServerSentEvent]:
        events: list[ServerSentEvent] = []
        for raw in lines:
            line = raw.rstrip(b"\r\n")
            if self._first:
                line = line.removeprefix(_BOM)
                self._first = False
            if line:
                self._field(line)
            elif self._data:
                events.append(ServerSentEvent(b"\n".join(self._data), self._name))
                self._data = []
                self._held = 0
                self._name = ""
            else:
                self._name = ""
        return events

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._held += len(value) + 1
        elif name == b"event":
            self._name = value.removeprefix(b" ").decode("utf-8", "replace")
