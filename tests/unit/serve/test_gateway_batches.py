"""Files and batches: rows in, answers and errors out, whatever happens to the gateway."""

from __future__ import annotations

import asyncio
import json
import os
import time
import tracemalloc
from errno import ENOSPC
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flatout import Budget, ConfigError, Limits
from flatout.presence import AGAIN
from flatout.serve import keys
from flatout.serve.batch_folder import found_at, keep_at
from flatout.serve.batch_work import BatchWork
from flatout.serve.batches import ELSEWHERE, Batches
from flatout.serve.callers import Allowed
from flatout.serve.files import NAME
from flatout.testing import BatchSettings, Faults, ProviderSettings
from tests.support.batch_wire import BatchWire

from .gateways import CHAT, Got, World

BOUNDARY = "----frontier"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-1234567890")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def rows(count: int, **body: Any) -> bytes:
    lines = (
        {
            "custom_id": f"row-{n}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {**CHAT, "user": f"{n}", **body},
        }
        for n in range(count)
    )
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def upload(data: bytes) -> bytes:
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch'.encode(),
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="rows.jsonl"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + data,
    ]
    return b"\r\n".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


async def sent(world: World, data: bytes, **headers: str) -> str:
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    got = await world.ask("/v1/files", upload(data), content_type=kind, **headers)
    assert got.status == 200
    return str(got.data["id"])


LIVE = {"a": "b", "lane": "live"}


async def begun(world: World, data: bytes, *, metadata: dict[str, str] | None = LIVE, **headers: str) -> dict[str, Any]:
    asked = {"input_file_id": await sent(world, data, **headers), "endpoint": "/v1/chat/completions"}
    got = await world.ask("/v1/batches", {**asked, "completion_window": "24h", "metadata": metadata}, **headers)
    assert got.status == 200
    return dict(got.data)


async def over(world: World, name: str, **headers: str) -> dict[str, Any]:
    while True:
        found = (await world.get(f"/v1/batches/{name}", **headers)).data
        if found["status"] in ("completed", "failed", "expired", "cancelled"):
            return dict(found)
        await asyncio.sleep(0.5)


async def lines(world: World, name: str | None, **headers: str) -> list[Any]:
    if name is None:
        return []
    got = await world.get(f"/v1/files/{name}/content", **headers)
    assert got.status == 200
    return [json.loads(line) for line in got.body.splitlines()]


def test_a_batch_answers_each_row_once():
    """Rows would be lost, mixed up, or without an answer that the client's library can read."""

    async def main(world: World) -> tuple[Any, list[Any]]:
        batch = await over(world, (await begun(world, rows(30)))["id"])
        return batch, await lines(world, batch["output_file_id"])

    world = World()
    batch, answers = world.run(main)
    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"total": 30, "completed": 30, "failed": 0}
    assert batch["metadata"] == LIVE
    assert sorted(each["custom_id"] for each in answers) == sorted(f"row-{n}" for n in range(30))
    assert all(each["response"]["body"]["choices"][0]["message"]["content"] for each in answers)
    assert world.provider.stats()["received"] == 30


def test_rows_that_fail_are_in_the_file_of_errors():
    """A row would vanish, or one bad row would fail all others."""
    bad = b'{"custom_id": "bad", "url": "/v1/chat/completions", "body": {"model": "no/model"}}\n'

    async def main(world: World) -> tuple[Any, list[Any]]:
        batch = await over(world, (await begun(world, rows(3) + bad))["id"])
        return batch, await lines(world, batch["error_file_id"])

    batch, errors = World().run(main)
    assert batch["request_counts"] == {"total": 4, "completed": 3, "failed": 1}
    assert [each["custom_id"] for each in errors] == ["bad"]
    assert errors[0]["response"]["status_code"] == 400
    assert "not served here" in errors[0]["response"]["body"]["error"]["message"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"not json\n", "invalid_json_line"),
        (b'["a"]\n', "invalid_json_line"),
        (b'{"custom_id": "a", "body": 5}\n', "invalid_json_line"),
        (b'{"custom_id": "a", "body": ' + b"[" * 10_000 + b"]" * 10_000 + b"}\n", "invalid_json_line"),
        (b'{"custom_id": "\xff", "body": {}}\n', "invalid_json_line"),
        (b'{"body": {}}\n', "missing_required_parameter"),
        (b'{"custom_id": "a"}\n', "missing_required_parameter"),
        (b'{"custom_id": "a", "method": "GET", "body": {}}\n', "invalid_method"),
        (rows(2) + rows(1), "duplicate_custom_id"),
        (b'{"custom_id": "a", "url": "/v1/embeddings", "body": {}}\n', "url_mismatch"),
        (b"\n\n", "empty_file"),
    ],
)
def test_an_input_that_is_wrong_is_told_by_line(data: bytes, code: str):
    """A client would wait for a day, and not learn which line is wrong."""

    async def main(world: World) -> Any:
        return await over(world, (await begun(world, data))["id"])

    batch = World().run(main)
    assert batch["status"] == "failed"
    assert batch["errors"]["data"][0]["code"] == code


