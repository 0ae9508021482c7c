"""Several workers: what they and their parent say to each other, and what the parent makes of it."""

from __future__ import annotations

import asyncio
import random
import socket
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from flatout import Budget, BudgetExceeded, Call, Config, ConfigError, Image, Limits
from flatout.client.steering import Change
from flatout.config.file import EndpointConfig, FoundConfig
from flatout.durable.records import fingerprint
from flatout.layers.limit import TargetNow
from flatout.money.purse import Purse
from flatout.progress._counters import Failure, Longest, Progress
from flatout.runs.client_options import ClientOptions
from flatout.runs.input.rows import Row
from flatout.runs.job import RunOptions
from flatout.runs.prompts.recipe import Recipe
from flatout.runs.work import Work
from flatout.runs.workers.assembly import team_for
from flatout.runs.workers.calls import as_data, call_of, encoded, from_data
from flatout.runs.workers.counters import add_up, over
from flatout.runs.workers.given import Given
from flatout.runs.workers.member import AHEAD, Member
from flatout.runs.workers.messages import Account, Incoming, Order, Report, decode_order, decode_report, encode
from flatout.runs.workers.outset import Outset
from flatout.runs.workers.remote import LentPurse, Outbox, RemoteFile
from flatout.runs.workers.team import Team
from flatout.runs.workers.worker import Worker
from flatout.store import Item, RunFile
from flatout.store.course import TRIED, Stretch
from flatout.transports.http import MAX_HELD, HttpTransport
from flatout.values.secret import Secret

PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)


def item(index: int = 0, **values: Any) -> Item:
    return Item(index=index, fingerprint=b"f" * 16, state="answered", answer="yes", finished_at=1.0, **values)


# Messages


@given(st.lists(st.binary(max_size=300), max_size=8), st.randoms())
def test_messages_arrive_whole_however_they_are_cut(calls: list[bytes], chance: random.Random) -> None:
    """A row would be lost or torn when the socket delivers half a message."""
    sent = [Order(calls=[(place, call)], noted=[place]) for place, call in enumerate(calls)]
    stream, incoming, arrived = b"".join(map(encode, sent)), Incoming(), []
    while stream:
        size = chance.randint(1, len(stream))
        piece, stream = stream[:size], stream[size:]
        arrived += [decode_order(body) for body in incoming.take(piece)]
    assert arrived == sent


def test_a_report_comes_back_as_it_was() -> None:
    """The parent would write another answer, count or cost than the worker had."""
    progress = Progress(answered=2, longest=Longest(3, 1.5, 8.5), failures={"Truncated": Failure(1, "cut", 4, "more")})
    progress.searched = frozenset({"requests"})
    report = Report(
        account=Account(1.25, 2, 0.5),
        notes=[(7, 1, "openai/gpt", 12.5, None, None, "RateLimited: slow down")],
        failed=[(7, 1, False)],
        items=[list(msgspec.structs.astuple(item(7, cost=0.25)))],
        dropped=[8],
        reserves=[(0, "m 30", 0.125)],
        released=[(0, 0.125)],
        progress=progress,
        logged=[(30, "a warning")],
        failure=("ConfigError", "wrong"),
    )
    (body,) = Incoming().take(encode(report))
    assert decode_report(body) == report


def test_half_of_a_surrogate_pair_ends_no_worker() -> None:
    """An answer that was paid for would be lost for one strange character, and its worker with it."""
    values = list(msgspec.structs.astuple(item(1)))
    values[6] = "half \ud83d"
    (body,) = Incoming().take(encode(Report(items=[values], account=Account(0.5))))
    report = decode_report(body)
    assert report.items[0][6] == "half ?"
    assert report.items[0][2] == b"f" * 16
    assert report.account.spent == 0.5


# Calls


def test_a_worker_makes_the_very_call_of_the_row() -> None:
    """The prompt, a parameter or the schema would be another one than the run file says."""
    row = Row(3, 4, {"id": "a", "prompt": "half \ud83d, whole 😀", "temperature": 0.5, "stop": ["x"]})
    for output in (None, {"type": "object"}, Literal["spam", "ham"]):
        call = Recipe(params={"max_tokens": 5, "output": output, "extra": {"top_k": 3}}).call(row)
        described = msgspec.json.decode(msgspec.json.encode(as_data(output)))
        assert call_of(encoded(call), from_data(described)) == call
    with pytest.raises(ConfigError, match="choices"):
        as_data(int)


