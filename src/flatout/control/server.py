"""Answers requests at a Unix socket, in the event loop of what is steered, at a bounded cost.

A client costs the run next to nothing. There are a few connections at a time, each with a bounded line, a few seconds
to send it, and a bounded number of requests per second. A client that asks more often waits in the kernel. The run
never waits for a client: one that does not read its answer is dropped.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pwd
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from flatout.errors import FlatoutError

from . import place

Handle = Callable[[dict[str, Any]], dict[str, Any]]
"""Carries out a request, at once. It raises FlatoutError to refuse it."""

MOST_CLIENTS = 16
"""Connections at a time. A further one takes the place of the oldest."""

LONGEST_LINE = 4_096
"""Bytes of a request."""

PATIENCE = 5.0
"""Seconds in which a client has to send its next line."""

PER_SECOND = 40.0
"""Connections and requests that are heard per second."""

AT_ONCE = 40.0
"""How many of them may come at once."""

REST = 0.5
"""Seconds for which nobody is heard once the ration is used up. To rest costs more than to answer, because each
connection leaves the loop and comes back. With 40 a second, a rest of half a second takes 0.14 % of a processor from
clients that ask without a pause and 0.26 % from hostile ones; 0.1 seconds take three times as much
(`python -m benchmarks.steering`)."""

_CREDENTIALS = "3i"  # struct ucred: process, user, group

_log = logging.getLogger("flatout")


class Server:
    """Answers at one socket.

    Args:
        end: the listening socket, which the server owns from now on.
        handle: carries out requests.
        own: this user's name.
    """

    def __init__(self, end: socket.socket, handle: Handle, own: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = end
        self._handle = handle
        self._own = own
        self._guests: dict[_Guest, None] = {}  # the oldest first
        self._ration, self._at = AT_ONCE, self._loop.time()
        self._resting: asyncio.TimerHandle | None = None
        self._loop.add_reader(end, self._accept)

    def close(self) -> None:
        """Drop all clients, and listen no more."""
        if self._resting is not None:
            self._resting.cancel()
        for guest in list(self._guests):
            guest.close()
        self._loop.remove_reader(self._end)
        self._end.close()

    def left(self, guest: _Guest) -> None:
        """A client has gone."""
        self._guests.pop(guest, None)

    def may_go_on(self) -> bool:
        """Whether something more may be heard now; else nobody is heard for a moment."""
        now = self._loop.time()
        self._ration = min(AT_ONCE, self._ration + (now - self._at) * PER_SECOND)
        self._at = now
        if self._ration < 1.0:
            if self._resting is None:
                self._rest()
            return False
        self._ration -= 1.0
        return True

    def answer(self, line: bytes, by: str) -> bytes:
        """The answer to a request."""
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            return _line({"error": "a request is a JSON object on one line"})
        try:
            return _line({"ok": True} | self._handle(request | {"by": by}))
        except FlatoutError as error:
            return _line({"error": str(error)})
        except Exception as error:  # out of here it would reach the event loop, and the client would wait
            _log.debug("a request failed", exc_info=error)
            return _line({"error": f"the request failed: {type(error).__name__}"})

    def _accept(self) -> None:
        if not self.may_go_on():
            return
        try:
            end, _ = self._end.accept()
        except OSError:  # it has gone, or there are too many open files
            return
        by = self._user_of(end)
        if by is None:
            end.close()
            return
        if len(self._guests) >= MOST_CLIENTS:
            next(iter(self._guests)).close()
        end.setblocking(False)
        self._guests[_Guest(self, end, by, self._loop)] = None

    def _user_of(self, end: socket.socket) -> str | None:
        """The user at the other end; None if it is neither this one nor root. The file's mode keeps them out, too."""
        if not hasattr(socket, "SO_PEERCRED"):
            return self._own
        try:
            given = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(_CREDENTIALS))
        except OSError:
            return None
        _, user, _ = struct.unpack(_CREDENTIALS, given)
        return self._own if user == os.geteuid() else "root" if user == 0 else None

    def _rest(self) -> None:
        self._loop.remove_reader(self._end)
        for guest in self._guests:
            guest.listen(False)
        self._resting = self._loop.call_later(REST, self._go_on)

    def _go_on(self) -> None:
        self._resting = None
        self._loop.add_reader(self._end, self._accept)
        for guest in self._guests:
            guest.listen(True)


class _Guest:
    """One connection."""

    __slots__ = ("_buffer", "_by", "_end", "_loop", "_server", "_timer")

    def __init__(self, server: Server, end: socket.socket, by: str, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._end = end
        self._by = by
        self._loop = loop
        self._buffer = b""
        self._timer = loop.call_later(PATIENCE, self.close)
        self.listen(True)

    def close(self) -> None:
        """Leave. A client that has gone while it was answered leaves twice."""
        if self._end.fileno() < 0:
            return
        self._timer.cancel()
        self.listen(False)
        self._end.close()
        self._server.left(self)

    def listen(self, listens: bool) -> None:
        """Hear what comes, or let it wait."""
        if listens:
            self._loop.add_reader(self._end, self._read)
        else:
            self._loop.remove_reader(self._end)

    def _read(self) -> None:
        if not self._server.may_go_on():
            return
        try:
            data = self._end.recv(LONGEST_LINE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._buffer += data
        line, newline, rest = self._buffer.partition(b"\n")
        if newline:
            self._buffer = b""
            self._send(self._server.answer(line, self._by))
            if rest:  # a client asks again when it has its answer
                self.close()
        elif len(self._buffer) >= LONGEST_LINE:
            self._send(_line({"error": f"a request has at most {LONGEST_LINE:,} bytes"}))
            self.close()
        elif not data:
            self.close()

    def _send(self, answer: bytes) -> None:
        try:
            sent = self._end.send(answer)
        except OSError:
            sent = 0
        self._timer.cancel()
        if sent < len(answer):  # it does not read what it is told
            self.close()
            return
        self._timer = self._loop.call_later(PATIENCE, self.close)


@asynccontextmanager
async def served(places: Callable[[], list[Path]], handle: Handle) -> AsyncIterator[Path | None]:
    """A block in which requests are answered at the first of some places where a socket can be.

    It gives that place. If no place can have a socket, it gives None and logs why.
    """
    opened = await asyncio.to_thread(_opened, places)
    if opened is None:
        yield None
        return
    server = Server(opened.end, handle, opened.own)
    try:
        yield opened.where
    finally:
        server.close()
        await asyncio.to_thread(place.remove, opened.where, opened.made)


class _Opened(NamedTuple):
    """A socket that listens: where it is, what distinguishes its file from a later one, and this user's name."""

    end: socket.socket
    where: Path
    made: tuple[int, int] | None
    own: str


def _opened(places: Callable[[], list[Path]]) -> _Opened | None:
    """Open the socket. This waits for the disk, and for whoever knows the users' names."""
    for where in places():
        try:
            end = place.listen(where)
        except OSError as error:
            _log.debug("no socket for flatout ctl at %s: %s", where, error)
        else:
            return _Opened(end, where, place.mark(where), _own_name())
    return None


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"user {os.geteuid()}"


def _line(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer, ensure_ascii=True).encode() + b"\n"
