"""The pool, without sockets."""

from __future__ import annotations

import asyncio
import errno
import os

import pytest

from flatout.testing import run_virtual
from flatout.transports import descriptors
from flatout.transports import pool as pool_module
from flatout.transports.address import Origin
from flatout.transports.failures import Unreached
from flatout.transports.http1 import Connection
from flatout.transports.pool import FILES_WAIT, Pool
from tests.support.byte_wire import Wire


def connected(make) -> Connection:
    connection = make()
    Wire(connection)
    return connection


class Dialer:
    """Opens a connection from a given time on; before that it fails."""

    origin = Origin("https", "example.test", 443)
    first_hop = "example.test:443"
    proxy = None

    def __init__(self, number: int = 0, until: float = 0.0) -> None:
        self.number = number
        self.until = until
        self.dialled = 0

    async def dial(self, make) -> Connection:
        if asyncio.get_running_loop().time() < self.until:
            raise OSError(self.number, os.strerror(self.number))
        self.dialled += 1
        return connected(make)


def opened(number: int, until: float) -> tuple[OSError | None, float]:
    """What becomes of a connection that no file can be opened for until a time, and when."""

    async def main() -> tuple[OSError | None, float]:
        pool = Pool(Dialer(number, until), connect_timeout=10.0, keepalive=4.0)
        failure = None
        try:
            assert isinstance(await pool.open(), Connection)
        except Unreached as error:
            failure = error.reason
        await pool.close()
        return failure, asyncio.get_running_loop().time()

    return run_virtual(main())


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_connection_waits_for_a_file_that_it_may_open(number):
    """Each call that finds no free file would spend its attempts within a second, and fail."""
    failure, at = opened(number, until=20.0)
    assert failure is None
    assert at == pytest.approx(20.0, abs=0.1)


def test_a_connection_does_not_wait_for_ever():
    """A program that leaks files would hang."""
    failure, at = opened(errno.EMFILE, until=1_000.0)
    assert failure.errno == errno.EMFILE
    assert at == pytest.approx(FILES_WAIT, abs=0.1)


def test_other_failures_show_at_once():
    """A typo in the address would be known after a minute."""
    failure, at = opened(errno.ECONNREFUSED, until=1_000.0)
    assert failure.errno == errno.ECONNREFUSED
    assert at < 0.1


def test_no_more_than_a_bounded_number_are_opened_at_the_same_time():
    """Five thousand TLS handshakes at once would hold up everything else for five seconds."""

    class Slow(Dialer):
        now = most = 0

        async def dial(self, make) -> Connection:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(1)
            self.now -= 1
            return connected(make)

    async def main() -> None:
        dialer = Slow()
        pool = Pool(dialer, connect_timeout=10.0, keepalive=4.0)
        await asyncio.gather(*(pool.open() for _ in range(256)))
        assert dialer.most == 64
        assert asyncio.get_running_loop().time() == pytest.approx(4, abs=0.01)

    run_virtual(main())


@pytest.mark.parametrize(("soft", "free"), [(256, 256 - 20 - descriptors.RESERVE), (30, 1), (None, None)])
def test_some_files_are_left_for_others(monkeypatch, soft, free):
    """The run file, a look-up or the user's own code could open nothing; or no call could be sent at all."""
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY if soft is None else soft, 4_096))
    monkeypatch.setattr(descriptors, "_open_now", lambda: 20)
    assert descriptors.free() == free


def test_a_connection_that_is_being_closed_is_not_handed_out(monkeypatch):
    """The request would be lost with it, and count as one that may have been sent."""
    monkeypatch.setattr(pool_module, "_is_readable", lambda _: False)

    async def main() -> None:
        pool = Pool(Dialer(), connect_timeout=10.0, keepalive=4.0)
        for closed in (False, True):
            connection = await pool.open()
            pool._freed(connection)
            if closed:
                connection.data_received(b"nobody asked")  # it is gone in the next turn of the loop
            assert pool.take() is (None if closed else connection)
        await pool.close()

    run_virtual(main())


def test_a_connection_that_is_closed_at_once_has_sent_nothing():
    """A server that accepts and closes, as an overloaded one does, would cost an attempt that may have been paid."""

    class Closing(Dialer):
        async def dial(self, make) -> Connection:
            connection = connected(make)
            connection.eof_received()
            return connection

    async def main() -> None:
        pool = Pool(Closing(), connect_timeout=10.0, keepalive=4.0)
        with pytest.raises(Unreached):
            await pool.open()
        assert (pool.in_use, pool.idle) == (0, 0)

    run_virtual(main())
