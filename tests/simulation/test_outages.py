"""A target in trouble, on the virtual clock and with the latencies of real models: no call is lost, and no time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from functools import cache
from itertools import cycle, product

import pytest

from flatout import AuthenticationError, CircuitOpen, Client, ConnectError, Limits
from flatout.events import CallFinished, TargetDown, TargetPaused, TargetResumed
from flatout.layer import Request, Response
from flatout.policies.failures.gate import FIRST_LOOK
from flatout.tasks.wheel import SLOT
from flatout.testing import Faults, ProviderModel, ProviderSettings, SimulatedTransport, run_virtual
from flatout.testing import _answers as answers

CALLS = 2_000
SLOW = {"latency": 2.0, "latency_p99": 20.0}
RPM, SLOTS = Limits(rpm=6_000), Limits(concurrency=250)
KINDS = pytest.mark.parametrize("limits", [RPM, SLOTS, None], ids=["rpm", "slots", "none"])


class Wire(SimulatedTransport):
    """A provider that is down for a while. Keeps the times of the requests that met that.

    Args:
        begins, ends: when it is down.
        status: what it says then; 0 refuses connections.
        kills: whether what is under way when it begins fails, too.
    """

    def __init__(self, begins: float, ends: float, status: int, *, kills: bool = False, seed: int = 1, **given) -> None:
        super().__init__(ProviderModel(ProviderSettings(**{**SLOW, **given}), seed))
        self.begins, self.ends, self.status, self.kills = begins, ends, status, kills
        self.met: list[float] = []

    async def send(self, request: Request) -> Response:
        now = asyncio.get_running_loop().time()
        if self.begins <= now < self.ends:
            self.met.append(now)
            await asyncio.sleep(0.02)
            return self._failure()
        if not self.kills or now >= self.ends:
            return await super().send(request)
        try:
            async with asyncio.timeout_at(self.begins):
                return await super().send(request)
        except TimeoutError:
            return self._failure()

    def _failure(self) -> Response:
        if not self.status:
            raise ConnectError("no connection to the provider: connection refused")
        return Response(self.status, {}, answers.error("the provider is down", "server_error"))

    def noticed_late(self) -> float:
        """Requests a second that met the outage after it had lasted for two seconds."""
        late = [at for at in self.met if at >= self.begins + 2.0]
        return (len(late) - 1) / (late[-1] - late[0]) if len(late) > 1 else 0.0


def client(wire, **options) -> Client:
    given = {"base_url": "http://sim/v1", "config": {}, "seed": 1, "deadline": 7_200.0, **options}
    return Client("m", transport=wire, **given)


def gathered(wire, calls: int = CALLS, **options):
    """The results of a batch, and the seconds after which 99 % of it was done: the last one is the luck of the draw."""

    async def main():
        times = []
        async with client(wire, **options) as made:
            made.events.subscribe(lambda event: times.append(event.at) if isinstance(event, CallFinished) else None)
            results = await made.gather([f"prompt {n}" for n in range(calls)])
            return results, sorted(times)[99 * calls // 100 - 1]

    return run_virtual(main(), limit=1e6)


def lost(results) -> Counter:
    return Counter(type(result.error).__name__ for result in results if not result.ok)


@cache
def calm(limits: Limits | None, calls: int = CALLS, seed: int = 1) -> float:
    """How long a batch takes while nothing is wrong."""
    return gathered(Wire(0, 0, 0, seed=seed), calls, limits=limits)[1]


def assert_outage_costs_its_length(wire: Wire, limits: Limits | None, calls: int = CALLS) -> None:
    results, seconds = gathered(wire, calls, limits=limits)
    assert lost(results) == {}
    assert seconds <= wire.ends - wire.begins + 1.25 * calm(limits, calls, wire.model.seed)
    assert wire.noticed_late() <= 1 / FIRST_LOOK + 0.01


STATUSES = (0, 500, 502, 503, 529)
WAYS = list(product([3, 20], [False, True], [RPM, SLOTS, None]))  # seconds, whether it kills, what is known
EACH_WAY = [(*way, status) for way, status in zip(WAYS, cycle(STATUSES), strict=False)]
THE_REST = [case for case in ((*way, status) for way in WAYS for status in STATUSES) if case not in EACH_WAY]


@pytest.mark.parametrize(
    ("seconds", "kills", "limits", "status"),
    [*EACH_WAY, *(pytest.param(*case, marks=pytest.mark.soak) for case in THE_REST)],
)
def test_an_outage_costs_no_call_and_only_its_length(seconds, kills, limits, status):
    """Every restart of a provider would lose hundreds of rows, that a semaphore and a loop of retries had kept."""
    assert_outage_costs_its_length(Wire(5, 5 + seconds, status, kills=kills), limits)


@KINDS
@pytest.mark.parametrize("status", [500, 503, 0])
def test_a_provider_that_is_not_there_yet_is_waited_for(status, limits):
    """A run that starts together with its server would lose all of its rows."""
    assert_outage_costs_its_length(Wire(0, 5, status), limits)


@pytest.mark.parametrize(
    "seed", [*range(1_000, 1_003), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(1_003, 1_012))]
)
def test_outages_at_random_cost_no_call_and_only_their_length(seed):
    """The rules would fit the outages that they were made for, and no others."""
    chance = random.Random(seed)
    begins, length = chance.uniform(1, 20), 10 ** chance.uniform(0, 2.778)
    wire = Wire(begins, begins + length, chance.choice([0, 500, 502, 503, 529]), kills=chance.random() < 0.5, seed=seed)
    assert_outage_costs_its_length(wire, chance.choice([RPM, SLOTS]), 4_000)


@pytest.mark.parametrize(("limits", "most"), [(None, 60), (Limits(concurrency=500), 480)], ids=["none", "slots"])
def test_a_server_without_room_for_more_is_kept_full_and_loses_nothing(limits, most):
    """Behind a balancer a server of 64 places says 503 to all others: a third of the rows would be lost."""
    given = {"slots": 64, "queue": 64, "queue_status": 503}
    _, ideal = gathered(Wire(0, 0, 0, **given), limits=Limits(concurrency=64))
    wire = Wire(0, 0, 0, **given)
    results, seconds = gathered(wire, limits=limits)
    assert lost(results) == {}
    assert seconds <= 1.03 * ideal
    assert wire.model.stats()["faults"].get("queue_full", 0) <= most


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_503s_whatever_is_in_flight_do_not_slow_a_run_to_a_crawl(share):
    """A provider that says 503 now and then would be sent one call at a time."""
    results, seconds = gathered(Wire(0, 0, 0, faults=Faults(overloaded=share)), limits=RPM)
    assert lost(results) == {}
    assert seconds <= 1.2 * calm(RPM) / (1.0 - share)


@pytest.mark.parametrize("fault", ["server_error", "reset"])
def test_calls_spend_their_own_attempts_while_others_are_answered(fault):
    """With 30 % resets and 20 retries, hundreds of rows would be lost after one attempt, for a quota nobody knows."""
    results, _ = gathered(Wire(0, 0, 0, faults=Faults(**{fault: 0.3})), limits=RPM, retries=20)
    assert lost(results) == {}
    attempts = sum(result.attempts for result in results)
    assert attempts == pytest.approx(CALLS / 0.7, rel=0.03)


def test_failures_at_random_lose_no_more_than_independent_attempts_would():
    """A user would compute how many retries are enough, and lose rows all the same."""
    results, _ = gathered(Wire(0, 0, 0, faults=Faults(server_error=0.4)), limits=RPM, retries=2)
    assert sum(lost(results).values()) == pytest.approx(CALLS * 0.4**3, rel=0.2)
    for result in results:
        if not result.ok:
            assert "sent meanwhile were answered, so it is this call" in str(result.error)
            assert str(result.error).count("500 at ") == 1


def test_a_row_that_always_fails_is_lost_and_holds_up_no_other():
    """One prompt that crashes its server would be taken for an outage."""

    class Crash(Wire):
        async def send(self, request: Request) -> Response:
            if b'prompt 7"' in request.body:
                return Response(500, {}, answers.error("crash", "server_error"))
            return await super().send(request)

    results, seconds = gathered(Crash(0, 0, 0), limits=RPM)
    assert [result.index for result in results if not result.ok] == [7]
    assert results[7].attempts == 6
    assert seconds <= 1.05 * calm(RPM)


class Hanging(SimulatedTransport):
    """A provider that answers nothing for a while, or never answers some prompts."""

    def __init__(self, until: float = 0.0, prompts: frozenset[str] = frozenset(), **given) -> None:
        super().__init__(ProviderModel(ProviderSettings(**{**SLOW, **given}), 1))
        self.until, self.prompts = until, prompts
        self.met: list[float] = []

    async def send(self, request: Request) -> Response:
        now = asyncio.get_running_loop().time()
        if now < self.until or any(f'"{prompt}"'.encode() in request.body for prompt in self.prompts):
            self.met.append(now)
            await asyncio.sleep(1e6)
        return await super().send(request)


@KINDS
def test_a_server_that_hangs_costs_no_call(limits):
    """Every row would be lost after six attempts, each of which waited in vain for a server that did not answer."""
    wire = Hanging(until=1_000.0)
    results, seconds = gathered(wire, timeout=100.0, limits=limits)
    assert not lost(results)
    assert seconds <= 1_000.0 + 100.0
    late = [at for at in wire.met if at >= 500.0]
    assert len(late) <= 0.04 * 500.0


@KINDS
def test_rows_that_alone_hang_are_lost_by_their_own_fault(limits):
    """Rows that no server can answer would be tried until the deadline, or bring all others down with them."""
    prompts = frozenset({"prompt 7", "prompt 1000", "prompt 1999"})
    results, seconds = gathered(Hanging(prompts=prompts), timeout=100.0, limits=limits)
    assert {result.call.prompt for result in results if not result.ok} == prompts
    assert all("so it is this call" in str(results[number].error) for number in (7, 1000))
    assert all(result.attempts == 6 for result in results if not result.ok)
    assert seconds <= 1.1 * calm(limits)


@pytest.mark.parametrize("slots", [4, 7, 60])
def test_a_server_that_lets_calls_wait_gets_few_of_them(slots):
    """A thousand calls would wait where seven are answered, each longer than it may take, and in the end be lost."""
    wire = SimulatedTransport(ProviderModel(ProviderSettings(latency=8.0, latency_p99=60.0, slots=slots), 1))
    results, _ = gathered(wire, calls=40 * slots)
    assert not lost(results)
    assert sum(result.attempts - 1 for result in results) <= 0.005 * len(results)


def test_a_host_that_is_not_there_is_told_after_a_second_and_given_up_after_a_minute():
    """A typo in the address would leave a user before a line that does not move."""
    wire = Wire(0, 1e9, 0)

    async def main():
        async with client(wire, limits=RPM, give_up=30.0) as made:
            heard = []
            made.events.subscribe(lambda event: heard.append(event) if hasattr(event, "target") else None)
            results = await made.gather([f"{n}" for n in range(100)])
            return heard, results, asyncio.get_running_loop().time()

    heard, results, seconds = run_virtual(main())
    assert isinstance(heard[0], TargetDown)
    assert 1.0 <= heard[0].at < 2.5
    assert "connection refused" in heard[0].reason
    assert isinstance(heard[1], TargetPaused)
    assert heard[1].until is None
    assert 30 <= seconds < 36
    assert all(isinstance(result.error, ConnectError | CircuitOpen) for result in results)
    assert any("its server is given up; tried: ConnectError at 0.0" in str(result.error) for result in results)
    assert len({str(result.error) for result in results}) <= 3


def test_calls_that_wait_for_a_target_end_with_their_deadline_and_say_so():
    """A batch would wait for ever; or its rows fail without a word of what held them up."""
    wire = Wire(0.5, 1e9, 503)
    results, seconds = gathered(wire, 300, limits=Limits(concurrency=250), deadline=120.0)
    assert seconds <= 120.1 + SLOT
    waited = [result for result in results if not result.ok]
    assert len(waited) >= 30
    assert all("the provider is down" in str(result.error) for result in waited)
    assert sum("waiting for a server that was down" in str(result.error) for result in waited) > 20
    assert max(result.waits.get("outage", 0.0) for result in waited) > 100


# -- stopped ----------------------------------------------------------------------------------------------------------


class Refusing(SimulatedTransport):
    """Refuses by the number of the request."""

    def __init__(self, refuses, response: Response) -> None:
        super().__init__(ProviderModel(ProviderSettings(latency=0.2)))
        self.refuses, self.response, self.sent = refuses, response, 0

    async def send(self, request: Request) -> Response:
        self.sent += 1
        if self.refuses(self.sent, request):
            await asyncio.sleep(0.02)
            return self.response
        return await super().send(request)


KEY = Response(401, {}, answers.error("Incorrect API key provided", "invalid_request_error", "invalid_api_key"))
QUOTA = Response(429, {}, answers.error("no credit", "insufficient_quota", "insufficient_quota"))
PAGE = Response(404, {}, b"<html>not found</html>")


@pytest.mark.parametrize("response", [KEY, QUOTA, PAGE, Response(405, {}, b""), Response(403, {}, b"{}")])
def test_one_stray_refusal_stops_nothing(response):
    """A gateway's bad moment would fail the rest of a run, though its key is right."""
    wire = Refusing(lambda number, _: number == 150, response)
    results, _ = gathered(wire, 300, limits=Limits(concurrency=20))
    assert lost(results) == {}


