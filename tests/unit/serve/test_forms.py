"""The forms in which clients upload files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.http_server.requests import Request
from flatout.serve.forms import MOST_PARTS, Part, form
from flatout.serve.guard import Denied

BOUNDARY = "x--flatout"
FIELD = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'.encode()
FILE = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; filename="r.jsonl"; name="file"\r\nContent-Type: text/plain'
).encode()
END = f"\r\n--{BOUNDARY}--\r\n".encode()


class Cut(Request):
    """A request whose body comes in pieces."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        kind = f'multipart/form-data; boundary="{BOUNDARY}"'.encode()
        super().__init__("POST", "/v1/files", {b"content-type": kind}, "1.1", keeps=True)
        self._pieces = pieces

    async def pieces(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


def parts_of(data: bytes, size: int) -> list[tuple[str, str, bytes]]:
    async def read() -> list[tuple[str, str, bytes]]:
        found: list[tuple[str, str, bytes]] = []
        async for each in form(Cut([data[at : at + size] for at in range(0, len(data), size)])):
            if isinstance(each, Part):
                found.append((each.name, each.filename, b""))
            else:
                name, filename, before = found[-1]
                found[-1] = name, filename, before + each
        return found

    return asyncio.run(read())


@given(
    st.lists(st.sampled_from([b"\r\n", b"--", b"x--flatou", b"\r\n--x--flat", b"\x00\xff", b"a"])), st.integers(1, 99)
)
def test_a_form_keeps_its_bytes_however_they_are_cut(pieces: list[bytes], size: int) -> None:
    """A file with line ends of Windows, or dashes, would be changed or cut."""
    data = b"".join(pieces)
    told = parts_of(b"before\r\n" + FIELD + FILE + b"\r\n\r\n" + data + END + b"after", size)
    assert told == [("purpose", "", b"batch"), ("file", "r.jsonl", data)]


@pytest.mark.parametrize(
    "data",
    [
        FIELD + FILE + b"\r\n\r\nhalf of it",
        FILE + b"x" * 20_000,
        FIELD * (MOST_PARTS + 1) + END,
        b"no form at all",
    ],
    ids=["cut off", "a head without an end", "too many parts", "no form"],
)
def test_what_is_no_whole_form_is_refused(data: bytes) -> None:
    """Half a file would be kept as if it were whole; or the gateway would be busy with one request for long."""
    with pytest.raises(Denied):
        parts_of(data, 1_000)