def test_a_picture_goes_as_the_part_that_is_sent() -> None:
    """A worker would have to find the file again, or send its name."""
    picture = Image(PNG)
    call = call_of(encoded(Call(messages=[{"role": "user", "content": ["what is it?", picture]}])))
    assert call.messages is not None
    assert call.messages[0]["content"] == ["what is it?", picture.part]


@pytest.mark.parametrize("keep_prompts", [True, False])
def test_the_parent_completes_an_answer(keep_prompts: bool) -> None:
    """The run file would hold no question beside the answer, or one although none is to be kept."""
    work = Work.of(5, Row(5, 6, {"prompt": "why?"}), Recipe())
    values = list(msgspec.structs.astuple(item(5)))
    values[2:5] = [None, None, None]
    found = Item(
        **dict(zip(Item.__struct_fields__, Given(work).complete(values, keep_prompts=keep_prompts), strict=True))
    )
    assert found.fingerprint == fingerprint(work.made)
    assert (found.input, found.prompt) == ((work.kept, work.made) if keep_prompts else (None, None))
    assert found.answer == "yes"


# How a worker begins


def begun(options: dict[str, Any], limits: Limits | None = None, config: Config | None = None) -> Any:
    described = Outset.of(ClientOptions(options, limits), config or Config(), "the workers of x")
    assert "secret-key" not in repr(described) + repr(ClientOptions(options, limits))
    (body,) = Incoming().take(encode(Order(outset=described)))
    outset = decode_order(body).outset
    assert outset is not None
    return outset.make_client()


def shared_by(client: Any, model: str) -> Limits:
    targets = client._engine.targets
    return targets.limits_of(targets.target(model))  # type: ignore[no-any-return]


def test_a_worker_has_the_parents_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker would ask another server, without the headers, or with other limits."""
    monkeypatch.setenv("MINE", "key")
    table = EndpointConfig(base_url="http://127.0.0.1:1/v1", key_env="MINE", headers={"Authorization": "secret-key"})
    config = Config(endpoints={"mine": table}, limits={"mine": Limits(rpm=60)}, budget=3.0, timeout=7.0)
    client = begun({"model": "mine/m", "headers": {"X-Key": "secret-key"}, "config": "elsewhere.toml"}, None, config)
    target = client._engine.targets.target("mine/m")
    assert target.endpoint.headers == {"Authorization": "secret-key", "X-Key": "secret-key"}
    assert shared_by(client, "mine/m") == Limits(rpm=60, shared="the workers of x")
    assert client._engine.stack.purse.budget == Budget(3.0)


def test_workers_divide_the_memory_for_answers() -> None:
    """Eight workers would take eight times the memory for the answers that arrive."""
    described = Outset.of(ClientOptions({}), Config(), "the workers of x", workers=8)
    transport = described.make_client()._engine.transport
    assert isinstance(transport, HttpTransport)
    assert transport._room._most == MAX_HELD // 8
    found = FoundConfig(path="flatout.toml", trusted=True)
    assert Outset.of(ClientOptions({}), found, None, workers=8).make_client()._engine.config.part_of(80) == 10


def test_targets_that_share_their_limits_already_go_on_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers would keep to a limit among themselves, and past it with the other programs of the team."""
    monkeypatch.setenv("GROQ_API_KEY", "key")
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    client = begun({"model": "groq/m"}, None, Config(limits={"openai": Limits(shared="team")}))
    assert shared_by(client, "openai/m").shared == "team"
    assert shared_by(client, "openai/m").with_others
    assert shared_by(client, "groq/m").shared == "the workers of x"
    assert not shared_by(client, "groq/m").with_others
    assert shared_by(begun({"model": "groq/m"}, Limits(shared="all")), "groq/m").shared == "all"


