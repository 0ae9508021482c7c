from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.errors import ConfigError, FlatoutError
from flatout.local import LocalServer, endpoint, serve_forever
from flatout.local import server as server_module

BASE_URL = "http://127.0.0.1:4321/v1"


class FakeWorker:
    """Stands in for a model process: ready at once, unless told to fail."""

    made: list[FakeWorker]
    refuses: str | None

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.alive = True
        self.made.append(self)

    def wait_until_ready(self, deadline: float) -> None:
        if self.refuses is not None:
            raise ConfigError(self.refuses)

    def dismiss(self) -> None:
        self.alive = False

    def bury(self) -> None:
        assert not self.alive


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> type[FakeWorker]:
    """A world in which starting the model is instant and opens nothing."""
    monkeypatch.setattr(FakeWorker, "made", [], raising=False)
    monkeypatch.setattr(FakeWorker, "refuses", None, raising=False)
    monkeypatch.setattr(server_module, "_Worker", FakeWorker)
    monkeypatch.setattr(server_module, "verified", lambda model: model or Path("model.gguf"))
    monkeypatch.setattr(server_module, "_free_port", lambda host, port: port or 4321)
    monkeypatch.setattr(server_module, "_wait_until_healthy", lambda host, port, deadline: None)
    monkeypatch.setattr(server_module, "_ports_are_shared", lambda: True)
    monkeypatch.setattr(server_module, "_usable_cores", lambda: 2)
    return FakeWorker


def test_the_endpoint_is_keyless_and_bounded_by_slots() -> None:
    """Calls would ask for a key, flood the server, or reach the model without the system prompt that it needs."""
    local = endpoint(BASE_URL, 6)
    assert (local.name, local.base_url) == ("local", BASE_URL)
    assert local.self_hosted
    assert not local.key_required
    assert local.limits.concurrency == 6
    assert local.system


def test_it_starts_once_and_stops_once(worker: type[FakeWorker]) -> None:
    """A run that starts the server twice would pay its memory twice and leave one behind."""
    server = LocalServer()
    assert "stopped" in repr(server)
    assert server.start() == server.start() == server.base_url == BASE_URL
    assert server.running
    assert BASE_URL in repr(server)
    assert server.endpoint().base_url == BASE_URL
    server.stop()
    server.stop()
    assert [each.alive for each in worker.made] == [False, False]
    assert not server.running


def test_the_slots_are_shared_out(worker: type[FakeWorker]) -> None:
    """A worker short of slots would queue calls that flatout believes to be running."""
    with LocalServer(slots=7, context=3000, port=99):
        assert [each.options["slots"] for each in worker.made] == [4, 3]
        assert {each.options["port"] for each in worker.made} == {99}
        assert all(each.options["share_port"] and each.options["context"] == 3000 for each in worker.made)


def test_one_worker_has_its_port_alone(worker: type[FakeWorker]) -> None:
    """On systems that cannot spread connections a second process would only cost memory."""
    with LocalServer(workers=1), LocalServer(slots=1):
        assert [each.options["share_port"] for each in worker.made] == [False, False]


def test_a_failed_start_leaves_nothing(worker: type[FakeWorker], monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker that fails would leave the other ones running for as long as the program."""
    monkeypatch.setattr(worker, "refuses", "invalid magic characters")
    server = LocalServer()
    with pytest.raises(ConfigError, match="invalid magic"):
        server.start()
    assert [each.alive for each in worker.made] == [False, False]
    assert server.base_url == ""


def test_a_missing_model_is_told_before_anything_starts(
    worker: type[FakeWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user would see a failing server instead of the command that gets the model."""

    def missing(model: Path | None) -> Path:
        raise ConfigError("run: flatout local pull")

    monkeypatch.setattr(server_module, "verified", missing)
    with pytest.raises(ConfigError, match="local pull"):
        LocalServer().start()
    assert worker.made == []


@pytest.mark.parametrize("options", [{"slots": 0}, {"context": 0}, {"workers": 0}, {"port": -1}, {"port": 65_536}])
def test_a_number_out_of_range_is_refused(options: dict[str, int]) -> None:
    """A typing error would surface as a crash of the model server."""
    with pytest.raises(ConfigError):
        LocalServer(**options)  # type: ignore[arg-type]  # the options are numbers, all of them


def test_async_use_starts_and_stops(worker: type[FakeWorker]) -> None:
    """`async with LocalServer()` would leave its processes behind."""

    async def use() -> str:
        async with LocalServer() as server:
            return server.base_url

    assert asyncio.run(use()) == BASE_URL
    assert [each.alive for each in worker.made] == [False, False]


def test_cancelling_the_start_leaves_nothing(worker: type[FakeWorker], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C during the start would leave a model in memory that nobody knows of."""
    loading, cancelled = threading.Event(), threading.Event()

    def choose(host: str, port: int) -> int:
        loading.set()
        assert cancelled.wait(5)
        return 4321

    monkeypatch.setattr(server_module, "_free_port", choose)

    async def use() -> None:
        starting = asyncio.create_task(LocalServer().__aenter__())
        await asyncio.to_thread(loading.wait, 5)
        starting.cancel()
        asyncio.get_running_loop().call_later(0.01, cancelled.set)
        with pytest.raises(asyncio.CancelledError):
            await starting

    asyncio.run(use())
    assert [each.alive for each in worker.made] == [False, False]


def test_serving_ends_with_an_error_when_the_model_dies(
    worker: type[FakeWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`flatout local serve` would sit there as if it served."""
    heard: list[str] = []

    def kill(seconds: float) -> None:
        worker.made[0].alive = False

    monkeypatch.setattr(time, "sleep", kill)
    with pytest.raises(FlatoutError, match="ended"):
        serve_forever(port=4000, announce=heard.append)
    assert heard == ["http://127.0.0.1:4000/v1"]
    assert [each.alive for each in worker.made] == [False, False]


def test_serving_ends_quietly_on_ctrl_c(worker: type[FakeWorker], monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping the server by hand would show a traceback."""

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    serve_forever()
    assert [each.alive for each in worker.made] == [False, False]


@given(st.integers(1, 200), st.integers(1, 8))
def test_shares_are_even_and_whole(slots: int, workers: int) -> None:
    """Slots would get lost, or one worker would have most of them."""
    workers = min(slots, workers)
    shares = server_module._shares(slots, workers)
    assert sum(shares) == slots
    assert len(shares) == workers
    assert 1 <= min(shares) <= max(shares) <= min(shares) + 1


def test_a_worker_that_will_not_end_leaves_no_other_behind(
    worker: type[FakeWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processes after it would stay until the machine is restarted."""
    buried: list[FakeWorker] = []

    def bury(self: FakeWorker) -> None:
        buried.append(self)
        raise OSError("it is gone")

    server = LocalServer()
    server.start()
    monkeypatch.setattr(worker, "bury", bury)
    with pytest.raises(OSError, match="it is gone"):
        server.stop()
    assert buried == worker.made
