"""What a program that sets up `logging` is told of a client."""

from __future__ import annotations

import asyncio
import logging
import re
from itertools import pairwise
from typing import Any

import pytest

from flatout import Call, ConnectError, Limits
from flatout.testing import run_virtual
from tests.support.scripted_wire import Wire, client, completion, refusal


def told(caplog: pytest.LogCaptureFixture, level: int, wire: Wire, call: Any = "hi", **options: Any) -> list[str]:
    """What is logged while one call is answered."""

    async def main() -> None:
        async with client(wire, **options) as made:
            await made.result(call)

    caplog.set_level(level, "flatout")
    run_virtual(main())
    return [
        f"{record.levelname} {record.getMessage()}" for record in caplog.records if record.name.startswith("flatout")
    ]


def after(*failures: Any) -> Wire:
    """Fails so often, and then answers."""
    left = list(failures)
    return Wire(lambda _: left.pop(0) if left else completion("yes"))


def test_a_retry_and_its_reason_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """A run that crawls because half of its attempts fail would look like one at a slow provider."""
    lines = told(caplog, logging.INFO, after(refusal(500)))
    assert len(lines) == 1
    assert lines[0].startswith("INFO sim/m: attempt 1 failed: ServerError: ")
    assert "; again in " in lines[0]


def test_a_pause_is_told_and_each_throttle_only_in_detail(caplog: pytest.LogCaptureFixture) -> None:
    """A run that waits would seem to hang; or a thousand refusals fill the log."""
    wire = after(*(refusal(429, retry_after="7") for _ in range(5)))
    lines = told(caplog, logging.DEBUG, wire, limits=Limits(rpm=60_000))
    assert any(line.startswith("INFO sim/m pauses for 7.0 s: rate limited") for line in lines)
    assert any(line.startswith("DEBUG sim/m: attempt 1 failed: RateLimited") for line in lines)
    assert not any(line.startswith("INFO sim/m: attempt") for line in lines)


def test_a_stop_and_a_call_without_an_answer_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """The one reason for a thousand failures would have to be looked for among the results."""
    lines = told(caplog, logging.INFO, Wire(lambda _: refusal(401)), Call("hi", id="q7"))
    assert any(line.startswith("WARNING sim/m is stopped: ") for line in lines)
    assert any(line.startswith("INFO call q7 has no answer after ") and "AuthenticationError" in line for line in lines)


def test_a_limit_that_the_provider_tells_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody would know what a run is held to, nor what to ask the provider to raise."""
    headers = {"x-ratelimit-limit-requests": "500", "x-ratelimit-remaining-requests": "400"}
    wire = Wire(lambda _: completion("yes", headers=headers | {"x-ratelimit-reset-requests": "12s"}))

    async def main() -> None:
        async with client(wire) as made:
            await made.gather(["hi"] * 5)

    caplog.set_level(logging.INFO, "flatout")
    run_virtual(main())
    assert [record.getMessage() for record in caplog.records] == [
        "sim/m: the limit was found to be 500 requests per minute"
    ]


def test_every_call_is_told_in_detail_alone(caplog: pytest.LogCaptureFixture) -> None:
    """A million answered calls would be a million lines."""
    assert told(caplog, logging.INFO, Wire(lambda _: 2.0)) == []
    assert told(caplog, logging.DEBUG, Wire(lambda _: 2.0)) == [
        "DEBUG sim/m: a call was answered after 2.0 s, attempt 1"
    ]


def test_nobody_pays_for_a_log_that_nobody_reads(caplog: pytest.LogCaptureFixture) -> None:
    """Every call would make events for a logger that drops them."""

    async def main() -> None:
        async with client(Wire()) as made:
            assert not made.events

    caplog.set_level(logging.WARNING, "flatout")
    run_virtual(main())


def lines_of(caplog: pytest.LogCaptureFixture, wire: Wire, calls: int, **options: Any) -> list[tuple[float, str]]:
    """What is logged at INFO while many calls are answered, with the time of each line."""
    lines: list[tuple[float, str]] = []

    class Noting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append((asyncio.get_running_loop().time(), record.getMessage()))

    async def main() -> None:
        async with client(wire, **options) as made:
            await made.gather([f"{number}" for number in range(calls)])

    logger, handler = logging.getLogger("flatout"), Noting()
    caplog.set_level(logging.INFO, "flatout")
    logger.addHandler(handler)
    try:
        run_virtual(main())
    finally:
        logger.removeHandler(handler)
    return lines


def test_a_thousand_failures_of_a_kind_are_a_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    """With -v, a server in trouble would write a thousand lines a second, and hide what else is said."""
    wire = Wire(lambda prompt: refusal(400) if int(prompt) % 2 else completion("yes"))
    lines = lines_of(caplog, wire, 2_000, limits=Limits(rpm=6_000, burst=1))
    failed = [(at, line) for at, line in lines if "has no answer" in line]
    assert 4 <= len(failed) <= 7  # in twenty seconds
    assert all(later - earlier >= 1.0 for (earlier, _), (later, _) in pairwise(failed[:-1]))
    counted = [re.search(r"\(([\d,]+) such in", line) for _, line in failed[1:]]
    assert 1 + sum(int(found[1].replace(",", "")) for found in counted if found) == 1_000


def test_a_target_that_is_down_is_told_once_and_when_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    """A log would not say why nothing moves; or say it for every call."""
    clock: list[float] = []

    def answer(_: str) -> Any:
        clock.append(asyncio.get_running_loop().time())
        return ConnectError("refused") if clock[-1] - clock[0] < 20.0 else completion("yes")

    lines = [line for _, line in lines_of(caplog, Wire(answer), 200, limits=Limits(concurrency=50))]
    assert sum("is down, and its calls wait" in line for line in lines) == 1
    assert sum(bool(re.search(r"takes calls again, after \d+ s", line)) for line in lines) == 1
    assert len(lines) < 20


def test_a_dead_server_is_told_without_any_setup(caplog: pytest.LogCaptureFixture) -> None:
    """A program would be silent for a minute, and look as if it hung."""
    began: list[float] = []

    def answer(_: str) -> Any:
        now = asyncio.get_running_loop().time()
        began.append(now)
        return ConnectError("refused") if now - began[0] < 20.0 else completion("yes")

    async def main() -> None:
        async with client(Wire(answer), limits=Limits(concurrency=50)) as made:
            assert not made.events
            await made.gather(["hi"] * 200)

    run_virtual(main())
    lines = [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
    assert len(lines) == 2
    assert lines[0] == "WARNING sim/m is down, and its calls wait: refused"
    assert re.fullmatch(r"WARNING sim/m takes calls again, after \d+ s", lines[1])


def test_in_detail_each_failure_has_its_line(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever looks for one call's failure would find a count."""

    async def main() -> None:
        async with client(Wire(lambda _: refusal(400))) as made:
            await made.gather(["hi"] * 5)

    caplog.set_level(logging.DEBUG, "flatout")
    run_virtual(main())
    assert sum("has no answer" in record.getMessage() for record in caplog.records) == 5