def test_what_the_user_has_not_approved_stays_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker would send prompts where the parent refuses to."""
    config = FoundConfig(
        endpoints={"openai": EndpointConfig(base_url="http://127.0.0.1:1/v1")}, path="/x/flatout.toml", trusted=False
    )
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    with pytest.raises(Exception, match="flatout trust"):
        begun({"model": "openai/m"}, None, config)


def test_addresses_go_whole() -> None:
    """A worker would ask a server without the key in its address."""
    client = begun({"model": "m", "base_url": Secret("http://127.0.0.1:1/secret-key/v1")})
    assert "secret-key" in client._engine.targets.target("m").endpoint.base_url


def divided(tmp_path: Path, workers: int, limits: Limits | None, **others: Any) -> list[tuple[Limits | None, Any]]:
    """The limits of each worker, and whether it shares them."""
    made_with = ClientOptions({"model": "m", "base_url": "http://127.0.0.1:1/v1", **others}, limits)
    options = RunOptions(source="in.jsonl", workers=workers)

    async def main() -> list[tuple[Limits | None, Any]]:
        async with RunFile.open(tmp_path / "r.flatout", job={}) as run:
            team = team_for(options, made_with, made_with.make(), run, Progress(), "r.flatout")
            outsets = [team._outset(number, 1) for number in range(team._most)]
        return [(outset.limits, outset.shares is not None) for outset in outsets]

    return asyncio.run(main())


def test_a_concurrency_alone_is_divided(tmp_path: Path) -> None:
    """Each worker would take all of it; or a server of one's own be asked at half the pace, for nothing."""
    assert divided(tmp_path, 3, Limits(concurrency=8)) == [
        (Limits(concurrency=3), False), (Limits(concurrency=3), False), (Limits(concurrency=2), False),
    ]  # fmt: skip
    assert divided(tmp_path, 4, Limits(concurrency=2)) == [(Limits(concurrency=1), False)] * 2


def test_whatever_else_may_be_limited_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers would each take a whole limit that counts by the minute."""
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    for limits in (None, Limits(rpm=60), Limits(rpm=60, concurrency=4), Limits(concurrency=4, shared="team")):
        assert divided(tmp_path, 2, limits) == [(limits, True)] * 2
    hosted = {"model": "openai/gpt-5-mini", "base_url": None}
    assert divided(tmp_path, 2, Limits(concurrency=4), **hosted) == [(Limits(concurrency=4), True)] * 2


@pytest.mark.parametrize("answered", [True, False])
def test_workers_know_that_a_run_has_answers(tmp_path: Path, answered: bool) -> None:
    """Failed rows that are asked again would go one at a time, or be told that the target is stopped."""
    made_with = ClientOptions({"model": "m", "base_url": "http://127.0.0.1:1/v1"})

    async def main() -> Outset:
        place = tmp_path / "r.flatout"
        async with RunFile.open(place, job={}) as run:
            if answered:
                await run.finish(item())
        async with RunFile.open(place, job={}) as run:
            options = RunOptions(source="in.jsonl", workers=2)
            return team_for(options, made_with, made_with.make(), run, Progress(), "r.flatout")._outset(0, 1)

    engine = asyncio.run(main()).make_client()._engine
    target = engine.targets.target("m")
    engine.stack.limiters.find(target)
    assert engine.stack.limiters.of(target).limit.health.trusted is answered


# The run file and the purse from afar


def test_an_attempt_waits_until_the_parent_has_noted_it() -> None:
    """After a crash nobody would know of a call that was paid for."""

    async def main() -> None:
        reports: list[Report] = []
        file = RemoteFile(outbox := Outbox(reports.append, Account))
        noting = asyncio.ensure_future(file.note_attempt(4, 1, "t", 1.0, None))
        cancelled = asyncio.ensure_future(file.note_attempt(5, 1, "t", 1.0, None))
        await asyncio.sleep(0)
        outbox.flush()
        assert [note[0] for note in reports[0].notes] == [4, 5]
        cancelled.cancel()
        await asyncio.sleep(0)
        assert not noting.done()
        file.hear(Order(noted=[4, 5]))
        await noting

    asyncio.run(main())


def test_attempts_of_one_row_are_noted_one_by_one() -> None:
    """A call that is hedged, or tried again before its note is written, would end its worker, or be sent unnoted."""

    async def main() -> None:
        file = RemoteFile(Outbox(lambda report: None, Account))
        cancelled, again = (asyncio.ensure_future(file.note_attempt(4, attempt, "t", 1.0, None)) for attempt in (1, 2))
        await asyncio.sleep(0)
        cancelled.cancel()
        file.hear(Order(noted=[4]))
        await asyncio.sleep(0)
        assert not again.done()
        file.hear(Order(noted=[4]))
        await again

    asyncio.run(main())


def test_the_purse_is_the_parents() -> None:
    """Each worker would spend the whole budget; a cancelled call would hold its money for ever."""

    async def main() -> None:
        reports: list[Report] = []
        purse = LentPurse(5.0, outbox := Outbox(reports.append, lambda: purse.account))
        granted, refused, late = (asyncio.ensure_future(purse.reserve("m", worst)) for worst in (1.0, 2.0, 3.0))
        await asyncio.sleep(0)
        purse.add(0.5, 1, 0.25)
        outbox.flush()
        assert reports[0].reserves == [(0, "m", 1.0), (1, "m", 2.0), (2, "m", 3.0)]
        assert reports[0].account == Account(0.5, 1, 0.25)
        late.cancel()
        await asyncio.sleep(0)
        purse.hear(Order(granted=[0, 2], refused=[(1, "nothing is left")]))
        held = await granted
        with pytest.raises(BudgetExceeded, match="nothing is left"):
            await refused
        purse.release(held, 0.5)
        outbox.flush()
        assert sorted(reports[1].released) == [(0, 0.5), (2, None)]

    asyncio.run(main())


def test_a_client_may_spend_from_another_purse() -> None:
    """The workers' money would be counted twice, or not at all."""
    client = begun({"model": "m", "base_url": "http://127.0.0.1:1/v1"})
    client._engine.stack.purse = purse = Purse(None)
    purse.add(0.75, 0, 0.0)
    assert client.spent == 0.75