def test_a_cancelled_batch_leaves_what_it_has():
    """Answers that were paid for would be thrown away, and rows that nobody wants would be asked."""
    world = World(ProviderSettings(rpm=60, latency=0.5))

    async def main(world: World) -> tuple[Any, list[Any]]:
        batch = await begun(world, rows(200))
        await asyncio.sleep(5.0)
        assert (await world.ask(f"/v1/batches/{batch['id']}/cancel", b"")).data["status"] == "cancelling"
        batch = await over(world, batch["id"])
        return batch, await lines(world, batch["output_file_id"])

    batch, answers = world.run(main)
    assert batch["status"] == "cancelled"
    assert 0 < len(answers) == batch["request_counts"]["completed"] < 200
    assert batch["error_file_id"] is None
    assert world.provider.stats()["received"] < 100
    (caller,) = world.gateway.callers
    assert caller.calls - caller.failed - caller.hung_up == len(answers)


def test_a_gateway_that_starts_again_goes_on_with_its_batches(tmp_path: Path):
    """A batch that was accepted would never end, or its rows would be paid for twice."""
    first = World(ProviderSettings(rpm=60, latency=0.5))
    second = World(ProviderSettings(latency=0.5))

    async def begin(world: World) -> str:
        batch = await begun(world, rows(40))
        await asyncio.sleep(4.0)
        return str(batch["id"])

    async def end(world: World) -> tuple[Any, list[Any]]:
        await world.gateway.batches.open()
        batch = await over(world, name)
        return batch, await lines(world, batch["output_file_id"])

    name = first.run(begin)
    batch, answers = second.run(end)
    assert batch["request_counts"] == {"total": 40, "completed": 40, "failed": 0}
    assert sorted(each["custom_id"] for each in answers) == sorted(f"row-{n}" for n in range(40))
    asked = first.provider.stats()["answered"] + second.provider.stats()["answered"]
    assert 40 <= asked <= 40 + 64
    assert first.provider.stats()["answered"] > 2
    assert second.provider.stats()["answered"] < 40


def test_a_batch_waits_for_a_budget_that_is_away_when_the_gateway_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """The batch would fail for good, and its answers, which are paid for, be in no file."""
    ring, settings = tmp_path / "keys.json", ProviderSettings(latency=5.0)
    made = keys.add("team-a", Allowed(budget=Budget(10.0, "day", "key team-a")), ring)

    async def stopped(world: World) -> str:
        name = str((await begun(world, rows(30), x_api_key=made))["id"])
        await asyncio.sleep(12.0)
        return name

    def away(_: Budget) -> Any:
        raise ConfigError("nobody is there")

    async def started_again(world: World) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr("flatout.serve.loans.lender", away)
            await world.gateway.batches.open()
            await asyncio.sleep(60.0)
        await asyncio.sleep(AGAIN)
        return await over(world, name, x_api_key=made)

    name = World(settings, keys=ring, limits=Limits(concurrency=4)).run(stopped)
    batch = World(settings, keys=ring, limits=Limits(concurrency=4)).run(started_again)
    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"total": 30, "completed": 30, "failed": 0}
    assert caplog.text.count("wait for its budget: nobody is there") == 1


@pytest.mark.parametrize("metadata", [LIVE, None])
def test_a_batch_whose_key_was_removed_leaves_what_it_has(tmp_path: Path, metadata: dict[str, str] | None):
    """Answers that were paid for would be in no file, and rows that nobody may ask would be run at the provider."""
    ring = tmp_path / "keys.json"
    settings = ProviderSettings(rpm=60, latency=0.5, batch=BatchSettings(time=1_000.0, time_p99=1_000.0))
    made = keys.add("team-a", Allowed(), ring)
    keys.add("team-b", Allowed(), ring)
    first = World(settings, keys=ring)

    async def stopped(world: World) -> str:
        name = str((await begun(world, rows(200), metadata=metadata, x_api_key=made))["id"])
        await asyncio.sleep(5.0 if metadata else 600.0)
        return name

    async def started_again(world: World) -> tuple[Any, list[Any]]:
        await asyncio.sleep(601.0)  # the provider's clock goes on
        keys.remove("team-a", ring)
        world.gateway.keyring.look()
        await world.gateway.batches.open()
        await asyncio.sleep(300.0)
        again = keys.add("team-a", Allowed(), ring)  # else nobody may fetch the answers
        world.gateway.keyring.look()
        batch = (await world.get(f"/v1/batches/{name}", x_api_key=again)).data
        return batch, await lines(world, batch["output_file_id"], x_api_key=again)

    name = first.run(stopped)
    batch, answers = World(settings, keys=ring, provider=first.provider).run(started_again)
    assert batch["status"] == "failed"
    assert "no key of team-a" in batch["errors"]["data"][0]["message"]
    assert 0 < len(answers) == batch["request_counts"]["completed"] < 200


