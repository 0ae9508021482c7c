"""`Client.as_completed` and `Client.gather` with a run file."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sqlite3
import threading
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from flatout import (
    AuthenticationError,
    BudgetExceeded,
    Call,
    Client,
    ConfigError,
    InvalidRequest,
    Limits,
    RunLocked,
    RunMismatch,
    StoreError,
)
from flatout.cli import main as command
from flatout.layer import Response
from flatout.store import RunFile, RunReader, database
from flatout.testing import digest_of
from tests.support.scripted_wire import Wire, client, completion, refusal
from tests.support.store_samples import copy_as_if_killed


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits are not gathered: with so few calls there is nothing to wait for."""
    monkeypatch.setitem(RunFile.open.__func__.__kwdefaults__, "group_seconds", 0.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.flatout"


def gather(calls: Any, path: Path, wire: Wire, strict: bool = False, retry_failed: bool = False, **options: Any):
    async def main():
        async with client(wire, **{"limits": Limits(rpm=600_000)} | options) as made:
            return await made.gather(calls, strict=strict, store=path, retry_failed=retry_failed)

    return asyncio.run(main())


def test_what_is_finished_is_not_asked_again(path):
    """Every rerun of a script would pay for everything again."""
    prompts = [f"prompt {n}" for n in range(30)]
    first = gather(prompts[:20], path, Wire())
    wire = Wire()
    second = gather(prompts, path, wire)
    assert sorted(wire.prompts) == sorted(prompts[20:])
    assert [result.text for result in second] == [digest_of(prompt) for prompt in prompts]
    assert [result.index for result in second] == list(range(30))
    assert [(r.call, r.text, r.attempts, r.cost) for r in second[:20]] == [
        (r.call, r.text, r.attempts, r.cost) for r in first
    ]


def test_a_result_is_yielded_only_when_the_file_has_it(path):
    """A crash right after a result was used would ask for it again."""

    async def main() -> None:
        async with client(Wire()) as made, aclosing(made.as_completed(["a", "b", "c"], store=path)) as results:
            async for result in results:
                with contextlib.closing(sqlite3.connect(path)) as connection:
                    found = connection.execute(
                        "SELECT answer FROM items WHERE item_index = ?", (result.index,)
                    ).fetchone()
                assert found == (result.text,)

    asyncio.run(main())


def test_leaving_early_keeps_what_is_done(path):
    """A script that stops at its first surprise would pay again for what it had."""

    async def main() -> int:
        async with client(Wire(), limits=Limits(rpm=600_000, concurrency=4)) as made:
            async with aclosing(made.as_completed(map(str, range(300)), store=path)) as results:
                seen = 0
                async for _ in results:
                    seen += 1
                    if seen == 20:
                        break
            return seen

    seen = asyncio.run(main())
    with RunReader.open(path) as reader:
        assert reader.counts().answered >= seen
        assert reader.info().state == "interrupted"
    wire = Wire()
    assert len(gather(map(str, range(300)), path, wire)) == 300
    assert len(wire.prompts) <= 300 - seen


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (Call("b"), r'row 2, parameter prompt: was "a 1", is now "b"'),
        (Call("a 1", temperature=0.5), r"row 2, parameter temperature: was null, is now 0.5"),
        (Call("a 1", max_tokens=5, model="m2"), r"row 2, parameter max_tokens: was null, is now 5"),
        (5, r"row 2 has changed"),
    ],
)
def test_another_input_is_refused(path, changed, message):
    """Answers of one job would be handed out as those of another."""
    gather(["a 0", "a 1", "a 2"], path, Wire())
    with pytest.raises(RunMismatch, match=message):
        gather(["a 0", changed, "a 2"], path, Wire())


def test_another_model_is_refused(path):
    """Half of the answers would come from one model, half from another."""
    gather(["a"], path, Wire())

    async def main() -> None:
        from flatout import Client

        async with Client("other", base_url="http://sim/v1", config={}, transport=Wire()) as made:
            await made.gather(["a"], store=path)

    with pytest.raises(RunMismatch, match="model was 'm', is now 'other'"):
        asyncio.run(main())


def test_a_shorter_input_is_refused(path):
    """Results would stand in the file that belong to nothing."""
    gather(["a", "b", "c"], path, Wire())
    with pytest.raises(RunMismatch, match="result for row 3, but the input has only 2 rows"):
        gather(["a", "b"], path, Wire())