@pytest.mark.parametrize("response", [KEY, QUOTA, PAGE])
def test_a_refusal_that_another_call_confirms_stops_the_target(response):
    """A key that is revoked in the middle would be tried with every row that is left."""
    wire = Refusing(lambda number, _: number > 150, response)
    results, _ = gathered(wire, 2_000, limits=Limits(concurrency=20))
    assert wire.sent <= 150 + 20 + 2
    assert set(lost(results)) <= {"AuthenticationError", "QuotaExhausted", "InvalidRequest", "CircuitOpen"}
    assert lost(results)["CircuitOpen"] >= 1_800


def test_a_row_that_alone_is_refused_stops_nothing():
    """A text that a firewall takes for an attack would end the run of all others."""
    wire = Refusing(lambda _, request: b'prompt 70"' in request.body, KEY)
    results, _ = gathered(wire, 300, limits=Limits(concurrency=20))
    assert [result.index for result in results if not result.ok] == [70]
    assert isinstance(results[70].error, AuthenticationError)


def test_a_stopped_target_comes_back_and_says_so():
    """A long-lived program would have to be restarted after its account was topped up."""
    wire = Refusing(lambda number, _: asyncio.get_running_loop().time() < 1_000, KEY)

    async def main():
        async with client(wire) as made:
            heard = []
            made.events.subscribe(lambda event: heard.append(type(event)) if hasattr(event, "target") else None)
            for _ in range(200):
                await asyncio.sleep(10.0)
                if (await made.result("hello")).ok:
                    break
            return heard, asyncio.get_running_loop().time()

    heard, seconds = run_virtual(main())
    assert heard == [TargetPaused, TargetResumed]
    assert 1_000 <= seconds < 1_150
    assert wire.sent <= 12


