"""The pool, without sockets."""

from __future__ import annotations

import asyncio
import errno
import os
from unittest.mock import Mock

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from yarl import URL

from flatout.journey import Journey, reset_journey, set_journey
from flatout.testing import run_virtual
from flatout.transports import descriptors
from flatout.transports.over_aiohttp.pool import FILES_WAIT, Exchange, Pool, exchange

KEY = ConnectionKey("example.test", 443, True, True, None, None, None)
REQUEST = Mock(url=URL("https://example.test/"))


def opened(monkeypatch, number: int, until: float) -> tuple[Exception | None, float]:
    """What becomes of a connection that no file can be opened for until a time, and when."""

    async def create(self, *_: object) -> str:
        if asyncio.get_running_loop().time() < until:
            raise aiohttp.ClientConnectorError(KEY, OSError(number, os.strerror(number)))
        return "opened"

    async def main() -> tuple[Exception | None, float]:
        exchange.set(Exchange())
        pool = Pool(connect_timeout=10.0, keepalive=4.0)
        failure = None
        try:
            assert await pool._create_connection(REQUEST, [], None) == "opened"
        except aiohttp.ClientError as error:
            failure = error
        await pool.close()
        return failure, asyncio.get_running_loop().time()

    monkeypatch.setattr(aiohttp.TCPConnector, "_create_connection", create)
    return run_virtual(main())


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_connection_waits_for_a_file_that_it_may_open(monkeypatch, number):
    """Each call that finds no free file would spend its attempts within a second, and fail."""
    failure, at = opened(monkeypatch, number, until=20.0)
    assert failure is None
    assert at == pytest.approx(20.0, abs=0.1)


def test_a_connection_does_not_wait_for_ever(monkeypatch):
    """A program that leaks files would hang."""
    failure, at = opened(monkeypatch, errno.EMFILE, until=1_000.0)
    assert failure.errno == errno.EMFILE
    assert at == pytest.approx(FILES_WAIT, abs=0.1)


def test_other_failures_show_at_once(monkeypatch):
    """A typo in the address would be known after a minute."""
    failure, at = opened(monkeypatch, errno.ECONNREFUSED, until=1_000.0)
    assert failure.errno == errno.ECONNREFUSED
    assert at < 0.1


@pytest.mark.parametrize(("soft", "free"), [(256, 256 - 20 - descriptors.RESERVE), (30, 1), (None, None)])
def test_some_files_are_left_for_others(monkeypatch, soft, free):
    """The run file, a look-up or the user's own code could open nothing; or no call could be sent at all."""
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY if soft is None else soft, 4_096))
    monkeypatch.setattr(descriptors, "_open_now", lambda: 20)
    assert descriptors.free() == free


@pytest.mark.parametrize("until", [0.0, 1_000.0])
def test_the_queue_is_told_of_each_connection_that_is_being_opened(monkeypatch, until):
    """Its calls would wait here by the hundred, and count as sent; or it would wait for one that nobody opens."""
    told: list[int] = []
    journey = Journey(0.0)
    journey.attempt.opens = told.append
    token = set_journey(journey)
    opened(monkeypatch, errno.EMFILE, until)
    reset_journey(token)
    assert told == [1, -1]
