"""Who may use the gateway, and what their keys allow."""

from __future__ import annotations

import asyncio
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flatout.cli import main as command
from flatout.cluster.budget import BudgetInRedis
from flatout.config.folders import state_folder
from flatout.errors import ConfigError
from flatout.serve import keys
from flatout.serve.callers import Allowed
from flatout.serve.listen import Asked, check_reach
from flatout.serve.loans import LOOK
from flatout.store.scope import Scope
from flatout.store.scopes import accounts
from flatout.testing import Faults, ProviderSettings
from flatout.values.budget import Budget

from .gateways import CHAT, PATHS, Got, World


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-1234567890")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "keys.json"


def chat(**headers: str) -> Any:
    return lambda world: world.ask(PATHS["openai"], CHAT, **headers)


@pytest.mark.parametrize("header", ["authorization", "x_api_key", "api_key"])
def test_a_key_is_taken_in_any_vendors_header(file: Path, header: str):
    """A vendor's client sends its key in its own header, and would be refused."""
    made = keys.add("team-a", Allowed(), file)
    value = f"Bearer {made}" if header == "authorization" else made
    world = World(keys=file)
    assert world.run(chat(**{header: value})).status == 200
    assert [each.name for each in world.gateway.callers] == ["team-a"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/models", "/status", "/metrics"])
def test_without_its_key_nothing_is_told(file: Path, path: str):
    """Anybody could spend, or read who else asks."""
    keys.add("team-a", Allowed(), file)

    async def main(world: World) -> list[int]:
        wrong = {"authorization": "Bearer sk-flatout-wrong"}
        return [(await world.ask(path, CHAT, **headers)).status for headers in ({}, wrong)]

    assert World(keys=file).run(main) == [401, 401]


def test_a_wrong_key_is_told_apart_from_none(file: Path):
    """Somebody whose key was removed would look for the place where it is not sent."""
    keys.add("team-a", Allowed(), file)

    async def main(world: World) -> list[str]:
        told = [await world.get("/status", **headers) for headers in ({}, {"x_api_key": "sk-flatout-wrong"})]
        return [got.data["error"]["message"].partition(":")[0] for got in told]

    assert World(keys=file).run(main) == [
        "a local key is needed",
        "this key is not one of the gateway's, or was removed",
    ]


def test_only_a_digest_is_kept(file: Path):
    """Whoever reads the file would have all keys."""
    made = keys.add("team-a", Allowed(rpm=60), file)
    assert made not in file.read_text()
    assert made.removeprefix(keys.PREFIX) not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_keys_are_followed_while_the_gateway_serves(file: Path):
    """A key that leaked could only be refused by a restart, which breaks off all calls."""
    made = keys.add("team-a", Allowed(), file)
    world = World(keys=file)
    other = keys.add("team-b", Allowed(), file)
    keys.remove("team-a", file)
    world.gateway.keyring.look()

    async def main(world: World) -> list[int]:
        return [(await chat(x_api_key=key)(world)).status for key in (made, other)]

    assert world.run(main) == [401, 200]


@pytest.mark.parametrize("fails", ["the keys", "the prices"])
def test_keys_are_followed_whatever_fails(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fails: str
):
    """A key that was removed would be valid until a restart, and nobody would be told."""
    made = keys.add("team-a", Allowed(budget=Budget(1.0, "day", "team")), file)
    keys.add("team-b", Allowed(), file)
    world = World(keys=file)
    look, turns = world.gateway.keyring.look, []

    def at_times() -> None:
        turns.append(1)
        if len(turns) < 4:
            raise RuntimeError("a fault")
        look()

    async def never() -> None:
        raise RuntimeError("a fault")

    if fails == "the keys":
        monkeypatch.setattr(world.gateway.keyring, "look", at_times)
    else:
        monkeypatch.setattr(world.gateway.priced, "look", never)

    async def main(world: World) -> list[int]:
        async with world.gateway.tended():
            before = await chat(x_api_key=made)(world)
            keys.remove("team-a", file)
            await asyncio.sleep(keys.LOOK * 6)
            return [before.status, (await chat(x_api_key=made)(world)).status]

    assert world.run(main) == [200, 401]
    (told,) = [each for each in caplog.records if "for now: a fault" in each.getMessage()]
    assert told.exc_info


def test_a_loan_that_cannot_go_back_keeps_no_other(file: Path, monkeypatch: pytest.MonkeyPatch):
    """While one budget cannot be used, all keys' money would stay lent, and other processes could not spend it."""
    gives = Scope.give_back

    async def full(scope: Scope, usd: float) -> bool:
        if "bad" in repr(scope):
            raise ConfigError("the disk is full")
        return await gives(scope, usd)

    monkeypatch.setattr(Scope, "give_back", full)
    good = Budget(10.0, "day", "good")

    async def main(world: World) -> float:
        for budget in (Budget(10.0, "day", "bad"), good):
            purse = (await world.gateway.callers.of(budget.shared or "", Allowed(budget=budget))).purse
            assert purse is not None
            purse.release(await purse.reserve("kind", 1.0), 0.0)
        async with world.gateway.tended():
            await asyncio.sleep(LOOK)
        return Scope(good, state_folder() / "budgets").left()

    assert World(keys=file).run(main) == pytest.approx(10.0)


def test_a_keys_budget_holds(file: Path):
    """A team could spend what belongs to others."""
    made = keys.add("team-a", Allowed(budget=Budget(0.0005, "day", "key team-a")), file)
    other = keys.add("team-b", Allowed(), file)
    world = World(keys=file)

    async def main(world: World) -> tuple[list[Got], Got]:
        asked = {**CHAT, "max_tokens": 100}
        got = [await world.ask(PATHS["openai"], asked, x_api_key=made) for _ in range(12)]
        return got, await world.ask(PATHS["openai"], asked, x_api_key=other)

    got, others = world.run(main)
    statuses = [each.status for each in got]
    assert statuses[0] == 200
    assert statuses[-1] == 402
    assert "not sent" in got[-1].data["error"]["message"]
    assert others.status == 200
    callers = {each.name: each for each in world.gateway.callers}
    assert 0 < callers["team-a"].cost <= 0.0005


def test_what_is_left_of_a_keys_budget_is_known_before_its_first_call(file: Path):
    """After each restart of the gateway its status would not know how much a team has left."""
    made = keys.add("team-a", Allowed(budget=Budget(5.0, "day", "key team-a")), file)

    async def main(world: World) -> Any:
        return (await world.get("/status", x_api_key=made)).data["callers"]

    assert [each["left"] for each in World(keys=file).run(main)] == [5.0]


def test_the_status_tells_the_same_of_a_budget_as_the_command(file: Path):
    """Somebody who compares the two would look for money that is not lost."""
    made = keys.add("team-a", Allowed(budget=Budget(5.0, "day", "key team-a")), file)

    async def main(world: World) -> tuple[Any, Any]:
        assert (await world.ask(PATHS["openai"], {**CHAT, "max_tokens": 100}, x_api_key=made)).status == 200
        (caller,) = (await world.get("/status", x_api_key=made)).data["callers"]
        (account,) = accounts(state_folder() / "budgets")
        return caller, account

    told, account = World(keys=file).run(main)
    lent = sum(lent.usd for lent in account.lent)
    assert lent > 0.0
    assert [told[name] for name in ("budget_spent", "lent", "left")] == pytest.approx(
        [account.spent, lent, account.left]
    )


def test_a_keys_budget_counts_each_attempt(file: Path):
    """A key would spend more than its budget: of a call that was retried, one attempt alone would be counted."""
    made = keys.add("team-a", Allowed(budget=Budget(100.0, "day", "key team-a")), file)
    world = World(ProviderSettings(faults=Faults(server_error=0.6)), keys=file)

    async def main(world: World) -> None:
        asks = (world.ask(PATHS["openai"], {**CHAT, "max_tokens": 100}, x_api_key=made) for _ in range(20))
        await asyncio.gather(*asks)

    world.run(main)
    (caller,) = world.gateway.callers
    assert caller.purse is not None
    own = world.client._engine.stack.purse
    assert caller.purse.unknown == own.unknown > 20
    assert caller.purse.spent == pytest.approx(own.spent)


def test_a_key_that_gets_another_budget_leaves_no_loan_of_its_old_one(file: Path):
    """Each change of a key's budget would leave money lent to nobody."""
    budget = Budget(10.0, "day", "old")

    async def main(world: World) -> tuple[float, float]:
        async with world.gateway.tended():
            caller = await world.gateway.callers.of("team-a", Allowed(budget=budget))
            assert caller.purse is not None
            purse, held = caller.purse, await caller.purse.reserve("kind", 1.0)
            await world.gateway.callers.of("team-a", Allowed(budget=Budget(5.0, "day", "new")))
            await asyncio.sleep(LOOK + 0.5)
            meanwhile = Scope(budget, state_folder() / "budgets").left()
            purse.pay(0.25)
            purse.release(held, 0.25)
            await asyncio.sleep(LOOK)
        return meanwhile, Scope(budget, state_folder() / "budgets").left()

    assert World(keys=file).run(main) == (pytest.approx(9.0), pytest.approx(9.75))
    assert [each.lent for each in accounts(state_folder() / "budgets")] == [()]


def test_a_former_budget_is_kept_until_its_calls_have_ended(file: Path, monkeypatch: pytest.MonkeyPatch):
    """The gateway would keep, and name in its run file, a purse for each change of a key; Redis would hear of each."""
    closed: list[str] = []
    closes = Scope.close

    async def close(scope: Scope, used: float) -> None:
        closed.append(str(scope._budget.shared))
        await closes(scope, used)

    monkeypatch.setattr(Scope, "close", close)
    budgets = [Budget(10.0, "day", name) for name in ("held", "waited", "idle", "last")]

    async def main(world: World) -> list[int]:
        purses, told = [], []
        async with world.gateway.tended():
            for budget in budgets:
                purse = (await world.gateway.callers.of("team-a", Allowed(budget=budget))).purse
                assert purse is not None
                purses.append(purse)
                if budget.shared == "held":
                    held = await purse.reserve("kind", 1.0)
                if budget.shared == "waited":
                    first = await purse.reserve("kind", 9.0)
                    waits = asyncio.ensure_future(purse.reserve("kind", 9.0))
                    await asyncio.sleep(0.01)
            await asyncio.sleep(LOOK * 1.5)
            told.append(len(closed))
            purses[0].release(held, 0.0)
            await asyncio.sleep(LOOK)
            told.append(len(closed))
            purses[1].release(first, 0.0)
            purses[1].release(await waits, 0.0)
            await asyncio.sleep(LOOK)
            return [*told, len(closed)]

    assert World(keys=file).run(main) == [1, 2, 3]
    assert closed == ["idle", "held", "waited", "last"]


def test_calls_that_come_at_once_have_one_budget_and_one_limit(file: Path):
    """Each of a key's first calls would have the whole of its limit, or a budget of its own."""
    allowed = Allowed(budget=Budget(10.0, "day", "team"), rpm=60)

    async def main(world: World) -> tuple[int, int]:
        callers = world.gateway.callers
        found = await asyncio.gather(*(callers.of("team-a", allowed) for _ in range(5)))
        return len({id(each) for each in found}), len({id(each.purse) for each in found})

    assert World(keys=file).run(main) == (1, 1)


def test_a_budget_that_cannot_be_used_refuses_its_key_alone(file: Path, monkeypatch: pytest.MonkeyPatch):
    """A client would see its connection break, without a reason."""

    def unusable(budget: Budget) -> Any:
        raise ConfigError(f"the budget {budget} cannot be kept: the disk is full")

    monkeypatch.setattr("flatout.serve.loans.lender", unusable)
    made = keys.add("team-a", Allowed(budget=Budget(1.0, "day", "key team-a")), file)
    other = keys.add("team-b", Allowed(), file)

    async def main(world: World) -> list[Got]:
        return [await world.ask(PATHS["openai"], CHAT, x_api_key=key) for key in (made, other)]

    refused, answered = World(keys=file).run(main)
    assert refused.status >= 400
    assert "the disk is full" in refused.data["error"]["message"]
    assert answered.status == 200


def test_a_budget_that_is_away_is_not_tried_by_each_call(file: Path, monkeypatch: pytest.MonkeyPatch):
    """Each call of its key would wait seconds for the server, one after another."""
    tries: list[str] = []

    def away(budget: BudgetInRedis) -> None:
        tries.append(budget.borrower)
        raise ConfigError("nobody is there")

    monkeypatch.setattr(BudgetInRedis, "_try", away)
    made = keys.add("team-a", Allowed(budget=Budget(1.0, "day", "redis://host:6379/0/team")), file)

    async def main(world: World) -> list[Got]:
        got = await asyncio.gather(*(world.ask(PATHS["openai"], CHAT, x_api_key=made) for _ in range(20)))
        monkeypatch.setattr("flatout.presence.AGAIN", 0.0)
        return [*got, await world.ask(PATHS["openai"], CHAT, x_api_key=made)]

    got = World(keys=file).run(main)
    assert {each.data["error"]["message"] for each in got} == {"nobody is there"}
    assert len(tries) == 2


def test_a_budget_that_is_looked_for_holds_up_its_own_key_alone(file: Path, monkeypatch: pytest.MonkeyPatch):
    """One team's server that drops packets would stop the calls of all other teams for seconds, again and again."""
    in_thread = asyncio.to_thread

    async def drops_packets(function: Any, *given: Any) -> Any:
        if isinstance(getattr(function, "__self__", None), BudgetInRedis):
            await asyncio.sleep(5.0)
            raise ConfigError("nobody is there")
        return await in_thread(function, *given)

    monkeypatch.setattr(asyncio, "to_thread", drops_packets)
    made = keys.add("team-a", Allowed(budget=Budget(1.0, "day", "redis://host:6379/0/team")), file)
    other = keys.add("team-b", Allowed(budget=Budget(1.0, "day", "key team-b")), file)

    async def main(world: World) -> list[Got]:
        return await asyncio.gather(*(world.ask(PATHS["openai"], CHAT, x_api_key=key) for key in (made, other)))

    refused, answered = World(keys=file).run(main)
    assert (answered.status, refused.data["error"]["message"]) == (200, "nobody is there")
    assert answered.at < 5.0 <= refused.at


def test_a_call_whose_budget_is_away_ends_by_its_deadline(file: Path, monkeypatch: pytest.MonkeyPatch):
    """A client would wait for ever while nobody can reach the server that keeps the budget."""

    async def away(*_: object) -> None:
        await asyncio.sleep(1.0)

    monkeypatch.setattr(Scope, "lend", away)
    made = keys.add("team-a", Allowed(budget=Budget(1.0, "day", "key team-a")), file)

    async def main(world: World) -> Got:
        async with asyncio.timeout(60.0):
            return await world.ask(PATHS["openai"], CHAT, x_api_key=made, x_flatout_deadline="5")

    world = World(keys=file)
    got = world.run(main)
    assert (got.status, got.at) == (504, pytest.approx(5.0, abs=0.5))
    assert "had no money for it within 5 s" in got.data["error"]["message"]
    (caller,) = world.gateway.callers
    assert (caller.inside, caller.failed) == (0, 1)


def test_calls_that_wait_for_their_keys_money_hold_up_no_other_key(file: Path, monkeypatch: pytest.MonkeyPatch):
    """While one team's budget is away, a few of its calls would keep all others from the model until their deadline."""

    async def away(*_: object) -> None:
        await asyncio.sleep(1.0)

    monkeypatch.setattr(Scope, "lend", away)
    made = keys.add("team-a", Allowed(budget=Budget(1.0, "day", "key team-a")), file)
    other = keys.add("team-b", Allowed(), file)

    async def main(world: World) -> Got:
        waiting = [asyncio.ensure_future(world.ask(PATHS["openai"], CHAT, x_api_key=made)) for _ in range(20)]
        await asyncio.sleep(1.0)
        got = await world.ask(PATHS["openai"], CHAT, x_api_key=other, x_flatout_deadline="60")
        held = {each["caller"]: each["holds"] for each in world.gateway.status.now()["callers"]}
        assert held == {"team-a": "budget", "team-b": ""}
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return got

    world = World(keys=file)
    got = world.run(main)
    assert got.status == 200
    assert [each.inside for each in world.gateway.callers] == [0, 0]


def test_a_budget_without_a_price_is_refused_in_words_for_a_client(file: Path):
    """A client would be told to set an option of Python, and its own request would be called wrong."""
    made = keys.add("team-a", Allowed(budget=Budget(1.0, "day", "key team-a")), file)
    world = World(keys=file, base_url="http://127.0.0.1:1/v1")

    got = world.run(lambda world: world.ask(PATHS["openai"], {**CHAT, "model": "mine"}, x_api_key=made))
    assert got.status == 402
    message = got.data["error"]["message"]
    assert "the price of 127.0.0.1:1/mine is not known" in message
    assert '[prices."127.0.0.1:1/mine"]' in message
    assert "allow" not in message


@pytest.mark.parametrize("own", [None, 5.0])
def test_a_model_without_a_price_is_named_once_there_is_a_budget(
    file: Path, own: float | None, caplog: pytest.LogCaptureFixture
):
    """Whoever gives a budget would hear only from clients that their calls are refused."""
    world = World(keys=file, base_url="http://127.0.0.1:1/v1", models=("mine",), budget=own)

    async def main(world: World) -> list[int]:
        heard = []
        async with world.gateway.tended():
            for _ in range(2):
                await asyncio.sleep(keys.LOOK * 3)
                heard.append(len(caplog.messages))
                keys.add(f"team-{len(heard)}", Allowed(budget=Budget(1.0, "day", "team")), file)
            await asyncio.sleep(keys.LOOK * 3)
        return [*heard, len(caplog.messages)]

    assert world.run(main) == ([0, 1, 1] if own is None else [1, 1, 1])
    assert '[prices."127.0.0.1:1/mine"]' in caplog.messages[0]


def test_what_is_unknown_is_not_told_as_nothing():
    """Somebody would read that hundreds of calls of unknown price had cost nothing."""
    status = World().gateway.status
    status._client._engine.stack.purse.pay_unknown(0.0)
    now = status.now()
    assert (now["spent"], now["unknown_costs"]) == (None, 1)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": "evil.example:8700"}, 421),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "localhost:8700"}, 200),
        ({"origin": "http://localhost:3000"}, 200),
    ],
)
def test_web_pages_cannot_use_the_gateway(headers: dict[str, str], status: int):
    """Any web page that its user opens could spend the user's money."""
    assert World().run(chat(**headers)).status == status


