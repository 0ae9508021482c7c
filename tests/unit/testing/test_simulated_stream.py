from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from flatout.errors import ConnectError, ProtocolError
from flatout.journey import Journey, reset_journey, set_journey
from flatout.layer import Request
from flatout.testing import Faults, ProviderModel, ProviderSettings, SimulatedTransport, run_virtual

URL = "http://simulated/v1/chat/completions"
STEADY = {"latency": 10.0, "latency_p99": 10.0}


def request(prompt: str = "hello", *, stream: bool = True) -> Request:
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}], "stream": stream}
    return Request("POST", URL, {"Authorization": "Bearer k"}, json.dumps(body).encode())


async def take(transport: SimulatedTransport, asked: Request) -> tuple[int, list[tuple[float, bytes]]]:
    """The status, and each piece with its time."""
    loop = asyncio.get_running_loop()
    async with transport.stream(asked) as answer:
        return answer.status, [(loop.time(), chunk) async for chunk in answer.chunks()]


def test_pieces_come_at_their_times():
    """The time to the first token and the gaps between bytes could not be tested."""

    async def main() -> None:
        model = ProviderModel(ProviderSettings(**STEADY))
        journey = Journey(0.0)
        token = set_journey(journey)
        status, pieces = await take(SimulatedTransport(model), request())
        reset_journey(token)
        assert status == 200
        assert pieces[0][0] == pytest.approx(2.0, abs=0.01)
        assert pieces[-1][0] == pytest.approx(10.0, abs=0.01)
        assert pieces[-1][1].endswith(b"data: [DONE]\n\n")
        assert len({round(at, 3) for at, _ in pieces}) == len(pieces) > 5
        assert journey.waits["first_byte"] == pytest.approx(2.0, abs=0.01)
        assert journey.waits["body"] == pytest.approx(8.0, abs=0.01)
        stats = model.stats()
        assert (stats["answered"], stats["in_flight"]) == (1, 0)

    run_virtual(main())


def test_whoever_leaves_early_frees_the_slot_and_has_no_answer():
    """A simulated server would jam after a few clients that stop reading."""

    async def main() -> None:
        model = ProviderModel(ProviderSettings(slots=1, **STEADY))
        async with SimulatedTransport(model).stream(request()) as answer:
            assert await anext(answer.chunks())
            assert model.stats()["serving"] == 1
        stats = model.stats()
        assert (stats["serving"], stats["in_flight"], stats["answered"]) == (0, 0, 0)
        assert asyncio.get_running_loop().time() == pytest.approx(2.0, abs=0.01)

    run_virtual(main())


def test_a_client_that_stops_at_the_last_event_has_its_answer():
    """Clients that do not read on after ``[DONE]`` would seem to lose every answer."""

    async def main() -> None:
        model = ProviderModel(ProviderSettings(**STEADY))
        async with SimulatedTransport(model).stream(request()) as answer:
            async for chunk in answer.chunks():
                if chunk.endswith(b"[DONE]\n\n"):
                    break
        assert model.stats()["answered"] == 1

    run_virtual(main())


def test_a_stream_holds_its_slot_to_its_end():
    """A server of one's own would begin a next answer with each first token."""

    async def main() -> float:
        transport = SimulatedTransport(ProviderModel(ProviderSettings(slots=1, **STEADY)))
        await asyncio.gather(take(transport, request("a")), take(transport, request("b")))
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(20.0, abs=0.01)


@pytest.mark.parametrize("stream", [True, False])
def test_a_stalled_answer_hangs_until_it_is_given_up(stream):
    """A timeout between bytes could not be tested."""

    async def main() -> None:
        model = ProviderModel(ProviderSettings(slots=1, faults=Faults(stall=1.0), **STEADY))
        got: list[bytes] = []

        async def read() -> None:
            async with SimulatedTransport(model).stream(request(stream=stream)) as answer:
                async for chunk in answer.chunks():
                    got.append(chunk)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read(), 60)
        assert b"digest:" in b"".join(got)
        assert (model.stats()["serving"], model.stats()["in_flight"]) == (0, 0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(SimulatedTransport(model).send(request(stream=stream)), 60)
        assert model.stats()["serving"] == 0

    run_virtual(main())


def test_a_hang_comes_before_the_status():
    """A timeout for the first byte could not be tested."""

    async def main() -> None:
        model = ProviderModel(ProviderSettings(faults=Faults(hang=1.0)))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60), SimulatedTransport(model).stream(request()):
                pytest.fail("an answer began")
        assert model.stats()["in_flight"] == 0

    run_virtual(main())


def test_a_refusal_and_a_whole_answer_come_as_one_piece():
    """A refused stream would have no body to read the reason from."""

    async def main() -> None:
        transport = SimulatedTransport(ProviderModel(ProviderSettings(rpm=2)))
        whole = await take(transport, request(stream=False))
        assert json.loads(whole[1][0][1])["object"] == "chat.completion"
        await take(transport, request())
        status, pieces = await take(transport, request())
        assert (status, len(pieces)) == (429, 1)
        assert json.loads(pieces[0][1])["error"]["code"] == "rate_limit_exceeded"
        status, pieces = await take(transport, Request("POST", "http://simulated/v1/other", {}, b""))
        assert (status, len(pieces)) == (404, 1)
        status, pieces = await take(transport, Request("GET", "http://simulated/v1/models", {}, b""))
        assert (status, json.loads(pieces[0][1])["data"]) == (200, [])

    run_virtual(main())


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"faults": Faults(reset=1.0)}, ProtocolError),
        ({"outage": (0, 9), "outage_as": "refused"}, ConnectError),
    ],
)
def test_a_connection_without_an_answer_raises_before_the_stream(settings: dict[str, Any], error):
    """A client would be told of a stream that never was."""

    async def main() -> None:
        with pytest.raises(error):
            async with SimulatedTransport(ProviderModel(ProviderSettings(**settings))).stream(request()):
                pytest.fail("an answer began")

    run_virtual(main())


def test_half_of_a_whole_answer_breaks_off():
    """A client that streams would not meet a body that is shorter than promised."""

    async def main() -> None:
        transport = SimulatedTransport(ProviderModel(ProviderSettings(faults=Faults(truncated=1.0))))
        async with transport.stream(request(stream=False)) as answer:
            chunks = answer.chunks()
            assert b"chat.completion" in await anext(chunks)
            with pytest.raises(ProtocolError):
                await anext(chunks)

    run_virtual(main())


def test_a_stream_that_is_sent_for_arrives_whole():
    """``send`` and ``stream`` would disagree about the same request."""

    async def main() -> None:
        transport = SimulatedTransport(ProviderModel(ProviderSettings(**STEADY)))
        response = await transport.send(request())
        _, pieces = await take(transport, request())
        assert response.headers["content-type"] == "text/event-stream"
        assert response.body.count(b"data: ") == b"".join(chunk for _, chunk in pieces).count(b"data: ")

    run_virtual(main())


def test_a_closed_transport_streams_no_more():
    """A client that was closed would go on."""

    async def main() -> None:
        transport = SimulatedTransport(ProviderModel())
        await transport.close()
        with pytest.raises(ConnectError):
            async with transport.stream(request()):
                pytest.fail("an answer began")

    run_virtual(main())
