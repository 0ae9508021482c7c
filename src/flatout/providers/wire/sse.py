"""Server-sent events, the framing of every streamed answer: takes bytes in any chunks, gives events.

The format is WHATWG's (HTML, "Server-sent events"). The parser is more lenient at the end of the stream: some servers
close without the last blank line, and an answer should not be lost over that. It skips fields that answers do not need
(``id``, ``retry``), and comments, which providers send to keep a connection alive.
"""

from __future__ import annotations

from msgspec import Struct

from flatout.errors import ProtocolError

MAX_EVENT = 16 * 2**20
"""The largest event, in bytes. A whole answer in one event is far smaller; anything larger is an error."""

_BOM = b"\xef\xbb\xbf"


class ServerSentEvent(Struct, frozen=True, gc=False):
    """One event: its data, and the name that the server gave it ("" if none)."""

    data: bytes
    name: str = ""


class EventParser:
    """Splits a stream into events. The result does not depend on how the bytes are cut into chunks.

    Args:
        max_event: the largest event, in bytes, unfinished lines included.
    """

    __slots__ = ("_data", "_first", "_held", "_max", "_name", "_pieces", "_waiting")

    def __init__(self, max_event: int = MAX_EVENT) -> None:
        self._max = max_event
        self._pieces: list[bytes] = []  # of the unfinished line
        self._data: list[bytes] = []  # lines of the unfinished event
        self._name = ""
        self._held = 0  # bytes of those lines, each with its line break
        self._waiting = 0  # bytes of the unfinished line
        self._first = True

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events that end in this chunk of the stream.

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
        # A carriage return at the very end may be the first half of a line break, so its line waits for more bytes.
        rest = lines.pop() if not lines[-1].endswith(b"\n") else b""
        self._pieces = [rest] if rest else []
        events = self._take(lines)
        self._waiting = len(rest)
        self._refuse_large()
        return events

    def close(self) -> list[ServerSentEvent]:
        """The event that ends with the stream, if any."""
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
