"""A cache in Redis: what it asks of the server, and what it believes. The server here is a dict."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout import Client, ConfigError, Reply
from flatout.caches import place_named
from flatout.cluster import answers as module
from flatout.cluster.answers import (
    ALIVE,
    AT_ONCE,
    BEAT,
    CLAIMED_AT_ONCE,
    HICCUP,
    KEPT,
    LARGEST,
    POLL,
    REST,
    AnswersInRedis,
    entry_of,
    value_of,
)
from flatout.store.answers import HELD, Answers
from flatout.values.answers import Found, New, Wanted
from flatout.values.kept import Kept
from flatout.values.place import place_of
from tests.support.answers_line import Line
from tests.support.asking_processes import CALLS, DEATHS, ask_together

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
TEAM = place_of("redis://host:6379/0/team")


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    made = Line()
    monkeypatch.setattr(module, "RedisLine", lambda *_: made)
    return made


def kept(text: str = "fine", at: float = 0.0) -> Kept:
    return Kept.of(Reply(text=text), at=at, cost=0.5, whole=False)


def described() -> bytes:
    return b'{"prompt": "x"}'


async def written(answers: Answers) -> None:
    """Wait until everything is written."""
    await asyncio.sleep(0.01)
    await answers.get(b"none", claims=False)


@given(st.binary(min_size=1, max_size=64), st.floats(0, 1e12), st.none() | st.floats(0, 100), st.text())
def test_an_answer_comes_back_as_it_was_given(key, at, cost, text):
    """Another cost, age or text than the model's would be shown."""
    one = Kept.of(Reply(text=text), at=at, cost=cost, whole=False)
    assert entry_of(key, value_of(New(key, one, described))) == (key, one, described())


@given(st.data())
def test_a_damaged_value_is_no_answer(data):
    """Half an answer, or another program's value, would be given to a call."""
    value = value_of(New(KEY, kept(), described))
    place = data.draw(st.integers(0, len(value) - 1))
    flipped = value[:place] + bytes([value[place] ^ data.draw(st.integers(1, 255))]) + value[place + 1 :]
    assert entry_of(KEY, flipped) is None
    assert entry_of(KEY, value[:place]) is None
    assert entry_of(KEY, data.draw(st.binary())) is None
    assert entry_of(OTHER, value) is None  # it lies under another question's key


def test_a_batch_is_looked_up_in_one_step_and_an_answer_is_kept_in_one(line):
    """Each call would wait for a journey to the server and back of its own."""
    keys = [number.to_bytes(32, "big") for number in range(AT_ONCE)]

    async def main() -> None:
        answers = Answers(AnswersInRedis(TEAM))
        assert await asyncio.gather(*map(answers.get, keys)) == [None] * len(keys)
        assert line.steps == [("claim", len(keys))]
        for key in keys:
            answers.put(key, kept(), described)
        await written(answers)
        assert line.steps[1] == ("write", len(keys))
        found = await asyncio.gather(*map(answers.get, keys))
        assert {each.reply().text for each in found} == {"fine"}
        await answers.close()

    line.play(main)
    assert all(name.startswith("flatout:{team}:") for name in line.values)
    assert not any(":claims:" in name for name in line.values)


def test_no_step_is_so_large_that_others_wait_long_for_the_server(line):
    """A few workers with large answers would stop a server that a whole team's limits depend on."""
    shelf = AnswersInRedis(TEAM)
    keys = [number.to_bytes(32, "big") for number in range(200)]
    shelf.look([Wanted(key, 0.0, True) for key in keys], Found())
    shelf.keep([New(key, kept(), described) for key in keys])
    shelf.look([Wanted(key, 0.0, True) for key in keys], Found())
    assert {name for name, _ in line.steps} == {"read", "claim", "write"}
    assert max(count for name, count in line.steps if name != "claim") * LARGEST <= 32 << 20


@pytest.mark.parametrize(
    ("max_age", "seconds"), [(None, KEPT), (3_600.0, 3_600), (90 * 86_400.0, 90 * 86_400), (0.2, 1)]
)
def test_the_server_removes_an_answer_when_nobody_wants_it(line, max_age, seconds):
    """The server's memory would fill up, or answers would be gone that are young enough."""
    AnswersInRedis(TEAM, max_age).keep([New(KEY, kept(), described)])
    assert line.seconds == {seconds}


def test_a_huge_answer_is_not_kept(line):
    """One answer could fill the memory of a server that others share."""
    shelf = AnswersInRedis(TEAM)
    shelf.keep([New(KEY, kept("x" * LARGEST), described), New(OTHER, kept(), described)])
    found = Found()
    shelf.look([Wanted(KEY, 0.0, True), Wanted(OTHER, 0.0, True)], found)
    assert set(found.kept) == {OTHER}


