"""What a program's HTTP client raises for a request that has no answer."""

from __future__ import annotations

from functools import cache
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

    Ours then counts as one of httpx's as well: some SDKs handle no others. An SDK raises an error of its own, whose
    cause it is.
    """
    forget(error)
    for kind, name in _NAMES.items():
        if isinstance(error, kind):
            theirs: BaseException = getattr(package, name)(str(error))
            theirs.__cause__ = error
            return theirs
    _count_as(error, package.TransportError)
    return error


def _count_as(error: Any, theirs: Any) -> None:
    """Make an error one of httpx's as well."""
    if not isinstance(error, theirs):
        ours: Any = type(error)
        error.__class__ = _both(ours, theirs)
        error._request = None  # httpx sets it


@cache
def _both(ours: Any, theirs: Any) -> Any:
    """A class of ours that is one of httpx's too. A pickle of it is one of ours."""

    def reduce(error: CallError) -> Any:
        state = {name: value for name, value in vars(error).items() if name != "_request"}
        return ours, error.args, state

    return type(ours.__name__, (ours, theirs), {"__module__": ours.__module__, "__reduce__": reduce})