@pytest.mark.parametrize(("metadata", "others"), [(LIVE, True), (None, True), (LIVE, False)])
def test_a_batch_ends_when_its_key_is_removed(tmp_path: Path, metadata: dict[str, str] | None, others: bool):
    """A batch of a key that leaked would be asked and paid for until its last row. Rows that were not sent would be
    told as failures of the provider (502).
    """
    ring = tmp_path / "keys.json"
    made = keys.add("team-a", Allowed(), ring)
    if others:
        keys.add("team-b", Allowed(), ring)
    settings = ProviderSettings(rpm=60, latency=0.5, batch=BatchSettings(time=1_000.0, time_p99=1_000.0))

    async def main(world: World) -> tuple[Any, list[Any]]:
        async with world.gateway.tended():
            name = str((await begun(world, rows(200), metadata=metadata, x_api_key=made))["id"])
            await asyncio.sleep(5.0 if metadata else 600.0)
            keys.remove("team-a", ring)
            await asyncio.sleep(300.0)
            again = keys.add("team-a", Allowed(), ring)  # else nobody may fetch the answers
            await asyncio.sleep(2 * keys.LOOK)
            batch = (await world.get(f"/v1/batches/{name}", x_api_key=again)).data
            return batch, await lines(world, batch["output_file_id"], x_api_key=again)

    world = World(settings, keys=ring)
    batch, answers = world.run(main)
    assert batch["status"] == "failed"
    assert "no key of team-a" in batch["errors"]["data"][0]["message"]
    assert 0 < len(answers) == batch["request_counts"]["completed"] < 200
    assert world.provider.stats()["batches"]["open"] == 0


def test_a_batch_goes_on_when_its_key_is_replaced(tmp_path: Path):
    """Rows that waited for their turn would fail, although they are their owner's."""
    ring = tmp_path / "keys.json"
    made = keys.add("team-a", Allowed(rpm=60), ring)

    async def main(world: World) -> dict[str, Any]:
        async with world.gateway.tended():
            name = str((await begun(world, rows(30), x_api_key=made))["id"])
            await asyncio.sleep(5.0)
            keys.remove("team-a", ring)
            again = keys.add("team-a", Allowed(rpm=60), ring)
            await asyncio.sleep(2 * keys.LOOK)
            return await over(world, name, x_api_key=again)

    batch = World(ProviderSettings(latency=0.5), keys=ring).run(main)
    assert batch["request_counts"] == {"total": 30, "completed": 30, "failed": 0}


@pytest.mark.parametrize("state", ["cancelled", "expired"])
@pytest.mark.parametrize("began", [True, False])
def test_a_batch_that_waits_for_a_budget_can_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, began: bool
):
    """While the budget's server is away, its answers could not be had, neither by a cancellation nor after a day."""
    monkeypatch.setattr("flatout.serve.batch_work.WINDOW", 300.0)
    ring, settings = tmp_path / "keys.json", ProviderSettings(latency=5.0)
    made = keys.add("team-a", Allowed(budget=Budget(10.0, "day", "key team-a")), ring)
    asks = {"x_api_key": made}

    async def stopped(world: World) -> str:
        if not began:
            monkeypatch.setattr(Batches, "_begin", lambda *_: None)
        name = str((await begun(world, rows(30), **asks))["id"])
        await asyncio.sleep(12.0)
        return name

    def away(_: Budget) -> Any:
        raise ConfigError("nobody is there")

    async def started_again(world: World) -> Any:
        batches = world.gateway.batches
        with monkeypatch.context() as patch:
            patch.setattr("flatout.serve.loans.lender", away)
            await batches.open()
            await asyncio.sleep(60.0)
            if state == "cancelled":
                await batches._cancel(batches._known[name])
            await asyncio.sleep(300.0)
            assert batches._known[name].state == state
        await asyncio.sleep(AGAIN)
        batch = (await world.get(f"/v1/batches/{name}", **asks)).data
        return batch, await lines(world, batch["output_file_id"], **asks)

    with monkeypatch.context() as monkeypatch:
        name = World(settings, keys=ring, limits=Limits(concurrency=4)).run(stopped)
    batch, answers = World(settings, keys=ring, limits=Limits(concurrency=4)).run(started_again)
    assert batch["status"] == state
    assert len(answers) == batch["request_counts"]["completed"]
    assert (0 < len(answers) < 30) if began else not answers
    assert batch["request_counts"]["failed"] == (30 - len(answers) if state == "expired" else 0)


