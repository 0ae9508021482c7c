"""The first interrupt: what is on the wire finishes, and nothing else is sent."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from flatout import ConnectError, Limits
from flatout.journey import Journey
from flatout.progress._counters import Longest
from flatout.runs.job import RunEnd, RunOptions
from flatout.runs.runner import Runner
from flatout.runs.stops import Stops
from flatout.runs.under_way import GRACE, UnderWay
from flatout.store import RunReader
from flatout.testing import run_virtual
from tests.support.scripted_wire import Wire, client, refusal

ROWS = 6


def interrupted(folder: Path, released: Any, others: Any = None) -> tuple[RunEnd, Wire, int]:
    """A run in which the first prompt is on the wire and all others wait for their retry when the interrupt comes.

    Args:
        folder: where it is kept.
        released: what becomes of the prompt on the wire after that.
        others: what became of the others; a 500 when None.
    """
    wire = Wire()

    async def main() -> tuple[RunEnd, Wire, int]:
        release, all_sent = asyncio.Event(), asyncio.Event()

        async def answer(prompt: str) -> Any:
            if len(set(wire.prompts)) == ROWS:
                all_sent.set()
            if prompt != "prompt 0":
                return refusal(500) if others is None else others
            await release.wait()
            return released

        wire.answer = answer
        source = folder / "in.jsonl"
        source.write_text("".join(json.dumps({"prompt": f"prompt {n}"}) + "\n" for n in range(ROWS)))
        options = RunOptions(source=str(source), output=str(folder / "out.jsonl"), model="any")
        runner = Runner(options, lambda: client(wire, limits=Limits(rpm=600_000)))
        runner.prepare()
        run = asyncio.create_task(runner.run())
        await all_sent.wait()
        for _ in range(ROWS):
            await asyncio.sleep(0)  # the refusals have reached their calls
        assert wire.active == 1
        runner.stop()
        sent = len(wire.prompts)
        await asyncio.sleep(0)
        release.set()
        return await run, wire, sent

    return asyncio.run(main())


def test_calls_that_wait_for_a_retry_are_left_for_the_run_that_goes_on(tmp_path: Path) -> None:
    """After Ctrl-C, which says that it waits for one call, dozens of requests would go out, and be paid for."""
    outcome, wire, sent = interrupted(tmp_path, "answer")
    assert len(wire.prompts) == sent
    assert (outcome.interrupted, outcome.unfinished) == (True, ROWS - 1)
    with RunReader.open(outcome.run_file) as reader:
        assert reader.counts().finished == 1


def test_an_interrupt_is_written_down_with_the_end_that_it_promises(tmp_path: Path) -> None:
    """Whoever watches a run that ends would see the time that all of its rows take."""
    outcome, _, _ = interrupted(tmp_path, "answer")
    with RunReader.open(outcome.run_file) as reader:
        assert reader.course is not None
        stop = next(each for _, each in reader.course.happenings() if each.what == "stop")
    assert stop.until == pytest.approx(stop.at + GRACE)


def test_what_is_in_flight_and_fails_is_not_tried_again(tmp_path: Path) -> None:
    """The interrupt would last as long as all the retries of what was in flight."""
    outcome, wire, sent = interrupted(tmp_path, refusal(500))
    assert len(wire.prompts) == sent
    assert (outcome.interrupted, outcome.unfinished) == (True, ROWS)


def test_a_refusal_that_needs_no_wait_is_not_tried_again_either(tmp_path: Path) -> None:
    """A throttled call that was in flight would be sent once more before anybody looks."""
    outcome, wire, sent = interrupted(tmp_path, refusal(429, retry_after="0"))
    assert len(wire.prompts) == sent
    assert (outcome.interrupted, outcome.unfinished) == (True, ROWS)


@pytest.mark.parametrize(
    ("others", "in_doubt"),
    [(ConnectError("no connection: refused"), 0), (refusal(503), 0), (refusal(500), ROWS - 1)],
    ids=["refused connections", "a full server", "errors of the server"],
)
def test_only_what_may_have_been_billed_is_perhaps_paid(tmp_path: Path, others: Any, in_doubt: int) -> None:
    """``flatout status`` would say "perhaps paid" of connections that were refused: nothing was sent there."""
    outcome, _, _ = interrupted(tmp_path, "answer", others)
    with RunReader.open(outcome.run_file) as reader:
        assert len(reader.unsettled().attempts) == in_doubt


def test_a_stop_after_a_drain_gives_calls_in_flight_their_time() -> None:
    """Whoever ends a drain that takes too long would lose calls at once that are almost done."""

    async def main() -> None:
        under_way, journey = UnderWay(), Journey(0.0)
        task = asyncio.create_task(asyncio.sleep(1_000))
        journey.attempt.in_flight = True
        under_way.begin(task, 0, journey)
        began = asyncio.get_running_loop().time()
        under_way.stop(drain=True)
        under_way.stop()
        await asyncio.sleep(GRACE - 1.0)
        assert not task.cancelling()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.get_running_loop().time() - began == pytest.approx(GRACE, abs=0.1)

    run_virtual(main())


def test_workers_and_batches_count_stops_alike() -> None:
    """With several workers, or in batches, the same commands would drop what one process waits for."""
    ending = Stops()
    told = []
    for drain in (True, False, False):
        ending.told(drain=drain)
        told.append((ending.count, ending.drains))
    assert told == [(1, True), (1, False), (2, False)]


def test_the_attempt_that_waits_longest_is_known() -> None:
    """The live line could not say which row a run waits for, nor until when."""

    async def main() -> None:
        under_way = UnderWay()
        trips = [Journey(0.0) for _ in range(3)]
        tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in trips]
        for index, (task, journey, sent) in enumerate(zip(tasks, trips, (1.0, 9.0, 8.0), strict=True)):
            attempt = journey.attempt
            attempt.sent_at, attempt.ends_at, attempt.in_flight = sent, sent + 50.0, index > 0
            under_way.begin(task, index, journey)
        assert under_way.longest(10.0) == Longest(row=3, seconds=2.0, left=48.0)  # the first waits for its turn
        for index in range(len(tasks)):
            under_way.end(index)
        assert under_way.longest(10.0) is None

    asyncio.run(main())
