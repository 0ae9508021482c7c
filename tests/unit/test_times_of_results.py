"""A result's times: the provider's, and the time in the queue."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flatout import AttemptTimeout, Client, DeadlineExceeded, Limits, Result
from flatout.testing import run_virtual
from tests.support.scripted_wire import Wire, client, completion, refusal


def results(wire: Wire, prompts: list[str], **options: Any) -> list[Result[Any]]:
    async def main() -> list[Result[Any]]:
        async with client(wire, **options) as asked:
            return await asked.gather(prompts)

    return run_virtual(main())


def test_the_queue_is_told_from_the_provider() -> None:
    """A user would blame the provider for the wait for an own limit."""
    found = results(Wire(lambda _: 2.0), ["a", "b"], limits=Limits(concurrency=1))
    assert [round(each.provider_seconds or 0, 3) for each in found] == [2.0, 2.0]
    assert [round(each.queued_seconds, 3) for each in found] == [0.0, 2.0]
    assert [round(each.elapsed, 3) for each in found] == [2.0, 4.0]


def test_a_retry_counts_its_last_attempt_and_the_backoff() -> None:
    """The time of a call that was retried would be the provider's alone."""
    answers = iter([refusal(500), completion("a")])

    async def answer(_: str) -> Any:
        await asyncio.sleep(2.0)
        return next(answers)

    (found,) = results(Wire(answer), ["a"])
    assert found.attempts == 2
    assert found.provider_seconds == pytest.approx(2.0)
    assert found.queued_seconds == pytest.approx(found.waits["backoff"])
    assert found.elapsed == pytest.approx(4.0 + found.queued_seconds, abs=0.01)


def test_a_failure_has_its_last_attempts_time() -> None:
    """A timeout would look as if nothing had been sent."""
    (found,) = results(Wire(lambda _: 900.0), ["a"], timeout=5.0, retries=0)
    assert isinstance(found.error, AttemptTimeout)
    assert found.provider_seconds == pytest.approx(5.0, abs=0.01)
    assert found.queued_seconds == 0.0


def test_a_call_that_was_never_sent_has_no_time_at_the_provider() -> None:
    """The provider would be slow without having been asked."""
    sent, never = results(
        Wire(lambda _: 20.0), ["a", "b"], deadline=30.0, limits=Limits(concurrency=1, rpm=1, burst=1.0)
    )
    assert sent.provider_seconds == pytest.approx(20.0)
    assert isinstance(never.error, DeadlineExceeded)
    assert never.provider_seconds is None
    assert never.queued_seconds == pytest.approx(30.0)


def test_a_cached_answer_took_the_provider_no_time(tmp_path: Path) -> None:
    """Answers from the cache would make a provider look fast, or slow."""

    async def main() -> list[Result[Any]]:
        async with client(Wire(lambda _: 2.0), cache=tmp_path / "answers") as asked:
            await asked.gather(["a"])
            return await asked.gather(["a"])

    (found,) = run_virtual(main())
    assert found.cached
    assert (found.provider_seconds, found.queued_seconds) == (None, 0.0)


def test_an_item_of_map_has_the_queueing_of_all_its_calls() -> None:
    """The time of one of its calls would stand for all of them."""

    async def ask(item: str, asked: Client) -> str:
        return (await asked.call(item)).text + (await asked.call(item)).text

    async def main() -> list[Result[Any]]:
        async with client(Wire(lambda _: 2.0), limits=Limits(concurrency=1)) as asked:
            return [result async for result in asked.map(ask, ["a", "b"])]

    found = run_virtual(main())
    assert [each.provider_seconds for each in found] == [None, None]
    assert sum(each.queued_seconds for each in found) == pytest.approx(2.0 + 2.0 + 2.0, abs=0.1)