def test_embeddings_that_a_server_lacks_do_not_stop_its_chat():
    """One `embed` would fail a hundred chat calls that wait beside it."""

    class NoEmbeddings(SimulatedTransport):
        async def send(self, request: Request) -> Response:
            return PAGE if request.url.endswith("/embeddings") else await super().send(request)

    async def main():
        wire = NoEmbeddings(ProviderModel(ProviderSettings(latency=0.2)))
        async with client(wire, limits=Limits(concurrency=2)) as made:
            chat = asyncio.ensure_future(made.gather([f"prompt {n}" for n in range(100)]))
            vectors = await made.embed(["a", "b"])
            return await chat, vectors

    results, vectors = run_virtual(main())
    assert lost(results) == {}
    assert not any(vector.ok for vector in vectors)


def test_an_outage_is_one_for_chat_and_embeddings():
    """Embeddings would hammer a server that chat calls wait for."""
    wire = Wire(0, 30, 503)

    async def main():
        async with client(wire, limits=SLOTS) as made:
            return await asyncio.gather(made.gather([f"prompt {n}" for n in range(50)]), made.embed(["a", "b"]))

    results, vectors = run_virtual(main())
    assert lost(results) == lost(vectors) == {}
    assert wire.noticed_late() <= 1 / FIRST_LOOK + 0.01


