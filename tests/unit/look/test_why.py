"""Why a run is slow: each sentence against runs that have exactly one cause, on a clock that jumps."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from flatout import Call, Client, Limits
from flatout.durable.course import recorded
from flatout.edge.fan_out import Flow, fan_out
from flatout.journey import Journey
from flatout.lanes.flex import FlexLane
from flatout.look.batches import BatchCounts
from flatout.look.course import Course
from flatout.look.facts import Facts, FailedClass, Reason, retried
from flatout.look.view import clock
from flatout.look.why import Finding, afterwards, findings, sentences
from flatout.store import RunReader
from flatout.store.course import SHARED, Happening, Stretch
from flatout.store.gateway import CallerServed, Served
from flatout.testing import Faults, ProviderModel, ProviderSettings, SimulatedTransport, VirtualLoop
from flatout.values import Result
from tests.support.store_samples import open_run


class Kept:
    """A run file that only keeps what it is given."""

    def __init__(self) -> None:
        self.stretches: list[Stretch] = []
        self.happenings: list[Happening] = []

    def note_stretch(self, stretch: Stretch, /) -> None:
        self.stretches.append(stretch)

    def note_happening(self, happening: Happening, /) -> None:
        self.happenings.append(happening)


Asks = Callable[[int, Call], Coroutine[Any, Any, Result[Any]]]
Before = Callable[[int], Awaitable[None]]


def asking(
    client: Client, before: Callable[[int], Awaitable[None]] | None = None, lane: FlexLane | None = None
) -> Asks:
    """What asks a call, after something else, or in the flex lane."""

    async def ask(index: int, call: Call) -> Result[Any]:
        if before is not None:
            await before(index)
        journey = Journey(asyncio.get_running_loop().time())
        if lane is not None:
            lane.take(call, journey)
        return await client.result(call, index=index, journey=journey)

    return ask


def seen(
    settings: dict[str, Any],
    *,
    calls: int = 3_000,
    at: float | None = 60.0,
    facts: dict[str, Any] | None = None,
    every: float = 0.0,
    fail: bool = False,
    asks: Callable[[Client], Asks] | None = None,
    functions: bool = False,
    prompt: Callable[[int], Call] = lambda number: Call(f"prompt {number}", max_tokens=100),
    window: int | None = None,
    **options: Any,
) -> list[Finding]:
    """What is found about calls that all come at once, after some seconds; after the end if ``at`` is None.

    Args:
        settings: the provider.
        calls: how many.
        at: when to look, in seconds.
        facts: facts about the run.
        every: seconds between two calls, for an input that is slow.
        fail: whether calls may fail.
        asks: makes what asks a call, when all begins; the client itself when None.
        functions: whether that is a user's function.
        prompt: makes a call.
        window: how many are asked at once; the client's own when None.
        options: the client's.
    """
    kept, found = Kept(), list[Finding]()
    model = options.pop("model", "openai/m")
    made: dict[str, Any] = {"config": {}, "seed": 1, "deadline": 1e5}
    made |= {"api_key": "k"} if "/" in model else {"base_url": "http://sim:1/v1"}

    async def source() -> AsyncIterator[Call]:
        for number in range(calls):
            if every:
                await asyncio.sleep(every)
            yield prompt(number)

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        transport = SimulatedTransport(ProviderModel(ProviderSettings(**settings)))
        answered, flow = 0, Flow(functions=functions)

        def look(running: bool) -> None:
            told: dict[str, Any] = {
                "writer": "process 1" if running else None,
                "command": "flatout run",
                "left": calls - answered,
            }
            course = Course.of(kept.stretches, kept.happenings)
            found.extend(findings(course, Facts(**told | (facts or {})), loop.wall_time()))

        async with (
            Client(model, transport=transport, **made | options) as client,
            recorded(client, kept, flow),
        ):
            ask = asks(client) if asks is not None else asking(client)
            if at is not None:
                loop.call_at(loop.time() + at, look, True)
            async for result in fan_out(source(), ask, lambda: window or client.window, flow):
                answered += 1
                if found:
                    return
                assert result.ok or fail
        if at is None:
            look(running=False)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    return found


def first(found: list[Finding]) -> Finding:
    assert found
    return found[0]


def causes(found: Iterable[Finding]) -> list[str]:
    return [each.cause for each in found]


FAST = {"latency": 0.5, "latency_p99": 1.0}


def test_requests_per_minute_bind() -> None:
    """A user would look for a faster setting where only another key helps."""
    found = seen({"rpm": 600, **FAST}, limits=Limits(rpm=600, burst=1.0), at=95.0)
    assert causes(found) == ["requests"]
    assert found[0].used is not None
    assert found[0].used > 0.95
    assert found[0].text.startswith("Requests per minute bind: ")
    assert " of 600 a minute are used, since " in found[0].text
    assert found[0].text.endswith("Nothing is faster within this limit; a second key or the batch lane would be.")


OVER = Facts(state="finished", total=60, command="flatout run …")


def sixty(**changes: Any) -> Stretch:
    """Ten seconds with sixty answers."""
    counts = {"sent": 60, "answered": 60, "refused": 0, "failed": 0, "in_flight": 0, "waiting": 0}
    given: dict[str, Any] = {**counts, "held": {}, "allows": {}, "latency_p50": 1.1, "latency_p95": 1.6, **changes}
    return Stretch(began_at=0.0, seconds=10.0, target="127.0.0.1:1/m", **given)


def test_times_are_those_of_the_rows_if_those_were_read() -> None:
    """A report would name two medians of the same answers, one after the other."""
    course = Course.of([sixty()])
    assert sentences(course, OVER, 20.0)[0].endswith("half of the answers took 1.1 s, 5 % more than 1.6 s.")
    assert sentences(course, OVER, 20.0, (0.9, 2.2))[0].endswith("took 0.9 s, 5 % more than 2.2 s.")


def test_a_callers_own_limit_is_all_that_holds_a_gateway() -> None:
    """Beside it, the next sentence would say that nothing holds the calls back."""
    held = CallerServed("team-a", waiting=9, holds="rpm", allowed=60.0)
    served = [Served([each], serving=True) for each in (held, CallerServed("team-a"))]
    told = [sentences(Course.of([sixty()]), Facts(writer="process 1", gateway=each), 10.0) for each in served]
    assert told[0] == ["9 calls of team-a wait for a limit of its own key: 60 calls a minute."]
    assert told[1][0].startswith("Nothing holds the calls back")


def test_a_limit_that_was_not_used_to_the_full_is_not_called_the_fastest() -> None:
    """A run on a busy computer would be said to have used its limit to the full, beside a figure that denies it."""
    (found,) = findings(Course.of([sixty(held={"requests": 9.0}, allows={"rpm": 600.0})]), OVER, 20.0)
    assert found.text.endswith(
        "60 % of 600 a minute were used. The program itself was late (its event loop was blocked, or the machine "
        "busy), or others used this limit."
    )


def test_a_limit_that_bound_for_a_part_of_the_time_may_have_been_too_low() -> None:
    """A user would look for what blocks the program, where only a short limit and an empty input took turns."""
    (found,) = findings(Course.of([sixty(held={"requests": 6.0}, allows={"rpm": 600.0})]), OVER, 20.0)
    assert found.text.endswith("A higher --rpm would have been faster, if the server bears it.")


def test_of_a_limit_that_others_use_too_the_rest_is_theirs() -> None:
    """A user would raise a limit that is used to the full, by all who share it."""
    (found,) = findings(Course.of([sixty(held={"requests": 9.0}, allows={"rpm": 600.0, SHARED: 1.0})]), OVER, 20.0)
    assert found.text.endswith("60 % of 600 a minute were used. Others share this limit: the rest was theirs.")
    (found,) = findings(Course.of([sixty(held={"requests": 9.0}, allows={"rpm": 400.0, SHARED: 1.0})]), OVER, 20.0)
    assert "90 % of 400 a minute were used. Others share" in found.text
    (found,) = findings(Course.of([sixty(held={"tokens": 9.0}, allows={"tpm": 600.0, SHARED: 1.0})]), OVER, 20.0)
    assert found.text.endswith("the rest was theirs, or kept free for answers as long as they may be.")


def test_requests_per_minute_bound() -> None:
    """Of a finished run nobody could be told why it took so long."""
    found = seen({"rpm": 600, **FAST}, limits=Limits(rpm=600, burst=1.0), at=None, calls=600)
    assert causes(found) == ["requests"]
    assert found[0].text.startswith("Requests per minute bound 9")
    assert "% of the time: 9" in found[0].text
    assert " of 600 a minute were used. Nothing was faster" in found[0].text
    assert "a second key or the batch lane would have been" in found[0].text
    assert found[0].since is None


def test_tokens_per_minute_bind() -> None:
    """The limit on requests would be blamed for what that on tokens does."""
    found = seen({"tpm": 20_000, **FAST}, limits=Limits(rpm=60_000, tpm=20_000, burst=1.0))
    assert causes(found) == ["tokens"]
    assert "okens per minute bind: " in found[0].text
    assert " of 20,000 a minute are used" in found[0].text


def test_a_server_of_ones_own_may_bear_more_than_its_limit() -> None:
    """A user of a server of their own would be told to buy a second key."""
    found = seen({"rpm": 600, **FAST}, model="m", limits=Limits(rpm=600, burst=1.0))
    assert causes(found) == ["requests"]
    assert found[0].text.endswith("a higher --rpm would be, if the server bears it.")


def test_a_limit_that_the_server_names_is_not_raised_by_a_higher_one() -> None:
    """A user would give a higher --rpm, and nothing would change."""
    for given in (Limits(), Limits(rpm=60_000)):
        found = seen({"rpm": 600, **FAST, "headers": "openai"}, model="m", limits=given, at=None, calls=1_500)
        assert first(found).cause == "requests"
        assert found[0].text.endswith("The server named this limit; a higher --rpm does not raise it.")


def test_concurrency_binds() -> None:
    """A user would wait for hours because of a number given without thought."""
    found = seen({"rpm": 60_000, "latency": 2.0}, limits=Limits(rpm=60_000, concurrency=8), at=30.0)
    assert causes(found) == ["concurrency"]
    assert "and 8 may be in flight" in found[0].text
    text, since = found[0].text.split(" It has been so since ")
    assert text.endswith("--concurrency 32 would be four times as fast, if the server bears it.")
    assert text.startswith("The server answers in 2.")
    assert re.fullmatch(r"\d\d:\d\d\.", since)


def test_no_more_concurrency_is_advised_than_the_limit_allows() -> None:
    """A user would raise the concurrency, and gain nothing."""
    found = seen({"rpm": 250, "latency": 2.0}, limits=Limits(rpm=250, burst=1.0, concurrency=8))
    assert all("--concurrency" not in each.text for each in found)


def test_an_unknown_limit_is_searched() -> None:
    """A user who knows the limit would not learn that saying it is faster."""
    found = seen({"rpm": 6_000, "limit": "bucket", "burst": 1.0, **FAST}, at=10.5, calls=100_000)
    assert first(found).cause == "requests"
    assert found[0].text.startswith("No limit is known, and the search is at ")
    assert ", rising" in found[0].text
    assert "give --rpm" in found[0].text


def test_a_pause_that_the_provider_asks_for() -> None:
    """A run that stands still for minutes would look broken."""
    settings = {"rpm": 60_000, **FAST, "changes": ((10.0, {"rpm": 60.0}),), "retry_after_always": 40.0}
    found = seen(settings, limits=Limits(rpm=6_000, burst=1.0), at=20.0, calls=100_000)
    assert first(found).cause == "paused"
    assert found[0].text.startswith("openai/m is paused until ")
    assert found[0].since is not None


def test_a_server_that_is_down() -> None:
    """A user would look at limits while the server is away."""
    found = seen({**FAST, "outage": (10.0, 100.0)}, limits=Limits(rpm=6_000), at=40.0, calls=100_000)
    assert first(found).cause == "down"
    assert found[0].text.startswith("openai/m is down since ")
    assert "wait; one looks now and then" in found[0].text
    assert "outage" not in causes(found)


def test_a_server_that_was_down() -> None:
    """A finished run would not say that most of it was waiting for the server."""
    found = seen({**FAST, "outage": (1.0, 100.0)}, limits=Limits(rpm=60_000, burst=1.0), at=None, calls=2_000)
    assert first(found).cause == "outage"
    assert "failed call after call; the others waited" in found[0].text


def test_an_input_that_is_slow() -> None:
    """A user would pay for a faster provider, while the own input is what takes the time."""
    found = seen(FAST, every=0.2, limits=Limits(rpm=60_000))
    assert causes(found) == ["input"]
    assert found[0].text.startswith("The input is read slower than calls are answered, since ")
    assert ": none waits, and " in found[0].text
    library = seen(FAST, every=0.2, limits=Limits(rpm=60_000), facts={"command": None})
    assert library[0].text.startswith("The program hands calls over slower")


def test_a_slow_provider() -> None:
    """The last calls of a run would seem to hang."""
    found = seen({"latency": 20.0, "latency_p99": 60.0}, calls=500, limits=Limits(rpm=60_000), at=30.0)
    assert causes(found) == ["provider"]
    assert found[0].text.startswith("The provider is slow: the last ")
    assert "half of the answers take " in found[0].text


def test_a_provider_that_was_slow() -> None:
    """A run that nothing held back would have no explanation at all."""
    found = seen({"latency": 20.0, "latency_p99": 60.0}, calls=500, limits=Limits(rpm=60_000), at=None)
    assert causes(found) == ["provider"]
    assert found[0].text.startswith("The provider was slow: half of the answers took ")
    quick = seen({"latency": 1.0}, calls=500, limits=Limits(rpm=60_000), at=None)
    assert quick[0].text.startswith("Nothing held the calls back: half of the answers took ")


def test_retries() -> None:
    """A third of the money and of the time would be lost without a word."""
    settings = {**FAST, "faults": Faults(server_error=0.3)}
    facts = {"retried": Reason("ServerError: the provider answered 500", 9)}
    found = seen(settings, limits=Limits(rpm=1_200, burst=1.0), at=60.0, facts=facts, calls=5_000)
    assert causes(found) == ["requests", "retries"]
    assert found[1].text.endswith(
        " % of the attempts fail; most retries come after ServerError: the provider answered 500."
    )


def test_a_budget() -> None:
    """A run with little money left would go a few calls at a time, for no visible reason."""
    prices = {"prices": {"openai/m": {"input": 1.0, "output": 2_000.0}}}
    found = seen(FAST, limits=Limits(rpm=60_000), config=prices, budget=1_000.0, at=2.0, calls=100_000)
    assert "budget" not in causes(found)
    found = seen({**FAST, "output_tokens": 5}, limits=Limits(rpm=60_000), config=prices, budget=2.0, at=10.0, calls=200)
    assert first(found).cause == "budget"
    assert found[0].text.startswith("The budget lets only ")


def waited(second: int, held: dict[str, float]) -> Stretch:
    """A second in which three calls were answered and three waited."""
    counts = {"sent": 3, "answered": 3, "refused": 0, "failed": 0, "in_flight": 0, "waiting": 3}
    return Stretch(began_at=float(second), seconds=1.0, target="m", held=held, allows={}, **counts)


def test_what_held_an_earlier_process_is_not_said_of_the_one_at_work() -> None:
    """A run that was continued with more money would be said to have none for the first half minute."""
    course = Course()
    for second in range(10):
        held = {"budget": 1.0} if second < 8 else {}
        course.targets.setdefault("m", []).append(waited(second, held))
    first = findings(course, Facts(writer="process 1"), 10.0)
    assert [each.cause for each in first] == ["budget"]
    assert first[0].text.startswith("The budget has no room for another call")
    assert not findings(course, Facts(writer="process 2", opened_at=8.0), 10.0)


def test_a_pause_names_the_run_that_is_to_be_resumed() -> None:
    """Nobody could copy the command."""
    course = Course()
    course.targets["m"] = [waited(0, {"paused": 1.0})]
    facts = Facts(writer="process 1", command="flatout run …", run_file="my mails.flatout")
    assert "flatout ctl 'my mails.flatout' resume goes on" in findings(course, facts, 1.0)[0].text


def test_batches_are_at_the_provider() -> None:
    """A run in the batch lane would look as if it did nothing."""
    begun = {"open": 2, "rows": 60, "all": 3, "oldest": 0.0, "states": "1 in progress, 1 validating", "done": 12}
    counts = BatchCounts(**begun, targets=("openai/m",), past="the last 5 batches took up to 14 min", seen_at=540.0)
    facts = Facts(writer="process 1", batches=counts, lane="batch", command="flatout run …")
    how = "1 in progress, 1 validating, 12 rows done"
    whole = f"2 batches with 60 rows are at openai/m, the oldest since {clock(0.0, 600.0)}: {how}"
    past = "The last 5 batches took up to 14 min."
    sooner = "To have the rest sooner, cancel them (flatout batch cancel) and take --lane live: it costs more."
    assert sentences(Course(), facts, 600.0) == [f"{whole}. {past} {sooner}"]
    timed = replace(facts, batches=replace(counts, leaves_at=3_600.0))
    leaves = f"Rows without an answer go on to a faster lane at {clock(3_600.0, 600.0)}."
    assert sentences(Course(), timed, 600.0) == [f"{whole}. {past} {leaves}"]
    left = replace(timed, writer=None, state="detached")
    assert sentences(Course(), left, 600.0) == [f"{whole}, seen 1 min 00 s ago. {past} The same command collects them."]


def stretch(at: float, **changes: Any) -> Stretch:
    fields: dict[str, Any] = {"began_at": at, "seconds": 1.0, "target": "openai/m", "in_flight": 0, "waiting": 0}
    counts = {"sent": 1, "answered": 1, "refused": 0, "failed": 0, "held": {}, "allows": {}}
    return Stretch(**fields | counts | changes)


def test_a_run_that_has_just_ended_needs_no_look_at_its_rows(tmp_path: Path) -> None:
    """The end of a run with a million rows would come a second late."""

    async def write() -> None:
        async with open_run(tmp_path / "a.flatout") as run:
            for at in range(30):
                run.note_stretch(stretch(float(at), sent=10, held={"requests": 1.0}, allows={"rpm": 600.0}))
            await run.note_attempt(0, 2, "openai/m", 1.0, None, None, "ServerError: 500")

    asyncio.run(write())
    with RunReader.open(tmp_path / "a.flatout") as reader, patch.object(reader, "summary", None):
        found = afterwards(reader, 31.0)
        assert retried(reader) == Reason("ServerError: 500", 1)
    assert causes(found) == ["requests"]
    assert found[0].text.startswith("Requests per minute bound 100 % of the time: 100 % of 600 a minute were used.")


def test_what_nobody_knows_is_not_said() -> None:
    """A run file of last year would be given invented reasons."""
    assert sentences(Course(), Facts(state="finished"), 0.0) == []
    assert sentences(Course(), Facts(writer="process 1"), 0.0) == []


def test_a_target_that_works_comes_before_one_that_is_down() -> None:
    """With a route, the first sentence would tell of a target that nobody needs."""
    down = Happening(at=1.0, kind="down", target="groq/m", what="503\x1b[31m")
    bound = [stretch(float(at), sent=10, held={"requests": 1.0}, allows={"rpm": 600.0}) for at in range(30)]
    found = findings(Course.of([*bound, stretch(1.0, target="groq/m", answered=0)], [down]), Facts(writer="p"), 30.0)
    assert [(each.target, each.cause) for each in found[:2]] == [("openai/m", "requests"), ("groq/m", "down")]
    assert found[0].text.startswith("openai/m: Requests per minute bind: 100 %")


def test_the_first_sentences_are_about_all_targets() -> None:
    """Of a run of two models, a small screen would tell three things of one, and nothing of the other."""
    bound = {"sent": 10, "failed": 5, "held": {"requests": 1.0}, "allows": {"rpm": 600.0}}
    course = Course.of(stretch(float(at), target=target, **bound) for target in ("a/m", "b/m") for at in range(30))
    found = findings(course, Facts(writer="p"), 30.0)
    assert [(each.target, each.cause) for each in found] == [
        ("a/m", "requests"),
        ("b/m", "requests"),
        ("a/m", "retries"),
        ("b/m", "retries"),
    ]


def test_an_earlier_process_troubles_do_not_count() -> None:
    """A run that was continued would be called stopped for ever."""
    happenings = [Happening(at=1.0, kind="stop", target="openai/m", what="401"), Happening(at=2.0, kind="begin")]
    assert sentences(Course.of([stretch(3.0)], happenings[:1]), Facts(writer="p"), 4.0)[0].startswith(
        "openai/m is stopped"
    )
    assert "stopped" not in causes(findings(Course.of([stretch(3.0)], happenings), Facts(writer="p"), 4.0))


def test_a_fast_run_is_bound_by_the_computer() -> None:
    """Whoever asks a server of their own as fast as Python can would be told to read the input faster."""
    busy = {"sent": 5_000, "answered": 5_000, "in_flight": 60, "held": {"input": 1.0}}
    fast = [stretch(float(at), **busy) for at in range(30)]
    found = findings(Course.of(fast), Facts(writer="p", left=1_000_000), 30.0)
    assert causes(found) == ["computer"]
    assert "--workers" in found[0].text


@pytest.mark.parametrize("kind", ["crowded", "capped"])
def test_what_was_noticed_comes_last(kind: Any) -> None:
    """A hint would stand before the cause."""
    bound = [stretch(float(at), held={"requests": 1.0}, allows={"rpm": 60.0}) for at in range(30)]
    happened = Happening(at=1.0, kind=kind, target=None, what="open files")
    found = findings(Course.of(bound, [happened]), Facts(writer="p"), 30.0)
    assert causes(found) == ["requests", kind]


# Waits elsewhere than in a target's queue


def after(seconds: float) -> Before:
    """What a function does by itself."""

    async def work(_: int) -> None:
        await asyncio.sleep(seconds)

    return work


def test_what_a_function_does_by_itself() -> None:
    """A user would look at the provider, while the own code is what takes the time."""
    options: dict[str, Any] = {"asks": lambda client: asking(client, after(5.0)), "window": 50}
    found = seen(FAST, limits=Limits(rpm=60_000), functions=True, **options)
    assert causes(found) == ["function"]
    assert found[0].text.startswith("What the program's own function does beside its calls takes the time")
    assert "are in flight on average" in found[0].text
    assert "function" not in causes(seen(FAST, limits=Limits(rpm=60_000), at=2.0, calls=50, functions=True))


def test_calls_that_wait_before_they_are_tried_again() -> None:
    """A run whose calls mostly sleep would be said to wait for its provider."""
    settings = {**FAST, "faults": Faults(server_error=0.8)}
    found = seen(settings, limits=Limits(rpm=60_000), window=40, at=30.0, retries=20, fail=True)
    assert causes(found) == ["backoff", "retries"]
    assert found[0].text.startswith("Failed calls wait before they are tried again, since ")


def test_calls_that_wait_for_the_prompt_cache() -> None:
    """Somebody in a hurry would not learn that the option which saves money is what takes the time."""
    rules = [" ".join(f"g{group}w{word}" for word in range(1_500)) for group in range(20)]

    def prompt(number: int) -> Call:
        return Call(f"row {number}", system=rules[number // 10], max_tokens=20)

    settings = {"latency": 6.0, "first_token": 5.5, "prompt_cache": "breakpoints"}
    given: dict[str, Any] = {"limits": Limits(rpm=60_000), "prompt_cache": "auto", "model": "anthropic/claude-opus-4"}
    found = seen(settings, calls=200, prompt=prompt, at=4.5, **given)
    assert causes(found) == ["prompt_cache"]
    assert found[0].text.startswith("Calls that begin alike wait for the first of them to fill the provider's prompt")
    assert found[0].text.endswith("without --prompt-cache they go at once, at the full price.")
    later = seen(settings, calls=200, prompt=prompt, window=40, at=25.0, **given)
    assert causes(later) == ["provider", "prompt_cache"]  # most calls are on the wire, the others wait


def test_the_flex_service_has_no_room() -> None:
    """A run that stands still all day would not say what costs how much less patience."""

    def asks(client: Client) -> Asks:
        return asking(client, lane=FlexLane(client._engine))

    found = seen({**FAST, "no_room": (10.0, 1_000.0)}, asks=asks, limits=Limits(rpm=6_000, burst=1.0), at=200.0)
    assert "room" in causes(found)
    text = next(each.text for each in found if each.cause == "room")
    assert text.startswith("The provider's flex service has no room, since ")
    assert text.endswith("--lane live is faster, and costs more.")
    assert found[0].cause in ("room", "down")


def test_a_pause_by_a_person() -> None:
    """Whoever finds the run a day later would look for a fault."""

    def asks(client: Client) -> Asks:
        asyncio.get_running_loop().call_later(20.0, client.pause)
        asyncio.get_running_loop().call_later(90.0, client.resume)
        return asking(client)

    found = seen(FAST, asks=asks, limits=Limits(rpm=600, burst=1.0), at=80.0)
    assert causes(found) == ["paused"]
    assert found[0].text.startswith("It is paused by you, since ")
    assert found[0].text.endswith("flatout ctl FILE resume goes on.")


@pytest.mark.parametrize(("every", "larger"), [(0.02, "input"), (0.0, "requests")])
def test_of_two_causes_the_larger_one_is_named_first(every: float, larger: str) -> None:
    """A user would mend what hardly matters."""
    kept = {"requests": 0.7, "input": 0.3} if larger == "requests" else {"requests": 0.3, "input": 0.7}
    both = [stretch(float(at), sent=10, held=kept, allows={"rpm": 600.0}) for at in range(30)]
    found = findings(Course.of(both), Facts(writer="p", command="flatout run"), 30.0)
    assert causes(found) == [larger, "input" if larger == "requests" else "requests"]


def test_two_causes_at_once() -> None:
    """Of two things that slow a run, only one would be seen."""
    options: dict[str, Any] = {"asks": lambda client: asking(client, after(4.0)), "window": 40, "retries": 20}
    settings = {**FAST, "faults": Faults(server_error=0.6)}
    found = seen(settings, limits=Limits(rpm=60_000), functions=True, at=60.0, fail=True, **options)
    assert causes(found)[:2] == ["function", "backoff"]


def test_a_dead_target_is_not_bound_by_its_limits() -> None:
    """With a route, a user would raise the limit of a target that never answered."""
    down = Happening(at=1.0, kind="down", target="groq/m", what="503")
    alive = [stretch(float(at), sent=10, answered=10, held={"requests": 1.0}, allows={"rpm": 600.0}) for at in range(9)]
    gone = {"target": "groq/m", "answered": 0, "failed": 1, "held": {"requests": 1.0}, "allows": {"rpm": 60.0}}
    dead = [stretch(float(at), **gone) for at in range(9)]
    for now, facts in ((9.0, Facts(writer="p")), (9.0, Facts(state="finished"))):
        found = findings(Course.of([*alive, *dead], [down]), facts, now)
        assert [(each.target, each.cause) for each in found if each.cause != "retries"] == [
            ("openai/m", "requests"),
            ("groq/m", "down"),
        ]
    assert "groq/m was down from " in "".join(each.text for each in found)


def test_what_rows_without_an_answer_lacked() -> None:
    """The rows that failed would not say what to change for the next run."""
    errors = [FailedClass("DeadlineExceeded", 20, 1, None, ""), FailedClass("BudgetExceeded", 30, 2, None, "")]
    facts = Facts(state="finished", command="flatout run", finished=100, errors=errors)
    assert sentences(Course(), facts, 0.0) == [
        "The deadline of 20 rows passed before an answer came; a longer --deadline gives them more time.",
        "The budget had no room for 30 rows; a higher --budget lets them go.",
    ]
    assert sentences(Course(), Facts(state="finished", finished=10_000, errors=errors), 0.0) == []


def test_workers_for_a_few_rows() -> None:
    """Eight processes for a hundred rows would be taken for the fastest way."""
    course = Course.of([stretch(0.0, answered=100), stretch(1.0, answered=100)])
    few = Facts(state="finished", workers=8, total=200)
    assert sentences(course, few, 9.0)[-1].startswith("8 workers shared 200 rows")
    many = Facts(state="finished", workers=8, total=200_000)
    assert "workers" not in causes(findings(course, many, 9.0))
    alone = Facts(state="finished", command="flatout run --workers 8", total=200)
    assert "workers" not in causes(findings(course, alone, 9.0))


def test_of_a_few_answers_nothing_is_said_that_they_do_not_show() -> None:
    """Two answers would have a slowest 5 %: "half took 0.2 s, 5 % more than 0.2 s"."""
    two = [stretch(0.0, answered=2, latency_p50=0.2, latency_p95=0.2)]
    assert findings(Course.of(two), Facts(state="finished", finished=2), 9.0) == []
    slow = [stretch(0.0, answered=2, latency_p50=20.0, latency_p95=30.0)]
    assert sentences(Course.of(slow), Facts(state="finished"), 9.0) == [
        "The provider was slow: its 2 answers took up to 30 s."
    ]
    even = [stretch(0.0, answered=100, latency_p50=0.2, latency_p95=0.2)]
    assert sentences(Course.of(even), Facts(state="finished"), 9.0) == [
        "Nothing held the calls back: answers took 0.2 s."
    ]
    last = [stretch(0.0, answered=2, in_flight=2, latency_p50=0.2, latency_p95=0.2)]
    assert sentences(Course.of(last), Facts(writer="p", left=2), 1.0) == ["The last 2 rows are in flight."]


# Advice only where the course bears it out

BOUND = {"concurrency": 1.0}


def queued(seconds: int, in_flight: int, slots: int = 4, takes: float = 3.0, **changes: Any) -> list[Stretch]:
    """What a server does that works on a few calls at once, while more are in flight from the start."""
    most = in_flight / slots * takes
    found = []
    for at in range(seconds):
        took = min(most, max(takes, float(at)))
        counts = {"answered": 1, "in_flight": in_flight, "waiting": 100, "latency_p50": took, "latency_p95": took}
        found.append(stretch(float(at), held=BOUND, **{"allows": {"concurrency": float(in_flight)}} | counts | changes))
    return found


def test_more_in_flight_is_not_advised_where_calls_already_wait_at_the_server() -> None:
    """A user would send four times as many calls to a server whose queue alone would grow."""
    course = Course.of(queued(200, 64))
    for now in (30.0, 200.0):
        seen = Course.of(course.targets["openai/m"][: int(now)])
        assert all("--concurrency" not in each for each in sentences(seen, Facts(writer="p", left=1_000), now))
    text = sentences(course, Facts(state="finished", command="flatout run"), 200.0)[0]
    assert text.endswith("so more would only wait there.")


SLOTS = {"slots": 4, "latency": 12.0, "latency_p99": 14.0}


def test_calls_that_wait_at_a_slow_server_are_known_before_all_of_them_have_ended() -> None:
    """64 calls to a server that works on four, 12 s each, would be called too few to judge for minutes."""
    found = first(seen(SLOTS, model="m", calls=400, at=100.0))
    assert ", and 13 s at first, as if the server worked on about 5 at a time." in found.text
    given = first(seen(SLOTS, model="m", calls=400, at=60.0, limits=Limits(concurrency=64)))
    assert "64 may be in flight; at first it took 13 s, so more would only wait there." in given.text


def test_a_provider_that_becomes_slower_is_not_taken_for_a_full_one() -> None:
    """A user would look for a fault in the number of calls, though the provider answers the same ones later."""
    slower = {"latency": 1.0, "latency_p99": 1.5, "changes": [(100.0, {"latency": 10.0, "latency_p99": 15.0})]}
    options: dict[str, Any] = {"model": "m", "calls": 20_000, "limits": Limits(concurrency=30)}
    assert "--concurrency 120 would be four times as fast" in first(seen(slower, at=90.0, **options)).text
    assert first(seen(slower, at=140.0, **options)).text == (
        "The provider is slower than it was: it answers in 11 s, and took 0.9 s before, with as many calls in flight."
    )


def test_the_last_rows_say_how_long_no_answer_has_come() -> None:
    """Whoever waits for three rows that hang would read that none was answered yet, of a run of 300."""
    hangs = FAST | {"faults": Faults(hang=0.01)}
    found = first(seen(hangs, model="m", calls=300, at=90.0, limits=Limits(concurrency=50), fail=True))
    assert found.text == (
        "The last 3 rows are in flight; no answer has come for 1 min 26 s; a lower --timeout tries them again sooner."
    )


def test_what_more_in_flight_brought_is_evidence() -> None:
    """After a user lowered the calls in flight, the advice would be to raise them again, for nothing."""
    after = [replace(each, began_at=each.began_at + 200) for each in queued(100, 8)]
    found = sentences(Course.of([*queued(200, 64), *after]), Facts(writer="p", left=1_000), 300.0)
    assert len(found) == 1
    assert found[0].startswith("The server answers in 6.0 s and 8 may be in flight")
    assert "; with more in flight it was no faster. It has been so since " in found[0]


def test_a_concurrency_that_was_found_is_not_the_users() -> None:
    """flatout would tell the user to raise a number that it has found itself, by trying."""
    found = seen({"slots": 4, "latency": 3.0, "latency_p99": 4.0}, model="m", at=100.0, calls=2_000)
    held = next(each for each in found if each.cause == "concurrency")
    assert held.text.startswith("How many calls the server takes at once is found by trying: ")
    assert "times as fast" not in held.text


@pytest.mark.parametrize("facts", [Facts(writer="p", left=500), Facts(state="broken off"), Facts(state="finished")])
def test_advice_names_what_binds_next(facts: Facts) -> None:
    """A user would raise the concurrency to a number at which another limit holds the calls."""
    fields = {"answered": 2, "in_flight": 4, "waiting": 50, "latency_p50": 2.0, "latency_p95": 2.0}
    some = [stretch(float(at), held=BOUND, allows={"concurrency": 4.0, "rpm": 240.0}, **fields) for at in range(60)]
    text = sentences(Course.of(some), facts, 60.0)[0].partition(" It has been so since ")[0]
    assert text.endswith(
        "--concurrency 8 would be twice as fast, if the server bears it; then requests per minute bind (240)."
    )


# The end of the input


@pytest.mark.parametrize("live", [True, False])
def test_an_input_that_was_read_to_its_end_is_never_the_cause(live: bool) -> None:
    """Five slow rows would be blamed on the five lines of the file."""
    fields = {"held": {"input": 1.0}, "sent": 0, "latency_p50": None, "latency_p95": None}
    waits = [stretch(float(at), answered=0, in_flight=5, **fields) for at in range(20)]
    if live:
        found = sentences(Course.of(waits), Facts(writer="p", total=5, left=5), 20.0)
        assert found == ["All 5 rows are in flight; none is answered yet."]
        return
    last = stretch(20.0, answered=5, latency_p50=20.0, latency_p95=20.0)
    found = sentences(Course.of([*waits, last]), Facts(state="finished", total=5), 21.0)
    assert found == ["The provider was slow: its 5 answers took up to 20 s."]


# Changes by people


def test_a_limit_that_was_changed_is_told_with_its_own_use() -> None:
    """A run of minutes at 600 would be said to have used all of the 30 of its last seconds."""
    before = [stretch(float(at), sent=10, held={"requests": 1.0}, allows={"rpm": 600.0}) for at in range(100)]
    after = [stretch(100.0 + at, sent=0, held={"requests": 1.0}, allows={"rpm": 30.0}) for at in range(5)]
    text = sentences(Course.of([*before, *after]), Facts(state="finished"), 105.0)[0]
    assert "most of it at 600 a minute, of which 100 % were used" in text


def test_nothing_held_and_something_held_are_not_said_together() -> None:
    """Two sentences would contradict each other."""
    some = [stretch(float(at), answered=20, latency_p50=1.0, latency_p95=2.0) for at in range(60)]
    held = [replace(each, held={"requests": 1.0}, allows={"rpm": 60.0}) for each in some[:22]]
    assert causes(findings(Course.of([*held, *some[22:]]), Facts(state="finished"), 60.0)) == ["requests"]


def test_a_limit_whose_minute_went_at_once_is_used_in_full() -> None:
    """A higher limit would be advised as if this one were not used, for two minutes, after a burst of some seconds."""
    limit = {"allows": {"rpm": 1_200.0}}
    burst = [stretch(float(at), sent=300, answered=200, **limit) for at in range(4)]
    full = [stretch(4.0 + at, sent=0, answered=5, held={"requests": 1.0}, **limit) for at in range(56)]
    steady = [stretch(60.0 + at, sent=20, answered=20, held={"requests": 1.0}, **limit) for at in range(100)]
    for seconds in (100, 140, 160):
        seen = [*burst, *full, *steady][:seconds]
        (found, *_) = findings(Course.of(seen), Facts(writer="p", left=100), float(seconds))
        assert found.used == pytest.approx(1.0)


def test_a_pause_and_its_end_are_seen_at_once() -> None:
    """For half a minute a user would not see whether the command did anything."""
    bound = [stretch(float(at), held={"requests": 1.0}, allows={"rpm": 60.0}) for at in range(30)]
    pause = Happening(at=30.2, kind="change", what="paused", does="pause", by="ada")
    facts = Facts(writer="p", left=100)
    assert causes(findings(Course.of(bound, [pause]), facts, 30.5)) == ["paused"]
    paused = [stretch(30.0 + at, answered=0, held={"paused": 1.0}, allows={"rpm": 60.0}) for at in range(30)]
    again = [replace(each, began_at=each.began_at + 61) for each in bound[:3]]
    resumed = Happening(at=60.1, kind="change", what="resumed", does="resume", by="ada")
    assert causes(findings(Course.of([*bound, *paused, *again], [pause, resumed]), facts, 64.0)) == ["requests"]


# What is said of a search, of bursts and of refusals

TRIES = {"concurrency": 64.0, "tried": 1.0}


def slow_server(seconds: int) -> list[Stretch]:
    """A server of 4 slots that takes 12 s for an answer, while 64 calls are tried."""
    found = []
    for at in range(seconds):
        done = 4 if at and at % 12 == 0 else 0
        took = min(192.0, float(at)) if done else None
        fields = {"answered": done, "in_flight": 64, "waiting": 200, "latency_p50": took, "latency_p95": took}
        found.append(stretch(float(at), held=BOUND, allows=TRIES, **fields))
    return found


@pytest.mark.parametrize("seconds", [30, 100, 400])
def test_a_number_that_is_only_tried_is_not_advised(seconds: int) -> None:
    """A user would give --concurrency 64 to a server that works on 4 calls at a time."""
    course = Course.of(slow_server(seconds))
    for facts in (Facts(writer="p", left=200), Facts(state="interrupted")):
        text = sentences(course, facts, float(seconds))[0]
        assert "--concurrency" not in text
        assert "not found" in text
        working = re.search(r"the server worked on about (\d+) at a time", text)
        assert (working is not None) == (seconds > 30)
        assert working is None or 3 <= int(working[1]) <= 5


def test_after_a_burst_the_use_of_a_limit_is_that_of_the_time_for_which_it_binds() -> None:
    """A limit would be said to bind although 0 % of it are used."""
    fields = {"allows": {"rpm": 30.0}, "held": {"requests": 1.0}}
    burst, rest = stretch(0.0, sent=30, **fields), [stretch(float(at), sent=0, **fields) for at in range(1, 50)]
    text = sentences(Course.of([burst, *rest]), Facts(writer="p", left=100), 50.0)[0]
    assert text.startswith("Requests per minute bind: 100 % of 30 a minute are used")
    even = [stretch(float(at), sent=int(at % 4 == 0), **fields) for at in range(50, 400)]
    text = sentences(Course.of([burst, *rest, *even]), Facts(writer="p", left=100), 400.0)[0]
    assert re.match("Requests per minute bind: (49|50) % of 30 a minute are used", text)


def test_pauses_are_said_with_the_share_of_the_calls_that_were_refused() -> None:
    """A user could not tell a few stray refusals from a limit that is hit."""
    some = [stretch(float(at), answered=97, refused=3, held={"pause": 0.24}) for at in range(60)]
    text = sentences(Course.of(some), Facts(state="finished"), 60.0)[0]
    assert text.startswith(
        "The provider refused 3 % of the calls (429) and asked for pauses, which held up all calls 24 % of the time."
    )