# Counters


def test_counters_add_up() -> None:
    """The live line and the summary would show one worker's numbers for the whole run's."""
    first = Progress(input_tokens=10, retries=1, in_flight=3, waiting=5, holds="requests", pace=7.0)
    first.waits, first.failures = {"body": 1.0}, {"Truncated": Failure(2, "late", 9, "")}
    first.paused, first.longest, first.capped = {"a": "busy"}, Longest(1, 2.0, 3.0), 3
    second = Progress(input_tokens=5, in_flight=2, waiting=1, holds="tokens", hosted=False)
    second.waits, second.failures = {"body": 0.5, "pause": 2.0}, {"Truncated": Failure(1, "early", 2, "")}
    second.longest = Longest(8, 4.0, 1.0)
    total = Progress(total=100, answered=4)
    add_up([first, second], total)
    assert (total.total, total.answered, total.input_tokens, total.retries) == (100, 4, 15, 1)
    assert (total.in_flight, total.waiting, total.holds, total.pace) == (5, 6, "requests", 7.0)
    assert total.waits == {"body": 1.5, "pause": 2.0}
    assert total.failures == {"Truncated": Failure(3, "early", 2, "")}
    assert (total.paused, total.longest, total.capped) == ({"a": "busy"}, second.longest, 5)
    assert not total.hosted
    add_up([over(first), over(second)], total)
    assert (total.input_tokens, total.in_flight, total.paused, total.longest, total.capped) == (15, 0, {}, None, None)


# Giving rows


def test_what_the_workers_do_at_a_target_is_added_up() -> None:
    """``flatout ctl status`` would show what one of several workers does, and call it the run's."""
    limits = {"rpm": 600.0, "concurrency": 8.0}
    one = TargetNow(in_flight=3, waiting=1, holds="requests", pace=None, limits=limits)
    other = TargetNow(in_flight=4, waiting=9, holds="concurrency", pace=2.0, limits=limits)
    whole = Progress()
    parts = [Progress(targets={"a": one}), Progress(targets={"a": other, "b": one}), over(Progress(targets={"a": one}))]
    add_up(parts, whole)
    assert whole.targets["a"] == TargetNow(in_flight=7, waiting=10, holds="concurrency", pace=2.0, limits=limits)
    assert whole.targets["b"] == one
    add_up(parts, whole, divides=True)
    assert whole.targets["a"].limits == {"rpm": 600.0, "concurrency": 16.0}