def test_a_server_that_is_away_costs_no_call_and_is_tried_again_now_and_then(line, caplog):
    """Each call would wait for a dead server, or a restart of it would end the cache for the rest of a long job."""

    async def main() -> None:
        answers = Answers(AnswersInRedis(TEAM))
        line.away = True
        assert await asyncio.wait_for(answers.get(KEY), HICCUP + POLL) is None
        line.steps.clear()
        for _ in range(20):
            assert await asyncio.wait_for(answers.get(KEY), 0.1) is None
            await asyncio.sleep(REST / 10)
        assert len(line.steps) <= 3
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert "redis://host:6379/0/team is away (nobody is there): after 2 s calls are made without it" in caplog.text
        line.away = False
        await asyncio.sleep(REST)
        assert await answers.get(KEY) is None
        await asyncio.sleep(0)
        assert "answers again" in caplog.text
        await answers.close()

    line.play(main)


def test_a_hiccup_of_the_server_makes_nobody_ask_what_another_worker_asks(line):
    """Hundreds of rows would be paid twice, because the server did not answer for less than a second."""

    async def main() -> None:
        one, other = Answers(AnswersInRedis(TEAM)), Answers(AnswersInRedis(TEAM))
        keys = [number.to_bytes(32, "big") for number in range(AT_ONCE + 1)]
        assert await asyncio.gather(*map(one.get, keys)) == [None] * len(keys)
        waiting = [asyncio.ensure_future(other.get(key)) for key in keys[1:]]
        await asyncio.sleep(0.5 * POLL)
        line.away = True
        await asyncio.sleep(0.2 * POLL)
        late = asyncio.ensure_future(other.get(keys[0]))  # begins in the hiccup
        for key in keys:
            one.put(key, kept(), described)
        await asyncio.sleep(0.6 * POLL)
        line.away = False
        found = await asyncio.wait_for(asyncio.gather(late, *waiting), 3 * POLL)
        assert all(each is not None for each in found)
        await one.close()
        await other.close()

    line.play(main)


def test_what_is_being_asked_is_looked_up_although_others_wait_for_much(line, monkeypatch):
    """Where a look takes a while, those that wait would keep the thread busy for good, and all else be paid twice."""
    monkeypatch.setattr("flatout.store.answers.LOOKED_UP", 10)

    async def main() -> None:
        one, other = Answers(AnswersInRedis(TEAM)), Answers(AnswersInRedis(TEAM))
        elsewhere = [number.to_bytes(32, "big") for number in range(100)]
        await asyncio.gather(*map(other.get, elsewhere))
        waiting = [asyncio.ensure_future(one.get(key)) for key in elsewhere]
        assert await one.get(KEY) is None
        one.asks(KEY, 0.0, lambda: None)
        await asyncio.sleep(0.5 * POLL)
        looks: list[set[bytes]] = []
        look = one._shelf.look
        monkeypatch.setattr(
            one._shelf, "look", lambda wanted, found: (looks.append({each.key for each in wanted}), look(wanted, found))
        )
        del line.values[one._shelf._workers + one._shelf._worker]  # the server has lost its claims
        await asyncio.sleep(POLL)
        assert KEY in looks[1]
        for each in waiting:
            each.cancel()
        await one.close()
        await other.close()

    line.play(main)


def test_all_that_waits_gives_up_its_turn_when_the_server_is_back(line, monkeypatch):
    """Of thousands of rows, hundreds would be sent before they are looked up, and paid twice."""
    monkeypatch.setattr("flatout.store.answers.LOOKED_UP", 10)

    async def main() -> None:
        one = Answers(AnswersInRedis(TEAM))
        keys = [number.to_bytes(32, "big") for number in range(100)]
        assert await asyncio.gather(*map(one.get, keys)) == [None] * len(keys)
        given_up = [asyncio.Event() for _ in keys]
        for key, event in zip(keys, given_up, strict=True):
            one.asks(key, 0.0, event.set)
        line.away = True
        assert await one.get(KEY) is None
        line.away = False
        line.steps.clear()
        await given_up[0].wait()
        assert all(event.is_set() for event in given_up)
        assert len(line.steps) <= 2
        await one.close()

    line.play(main)


