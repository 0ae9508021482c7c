"""Requests that no client should send to the gateway, over real sockets."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import httpx
import pytest

from tests.support.command_samples import PATIENCE

from .test_gateway import CHAT, asked, gateway, port_of


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def with_body(*headers: bytes) -> bytes:
    body = json.dumps(CHAT).encode()
    return asked(body, *headers, b"Content-Length: %d" % len(body))


WHOLE = json.dumps(CHAT).encode()
IN_BYTES = b"".join(b"1\r\n%c\r\n" % byte for byte in WHOLE)


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        (asked(WHOLE) * 3, [200] * 3),  # one after the other, without waiting for the answers
        (asked(IN_BYTES + b"0\r\nX-Late: a\r\nHost: evil\r\n\r\n", b"Transfer-Encoding: chunked"), [200]),
        (with_body(b"Expect: 100-continue"), [200]),
        (with_body(*(b"X-%d: a" % n for n in range(101))), [200]),
        (with_body(b"X-Large: " + b"a" * 100_000), [431]),
        (with_body(b"X-Nul: a\x00b"), [400]),
        (with_body(b"Host: evil.example"), [400]),
        (with_body(b"Transfer-Encoding: chunked"), [400]),
        (with_body(b"x-flatout-deadline: nan"), [400]),
        (with_body(b"x-flatout-deadline: 0"), [400]),
        (with_body(b"x-flatout-deadline: -5"), [400]),
        (with_body(b"x-flatout-deadline: 0.001"), [504]),
        (asked(WHOLE).replace(b"localhost", b"evil.example"), [421]),
        (asked(WHOLE.replace(b"Spam", b"\xff\xfe")), [400]),
        (asked(b'{"model": "any", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"), [400]),
        (asked(b'{"model": "none", "model": "any", "messages": [{"role": "user", "content": "a"}]}'), [200]),
        (asked(b"\x16\x03\x01\x02\x00\x01\x00", line=b"\x16\x03\x01"), [400]),
    ],
)
def test_odd_requests_have_their_answers_and_harm_nobody(sent: bytes, statuses: list[int]) -> None:
    """A client with a fault, or with bad intent, would end the gateway, or get something that others pay for."""

    async def main() -> tuple[list[int], int]:
        async with gateway() as url, httpx.AsyncClient() as http:
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
            writer.write(sent)
            got = b""
            while len(found := re.findall(rb"HTTP/1\.1 (\d+)", got)) < len(statuses) and not reader.at_eof():
                got += await reader.read(65_536)
            writer.close()
            good = await http.post(f"{url}/chat/completions", json=CHAT, timeout=PATIENCE)
            return [int(each) for each in found], good.status_code

    assert asyncio.run(asyncio.wait_for(main(), PATIENCE)) == (statuses, 200)
