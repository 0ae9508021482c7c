"""What the live page's server answers, and whom it refuses. No socket is opened here."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from flatout.look.web import guard, serve
from flatout.look.web.feed import Feed
from flatout.look.web.guard import refusal, user_of
from flatout.look.web.listing import Listing
from flatout.look.web.live import LiveRun
from flatout.look.web.site import MOST_LISTENERS, MOST_WAITING, Response, Site
from flatout.testing import run_virtual
from tests.support.report_runs import FAILED, HOSTILE, row, rows, written

PORT = 8123
OWN = {b"host": b"127.0.0.1:8123"}


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        ({b"host": b"127.0.0.1:8123"}, "/", None),
        ({b"host": b"LOCALHOST:8123"}, "/events", None),
        ({b"host": b"[::1]:8123", b"origin": b"http://localhost:8123"}, "/rows", None),
        ({}, "/", 421),
        ({b"host": b"127.0.0.1"}, "/", 421),
        ({b"host": b"127.0.0.1:8124"}, "/", 421),
        ({b"host": b"evil.example:8123"}, "/", 421),
        ({b"host": b"127.0.0.1:8123.evil.example"}, "/", 421),
        (OWN | {b"origin": b"http://evil.example"}, "/events", 403),
        (OWN | {b"origin": b"null"}, "/", 403),
        (OWN | {b"origin": b"https://127.0.0.1:8123"}, "/", 403),
        (OWN | {b"sec-fetch-site": b"cross-site"}, "/", None),  # the user follows a link
        (OWN | {b"sec-fetch-site": b"cross-site"}, "/rows", 403),
        (OWN | {b"sec-fetch-site": b"same-site"}, "/row", 403),
        (OWN | {b"sec-fetch-site": b"same-origin"}, "/row", None),
    ],
)
def test_no_page_from_elsewhere_can_read_a_run(headers: dict[bytes, bytes], path: str, status: int | None) -> None:
    """A web page that the user visits could read the prompts and the answers, by its own or by a borrowed name."""
    refused = refusal("GET", path, headers, PORT)
    assert (refused and refused[0]) == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_nothing_can_be_changed(method: str) -> None:
    """A request could look as if it had an effect."""
    refused = refusal(method, "/", OWN, PORT)
    assert refused is not None
    assert refused[0] == 405


def test_at_port_80_a_host_has_no_port() -> None:
    """Browsers leave it out, so nobody could open the page."""
    assert refusal("GET", "/", {b"host": b"localhost"}, 80) is None
    assert refusal("GET", "/", {b"host": b"localhost"}, PORT) is not None


def test_the_user_of_a_connection_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody who may log in to this machine could read the prompts and the answers."""
    listed = tmp_path / "tcp"
    monkeypatch.setattr(guard, "_CONNECTIONS", listed)
    monkeypatch.setattr(guard.sys, "byteorder", "little")
    line = "{}: 0100007F:{} 0100007F:{} 01 00000000:00000000 00:00000000 00000000 {} 0 52 1 0 20 0 0 10 -1\n"
    listed.write_text(
        "  sl  local_address rem_address st\n"
        + line.format(0, "1FBB", "9C40", 7)  # the server's own end
        + line.format(1, "9C40", "1FBB", 1_001)
        + line.format(2, "9C41", "1FBB", 65_534)
    )
    assert user_of(("127.0.0.1", 40_000), PORT) == 1_001
    assert user_of(("127.0.0.1", 40_001), PORT) is None  # one whom a container cannot name
    assert user_of(("127.0.0.1", 40_002), PORT) is None
    listed.unlink()
    assert user_of(("127.0.0.1", 40_000), PORT) is None  # no such list on this system


def site_of(place: Path) -> Site:
    run = LiveRun(place.name, lambda: place)
    return Site(Feed(run), Listing(lambda: run.place), PORT)


def answers(place: Path, *targets: str, method: str = "GET") -> list[Response]:
    async def main() -> list[Response]:
        site = site_of(place)
        await site.respond("GET", "/", OWN)
        return [await site.respond(method, target, OWN) for target in targets]

    return run_virtual(main())