def test_a_batch_waits_until_its_results_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """A disk that is full for a moment would fail the batch, and its answers, which are paid for, be in no file."""
    writes, tries = BatchWork._write, []

    def full(work: BatchWork, outs: Any, *, late: bool) -> list[int]:
        tries.append(late)
        if len(tries) == 1:
            raise OSError(ENOSPC, "No space left on device")
        return writes(work, outs, late=late)

    monkeypatch.setattr(BatchWork, "_write", full)

    async def main(world: World) -> Any:
        batch = await over(world, (await begun(world, rows(5)))["id"])
        return batch, await lines(world, batch["output_file_id"])

    batch, answers = World().run(main)
    assert (batch["status"], len(answers)) == ("completed", 5)
    assert "waits to leave its results: [Errno 28]" in caplog.text
    assert not [*tmp_path.rglob(".batch-*")]


def test_calls_go_before_the_rows_of_a_batch():
    """Somebody who waits for an answer would wait behind a job of a day."""
    world = World(ProviderSettings(rpm=600, burst=1, latency=0.5), limits=Limits(rpm=600, burst=1))

    async def main(world: World) -> float:
        await begun(world, rows(500))
        await asyncio.sleep(5.0)
        before = asyncio.get_running_loop().time()
        got = await world.ask("/v1/chat/completions", CHAT)
        return got.at - before

    assert world.run(main) < 3


@pytest.mark.parametrize("metadata", [None, {"lane": "batch"}])
def test_a_batch_is_its_providers_own_where_it_has_them(metadata: dict[str, str] | None):
    """People would pay the full price for jobs that have a day's time."""
    wire = BatchWire(seconds=600.0)
    bad = b'{"custom_id": "bad", "url": "/v1/chat/completions", "body": {"model": "no/model"}}\n'
    world = World(transport=wire)

    async def main(world: World) -> tuple[Any, list[Any], list[Any]]:
        batch = await over(world, (await begun(world, rows(5, logprobs=True) + bad, metadata=metadata))["id"])
        return batch, await lines(world, batch["output_file_id"]), await lines(world, batch["error_file_id"])

    batch, answers, errors = world.run(main)
    assert batch["request_counts"] == {"total": 6, "completed": 5, "failed": 1}
    assert [each["custom_id"] for each in answers] == [f"row-{n}" for n in range(5)]
    assert all(each["response"]["body"]["choices"][0]["message"]["content"] for each in answers)
    assert [each["custom_id"] for each in errors] == ["bad"]
    assert len(wire.jobs) == 1


def own_batches(**settings: Any) -> World:
    """A gateway whose provider has batches of its own."""
    return World(ProviderSettings(batch=BatchSettings(**settings)))


def test_rows_reach_the_providers_batches_as_they_are():
    """A client could not use what its provider added yesterday, or would miss a part of the answers."""
    world = own_batches(time=60.0, time_p99=60.0)
    seen: list[bytes] = []
    send = world.client._engine.transport.send

    async def noted(request: Any) -> Any:
        seen.append(request.body or b"")
        return await send(request)

    world.client._engine.transport.send = noted  # type: ignore[method-assign]

    async def main(world: World) -> list[Any]:
        batch = await over(world, (await begun(world, rows(3, added_yesterday=[1]), metadata=None))["id"])
        return await lines(world, batch["output_file_id"])

    answers = world.run(main)
    assert sum(body.count(b'"added_yesterday": [1]') for body in seen) == 3
    assert all({"id", "created", "choices", "usage"} <= {*each["response"]["body"]} for each in answers)
    assert all("logprobs" in each["response"]["body"]["choices"][0] for each in answers)


def test_a_route_is_asked_in_the_batches_of_its_first_model_that_has_some():
    """A job of a day would be paid in full because its model is named by a route."""
    wire = BatchWire(seconds=600.0)
    routes = {"routes": {"jobs": {"targets": ["ollama/llama", "openai/gpt-5-mini"]}}}
    world = World(transport=wire, config=routes)

    async def main(world: World) -> Any:
        return await over(world, (await begun(world, rows(3, model="jobs"), metadata={"lane": "batch"}))["id"])

    assert world.run(main)["request_counts"] == {"total": 3, "completed": 3, "failed": 0}
    assert len(wire.jobs) == 1


def test_a_server_at_an_address_of_its_own_is_asked_live():
    """Batches for a vLLM or an Ollama would fail: these have none."""
    world = World(model="any", base_url="http://127.0.0.1:9/v1", models=("any",))

    async def main(world: World) -> Any:
        return await over(world, (await begun(world, rows(3, model="any"), metadata=None))["id"])

    assert world.run(main)["status"] == "completed"
    assert world.provider.stats()["received"] == 3
    assert not world.provider.stats()["batches"]["created"]


async def cancelled(world: World, name: str) -> None:
    assert (await world.ask(f"/v1/batches/{name}/cancel", b"")).data["status"] == "cancelling"


