"""A process's connections to the places where limits are shared."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from flatout import Budget, Call, Client, ConfigError, Limits
from flatout.cluster import links
from flatout.cluster.answers import AnswersInRedis
from flatout.cluster.budget import BudgetInRedis
from flatout.cluster.links import Links
from flatout.cluster.redis import cannot, reason
from flatout.presence import AGAIN
from flatout.values.place import place_of
from tests.support.scripted_wire import Wire, completion


class SlowLink:
    """A connection whose first check lasts until a second one begins, or nobody else comes."""

    def __init__(self, made: list[SlowLink], entered: threading.Semaphore) -> None:
        made.append(self)
        self._entered = entered

    def check(self) -> None:
        self._entered.release()
        for _ in range(2):
            self._entered.acquire(timeout=0.1)

    async def close(self) -> None: ...


def test_threads_that_ask_at_once_share_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would open its own, and only the last be closed with the client."""
    made: list[SlowLink] = []
    entered = threading.Semaphore(0)
    monkeypatch.setattr(links, "link_to", lambda place: SlowLink(made, entered))
    client = Client("m", base_url="http://127.0.0.1:1/v1", limits=Limits(shared="redis://127.0.0.1/0/team"), config={})
    target = client._engine.targets.target("m")
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(client._engine.stack.limiters.check, [target, target]))
    assert len(made) == 1


class Hangs:
    """A server that drops packets, until the test lets it refuse."""

    def __init__(self) -> None:
        self.asked, self.let = threading.Event(), threading.Event()

    def check(self) -> None:
        self.asked.set()
        self.let.wait(30.0)
        raise ConfigError("it cannot be reached")

    async def close(self) -> None: ...


SHARING = {
    "endpoints": {name: {"base_url": f"http://{name}/v1"} for name in ("far", "other", "near")},
    "limits": {"far/m": {"shared": "redis://here:1/0/team"}, "other/m": {"shared": "redis://there:1/0/team"}},
}


@pytest.mark.parametrize("free", ["near/m", "other/m"])
def test_calls_to_other_targets_do_not_wait_for_a_server_that_is_looked_for(monkeypatch, free) -> None:
    """A server that drops packets would hold up the first calls to all models for fifteen seconds."""
    hangs, other = Hangs(), Server()
    monkeypatch.setattr(links, "link_to", lambda place: hangs if place == HERE else other)

    async def main() -> None:
        async with Client("near/m", transport=Wire(lambda _: completion("x")), config=SHARING) as client:
            waiting = asyncio.create_task(client.result(Call("x", model="far/m")))
            await asyncio.to_thread(hangs.asked.wait, 10.0)
            try:
                result = await asyncio.wait_for(client.result(Call("x", model=free)), 10.0)
            finally:
                hangs.let.set()
            assert result.ok if free == "near/m" else other.asked == 1
            assert isinstance((await waiting).error, ConfigError)

    asyncio.run(main())


HERE, THERE = place_of("redis://here:1/0/team"), place_of("redis://there:1/0/team")


class Server:
    """One that may be away."""

    def __init__(self) -> None:
        self.up, self.asked, self.now = False, 0, 0.0

    def check(self) -> None:
        self.asked += 1
        if not self.up:
            raise ConfigError("it cannot be reached")

    async def close(self) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr("flatout.cluster.links.link_to", lambda place: server)
    return server


def test_a_server_that_is_away_is_not_looked_for_by_each_call(server: Server) -> None:
    """A thousand calls would each wait five seconds for a server that drops packets, one after the other."""
    found = Links(lambda: server.now)
    for _ in range(100):
        with pytest.raises(ConfigError, match="it cannot be reached"):
            found.to(HERE)
    assert server.asked == 1
    with pytest.raises(ConfigError):
        found.to(THERE)
    assert server.asked == 2


def test_a_server_that_is_back_is_found_again(server: Server) -> None:
    """A program would have to be started anew after each restart of the server."""
    found = Links(lambda: server.now)
    with pytest.raises(ConfigError):
        found.to(HERE)
    server.up, server.now = True, AGAIN
    assert found.to(HERE) is server
    server.up = False
    assert found.to(HERE) is server
    assert server.asked == 2


async def work(item: str, client: Client) -> None: ...


WHAT = {
    "limits": {"limits": Limits(rpm=60, shared=str(HERE))},
    "budget": {"budget": Budget(1.0, "day", str(HERE))},
    "cache": {"cache": str(HERE)},
}