def test_a_new_question_is_looked_up_although_claims_end_all_the_time(line, monkeypatch):
    """A server that is short of memory may forget a worker's word at once. New calls would wait for ever."""
    monkeypatch.setattr("flatout.store.answers.LOOKED_UP", 10)
    monkeypatch.setattr(line, "_live", lambda *workers, seconds: line.ends.update(dict.fromkeys(workers, 0.0)))

    async def main() -> None:
        one = Answers(AnswersInRedis(TEAM))
        look, looks = one._shelf.look, []

        def limited(wanted: Any, found: Found) -> None:
            looks.append({each.key for each in wanted})
            if len(looks) > 100:
                raise OSError("it was asked too often")
            look(wanted, found)

        monkeypatch.setattr(one._shelf, "look", limited)
        keys = [number.to_bytes(32, "big") for number in range(100)]
        for key in keys:
            one.asks(key, 0.0, lambda: None)
        one._shelf._lapsed = True
        assert await one.get(keys[0]) is None
        assert await one.get(KEY) is None
        assert any(KEY in each for each in looks[:5])
        await one.close()

    line.play(main)


def test_whoever_waits_for_another_worker_asks_soon_if_the_server_is_dead(line):
    """A row would wait for minutes for an answer that nobody can hand over."""

    async def main() -> None:
        one, other = Answers(AnswersInRedis(TEAM)), Answers(AnswersInRedis(TEAM))
        assert await one.get(KEY) is None
        waiting = asyncio.ensure_future(other.get(KEY))
        await asyncio.sleep(3 * POLL)
        line.away = True
        assert await asyncio.wait_for(waiting, HICCUP + 2 * POLL) is None
        await one.close()
        await other.close()

    line.play(main)


def test_a_claim_from_before_a_failure_is_free_if_its_caller_leaves(line, monkeypatch):
    """Others would wait five minutes for a question that nobody asks."""

    async def main() -> None:
        one, other = Answers(AnswersInRedis(TEAM)), Answers(AnswersInRedis(TEAM))
        keys = [number.to_bytes(32, "big") for number in range(CLAIMED_AT_ONCE + 1)]
        monkeypatch.setattr("flatout.store.answers.LOOKED_UP", len(keys))
        claim, claims = one._shelf._claim, iter([True, False])

        def claim_once(*given: Any) -> Any:
            line.away = not next(claims, True)
            return claim(*given)

        monkeypatch.setattr(one._shelf, "_claim", claim_once)
        asking = [asyncio.ensure_future(one.get(key)) for key in keys]
        await asyncio.sleep(0.5 * POLL)
        for each in asking:
            each.cancel()
        line.away = False
        assert await asyncio.wait_for(asyncio.gather(*map(other.get, keys)), 3 * BEAT) == [None] * len(keys)
        await one.close()
        await other.close()

    line.play(main)


def test_an_address_where_nobody_is_ends_the_run_before_anything_is_sent(line):
    """A typing error in the address would pay for every answer that the team has."""
    line.away = True
    with pytest.raises(ConfigError, match="team cannot be reached, so nothing is sent: nobody is there"):
        AnswersInRedis(TEAM).check()


def test_answers_that_come_while_the_server_is_away_are_kept_when_it_is_back(line):
    """A server that restarts for two seconds would cost every answer of that time a second time."""

    async def main() -> None:
        answers = Answers(AnswersInRedis(TEAM))
        line.away = True
        answers.put(KEY, kept("old"), described)
        await written(answers)
        answers.put(KEY, kept("new"), described)
        answers.put(OTHER, kept(), described)
        assert (await answers.get(OTHER)).reply().text == "fine"  # this process knows it all the while
        line.away = False
        await asyncio.sleep(REST + 0.1)
        await written(answers)
        assert len(line.values) == 2
        assert (await answers.get(KEY)).reply().text == "new"
        await answers.close()

    line.play(main)


def test_no_more_answers_wait_for_the_server_than_fit(line):
    """A job of a million rows would fill the worker's memory while the server is away."""

    async def main() -> None:
        answers = Answers(AnswersInRedis(TEAM))
        line.away = True
        for number in range(HELD + 100):
            answers.put(number.to_bytes(32, "big"), kept(), described)
            await asyncio.sleep(0)
        await written(answers)
        for number in range(HELD + 100):
            answers.put(number.to_bytes(32, "big"), kept(), described)
        assert len(answers._new) <= HELD
        line.away = False
        await answers.close()

    line.play(main)
    assert len(line.values) == HELD


def test_a_client_closes_though_the_server_is_away(line, caplog):
    """A job would hang, or fail, after its last row; and nobody would know what the next one asks again."""

    async def main() -> None:
        answers = Answers(AnswersInRedis(TEAM))
        line.away = True
        answers.put(KEY, kept(), described)
        await written(answers)
        await answers.close()
        await asyncio.sleep(2 * REST)

    line.play(main)
    assert "did not get, because it was away: 1" in caplog.text


def test_a_full_server_is_said_once_and_its_answers_are_used(line, caplog):
    """Answers would be asked again although the server has them, or the log would fill with one line for each."""
    shelf, found = AnswersInRedis(TEAM), Found()
    shelf.keep([New(KEY, kept(), described)])
    line.refusal = "command not allowed when used memory > 'maxmemory'"
    for _ in range(3):
        shelf.keep([New(OTHER, kept(), described)])
    shelf.look([Wanted(KEY, 0.0, True)], found)
    assert set(found.kept) == {KEY}
    assert caplog.text.count("keeps no new answers: command not allowed") == 1


