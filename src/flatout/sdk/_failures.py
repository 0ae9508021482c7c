"""What a program's HTTP client raises for a request that has no answer."""

from __future__ import annotations

from typing import Any

from flatout.errors import AttemptTimeout, CallError, ConnectError, ProtocolError, TransportError
from flatout.values.secret import forget

_NAMES = {
    ConnectError: "ConnectError",
    AttemptTimeout: "ReadTimeout",
    ProtocolError: "RemoteProtocolError",
    TransportError: "ReadError",
}
"""The errors of httpx that say the same."""


def in_its_words(error: CallError, package: Any) -> BaseException:
    """An error as httpx raises it: one of its own, caused by ours, or ours itself if none of its own says the same.

    Vendors' SDKs then raise an error of theirs, whose cause it is.
    """
    forget(error)
    for kind, name in _NAMES.items():
        if isinstance(error, kind):
            theirs: BaseException = getattr(package, name)(str(error))
            theirs.__cause__ = error
            return theirs
    return error