@pytest.fixture
def away(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """One for limits, a budget and a cache."""
    for shared in (BudgetInRedis, AnswersInRedis):
        monkeypatch.setattr(shared, "_try", lambda _: server.check())
    return server


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("how", ["gather", "as_completed", "map", "embed", "call"])
def test_many_calls_do_not_begin_without_what_is_shared(away: Server, how: str, what: str) -> None:
    """A thousand results would each hold the error that one line at the start can tell."""

    async def main() -> None:
        async with Client("any", base_url="http://any/v1", config={}, **WHAT[what]) as client:
            assert not away.asked  # else the event loop would stop where the client is made
            if how in ("gather", "embed"):
                await getattr(client, how)(["a question"])
            elif how == "as_completed":
                await anext(client.as_completed(["a question"]))
            elif how == "map":
                await anext(client.map(work, ["an item"]))
            else:
                for _ in range(2):
                    with pytest.raises(ConfigError, match="it cannot be reached"):
                        await client.call("a question")
                assert away.asked == 1
                await client.call("a question")

    with pytest.raises(ConfigError, match="it cannot be reached"):
        asyncio.run(main())


@pytest.mark.parametrize("asked", [{"models": ["near/m", "far/m"]}, {"model": "far/m"}])
def test_a_place_of_one_model_alone_is_looked_for_at_the_start(server: Server, asked: dict[str, Any]) -> None:
    """Each call to that model would fail by itself, with the same error."""

    async def main() -> None:
        async with Client("near/m", transport=Wire(lambda _: completion("x")), config=SHARING) as client:
            assert (await client.gather(["a question"]))[0].ok
            await client.gather(["a question"] * 100, **asked)

    with pytest.raises(ConfigError, match="it cannot be reached"):
        asyncio.run(main())
    assert server.asked == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (redis.AuthenticationError("HELLO must be called with the client already authenticated"), "wants a password"),
        (redis.ResponseError("DB index is out of range"), "has no database"),
        (redis.exceptions.InvalidResponse('Protocol error, got "H" as reply type byte'), "is no Redis server"),
        (redis.ResponseError("OOM"), "OOM"),
        (ValueError("Invalid value for 'db' in connection URL"), "its address has a wrong option: db"),
        (TypeError("__init__() got an unexpected keyword argument 'foo'"), "its address has a wrong option: foo"),
    ],
)
def test_a_server_that_refuses_was_reached(error: redis.RedisError, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody without the password would look for a fault of the network, and not know what to do."""
    monkeypatch.delenv("FLATOUT_REDIS_PASSWORD", raising=False)
    assert said in reason(error)
    assert cannot(error) == "cannot be used"
    assert cannot(redis.ConnectionError("Connection refused")) == "cannot be reached"


@pytest.mark.parametrize(
    ("below", "said"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "nobody listens there (connection refused)"),
        (FileNotFoundError(2, "No such file or directory"), "there is no such socket"),
        (socket.gaierror(-2, "Name or service not known"), "its host's name is not known"),
        (ConnectionResetError(104, "Connection reset by peer"), "if it wants TLS, its address begins with rediss://"),
        (OSError(113, "No route to host"), "No route to host"),
    ],
)
def test_a_server_that_is_not_reached_is_told_in_words(below: OSError, said: str) -> None:
    """A user would read a number of the system, and the address once more: Error 111 connecting to …"""
    error = redis.ConnectionError(f"Error {below.errno} connecting to 127.0.0.1:1. {below.strerror}.")
    error.__context__ = below
    assert reason(error).endswith(said)
    assert "Error" not in reason(error)
    assert reason(redis.TimeoutError("Timeout reading from socket")) == "it did not answer in time"


def test_a_server_that_was_killed_is_not_taken_for_one_that_wants_tls() -> None:
    """Somebody whose server restarts would be told to change an address that is right."""
    error = redis.ConnectionError("Connection closed by server.")
    assert "wants TLS" in reason(error)
    assert reason(error, known=True) == "it closed the connection"


def test_what_a_script_could_not_do_is_told_without_its_digest() -> None:
    """A user would read where in a program of ours a server was full, instead of only that."""
    said = "command not allowed when used memory > 'maxmemory'. script: 7e30926f8d0253cb, on @user_script:170."
    assert reason(redis.ResponseError(said)) == "command not allowed when used memory > 'maxmemory'"


def test_a_wrong_password_is_not_asked_for_as_if_it_were_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable would be set once more to what it holds."""
    monkeypatch.setenv("FLATOUT_REDIS_PASSWORD", "hunter2")
    assert reason(redis.AuthenticationError("WRONGPASS")) == (
        "it refuses the password that FLATOUT_REDIS_PASSWORD holds, or the user's name"
    )
