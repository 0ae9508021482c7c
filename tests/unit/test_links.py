"""The connection to a place where limits are shared, which several threads may ask for."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from flatout import Client, Limits
from flatout.cluster import links


class SlowLink:
    """A connection whose first check lasts until a second one begins, or nobody else comes."""

    def __init__(self, made: list[SlowLink], entered: threading.Semaphore) -> None:
        made.append(self)
        self._entered = entered

    def check(self) -> None:
        self._entered.release()
        for _ in range(2):
            self._entered.acquire(timeout=0.1)


def test_threads_that_ask_at_once_share_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would open its own, and only the last be closed with the client."""
    made: list[SlowLink] = []
    entered = threading.Semaphore(0)
    monkeypatch.setattr(links, "link_to", lambda place: SlowLink(made, entered))
    client = Client("m", base_url="http://127.0.0.1:1/v1", limits=Limits(shared="redis://127.0.0.1/0/team"), config={})
    target = client.engine.targets.target("m")
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(client.engine.stack.limiters.check, [target, target]))
    assert len(made) == 1