def test_a_cancelled_batch_is_cancelled_at_its_provider():
    """Rows that nobody wants would be run, and paid for; or those that were run would be thrown away."""
    world = own_batches(time=1_000.0, time_p99=1_000.0)

    async def main(world: World) -> tuple[Any, list[Any]]:
        batch = await begun(world, rows(200), metadata=None)
        await asyncio.sleep(600.0)
        await cancelled(world, batch["id"])
        batch = await over(world, batch["id"])
        return batch, await lines(world, batch["output_file_id"])

    batch, answers = world.run(main)
    assert batch["status"] == "cancelled"
    assert 0 < len(answers) == batch["request_counts"]["completed"] < 200
    assert len(answers) == world.provider.stats()["batches"]["answers"]


def test_a_batch_is_paid_for_once_if_two_gateways_share_a_folder(monkeypatch: pytest.MonkeyPatch):
    """All rows would be asked again by a gateway that read of a batch just before another one had done it."""
    first = World(ProviderSettings(latency=0.5))
    second = World(provider=first.provider)

    async def main(world: World) -> tuple[Any, Any]:
        batch = await begun(world, rows(20))
        with monkeypatch.context() as patch:
            patch.setattr(Batches, "_begin", lambda *_: None)  # the other one is slow to begin
            await second.gateway.batches.open()
        done = await over(world, batch["id"])
        async with second.client:
            second.gateway.batches.look_again({each.name for each in world.gateway.callers})
            await asyncio.sleep(5.0)
            seen = (await second.get(f"/v1/batches/{batch['id']}")).data
            await second.gateway.batches.close()
        return done, seen

    done, seen = first.run(main)
    assert done["status"] == "completed"
    assert seen == done
    assert first.provider.stats()["answered"] == 20


def test_a_gateway_learns_that_another_one_has_done_a_batch():
    """A batch would be under way for ever at one of two gateways that share a folder. Cancelled there, it would lose
    its results.
    """
    first = World(ProviderSettings(rpm=60, latency=0.5))
    second = World(provider=first.provider)

    async def main(world: World) -> None:
        batch = await begun(world, rows(200))
        await asyncio.sleep(2.0)
        page = f"/v1/batches/{batch['id']}"
        async with second.client:
            await second.gateway.batches.open()
            await asyncio.sleep(2.0)
            assert "another gateway" in (await second.ask(f"{page}/cancel", b"")).data["error"]["message"]
            done = await over(world, batch["id"])
            assert done["status"] == "completed"
            refused = await second.ask(f"{page}/cancel", b"")
            assert (refused.status, "is completed" in refused.data["error"]["message"]) == (409, True)
            assert (await second.get(page)).data == done
            await asyncio.sleep(ELSEWHERE + 1.0)
            assert (await second.get(page)).data == done
            await second.gateway.batches.close()

    first.run(main)


def test_a_gateway_goes_on_with_a_batch_that_another_one_leaves():
    """Of two gateways that share a folder one ends: its batches would wait for the next start."""
    first = World(ProviderSettings(rpm=60, latency=0.5))
    second = World(provider=first.provider)

    async def main(world: World) -> Any:
        batch = await begun(world, rows(200))
        await asyncio.sleep(2.0)
        async with second.client:
            await second.gateway.batches.open()
            await asyncio.sleep(2.0)
            assert (await second.get(f"/v1/batches/{batch['id']}")).data["status"] == "in_progress"
            await world.gateway.batches.close()
            await asyncio.sleep(ELSEWHERE)
            done = await over(second, batch["id"])
            await second.gateway.batches.close()
        return done

    assert first.run(main)["request_counts"] == {"total": 200, "completed": 200, "failed": 0}


def test_an_end_that_is_written_stays():
    """A gateway whose state is older would write over the end of a batch, and its results could not be found."""

    async def main(world: World) -> tuple[Any, Any]:
        batch = await over(world, (await begun(world, rows(3)))["id"])
        (place,) = world.gateway.batches._folder.glob("batch-*.json")
        older = msgspec.structs.replace(found_at(place), state="cancelling", output=None)
        return batch, keep_at(place, older)

    batch, written = World().run(main)
    assert (written.state, written.output) == ("completed", batch["output_file_id"])


@pytest.mark.parametrize("metadata", [LIVE, None])
def test_a_batch_whose_gateway_is_killed_while_it_is_cancelled_leaves_what_it_has(
    monkeypatch: pytest.MonkeyPatch, metadata: dict[str, str] | None
):
    """Answers that were paid for would be gone."""
    settings = ProviderSettings(rpm=60, latency=0.5, batch=BatchSettings(time=100.0, time_p99=100.0))
    first = World(settings)
    wait = 5.0 if metadata else 60.0

    async def begin(world: World) -> str:
        batch = await begun(world, rows(200), metadata=metadata)
        await asyncio.sleep(wait)
        await world.gateway.batches.close()  # the kill: nothing is done after what is on the disk
        monkeypatch.setattr(Batches, "_begin", lambda *_: None)
        await cancelled(world, batch["id"])
        return str(batch["id"])

    with monkeypatch.context() as monkeypatch:
        name = first.run(begin)
    second = World(settings, provider=first.provider)

    async def end(world: World) -> tuple[Any, list[Any]]:
        await asyncio.sleep(wait + 1.0)  # the provider's clock goes on
        await world.gateway.batches.open()
        batch = await over(world, name)
        return batch, await lines(world, batch["output_file_id"])

    batch, answers = second.run(end)
    assert batch["status"] == "cancelled"
    assert 0 < len(answers) == batch["request_counts"]["completed"] < 200