def test_a_question_that_another_worker_asks_is_waited_for(line):
    """An engine's speculative copy of a task would pay for every row that the first one asks at that moment."""

    async def main() -> None:
        one, other = Answers(AnswersInRedis(TEAM)), Answers(AnswersInRedis(TEAM))
        assert await one.get(KEY) is None
        waiting = asyncio.ensure_future(other.get(KEY))
        assert await other.get(OTHER) is None  # another question does not wait
        await asyncio.sleep(60)
        assert not waiting.done()
        one.put(KEY, kept(), described)
        assert (await asyncio.wait_for(waiting, 2)).reply().text == "fine"
        await one.close()
        await other.close()

    line.play(main)


@pytest.mark.parametrize("end", ["let go", "closed", "dead"])
def test_a_question_without_an_answer_goes_to_one_of_those_that_wait(line, end):
    """A task that is tried again would wait for its first try, which is dead."""

    async def main() -> None:
        one, *others = (Answers(AnswersInRedis(TEAM)) for _ in range(3))
        assert await one.get(KEY) is None
        waiting = [asyncio.ensure_future(other.get(KEY)) for other in others]
        await asyncio.sleep(3)
        if end == "let go":
            one.let_go(KEY)
        elif end == "closed":
            await one.close()
        else:
            one._holding.cancel()  # it says nothing any more
        done, still = await asyncio.wait(waiting, timeout=ALIVE + 1, return_when=asyncio.FIRST_COMPLETED)
        assert (len(done), len(still)) == (1, 1)
        assert done.pop().result() is None
        still.pop().cancel()
        for answers in others if end == "closed" else (one, *others):
            await answers.close()

    line.play(main)


def test_an_answer_that_is_renewed_between_the_look_and_the_claim_is_used(line, monkeypatch):
    """Two workers would pay for an equal call, if one renews its answer just while the other looks it up."""

    async def main() -> None:
        one, other = Answers(AnswersInRedis(TEAM)), Answers(AnswersInRedis(TEAM))
        one.put(KEY, kept(at=10.0), described)
        await written(one)
        read, reads = line.read, iter([None])

        def read_too_early(names: Any) -> Any:
            found = read(names)
            if next(reads, one) is None:
                other._shelf.keep([New(KEY, kept("new", at=20.0), described)])
            return found

        monkeypatch.setattr(line, "read", read_too_early)
        assert (await one.get(KEY, 15.0)).reply().text == "new"
        await asyncio.sleep(BEAT)
        assert not any(":claims:" in name for name in line.values)
        await one.close()
        await other.close()

    line.play(main)


@settings(max_examples=40, deadline=None)
@given(CALLS, DEATHS)
def test_no_waiter_is_lost_whichever_worker_dies(calls, death):
    """A call that waits for another worker would wait for ever when that one fails, is cancelled, or dies.

    And once there is an answer, nobody asks again.
    """
    line = Line()

    async def main() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "RedisLine", lambda *_: line)
            workers = [Answers(AnswersInRedis(TEAM)) for _ in range(3)]

        def kill() -> None:
            """Its word is not heard any more, not even that it frees what it asks."""
            dead = workers[0]._shelf
            dead._line = Line()
            dead._claim, dead._unclaim = dead._line.script(module.CLAIM), dead._line.script(module.UNCLAIM)

        await ask_together(workers, calls, death, kill, found_within=2.0)

    line.play(main)


def test_a_cancelled_call_claims_nothing(line):
    """Its question would wait for an answer that nobody asks for."""

    async def main() -> None:
        one, other = Answers(AnswersInRedis(TEAM)), Answers(AnswersInRedis(TEAM))
        asking = one.get(KEY)
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.sleep(3)
        assert await asyncio.wait_for(other.get(KEY), 1) is None
        await one.close()
        await other.close()

    line.play(main)


@pytest.mark.parametrize(
    ("cache", "why"),
    [
        ("ray://team", "keeps no answers: give a server of Redis"),
        ("redis://host:6379/0", "with a name at its end"),
        ("redis://:hunter2@host/0/team", "FLATOUT_REDIS_PASSWORD"),
    ],
)
def test_a_wrong_address_is_refused_at_once(cache, why):
    """A file of that name would be made, or a password would be shown."""
    with pytest.raises(ConfigError, match=why) as caught:
        Client("m", base_url="http://127.0.0.1:9/v1", config={}, cache=cache)
    assert "hunter2" not in str(caught.value)
    assert place_named("answers.cache") is None