def test_other_machines_need_a_key_even_when_none_is_left(file: Path):
    """The last key's removal would open the gateway to everybody."""
    assert World(keys=file, host="0.0.0.0").run(chat()).status == 401


def test_other_machines_are_only_served_on_purpose(file: Path):
    """A typing error in an address would open the gateway to a network."""
    with pytest.raises(ConfigError, match="allow-remote"):
        check_reach(Asked(host="0.0.0.0"), keys.Keyring(file))
    with pytest.raises(ConfigError, match="key add"):
        check_reach(Asked(host="0.0.0.0", allow_remote=True), keys.Keyring(file))
    keys.add("team-a", Allowed(), file)
    check_reach(Asked(host="0.0.0.0", allow_remote=True), keys.Keyring(file))
    check_reach(Asked(), keys.Keyring(file / "none"))


def test_the_command_makes_lists_and_removes_keys(capsys: pytest.CaptureFixture[str]):
    """Nobody could make a key, or see what it allows."""
    assert command(["serve", "key", "add", "team-a", "--budget", "20/day", "--rpm", "600", "--priority", "low"]) == 0
    made = capsys.readouterr().out.strip()
    assert made.startswith(keys.PREFIX)
    assert command(["serve", "key", "add", "team-a"]) == 2
    assert command(["serve", "key", "ls"]) == 0
    said = capsys.readouterr().out
    assert "team-a: budget $20 a day (key team-a), 600 calls a minute, priority at most -1" in said
    assert made not in said
    assert command(["serve", "key", "ls", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["rpm"] == 600
    assert command(["serve", "key", "rm", "team-a"]) == 0
    assert command(["serve", "key", "rm", "team-a"]) == 2


def test_callers_without_keys_are_told_apart_up_to_a_number(monkeypatch: pytest.MonkeyPatch):
    """A client that sends another key each time would fill the memory."""
    monkeypatch.setattr("flatout.serve.callers.MOST_UNKNOWN", 3)
    world = World()

    async def main(world: World) -> None:
        for number in range(6):
            await chat(x_api_key=f"key {number}")(world)

    world.run(main)
    assert len([*world.gateway.callers]) == 4


def test_a_key_is_shown_before_its_first_call(file: Path):
    """Whoever adds a key could not see whether the gateway has taken it, and no alarm could be set on its figures."""
    keys.add("team-a", Allowed(budget=Budget(20.0, "day", "key team-a")), file)
    other = keys.add("prometheus", Allowed(sees_all=True), file)

    async def main(world: World) -> tuple[Any, str]:
        page = (await world.get("/status", x_api_key=other)).data["callers"]
        return page, (await world.get("/metrics", x_api_key=other)).body.decode()

    page, metrics = World(keys=file).run(main)
    told = {each["caller"]: each for each in page}["team-a"]
    assert (told["calls"], told["budget"]) == (0, "$20 a day (key team-a)")
    assert 'flatout_gateway_calls_total{caller="team-a"} 0' in metrics


def test_a_key_sees_the_sums_and_itself(file: Path):
    """Each team could read what all others ask, spend and may spend; or it could not read its own."""
    one = keys.add("team-a", Allowed(budget=Budget(20.0, "day", "key team-a")), file)
    other = keys.add("team-b", Allowed(), file)

    async def main(world: World) -> None:
        for key in (one, other, other):
            assert (await chat(x_api_key=key)(world)).status == 200
        told = (await world.get("/status", x_api_key=other)).data
        assert [(each["caller"], each["calls"]) for each in told["callers"]] == [("team-b", 2)]
        assert told["spent"] > told["callers"][0]["spent"] > 0
        assert told["targets"]
        metrics = (await world.get("/metrics", x_api_key=other)).body.decode()
        assert 'caller="team-b"' in metrics
        assert "team-a" not in metrics
        assert "flatout_gateway_target_in_flight" in metrics

    World(keys=file, models=("openai/gpt-5-mini",)).run(main)


@pytest.mark.parametrize("asked", [{"max_tokens": 10**400}, {"n": 10**400}, {"max_tokens": 10**18, "n": 10**18}])
def test_numbers_that_are_none_are_no_fault_of_the_gateway(file: Path, asked: dict[str, Any]):
    """A client with a fault would get a 500, and the log a traceback for each of its calls."""
    key = keys.add("team-a", Allowed(budget=Budget(1.0, "day", "key team-a")), file)

    async def main(world: World) -> int:
        return (await world.ask(PATHS["openai"], {**CHAT, **asked}, x_api_key=key)).status

    assert World(keys=file).run(main) < 500


def test_what_a_removed_key_has_waiting_is_not_sent(file: Path):
    """Thousands of calls of a key that leaked would still be sent and paid for, and money stay lent to it. A client
    that gets a 400 would look for the fault in its request.
    """
    made = keys.add("team-a", Allowed(budget=Budget(20.0, "day", "key team-a"), rpm=60), file)
    other = keys.add("team-b", Allowed(), file)

    async def main(world: World) -> list[int]:
        async with world.gateway.tended():
            asked = [asyncio.ensure_future(chat(x_api_key=made)(world)) for _ in range(50)]
            await asyncio.sleep(5.5)
            keys.remove("team-a", file)
            got = [each.status for each in await asyncio.gather(*asked)]
            await asyncio.sleep(2 * LOOK)
            assert [each.lent for each in accounts(state_folder() / "budgets")] == [()]
            assert (await chat(x_api_key=other)(world)).status == 200
            return got

    got = World(keys=file).run(main)
    assert 5 <= got.count(200) <= 8
    assert got.count(401) == 50 - got.count(200)


def test_keys_that_are_made_at_once_are_all_kept(file: Path):
    """A key is shown once: one that was lost to another would never be valid. A removed one could come back."""

    def one(number: int) -> str:
        made = keys.add(f"team-{number}", Allowed(), file)
        keys.add(f"guest-{number}", Allowed(), file)
        keys.remove(f"guest-{number}", file)
        return made

    with ThreadPoolExecutor(8) as pool:
        made = [*pool.map(one, range(16))]
    assert {each.digest for each in keys.read(file)} == {keys.digest_of(each) for each in made}


def test_what_of_a_removed_key_waits_for_money_is_not_sent(file: Path):
    """A thief of a key would go on spending its budget after the key was removed, one call after another."""
    made = keys.add("team-a", Allowed(budget=Budget(0.002, "day", "key team-a")), file)
    asked = {**CHAT, "max_tokens": 100}

    async def main(world: World) -> list[int]:
        async with world.gateway.tended():
            asking = [asyncio.ensure_future(world.ask(PATHS["openai"], asked, x_api_key=made)) for _ in range(20)]
            await asyncio.sleep(0.1)
            keys.remove("team-a", file)
            got = [each.status for each in await asyncio.gather(*asking)]
            await asyncio.sleep(2 * LOOK)
            assert [each.lent for each in accounts(state_folder() / "budgets")] == [()]
            return got

    world = World(ProviderSettings(latency=3.0), keys=file)
    assert sorted(world.run(main)) == [200, *[401] * 19]
    assert world.provider.stats()["received"] == 1


def test_what_a_replaced_key_has_waiting_is_not_sent(file: Path):
    """Whoever removes a key that leaked makes another one at once, and all that waits for the old one would be paid."""
    leaked = keys.add("team-a", Allowed(budget=Budget(20.0, "day", "key team-a"), rpm=60), file)

    async def main(world: World) -> list[int]:
        async with world.gateway.tended():
            asked = [asyncio.ensure_future(chat(x_api_key=leaked)(world)) for _ in range(50)]
            await asyncio.sleep(5.5)
            keys.remove("team-a", file)
            made = keys.add("team-a", Allowed(budget=Budget(20.0, "day", "key team-a"), rpm=60), file)
            await asyncio.sleep(2 * keys.LOOK)
            assert (await chat(x_api_key=made)(world)).status == 200
            return [each.status for each in await asyncio.gather(*asked)]

    got = World(keys=file).run(main)
    assert 5 <= got.count(200) <= 8
    assert got.count(401) == 50 - got.count(200)