@pytest.mark.parametrize("metadata", [LIVE, None])
def test_a_batch_that_expires_leaves_what_it_has(monkeypatch: pytest.MonkeyPatch, metadata: dict[str, str] | None):
    """A client would wait for a day, and get nothing of what it has paid for; or would never hear of the rest."""
    monkeypatch.setattr("flatout.serve.batch_work.WINDOW", 300.0)
    world = World(ProviderSettings(rpm=10, burst=1, latency=0.5, batch=BatchSettings(time=600.0, time_p99=600.0)))

    async def main(world: World) -> tuple[Any, list[Any], list[Any]]:
        batch = await over(world, (await begun(world, rows(100), metadata=metadata))["id"])
        return batch, await lines(world, batch["output_file_id"]), await lines(world, batch["error_file_id"])

    batch, answers, errors = world.run(main)
    assert batch["status"] == "expired"
    assert 0 < len(answers) < 100
    assert len(answers) + len(errors) == 100
    assert {each["error"]["code"] for each in errors} == {"batch_expired"}


def test_a_batch_under_way_is_not_in_memory(monkeypatch: pytest.MonkeyPatch):
    """Ten batches of 200 MB would take 2 GB of the gateway's memory for a day."""
    monkeypatch.setattr("flatout.serve.batch_rows.WINDOW", 4)
    monkeypatch.setattr("flatout.serve.batch_input._AT_ONCE", 1)

    async def main(world: World) -> int:
        batch = await begun(world, rows(200, note="x" * 200_000))
        tracemalloc.start()
        await over(world, batch["id"])
        return tracemalloc.get_traced_memory()[1]

    try:
        assert World(ProviderSettings(latency=0.5)).run(main) < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("links", [True, False])
def test_the_input_of_a_batch_may_be_removed_while_it_is_under_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, links: bool
):
    """A client that removes what it has uploaded would lose its batch, and a batch would leave its input for ever."""
    if not links:  # as on FAT, and on some network file systems
        monkeypatch.setattr(Path, "hardlink_to", lambda *_: os.link("/nonexistent", "/nonexistent"))

    async def main(world: World) -> tuple[Any, list[Any]]:
        batch = await begun(world, rows(300))
        await asyncio.sleep(2.0)
        assert (await world.ask(f"/v1/files/{batch['input_file_id']}", b"", method="DELETE")).status == 200
        batch = await over(world, batch["id"])
        return batch, await lines(world, batch["output_file_id"])

    batch, answers = World(ProviderSettings(rpm=600, latency=0.5)).run(main)
    assert batch["request_counts"]["completed"] == len(answers) == 300
    assert not [*tmp_path.rglob("*.input*")]


def test_a_batch_that_is_over_cannot_be_cancelled():
    """A client would take a finished batch for a cancelled one."""

    async def main(world: World) -> int:
        batch = await over(world, (await begun(world, rows(2)))["id"])
        return (await world.ask(f"/v1/batches/{batch['id']}/cancel", b"")).status

    assert World().run(main) == 409


def test_a_refusal_in_the_file_of_errors_is_the_providers_own():
    """A client could not tell which of its parameters is wrong."""
    world = World(ProviderSettings(latency=0.5, faults=Faults(invalid=1.0)))

    async def main(world: World) -> list[Any]:
        batch = await over(world, (await begun(world, rows(2)))["id"])
        direct = await world.ask("/v1/chat/completions", CHAT)
        return [direct.data, *await lines(world, batch["error_file_id"])]

    direct, *errors = world.run(main)
    assert [each["response"]["status_code"] for each in errors] == [400, 400]
    assert all(each["response"]["body"] == direct for each in errors)


def test_files_and_batches_belong_to_their_caller(tmp_path: Path):
    """One team could read the prompts and answers of another one."""
    file = tmp_path / "keys.json"
    own, other = ({"x_api_key": keys.add(name, Allowed(), file)} for name in ("a", "b"))

    async def main(world: World) -> list[int]:
        batch = await over(world, (await begun(world, rows(2), **own))["id"], **own)
        paths = [f"/v1/files/{batch['output_file_id']}/content", f"/v1/batches/{batch['id']}"]
        assert (await world.get("/v1/files", **other)).data["data"] == []
        assert (await world.get("/v1/batches", **other)).data["data"] == []
        assert len((await world.get("/v1/files", **own)).data["data"]) == 2
        return [(await world.get(path, **headers)).status for path in paths for headers in (own, other)]

    assert World(keys=file).run(main) == [200, 404, 200, 404]


