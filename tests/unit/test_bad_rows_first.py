"""Rows that are refused for their content, before any was answered: the good ones behind them are answered."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flatout import CircuitOpen, InvalidRequest, Result
from flatout.layer import Response
from flatout.policies.failures.service import ENOUGH, SAME
from flatout.testing import digest_of, run_virtual
from tests.support.scripted_wire import Wire, client, completion, refusal


async def answer(prompt: str) -> Response:
    """Bad rows are refused, always in the same words."""
    return refusal(400) if prompt.startswith("bad") else completion(digest_of(prompt))


async def slowly(prompt: str) -> Response:
    await asyncio.sleep(0.1)
    return await answer(prompt)


def rows(bad: int, good: int) -> list[str]:
    return [*(f"bad {n}" for n in range(bad)), *(f"good {n}" for n in range(good))]


def gather(prompts: list[str], wire: Wire, options: dict[str, Any] | None = None, **more: Any) -> list[Result[Any]]:
    async def main() -> list[Result[Any]]:
        async with client(wire, **(options or {})) as made:
            return list(await made.gather(prompts, **more))

    return run_virtual(main())


def failures(results: list[Result[Any]]) -> list[type]:
    return [type(result.error) for result in results if result.error is not None]


def test_bad_rows_at_the_front_cost_no_good_one() -> None:
    """An input that is sorted, or begins with odd rows, would lose all its other rows."""
    results = gather(rows(85, 300), wire := Wire(answer))
    assert failures(results) == [InvalidRequest] * 85
    assert len(wire.prompts) == 385


def test_until_one_is_answered_they_go_one_at_a_time() -> None:
    """A parameter that is wrong for every row would flood the provider with refused requests."""

    async def slow(prompt: str) -> Response:
        at_once.append(wire.active)
        return await slowly(prompt)

    at_once: list[int] = []
    wire = Wire(slow)
    gather(rows(10 * SAME, 0), wire)
    assert set(at_once[5 * SAME :]) == {1}


@pytest.mark.soak
def test_a_job_whose_every_call_is_wrong_ends() -> None:
    """A million rows would be sent one at a time for days."""
    results = gather(rows(ENOUGH + 500, 0), wire := Wire(answer))
    assert len(wire.prompts) <= ENOUGH + SAME
    assert set(failures(results)) == {InvalidRequest, CircuitOpen}


def test_what_a_run_file_has_counts_as_answered(tmp_path: Path) -> None:
    """Failed rows that are tried again would go one at a time, or be told that the target is stopped."""
    path = tmp_path / "run"
    gather(["good", *rows(200, 0)], Wire(answer), store=path)
    wire = Wire(slowly)
    again = gather(["good", *rows(200, 0)], wire, store=path, retry_failed=True)
    assert failures(again) == [InvalidRequest] * 200
    assert wire.most > 1


def test_what_a_cache_has_counts_as_answered(tmp_path: Path) -> None:
    """A table that grows by bad rows would have them asked one at a time."""
    options = {"cache": tmp_path / "answers"}
    gather(["good"], Wire(answer), options)
    trusted, unknown = Wire(slowly), Wire(slowly)
    gather(["good", *rows(200, 0)], trusted, options)
    gather(rows(200, 0), unknown, options)
    assert tail(trusted) < tail(unknown)


def tail(wire: Wire) -> float:
    return wire.times[-1] - wire.times[0]
