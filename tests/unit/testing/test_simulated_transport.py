from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time

import pytest

import flatout.testing
from flatout.errors import ConnectError, ProtocolError
from flatout.journey import Journey, reset_journey, set_journey
from flatout.layer import Request, Response
from flatout.testing import Faults, ProviderModel, ProviderSettings, SimulatedTransport, digest_of, run_virtual

URL = "http://simulated/v1/chat/completions"


def request(prompt: str = "hello", key: str = "k") -> Request:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": prompt}]}).encode()
    return Request("POST", URL, {"Authorization": f"Bearer {key}"}, body)


def send(settings: ProviderSettings, **fields) -> Response:
    async def main() -> Response:
        return await SimulatedTransport(ProviderModel(settings)).send(request(**fields))

    return run_virtual(main())


def test_an_answer_arrives_after_its_latency():
    """A simulated provider would answer at once, and nothing about time could be tested."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        journey = Journey(0.0)
        token = set_journey(journey)
        transport = SimulatedTransport(ProviderModel(ProviderSettings(latency=3.0, latency_p99=3.0)))
        response = await transport.send(request("why?"))
        reset_journey(token)
        assert loop.time() == pytest.approx(3.0, abs=0.001)
        assert journey.waits["first_byte"] == pytest.approx(3.0, abs=0.001)
        assert response.status == 200
        assert response.headers["content-type"] == "application/json"
        assert digest_of("why?") in response.body.decode()

    run_virtual(main())


@pytest.mark.parametrize("fault", ["reset", "truncated"])
def test_a_broken_connection_raises_what_the_http_transport_raises(fault):
    """A client's retries would be tested against errors that never happen."""
    with pytest.raises(ProtocolError):
        send(ProviderSettings(faults=Faults(**{fault: 1.0})))


def test_a_refused_connection_raises_what_the_http_transport_raises():
    """A client's breaker would be tested against errors that never happen."""
    with pytest.raises(ConnectError):
        send(ProviderSettings(outage=(0, 10), outage_as="refused"))


def test_a_malformed_answer_arrives_whole():
    """The transport would find what only a codec can find."""
    response = send(ProviderSettings(faults=Faults(malformed=1.0)))
    assert response.status == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(response.body)


def test_the_key_is_checked():
    """A client that loses its key would pass its tests."""
    settings = ProviderSettings(key="k")
    assert send(settings).status == 200
    assert send(settings, key="other").status == 401


def test_a_hanging_request_gives_its_slot_back_when_it_is_cancelled():
    """A simulated server would jam after a few timeouts."""

    async def main() -> None:
        model = ProviderModel(ProviderSettings(slots=1, faults=Faults(hang=0.5)))
        transport = SimulatedTransport(model)
        ended = 0
        for number in range(20):
            try:
                async with asyncio.timeout(60):
                    await transport.send(request(str(number)))
                    ended += 1
            except TimeoutError:
                pass
        assert 0 < ended < 20
        assert model.stats()["in_flight"] == model.stats()["serving"] == 0

    run_virtual(main())


def test_slots_make_others_wait_across_clients():
    """Two clients of one server would not feel each other."""

    async def main() -> None:
        model = ProviderModel(ProviderSettings(slots=2, latency=1.0, latency_p99=1.0))
        clients = [SimulatedTransport(model), SimulatedTransport(model)]
        tasks = [asyncio.create_task(clients[n % 2].send(request(str(n)))) for n in range(10)]
        await asyncio.sleep(0.5)
        for task in tasks[2:4]:
            task.cancel()
        await asyncio.wait(tasks)
        assert asyncio.get_running_loop().time() == pytest.approx(4.0, abs=0.01)
        assert model.stats()["answered"] == 8

    run_virtual(main())


def test_other_paths_and_a_closed_transport():
    """A client with a wrong base URL would get answers."""

    async def main() -> None:
        transport = SimulatedTransport(ProviderModel(ProviderSettings(models=("m",))))
        listed = await transport.send(Request("GET", "http://simulated/v1/models", {}, b""))
        assert json.loads(listed.body)["data"][0]["id"] == "m"
        assert (await transport.send(Request("POST", "http://simulated/v1/other", {}, b""))).status == 404
        await transport.close()
        with pytest.raises(ConnectError):
            await transport.send(request())

    run_virtual(main())


def test_traffic_at_the_limit_runs_much_faster_than_time():
    """Simulations of hours would take hours. (A whole hour of this takes some 15 seconds.)"""

    async def main() -> dict:
        model = ProviderModel(ProviderSettings(rpm=6000, burst=1, latency=1.0))
        transport = SimulatedTransport(model)
        loop = asyncio.get_running_loop()
        body = request()
        pending = set()
        for number in range(1, 2 * 6000 + 1):
            pending.add(task := loop.create_task(transport.send(body)))
            task.add_done_callback(pending.discard)
            await asyncio.sleep(number * 0.01 - loop.time())
        await asyncio.gather(*pending)
        assert loop.time() >= 120
        return model.stats()

    began = time.thread_time()  # and not the wall's: the machine may be busy
    stats = run_virtual(main())
    assert stats["refused"] == 0
    assert stats["answered"] == 12_000
    assert time.thread_time() - began < 120 / 10


def test_every_public_name_is_there():
    """``from flatout.testing import …`` would fail for a documented name."""
    assert all(getattr(flatout.testing, name) is not None for name in flatout.testing.__all__)
    assert set(flatout.testing.__all__) <= set(dir(flatout.testing))
    with pytest.raises(AttributeError):
        _ = flatout.testing.no_such_name


def test_the_pytest_plugin_is_light():
    """Every pytest run of everyone who has flatout would start more slowly."""
    program = "import flatout.testing.fixtures, sys; sys.exit('aiohttp' in sys.modules or 'asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", f"import pytest; {program}"], check=False).returncode == 0


def test_the_fixture_makes_a_provider(flatout_provider):
    """The pytest plugin would not be there for users' tests."""
    model, transport = flatout_provider(rpm=60, seed=3, script=lambda _request: "scripted")
    assert model.settings.rpm == 60

    async def main() -> bytes:
        return (await transport.send(request())).body

    assert b"scripted" in run_virtual(main())