@pytest.mark.parametrize("name", ["../keys", "file-..%2f", "file-" + "0" * 23, "%2e%2e/%2e%2e/etc/passwd"])
def test_a_name_never_becomes_a_path(name: str):
    """A client could read any file of the user's."""
    assert NAME.fullmatch(name) is None
    assert World().run(lambda world: world.get(f"/v1/files/{name}/content")).status == 404


def test_a_file_can_be_described_and_removed():
    """Uploads would stay for ever."""

    async def main(world: World) -> list[int]:
        name = await sent(world, b"one\r\ntwo\n")
        described = await world.get(f"/v1/files/{name}")
        assert (described.data["bytes"], described.data["filename"]) == (9, "rows.jsonl")
        assert (await world.get(f"/v1/files/{name}/content")).body == b"one\r\ntwo\n"
        gone = await world.ask(f"/v1/files/{name}", b"", method="DELETE")
        return [gone.status, (await world.get(f"/v1/files/{name}")).status]

    assert World().run(main) == [200, 404]


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", "multipart/form-data; boundary=x"])
def test_what_is_no_form_with_a_file_is_refused(kind: str):
    """A client with a fault would be told that its file is kept."""
    got = World().run(lambda world: world.ask("/v1/files", upload(b"a"), content_type=kind))
    assert got.status == 400


def test_lists_come_in_pages():
    """A client that pages through its batches or files would get all of them at once, or the first ones again."""

    async def main(world: World) -> None:
        names = [(await begun(world, rows(1)))["id"] for _ in range(5)][::-1]
        files = [each["id"] for each in (await world.get("/v1/files?purpose=batch")).data["data"]]
        assert len(files) == 5
        assert (await world.get("/v1/files?purpose=vision")).data["data"] == []
        for path, every in (("/v1/batches", names), ("/v1/files", files)):
            first = (await world.get(f"{path}?limit=2")).data
            assert [each["id"] for each in first["data"]] == every[:2]
            assert (first["first_id"], first["last_id"], first["has_more"]) == (every[0], every[1], True)
            rest = (await world.get(f"{path}?limit=3&after={every[1]}")).data
            assert ([each["id"] for each in rest["data"]], rest["has_more"]) == (every[2:], False)
            assert (await world.get(f"{path}?order=asc&limit=1")).data["first_id"] == every[-1]

    World().run(main)


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=x", "limit=101", "limit=" + "9" * 5_000, "after=none"])
def test_pages_that_mean_nothing_are_refused(query: str):
    """A client would take the first page for the one that it asked for, and never come to an end."""
    assert World().run(lambda world: world.get(f"/v1/batches?{query}")).status == 400


def test_a_full_disk_is_told_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A client would read that the server failed, and what was written of its file would keep the disk full."""

    def full(handle: int) -> None:
        raise OSError(ENOSPC, "No space left on device")

    async def main(world: World) -> None:
        monkeypatch.setattr("flatout.serve.files.os.fsync", full)
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        got = await world.ask("/v1/files", upload(rows(3)), content_type=kind)
        assert (got.status, got.data["error"]["type"]) == (507, "server_error")
        assert "No space left" in got.data["error"]["message"]
        assert [path for path in (tmp_path / "flatout" / "serve").rglob("*") if path.is_file()] == []

    World().run(main)


def test_an_upload_that_breaks_off_leaves_nothing_behind(tmp_path: Path):
    """Halves of files would fill the disk: those of clients that hang up, and those of a gateway that was killed."""

    async def main(world: World) -> None:
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        got = await world.ask("/v1/files", upload(rows(3))[:-8], content_type=kind)
        assert got.status == 400
        folder = tmp_path / "flatout" / "serve" / "any" / "files"
        assert [*folder.iterdir()] == []
        whole = await sent(world, rows(3))
        for name, age in ((".file-a", 4_000), (".file-b", 10), ("file-c", 4_000), ("file-d", 10), (whole, 4_000)):
            part = folder / f"{name}.data"
            part.touch()
            os.utime(part, (time.time() - age, time.time() - age))
        world.gateway.files.sweep()
        left = {path.name for path in folder.iterdir()}
        assert left == {".file-b.data", "file-d.data", f"{whole}.data", f"{whole}.json"}

    World().run(main)


def test_what_the_files_of_a_key_take_is_bounded(tmp_path: Path):
    """One team's uploads would fill the disk for all, and nobody would know which files may go."""
    ring = tmp_path / "keys.json"
    most = 3 * len(rows(100))
    own, other = ({"x_api_key": keys.add(name, Allowed(files=most), ring)} for name in ("team-a", "team-b"))
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    form = upload(rows(100))

    async def send(world: World, **headers: str) -> Got:
        size = str(len(form))
        return await world.ask("/v1/files", form, content_type=kind, content_length=size, **headers)

    async def main(world: World) -> None:
        got = await asyncio.gather(*[send(world, **own) for _ in range(4)])
        assert sorted(each.status for each in got) == [200, 200, 413, 413]
        refused = next(each.data["error"]["message"] for each in got if each.status == 413)
        assert f"team-a may keep {most:,} bytes" in refused
        assert "DELETE" in refused
        assert (await send(world, **other)).status == 200
        for file in (await world.get("/v1/files", **own)).data["data"]:
            await world.ask(f"/v1/files/{file['id']}", b"", method="DELETE", **own)
        assert (await send(world, **own)).status == 200

    World(keys=ring).run(main)