def test_long_prompts_show_where_they_differ(path):
    """Two long prompts would be shown by the same beginning."""
    gather(["x" * 500 + "old"], path, Wire())
    with pytest.raises(RunMismatch, match=r"…x+old\", is now …x+new\""):
        gather(["x" * 500 + "new"], path, Wire())


def test_failures_are_kept_or_tried_again(path):
    """A hopeless row would be paid in every run, or a passing failure never be mended."""
    bad = Wire(lambda prompt: refusal(400) if prompt == "b" else digest_of(prompt))
    gather(["a", "b"], path, bad)
    wire = Wire()
    kept = gather(["a", "b"], path, wire)
    assert isinstance(kept[1].error, InvalidRequest)
    assert not wire.prompts
    with pytest.raises(InvalidRequest):
        gather(["a", "b"], path, wire, strict=True)
    again = gather(["a", "b"], path, wire, retry_failed=True)
    assert wire.prompts == ["b"]
    assert all(result.ok for result in again)


def test_what_was_never_sent_is_tried_again(path):
    """Rows that a wrong key held back would stay without an answer for good."""
    results = gather(["a", "b"], path, Wire(lambda _: refusal(401)), limits=Limits(concurrency=1))
    assert all(not result.ok for result in results)
    assert isinstance(results[0].error, AuthenticationError)
    wire = Wire()
    assert all(result.ok for result in gather(["a", "b"], path, wire))
    assert sorted(wire.prompts) == ["a", "b"]


def test_what_is_no_call_fails_by_itself_each_time(path):
    """One wrong item would end the run, or could not be mended."""
    for _ in range(2):
        results = gather(["a", 5, {"no": "prompt"}], path, Wire())
        assert [result.ok for result in results] == [True, False, False]
        assert all(isinstance(result.error, ConfigError) for result in results[1:])
    assert all(result.ok for result in gather(["a", "b", "c"], path, Wire()))


class Label(BaseModel):
    name: str


TOOLS = {
    "choices": [
        {
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
            },
            "finish_reason": "tool_calls",
        }
    ]
}


def test_objects_and_tool_calls_come_back_as_they_were(path):
    """Code that works on the first run would fail on the second."""
    import json

    answers = {"label": completion('{"name": "spam"}'), "tools": Response(200, {}, json.dumps(TOOLS).encode())}
    calls = [Call("label", output=Label), Call("tools", tools=[{"type": "function", "function": {"name": "look"}}])]
    first = gather(calls, path, Wire(answers.get))
    second = gather(calls, path, Wire(lambda _: refusal(400)))
    assert first[0].output == second[0].output == Label(name="spam")
    assert first[1].reply.tool_calls == second[1].reply.tool_calls
    assert second[1].reply.tool_calls[0].name == "look"


def test_a_source_of_any_kind_will_do(path):
    """A stream would have to be put into a list before it can be made durable."""

    async def stream():
        for prompt in "abc":
            yield prompt

    gather(iter("ab"), path, Wire())
    wire = Wire()
    assert len(gather(stream(), path, wire)) == 3
    assert wire.prompts == ["c"]


def test_one_file_serves_one_run_at_a_time(path):
    """Two loops over the same file would pay twice for the same rows."""

    async def main() -> None:
        async with client(Wire()) as made, aclosing(made.as_completed(["a", "b"], store=path)) as results:
            await anext(results)
            with pytest.raises(RunLocked, match=r"calls\.flatout is being written by process"):
                await made.gather(["a"], store=path)

    asyncio.run(main())


def test_a_loop_that_was_left_is_waited_for(path, monkeypatch):
    """Leaving a loop with ``break`` and beginning it anew would fail, because of oneself, where the disk is slow."""
    refused = threading.Event()
    close, begin = RunFile.close_now, RunFile.open.__func__

    def close_slowly(run: RunFile) -> None:
        refused.wait()
        close(run)

    def tell_of_refusal(*arguments: Any, **options: Any) -> RunFile:
        try:
            return begin(RunFile, *arguments, **options)
        except RunLocked:
            refused.set()
            raise

    async def main() -> None:
        monkeypatch.setattr(RunFile, "close_now", close_slowly)
        monkeypatch.setattr(RunFile, "open", tell_of_refusal)
        async with client(Wire()) as made:
            async for _ in made.as_completed(["a", "b"], store=path):
                break
            assert all(result.ok for result in await made.gather(["a", "b"], store=path))

    asyncio.run(main())