def test_answers_on_their_way_to_the_disk_take_the_place_of_no_rows() -> None:
    """Workers would run dry while their answers wait for a commit, or a slow disk would fill the memory with them."""

    async def main() -> None:
        member = Member(0, 10, lambda *_: None, lambda _: None)
        member.uncommitted = AHEAD
        for index in range(10 + AHEAD):
            assert member.has_room
            member.rows[index] = Given(Work.of(index, Row(index, index + 1, {"prompt": "why?"}), Recipe()))
        assert not member.has_room
        member.rows.clear()
        assert not member.is_idle
        member.uncommitted = 10 + AHEAD
        assert not member.has_room

    asyncio.run(main())


def test_a_worker_hears_that_the_input_is_at_its_end(tmp_path: Path) -> None:
    """The tail of a run would be told as waiting for an input that has no more."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            worker = Worker(theirs)
            assert not worker._flow.at_end
            worker._hear(encode(Order(at_end=True))[4:])
            worker._hear(encode(Order(stops=0))[4:])
            assert worker._flow.at_end
        async with RunFile.open(tmp_path / "r.flatout", job={}) as run:
            team = Team(2, 10, nothing, store=run, purse=Purse(None), progress=Progress(), keep_prompts=True)
            first = team._members[0] = Member(0, 5, lambda *_: None, lambda _: None)
            team.input_at_end()
            assert first.order.at_end
            with patch.object(Member, "start", started):
                assert team._add(1).order.at_end  # one that takes the place of a dead one
            for task in list(team._tasks):
                task.cancel()
            await asyncio.gather(*team._tasks, return_exceptions=True)

    def nothing(*_: Any) -> Any:
        return None

    async def started(*_: Any) -> None:
        return

    asyncio.run(main())


def test_the_course_has_the_concurrency_that_the_workers_divide(tmp_path: Path) -> None:
    """Whoever gave ``--concurrency 40 --workers 3`` would be told that 13 were in flight, and to give 52."""
    allows = {"concurrency": 13.0, "rpm": 600.0}
    stretch = Stretch(
        began_at=0.0, seconds=1.0, target="m", sent=1, answered=1, refused=0, failed=0, in_flight=1, waiting=1,
        held={}, allows=allows,
    )  # fmt: skip
    tried = structs.replace(stretch, allows={"concurrency": 13.0, TRIED: 1.0})
    kept: list[Stretch] = []

    async def main() -> None:
        async with RunFile.open(tmp_path / "r.flatout", job={}) as run:
            options: Any = {"store": run, "purse": Purse(None), "progress": Progress(), "keep_prompts": True}
            team = Team(3, 10, lambda *_: None, divides=40, **options)  # type: ignore[arg-type, return-value]
            member = Member(0, 5, lambda *_: None, lambda _: None)
            with patch.object(run, "note_stretch", kept.append):
                team._take(member, Report(stretches=[stretch, tried]))
                team.steer(Change(limits={"concurrency": 90}), "ann")
                team._take(member, Report(stretches=[stretch]))

    asyncio.run(main())
    assert [each.allows for each in kept] == [
        {"concurrency": 40.0, "rpm": 600.0}, tried.allows, {"concurrency": 90.0, "rpm": 600.0},
    ]  # fmt: skip


# The run file


def test_what_a_dead_worker_had_in_flight_counts_by_its_estimate(tmp_path: Path) -> None:
    """A budget would be exceeded by what dead workers have paid for; the next try would look like the lost one."""

    async def main() -> None:
        async with RunFile.open(tmp_path / "r.flatout", job={}) as run:
            for attempt, cost in ((1, 0.25), (2, 0.5)):
                await run.note_attempt(3, attempt, "t", 1.0, cost)
            await run.note_attempt(4, 1, "t", 1.0, 1.0)
            await run.lose([(3, 1), (3, 2)])
            await run.note_attempt(3, 1, "t", 2.0, 0.25)
            await run.finish_all([msgspec.structs.astuple(item(3, cost=0.125, attempts=1))])
            assert [(lost.index, lost.attempt) for lost in run.unsettled().attempts] == [(3, 1), (3, 2)]
        async with RunFile.open(tmp_path / "r.flatout", job={}) as run:
            assert run.spent_before == 0.25 + 0.5 + 0.125 + 1.0

    asyncio.run(main())