def test_an_input_that_was_removed_takes_room_until_its_batch_is_over(tmp_path: Path):
    """One team could fill the disk for all: upload, begin a batch, remove the file, and again."""
    ring = tmp_path / "keys.json"
    own = {"x_api_key": keys.add("team-a", Allowed(files=3 * len(rows(100)) // 2), ring)}
    form, kind = upload(rows(100)), f"multipart/form-data; boundary={BOUNDARY}"

    async def send(world: World) -> Got:
        return await world.ask("/v1/files", form, content_type=kind, content_length=str(len(form)), **own)

    async def main(world: World) -> list[int]:
        file = (await send(world)).data["id"]
        asked = {"input_file_id": file, "endpoint": "/v1/chat/completions", "metadata": LIVE}
        batch = (await world.ask("/v1/batches", asked, **own)).data["id"]
        await asyncio.sleep(1.0)
        await world.ask(f"/v1/files/{file}", b"", method="DELETE", **own)
        under_way = await send(world)
        await world.ask(f"/v1/batches/{batch}/cancel", b"", **own)
        await over(world, batch, **own)
        return [under_way.status, (await send(world)).status]

    assert World(ProviderSettings(latency=1000.0), keys=ring).run(main) == [413, 200]


def test_files_and_batches_expire(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Prompts and answers would stay on the disk for ever, and fill it."""
    began, day = time.time(), 86_400.0
    field = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="expires_after[seconds]"\r\n\r\n7200\r\n'.encode()
    kind = f"multipart/form-data; boundary={BOUNDARY}"

    async def main(world: World) -> None:
        batch = await over(world, (await begun(world, rows(3)))["id"])
        brief = (await world.ask("/v1/files", field + upload(rows(1)), content_type=kind)).data
        assert brief["expires_at"] - brief["created_at"] == 7_200
        names = [batch["input_file_id"], batch["output_file_id"], brief["id"]]
        for later, there in ((0.0, 3), (0.1 * day, 2), (29 * day, 2), (31 * day, 0)):
            monkeypatch.setattr("flatout.serve.files.time.time", lambda at=began + later: at)
            assert [(await world.get(f"/v1/files/{name}")).status for name in names].count(200) == there
        monkeypatch.setattr("flatout.serve.batches.KEPT", 60.0)
        await asyncio.sleep(61.0)
        async with world.gateway.tended():
            await asyncio.sleep(1.0)
        assert (await world.get(f"/v1/batches/{batch['id']}")).status == 404

    World().run(main)
    assert not [*tmp_path.rglob("batch-*"), *tmp_path.rglob("file-*")]


@pytest.mark.parametrize("seconds", [b"0", b"3599", b"2592001", b"1e4", b"\xb2"])
def test_a_time_for_which_no_file_is_kept_is_refused(seconds: bytes):
    """A client would rely on a time that nobody keeps to."""
    field = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="expires_after[seconds]"\r\n\r\n'.encode()
    body = field + seconds + b"\r\n" + upload(rows(1))
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    assert World().run(lambda world: world.ask("/v1/files", body, content_type=kind)).status == 400


def test_a_batch_of_a_file_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch):
    """A file may be larger than a batch: its rows would fill the memory."""
    monkeypatch.setattr("flatout.serve.batches.MOST_BYTES", 100)

    async def main(world: World) -> None:
        file = await sent(world, rows(3))
        asked = {"input_file_id": file, "endpoint": "/v1/chat/completions"}
        got = await world.ask("/v1/batches", asked)
        assert got.status == 400
        assert "at most 100 bytes" in got.data["error"]["message"]

    World().run(main)


def test_a_batch_that_is_nested_without_end_is_refused():
    """A client with a fault would get a 500, as if the gateway had one."""
    asked = b'{"input_file_id": "a", "endpoint": "/v1/chat/completions", "metadata": {"a": ' + b"[" * 100_000
    assert World().run(lambda world: world.ask("/v1/batches", asked)).status == 400