def test_a_loop_that_has_closed_since_its_lock_was_seen_is_no_obstacle(path, monkeypatch):
    """On a busy machine, beginning a loop anew would now and then fail because of a lock that is gone."""
    refused, closed = threading.Event(), threading.Event()
    close, begin = RunFile.close_now, RunFile.open.__func__

    def close_slowly(run: RunFile) -> None:
        refused.wait()
        close(run)
        closed.set()

    async def turns() -> None:
        for _ in range(1_000):  # the loop that was left is over by then
            await asyncio.sleep(0)

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def tell_late_of_refusal(*arguments: Any, **options: Any) -> RunFile:
            try:
                return begin(RunFile, *arguments, **options)
            except RunLocked:
                refused.set()
                closed.wait()
                asyncio.run_coroutine_threadsafe(turns(), loop).result()
                raise

        monkeypatch.setattr(RunFile, "close_now", close_slowly)
        monkeypatch.setattr(RunFile, "open", tell_late_of_refusal)
        async with client(Wire()) as made:
            async for _ in made.as_completed(["a", "b"], store=path):
                break
            assert all(result.ok for result in await made.gather(["a", "b"], store=path))

    asyncio.run(main())


def test_a_loop_that_is_held_open_says_how_to_close_it(path):
    """The message would name a process that the user cannot find: it is the script itself."""

    async def main() -> None:
        async with client(Wire()) as made:
            held = made.as_completed(["a", "b"], store=path)
            await anext(held)
            with pytest.raises(RunLocked, match=r"this program itself.*contextlib\.aclosing"):
                await made.gather(["a", "b"], store=path)
            await held.aclose()
            assert all(result.ok for result in await made.gather(["a", "b"], store=path))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("first", "then", "what"),
    [
        ({"base_url": "http://one/v1"}, {"base_url": "http://two/v1"}, "server was 'one/v1', is now 'two/v1'"),
        ({"base_url": "http://one/a?key=x"}, {"base_url": "http://one/b"}, "server was 'one/a', is now 'one/b'"),
        (
            {"base_url": None, "config": {"endpoints": {"m": {"base_url": "http://one/v1"}}}},
            {"base_url": None, "config": {"endpoints": {"m": {"base_url": "http://two/v1"}}}},
            "server.m/x was 'one/v1', is now 'two/v1'",
        ),
    ],
)
@pytest.mark.parametrize("entry", ["calls", "map"])
def test_another_server_is_refused(path, first, then, what, entry):
    """One server's answers would be handed out as another's."""

    async def ask(options: dict[str, Any]) -> None:
        name = "m/x" if options["base_url"] is None else "m"
        made = Client(name, transport=Wire(), **{"config": {}, **options})
        async with made:
            if entry == "calls":
                await made.gather(["a"], store=path)
            else:
                assert [result.ok async for result in made.map(asked, ["a"], store=path)] == [True]

    async def asked(item: str, made: Client) -> str:
        return (await made.call(item)).text

    asyncio.run(ask(first))
    with pytest.raises(RunMismatch) as caught:
        asyncio.run(ask(then))
    assert what in str(caught.value)


def test_a_server_on_this_machine_may_come_back_on_another_port(path):
    """Who restarts a server of one's own would be told to pay for all rows again."""
    for port in (8001, 8002):

        async def main(url: str = f"http://127.0.0.1:{port}/v1") -> None:
            async with Client("m", transport=Wire(), config={}, base_url=url) as made:
                assert (await made.gather(["a"], store=path))[0].ok

        asyncio.run(main())


def test_a_run_file_that_does_not_know_its_server_goes_on_and_learns_it(path):
    """Every run begun before files knew their server would have to start over."""
    gather(["a"], path, Wire())
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE run SET job = json_remove(job, '$.server')")
    wire = Wire()
    gather(["a"], path, wire)
    assert wire.prompts == []
    with pytest.raises(RunMismatch, match="server was 'sim/v1'"):
        gather(["a"], path, Wire(), base_url="http://other/v1")


class Full(sqlite3.Connection):
    """A disk that is full from the third commit of items on."""

    left = 2

    def executemany(self, statement: str, *rest: Any) -> sqlite3.Cursor:
        if "INSERT INTO items" in statement:
            if not Full.left:
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_FULL, "SQLITE_FULL"
                raise error
            Full.left -= 1
        return super().executemany(statement, *rest)


