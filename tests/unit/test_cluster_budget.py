"""A budget that machines share: clients on a virtual clock, and a server that is a pot in memory."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from flatout import Budget, BudgetExceeded, Call, Client, ConfigError
from flatout.cluster import budget as module
from flatout.cluster.accounts import _account
from flatout.policies.shared_money import BEAT, SILENT, SPARE, Ask, Borrowing, Pot
from flatout.testing import run_virtual
from flatout.values.place import place_of
from tests.support.scripted_wire import Wire, completion

NOON = 1_795_176_000.0  # 2026-11-20, in UTC
TEAM = "redis://host:6379/0/team"
CONFIG = {
    "endpoints": {"sim": {"base_url": "http://sim/v1"}},
    "prices": {"sim/m": {"input": 0.0, "output": 1_000.0}},
}
USD, COST = 2.0, 0.01  # dollars in all, and of an answer of ten tokens


class Server:
    """A server on the event loop's clock. Each client has a line to it."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.pots: dict[str, Pot] = {}
        self.away = False
        self.steps = 0
        self.ahead = 0.0  # seconds by which its clock has stepped

    def __call__(self, *_: object) -> Server:
        return self

    def clock(self) -> float:
        return NOON + self.ahead + (self.loop.time() if self.loop is not None else 0.0)

    def play(self, main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Run a test on a virtual clock, which is this server's, too."""

        async def begin() -> Any:
            self.loop = asyncio.get_running_loop()
            return await main()

        return run_virtual(begin())

    def script(self, _: str) -> Callable[[Sequence[str], Sequence[Any]], Any]:
        return self.run

    def run(self, names: Sequence[str], arguments: Sequence[Any]) -> bytes:
        self.steps += 1
        if self.away:
            raise OSError("nobody is there")
        what, given = arguments
        pot = self.pots.setdefault(names[0], Pot())
        if what == "exchange":
            return msgspec.msgpack.encode(pot.exchange(self.clock(), msgspec.msgpack.decode(given, type=Ask)))
        return msgspec.msgpack.encode(getattr(pot, what)(self.clock(), *msgspec.msgpack.decode(given)))

    def read(self, names: Sequence[str]) -> list[bytes | None]:
        if self.away:
            raise OSError("nobody is there")
        return [msgspec.msgpack.encode(self.pots[name]) if name in self.pots else None for name in names]

    def remove(self, names: Sequence[str]) -> int:
        return sum(self.pots.pop(name, None) is not None for name in names)

    def close(self) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(module, "RedisLine", made)
    return made


class Slow(Wire):
    """A provider that answers after a second."""

    async def send(self, *arguments: Any) -> Any:
        await asyncio.sleep(1.0)
        return await super().send(*arguments)


def client(wire: Wire, **budget: Any) -> Client:
    given = Budget(**{"usd": USD, "per": "day", "scope": TEAM, **budget})
    return Client("sim/m", transport=wire, config=CONFIG, budget=given)


def calls(count: int) -> list[Call]:
    return [Call(f"{number}", max_tokens=20) for number in range(count)]


def test_the_clients_of_all_machines_keep_it_together(server):
    """Each machine would spend the whole budget."""
    wires = [Slow(lambda _: completion("x", tokens=10)) for _ in range(4)]

    async def work(wire: Wire) -> list[BaseException | None]:
        async with client(wire) as made:
            return [result.error for result in await made.gather(calls(100))]

    async def main() -> list[list[BaseException | None]]:
        return await asyncio.gather(*map(work, wires))

    errors = [error for some in server.play(main) for error in some]
    spent = COST * sum(len(wire.prompts) for wire in wires)
    assert 0.97 * USD <= spent <= USD
    assert all(error is None or isinstance(error, BudgetExceeded) for error in errors)
    (pot,) = server.pots.values()
    assert pot.spent == pot.held() == pytest.approx(spent)


def test_while_the_server_is_away_calls_wait_and_go_on_when_it_is_back(server, caplog):
    """A restart of the server would fail calls, or let all of them through."""
    wire = Slow(lambda _: completion("x", tokens=10))

    async def main() -> None:
        async with client(wire) as made:
            assert (await made.result(calls(1)[0])).ok
            await asyncio.sleep(2.0)
            server.away = True
            gathering = asyncio.create_task(made.gather(calls(60)))
            await asyncio.sleep(60.0)
            assert COST * (len(wire.prompts) - 1) <= SPARE * USD + 0.02  # the worst case of the last one
            assert not gathering.done()
            server.away = False
            assert all(result.ok for result in await gathering)

    server.play(main)
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [each for each in said if "is away" in each] == [
        f"the budget of $2 a day ({TEAM}) is away (nobody is there): calls go on with 2 % of it at most, and then wait"
    ]
    assert sum("answers again" in each for each in said) == 1


def test_a_step_of_the_server_s_clock_takes_no_money_from_those_that_live(server):
    """The first that asks would get what all others have borrowed, and their calls would be refused."""

    async def main() -> None:
        async with client(Wire(lambda _: completion("x", tokens=10))) as one, client(Wire()) as other:
            await one.call(calls(1)[0])
            purse, lender = one._engine.stack.purse, other._engine.stack.purse._lender
            purse._funds.amount += (await purse._lender.lend(1.5, purse.used())).usd
            assert (await lender.lend(0.1, 0.0)).usd == pytest.approx(0.1, abs=0.05)
            await asyncio.sleep(BEAT)
            server.ahead = 1_000.0
            assert (await lender.lend(1.0, 0.0)).usd == 0.0

    server.play(main)


def test_an_idle_client_asks_the_server_once_a_second_and_one_that_never_asked_not_at_all(server):
    """A thousand idle workers would keep the server busy."""

    async def main() -> None:
        async with client(Wire(lambda _: completion("x", tokens=10))) as made:
            begun = server.steps
            await asyncio.sleep(100.0)
            assert server.steps == begun
            await made.call(calls(1)[0])
            await asyncio.sleep(100.0)
            assert server.steps - begun <= 110

    server.play(main)


def test_what_is_not_needed_goes_back_to_the_others(server):
    """A gateway that lives for weeks would hold for ever what its first calls might have cost."""

    async def main() -> None:
        async with client(Wire(lambda _: completion("x", tokens=10))) as made:
            await made.call(calls(1)[0])
            purse, (pot,) = made._engine.stack.purse, server.pots.values()
            loan = await purse._lender.lend(1.0, purse.used())
            purse._funds.amount += loan.usd
            assert pot.held() >= 1.0
            await purse.give_back()
            await asyncio.sleep(BEAT)
            assert pot.held() < 0.1
            await asyncio.sleep(3.0)
            assert pot.held() < 0.1
            assert purse._funds.amount == pytest.approx(purse._lender._own.lent)

    server.play(main)


def test_a_worker_speaks_though_its_program_keeps_all_threads_busy(server):
    """Its money would be lent to others after ten seconds, while it spends it."""

    async def main() -> None:
        loop, over = asyncio.get_running_loop(), threading.Event()
        loop.set_default_executor(ThreadPoolExecutor(1))
        busy = loop.run_in_executor(None, over.wait)
        lender = module.BudgetInRedis(Budget(USD, "day", TEAM), place_of(TEAM))
        try:
            async with asyncio.timeout(10.0):
                assert (await lender.lend(0.5, 0.0)).usd == 0.5
                await lender.close(0.0)
        finally:
            over.set()
            await busy

    asyncio.run(main())


@pytest.mark.parametrize("away", [False, True])
def test_money_is_given_back_once_though_the_giver_is_cancelled_or_the_server_goes_away(server, away):
    """A gateway would lose money that nobody else gets, and refuse calls that it could pay for."""

    async def main() -> None:
        async with client(Wire(lambda _: completion("x", tokens=10))) as made:
            await made.call(calls(1)[0])
            purse = made._engine.stack.purse
            lender = purse._lender
            purse._funds.amount += (await lender.lend(1.0, purse.used())).usd
            server.away = away
            speaking = asyncio.create_task(lender._tell())
            await asyncio.sleep(0)  # its exchange is under way
            giving = asyncio.create_task(purse.give_back())
            await asyncio.sleep(0)
            giving.cancel()
            await asyncio.wait([speaking, giving])
            await purse.give_back()
            assert purse._funds.amount == pytest.approx(lender._own.lent)
            server.away = False

    server.play(main)


@pytest.mark.parametrize("lives", [False, True])
def test_a_run_that_goes_on_at_once_takes_back_what_its_killed_process_has_not_spent(server, monkeypatch, lives):
    """Each kill of a run that is started again at once would cost what was reserved, for the rest of the day."""
    dead = Borrowing("dead", "host:1", "day", USD)

    def speak() -> None:
        ask = dead.ask(0.9, need=0.1)
        server.run(["flatout:{team}:budget:1:day"], ["exchange", msgspec.msgpack.encode(ask)])

    def sleep(seconds: float) -> None:
        server.ahead += seconds
        if lives:
            speak()

    speak()
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=sleep))
    module.BudgetInRedis(Budget(USD, "day", TEAM), place_of(TEAM)).take_back("dead", 0.4)
    (pot,) = server.pots.values()
    assert pot.held() == pytest.approx(0.9 if lives else 0.4)
    assert server.ahead <= SILENT + BEAT