def test_the_page_is_safe_and_kept_nowhere(tmp_path: Path) -> None:
    """A run's text could run as a script, be sent elsewhere, be framed by another page, or stay in a cache."""
    items = [row(n, Random(1), id=text, answer=text, output=None) for n, text in enumerate(HOSTILE)]
    items.append(row(9, Random(1), **{**FAILED, "error": HOSTILE[0], "error_message": HOSTILE[1]}))
    (found,) = answers(written(tmp_path / "<b>.flatout", items, command=HOSTILE[1]), "/")
    text = found.body.decode()
    assert found.status == 200
    assert found.headers["cache-control"] == "no-store"
    assert found.headers["x-content-type-options"] == "nosniff"
    assert found.headers["cross-origin-resource-policy"] == "same-origin"
    assert found.headers["content-security-policy"] == "frame-ancestors 'none'"
    assert "default-src 'none'" in text
    assert "connect-src 'self'" in text
    assert "unsafe" not in text[: text.index("</head>")].partition("<style>")[0]
    data = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert data is not None
    assert not re.search("[<>&]", data[1])
    assert json.loads(data[1])["runs"][0]["headline"].startswith("4 of 5 rows answered")


def test_rows_are_answered_as_data(tmp_path: Path) -> None:
    """A row's text would be taken for a page, or a wrong question end in a traceback."""
    place = written(tmp_path / "a.flatout", rows(30), total=40)
    found, one, none, wrong, number, nowhere, both = answers(
        place,
        "/rows?most=10&begin=25",
        "/row?index=3",
        "/row?index=39",
        "/rows?filter=x",
        "/row?index=-1",
        "/x",
        "//rows",
    )
    assert found.headers["content-type"] == "application/json"
    listed = json.loads(found.body)
    assert (listed["total"], listed["more"]) == (40, False)
    assert [each["figures"]["row"] for each in listed["rows"]] == list(range(26, 36))
    assert [each["figures"]["state"] for each in listed["rows"]][-1] == "not finished"
    texts = json.loads(one.body)
    assert texts["prompt"].startswith("Is this mail spam or ham?")
    assert texts["figures"]["model"] == "gpt-5-mini-2026-08-07"
    assert [each.status for each in (none, wrong, number, nowhere, both)] == [404, 400, 400, 404, 404]
    (head,) = answers(place, "/events", method="HEAD")
    assert (head.status, head.events) == (200, None)


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    """The page would show rows that are not there, or nothing at all without a word."""
    place = written(tmp_path / "a.flatout", rows(3))

    async def main() -> None:
        site = site_of(place)
        await site.respond("GET", "/", OWN)
        place.unlink()
        found = await site.respond("GET", "/rows", OWN)
        assert (found.status, b"there is no run file" in found.body) == (503, True)

    run_virtual(main())


def test_what_clients_can_ask_at_once_is_bounded(tmp_path: Path) -> None:
    """A page gone wild could fill the memory with questions."""
    place = written(tmp_path / "a.flatout", rows(3))

    async def main() -> None:
        site = site_of(place)
        await site.respond("GET", "/", OWN)
        many = await asyncio.gather(*(site.respond("GET", "/rows", OWN) for _ in range(MOST_WAITING + 5)))
        assert [each.status for each in many].count(200) == MOST_WAITING  # type: ignore[arg-type]
        pages = [await site.respond("GET", "/events", OWN) for _ in range(MOST_LISTENERS)]
        for page in pages:
            assert page.events is not None
            await anext(page.events)
        assert (await site.respond("GET", "/events", OWN)).status == 503
        for page in pages:
            assert page.events is not None
            await page.events.aclose()
        assert (await site.respond("GET", "/events", OWN)).status == 200

    run_virtual(main())


class Answer:
    """Takes an answer, and reads only so much of it."""

    def __init__(self, reads: int) -> None:
        self.reads = reads
        self.written: list[bytes] = []
        self.length: int | None = None

    def begin(self, status: int, headers: Any, *, length: int | None = None) -> None:
        self.length = length

    async def write(self, piece: bytes) -> None:
        self.written.append(piece)
        if len(self.written) > self.reads:
            await asyncio.Event().wait()


def test_a_client_that_does_not_read_is_left() -> None:
    """Every browser tab that was suspended would hold a page in memory for ever."""

    async def endless() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"data: 1\n\n"
        finally:
            ended.append(True)

    async def main() -> None:
        for response in (Response(200, {}, bytes(2_000_000)), Response(200, {}, events=endless())):  # type: ignore[arg-type]
            answer = Answer(reads=3)
            began = asyncio.get_running_loop().time()
            with pytest.raises(TimeoutError):
                await serve._send(answer, response)  # type: ignore[arg-type]
            assert asyncio.get_running_loop().time() - began == pytest.approx(serve.PATIENCE, abs=1)
            assert len(answer.written) == 4

    ended: list[bool] = []
    run_virtual(main())
    assert ended == [True]