def test_a_full_disk_ends_the_run_and_loses_nothing(path, monkeypatch, caplog):
    """Answers would go on being paid that nothing keeps."""
    seen: list[int] = []

    async def main() -> None:
        async with client(Wire(), limits=Limits(rpm=600_000, concurrency=4)) as made:
            async for result in made.as_completed(map(str, range(100)), store=path):
                seen.append(result.index)

    Full.left = 2
    with monkeypatch.context() as patched:
        patched.setattr(database, "connection_class", Full)
        with pytest.raises(StoreError, match=r"disk is full: .* safe in"):
            asyncio.run(main())
    assert seen
    gc.collect()
    assert not caplog.records  # "Task exception was never retrieved", for each call that waited for the disk
    with RunReader.open(path) as reader:
        assert set(seen) <= {item.index for item in reader.finished()}
    assert len(gather(map(str, range(100)), path, Wire())) == 100


def test_attempts_are_noted_before_they_are_sent(path):
    """After a crash nobody would know which calls may have been paid for nothing."""
    noted: list[tuple] = []

    def look(prompt: str) -> str:
        with RunReader.open(path) as reader:
            found = reader._connection.execute("SELECT attempt, target, outcome FROM attempts").fetchall()
        noted.append(found[-1])
        return digest_of(prompt)

    gather(["a"], path, Wire(look))
    assert noted == [(1, "sim/m", None)]
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT outcome FROM attempts").fetchall() == [("answered",)]


def test_an_answer_that_waits_for_its_commit_is_told_as_one_that_may_be_lost(path, tmp_path, monkeypatch, capsys):
    """Status would name more attempts than were ever in flight, and so seem to be wrong."""
    both = asyncio.Event()

    def look(prompt: str) -> str:
        if prompt == "b":
            copy_as_if_killed(path, tmp_path / "killed" / "a.jsonl.flatout")
            both.set()
        return digest_of(prompt)

    wire = Wire(look)
    monkeypatch.setattr(RunFile, "finish", lambda *_: asyncio.sleep(3600))  # a disk that never answers

    async def main() -> None:
        limits = Limits(concurrency=1)
        async with client(wire, limits=limits) as made, aclosing(made.as_completed(["a", "b"], store=path)) as results:
            asking = asyncio.ensure_future(anext(results))
            await both.wait()
            asking.cancel()
            await asyncio.wait([asking])

    asyncio.run(main())
    assert wire.most == 1
    monkeypatch.chdir(tmp_path / "killed")
    assert command(["status", "a.jsonl"]) == 0
    said = capsys.readouterr().out
    assert "2 attempts whose process stopped or died before it kept an answer: in flight, just answered, or" in said


PRICES = {"prices": {"sim/m": {"input": 1_000.0, "output": 2_000.0}}}


def bounded(path: Path, wire: Wire, budget: float = 0.5) -> list[Any]:
    calls = [Call(f"p{n}", max_tokens=30) for n in range(50)]
    return gather(calls, path, wire, budget=budget, config=PRICES, limits=Limits(concurrency=5))


def test_a_budget_holds_over_resumes(path):
    """A job with a budget of 0.50 would cost that much each time it is gone on with."""
    paid = Wire(lambda _: completion("x", tokens=30))  # 0.09 each
    results = bounded(path, paid)
    first = len(paid.prompts)
    assert 1 <= first <= 5
    for _ in range(3):
        results = bounded(path, paid)
    assert len(paid.prompts) * 0.09 <= 0.5
    refused = next(result.error for result in results if not result.ok)
    assert isinstance(refused, BudgetExceeded)
    assert f"${first * 0.09:.4f} was spent before" in str(refused)
    assert all(result.ok for result in bounded(path, Wire(), budget=50.0))


def test_money_spent_in_vain_counts_too(path):
    """Rows that failed after they were paid for, and were tried again, would be forgotten."""

    def cut_off(prompt: str) -> Response:
        return Response(200, {}, completion("", tokens=30).body)

    for _ in range(4):
        wire = Wire(cut_off)
        gather([Call("p", max_tokens=30)], path, wire, retry_failed=True, budget=0.3, config=PRICES, retries=0)
    assert not wire.prompts
    with RunReader.open(path) as reader:
        assert 0.09 <= reader.spent() <= 0.3


