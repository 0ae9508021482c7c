"""The answer to a request about batches, and how a page of a list is cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeVar

import msgspec
from msgspec import Struct

JSON = "application/json"
LINES = "application/octet-stream"

encode = msgspec.json.Encoder().encode


class Told(Struct, frozen=True):
    """An answer.

    Attributes:
        body, status, media_type: the HTTP answer.
        act: what was done: something was ``read`` or ``changed``, or a file of ``results`` is sent.
    """

    body: bytes = b""
    status: int = 200
    media_type: str = JSON
    act: Literal["read", "changed", "results"] = "read"


class _Named(Protocol):
    @property
    def id(self) -> str: ...


_T = TypeVar("_T", bound=_Named)


def cut(items: Sequence[_T], after: str | None, limit: int) -> tuple[Sequence[_T], bool]:
    """The items behind the one with the name ``after``, at most ``limit``, and whether there are more.

    Raises:
        KeyError: no item has that name.
    """
    start = 0
    if after is not None:
        start = next((place + 1 for place, item in enumerate(items) if item.id == after), -1)
        if start < 0:
            raise KeyError(after)
    return items[start : start + limit], len(items) > start + limit