def test_what_a_run_takes_over_from_its_killed_process_is_not_shown_as_less_than_nothing():
    """A user would read that a run with batches has spent -0.01 dollars."""
    pot, dead, heir = Pot(), Borrowing("dead", "host:1", "day", USD), Borrowing("heir", "host:2", "day", USD)
    for who, ask in ((dead, dead.ask(0.9, need=1.0)), (heir, heir.ask(0.0, more=0.9, more_at=NOON))):
        who.hear(ask, pot.exchange(NOON, ask))
    shown = _account(place_of(TEAM), "day", NOON, pot)
    assert shown.spent == 0.0
    assert shown.left == pytest.approx(USD - pot.held()) == pytest.approx(USD - 1.0)
    assert {lent.borrower: lent.usd for lent in shown.lent} == pytest.approx({"dead": 0.1, "heir": 0.9})


def test_a_server_that_is_not_there_is_named_and_nothing_is_sent(server):
    """A job would wait for hours because of a mistyped address."""
    server.away = True
    with pytest.raises(
        ConfigError, match=r"\$2 a day \(redis://host:6379/0/team\) cannot be reached, so nothing is sent"
    ):
        client(Wire())._engine.stack.purse.check()


@pytest.mark.parametrize("scope", ["ray://team", "redis://host:6379/0", "redis://:hunter2@host/0/team"])
def test_a_wrong_address_is_refused(scope):
    """A budget of that name would be kept on this machine alone."""
    with pytest.raises(ConfigError) as caught:
        Budget(5, "day", scope)
    assert "hunter2" not in str(caught.value)