def test_what_a_killed_process_had_in_flight_counts_by_its_estimate(path):
    """Each kill would give the budget back what the provider bills all the same."""
    crashed = path.with_name("crashed.flatout")

    async def main() -> None:
        five = asyncio.Event()

        async def never(prompt: str) -> str:
            if wire.active == 5:
                five.set()
            return await asyncio.Future()

        wire = Wire(never)
        async with client(wire, config=PRICES, limits=Limits(concurrency=5)) as made:
            calls = [Call(f"p{n}", max_tokens=30) for n in range(50)]
            async with aclosing(made.as_completed(calls, store=path)) as results:
                waiting = asyncio.ensure_future(anext(results))
                await five.wait()
                copy_as_if_killed(path, crashed)
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(main())
    with RunReader.open(crashed) as reader:
        lost = reader.unsettled().cost
    assert lost > 0
    wire = Wire(lambda _: completion("x", tokens=30))
    bounded(crashed, wire)
    assert lost + len(wire.prompts) * 0.09 <= 0.5


def test_a_run_opened_twice_by_one_client_counts_once(path):
    """The second half of a script would be refused for what its first half spent."""

    async def main() -> None:
        wire = Wire(lambda _: completion("x", tokens=30))
        async with client(wire, budget=0.5, config=PRICES) as made:
            for count in (2, 4):
                await made.gather([Call(f"p{n}", max_tokens=30) for n in range(count)], store=path)
            assert len(wire.prompts) == 4

    asyncio.run(main())


def test_a_run_file_that_fails_before_an_attempt_ends_the_run(path, monkeypatch):
    """Each row would fail with the disk's error, and be kept as failed."""

    async def broken(*_: Any) -> None:
        raise StoreError("the disk failed")

    monkeypatch.setattr(RunFile, "note_attempt", broken)
    wire = Wire()
    with pytest.raises(StoreError, match="the disk failed"):
        gather(["a", "b"], path, wire)
    assert not wire.prompts


@pytest.mark.parametrize(
    ("first", "then", "what"),
    [
        ({"samples": 2}, {"samples": 3}, "samples was 2, is now 3"),
        ({}, {"samples": 2}, "samples was not set, is now 2"),
        ({"models": ["m", "m1"]}, {"models": ["m", "m2"]}, r"models was \['m', 'm1'\], is now \['m', 'm2'\]"),
    ],
)
def test_other_variants_are_refused_by_their_name(path, first, then, what):
    """A user would be told of a changed prompt in a row that nobody changed."""

    async def main(variants: dict[str, Any]) -> None:
        async with client(Wire()) as made:
            await made.gather(["a", "b"], store=path, **variants)

    asyncio.run(main(first))
    with pytest.raises(RunMismatch, match=f"{what}; use another file to start over"):
        asyncio.run(main(then))


def test_a_call_that_could_not_be_made_is_in_the_file_as_failed(path, capsys):
    """``flatout status`` would say that three of four rows are finished, and name none that failed."""
    calls = ["a", ConfigError("the column text is null"), "c", {"promt": "b"}]
    for _ in range(2):  # it fails again in the same way
        results = gather(calls, path, wire := Wire())
        assert [result.ok for result in results] == [True, False, True, False]
        assert str(results[1].error) == "the column text is null"
    assert wire.prompts == []
    assert command(["status", str(path)]) == 0
    said = capsys.readouterr().out
    assert "4 of 4 (100 %) finished: 2 answered, 2 failed" in said
    assert "row 2: the column text is null" in said


def test_a_row_that_makes_a_call_at_last_is_asked(path):
    """A user who has filled in what was missing would be told that the file belongs to another job."""
    gather(["a", ConfigError("the column text is null")], path, Wire())
    results = gather(["a", "b"], path, wire := Wire())
    assert (wire.prompts, [result.ok for result in results]) == (["b"], [True, True])
    with pytest.raises(RunMismatch):
        gather([ConfigError("the column text is null"), "b"], path, Wire())


def test_failed_calls_are_asked_again_only_of_a_run_file():
    """Whoever forgets the run file would pay for all calls again."""

    async def main() -> None:
        async with client(wire := Wire()) as made:
            for asks in (
                lambda: made.as_completed(["a"], retry_failed=True),
                lambda: made.map(one, ["a"], retry_failed=True),
            ):
                with pytest.raises(ConfigError, match="give its name, store="):
                    asks()
            assert wire.prompts == []

    async def one(item: str, made: Any) -> str:
        return item

    asyncio.run(main())
