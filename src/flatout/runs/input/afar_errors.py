"""Says why a file elsewhere could not be read or written, and whether another try may help."""

from __future__ import annotations

import os
from typing import Literal

Deed = Literal["read", "written"]
"""What could not be done."""


class NoWord(TimeoutError):
    """A place has not answered while its package tried for minutes."""


_FINAL = (
    NoWord,
    *(FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError),
    *(ValueError, TypeError, NotImplementedError, ImportError),
)
_OF_AIOHTTP = {
    "ClientConnectorDNSError": "there is no such host",
    "ClientPayloadError": "the connection is lost each time",
    "ServerDisconnectedError": "the connection is lost each time",
}
_MISSING: dict[Deed, str] = {"read": "no such file", "written": "there is no such place"}
_LATER = (408, 425, 429)  # statuses below 500 that pass


def is_passing(error: BaseException) -> bool:
    """Whether it may be over in a moment: a lost connection, a busy server."""
    error = _cause(error)
    status = _status(error)
    if status is not None:
        return status >= 500 or status in _LATER
    return not isinstance(error, _FINAL)


def why(error: BaseException, deed: Deed = "read") -> str:
    """The reason, in words, for people."""
    error = _cause(error)
    status = _status(error)
    if status is not None:
        return _answer(status, str(getattr(error, "message", "") or ""), deed)
    if isinstance(error, FileNotFoundError):
        return _MISSING[deed]
    if (told := _OF_AIOHTTP.get(type(error).__name__)) is not None:
        return f"cannot be {deed}: {told}"
    if isinstance(error, TimeoutError):
        return f"cannot be {deed}: no answer in time"
    number = getattr(error, "errno", None)
    words = os.strerror(number) if number else str(error).partition("\n")[0]
    return f"cannot be {deed}: {words or type(error).__name__}"


def _answer(status: int, message: str, deed: Deed) -> str:
    if status in (404, 410):
        return _MISSING[deed]
    if status in (401, 403, 407):
        return f"the server refuses to {'hand it out' if deed == 'read' else 'take it'} ({status})"
    if status < 400:  # 0, where a client has followed too many
        return "the server sends from one address to another without end"
    return f"the server answers {status} {message}".rstrip()


def _cause(error: BaseException) -> BaseException:
    """What fsspec has wrapped: over HTTP it takes whatever keeps it from finding a file's size for a missing file."""
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and cause is not None and type(cause).__module__.startswith("aiohttp"):
        return cause
    return error


def _status(error: BaseException) -> int | None:
    """The status of a server's answer; None if none came. Each package has its own name for it."""
    told = (
        (error, "status"),
        (error, "status_code"),
        (error, "code"),
        (getattr(error, "response", None), "status_code"),
    )
    for place, name in told:  # one by one: aiohttp warns of its code
        if isinstance(status := getattr(place, name, None), int):
            return status
    return None