@pytest.mark.parametrize("limits", [None, Limits(concurrency=5)], ids=["none", "slots"])
def test_the_same_400_for_the_first_rows_is_each_row_s_own(limits):
    """The first rows of a job may be bad: the others would fail unsent, with a reason that is not theirs."""
    response = Response(400, {}, answers.error("Unsupported parameter: 'temprature'", "invalid_request_error"))
    wire = Refusing(lambda *_: True, response)
    results, _ = gathered(wire, 500, limits=limits)
    assert wire.sent == lost(results)["InvalidRequest"] == 500
    assert all("temprature" in str(result.error) for result in results)


class Poisoned(Wire):
    """A provider that is down for a while, or is well, and always fails some prompts."""

    async def send(self, request: Request) -> Response:
        if b"poison" not in (request.body or b""):
            return await super().send(request)
        await asyncio.sleep(0.1)
        return self._failure()


def good_ones(wire: Wire, poison: int, seed: int):
    """The results of good rows, among which some stand that always fail, and when the last of them came."""
    prompts = [f"prompt {n}" for n in range(CALLS)]
    prompts[400:400] = [f"poison {n}" for n in range(poison)]

    async def main():
        async with client(wire, limits=RPM, seed=seed) as made:
            calls = [asyncio.ensure_future(made.result(prompt)) for prompt in prompts]
            results = [await call for call, prompt in zip(calls, prompts, strict=True) if "poison" not in prompt]
            ended = asyncio.get_running_loop().time()
            for call in calls:  # with no other calls beside them, nothing tells their failures from an outage
                call.cancel()
            return results, ended

    return run_virtual(main(), limit=1e6)


SEEDS = [(0, 2_002), (20, 2_005)]
MORE_SEEDS = [case for case in product([0, 20], range(2_000, 2_050)) if case not in SEEDS]


@pytest.mark.parametrize(
    ("seconds", "seed"), [*SEEDS, *(pytest.param(*case, marks=pytest.mark.soak) for case in MORE_SEEDS)]
)
def test_a_dozen_calls_that_always_fail_feign_no_outage_and_hide_none(seconds, seed):
    """All other calls would wait for as long as those that fail look at the target: for 21 s in the first case."""
    quick = {"latency": 1.0, "latency_p99": 3.0, "seed": seed}
    _, usual = good_ones(Wire(0, 0, 0, **quick), 0, seed)
    wire = Poisoned(5, 5 + seconds, 500, kills=bool(seed % 2), **quick)
    results, ended = good_ones(wire, 12, seed)
    assert lost(results) == {}
    assert ended <= usual + seconds + 10.0
    assert wire.noticed_late() <= 1 / FIRST_LOOK + 0.01
