"""Limits used to the full and not hit: a quick part of ``python -m benchmarks.pacing``, and the manners of pauses."""

from __future__ import annotations

import asyncio
from functools import cache
from itertools import product
from statistics import mean

import pytest
from msgspec.structs import replace

from benchmarks.pacing_given import Yesterday
from flatout import CircuitOpen, Client, Limits, QuotaExhausted
from flatout.layer import Request, Response
from flatout.store.memory import Memory
from flatout.testing import Faults, ProviderModel, ProviderSettings, SimulatedTransport, run_virtual
from flatout.testing import _answers as answers

FOUND_OUT = 22
"""Refusals that finding an unknown limit may cost: about twenty requests."""

QUICK = {"latency": 0.1, "latency_p99": 1.0}
BUCKET = {"limit": "bucket", "burst": 1.0, **QUICK}


def client(transport, **options) -> Client:
    return Client("m", transport=transport, **{"base_url": "http://sim/v1", "config": {}, "seed": 1, **options})


def prompts(count: int) -> list[str]:
    return [f"prompt {n}" for n in range(count)]


def drive(
    seconds: float, *, seed: int = 1, limits: Limits | None = None, memory: Memory | None = None, **settings
) -> tuple[list[int], float, dict]:
    """Traffic without end for so long: what was admitted in each second, the share refused, and the counts."""
    model = ProviderModel(ProviderSettings(**settings), seed)
    model.start(0.0)

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def source():
            number = 0
            while loop.time() < seconds:
                yield f"prompt {number}"
                number += 1

        async with client(SimulatedTransport(model), limits=limits, deadline=1e5) as made:
            made._engine.stack.limiters._memory = memory
            async for result in made.as_completed(source()):
                assert result.ok

    run_virtual(main(), limit=1e6)
    stats = model.stats()
    return stats["admitted_per_second"], stats["refused"] / stats["received"], stats


def used(admitted: list[int], first: int, last: int, rate: float) -> float:
    return sum(admitted[first:last]) / (rate * (last - first))


def gathered(model: ProviderModel, count: int, **options):
    """The results of a batch, and how many seconds it took."""

    async def main():
        async with client(SimulatedTransport(model), **options) as made:
            return await made.gather(prompts(count)), asyncio.get_running_loop().time()

    return run_virtual(main(), limit=1e6)


# -- how much of a limit is used --------------------------------------------------------------------------------------

SERVERS = {
    "bucket 1 s": {"limit": "bucket", "burst": 1.0},
    "bucket 60 s": {"limit": "bucket", "burst": 60.0},
    "sliding": {"limit": "sliding"},
    "fixed": {"limit": "fixed"},
}


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
@pytest.mark.parametrize("rpm", [600, 60])
def test_a_known_limit_is_used_and_never_hit(server, rpm):
    """Two in a hundred calls' worth of what is paid for would lie idle, or calls be refused."""
    admitted, refused, _ = drive(180, limits=Limits(rpm=rpm), rpm=rpm, **server, **QUICK)
    assert used(admitted, 60, 180, rpm / 60) >= 0.98
    assert refused == 0


@pytest.mark.parametrize(
    ("server", "rpm"),
    [
        *product(SERVERS, [600, 60]),
        ("bucket 1 s", 3_000),
        *(pytest.param(*case, marks=pytest.mark.soak) for case in [("sliding", 3_000), *product(SERVERS, [20_000])]),
    ],
)
def test_a_known_limit_is_tried_ahead_once_and_never_again_after_a_refusal(server, rpm, tmp_path):
    """What is tried to be sooner would cost a storm, or some refusals in each run for ever."""
    seconds = 70 if rpm > 600 else 130
    shallow = server == "bucket 1 s"
    for most in (5 if shallow else 0, 0):
        admitted, _, stats = drive(
            seconds, limits=Limits(rpm=rpm), memory=Yesterday(tmp_path), rpm=rpm, **SERVERS[server], **QUICK
        )
        assert used(admitted, 60, seconds, rpm / 60) >= 0.98
        assert stats["refused"] <= most
    first = sum(admitted[:1])
    # A second's bucket, and what is earned in that second.
    assert (first <= 2 * rpm / 60 + 2) if shallow else (first >= min(2 * rpm / 60, rpm / 60 + 40))


@pytest.mark.parametrize(
    ("server", "headers"),
    [("bucket 60 s", "openai"), ("sliding", "anthropic"), ("fixed", "azure"), ("bucket 60 s", "mistral")],
)
def test_a_short_job_under_a_right_limit_is_as_quick_as_its_provider_lets_it_be(server, headers):
    """Who states the right limit would wait for a minute, and who states none would not."""
    settings = ProviderSettings(rpm=500, headers=headers, **SERVERS[server], latency=1.0, latency_p99=3.0)
    seconds = {}
    for name, limits in (("given", Limits(rpm=500)), ("share", Limits(rpm=499, burst=0.2))):
        results, seconds[name] = gathered(ProviderModel(settings, 1), 400, limits=limits)
        assert all(result.ok for result in results)
    assert seconds["given"] <= 0.12 * seconds["share"]


def test_a_known_limit_on_tokens_is_used_and_never_hit():
    """The limit that binds most jobs would be guessed at."""
    model = ProviderModel(ProviderSettings(tpm=120_000, reserve_max_tokens=False, **BUCKET), 1)
    results, seconds = gathered(model, 2_000, limits=Limits(tpm=120_000))
    assert all(result.ok for result in results)
    assert model.stats()["refused"] == 0
    assert model.stats()["tokens_admitted"] / (2_000 * seconds) >= 0.97  # its first seconds and the last answers too


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
@pytest.mark.parametrize("stale", [0.0, 5.0], ids=["fresh", "stale"])
def test_an_advertised_limit_is_used_and_hardly_ever_hit(server, stale):
    """Who does not know the limit would be slower, or refused, although every answer tells it."""
    admitted, _, stats = drive(120, rpm=600, headers="openai", stale_headers=stale, **server, **QUICK)
    assert used(admitted, 60, 120, 10.0) >= 0.97
    assert stats["refused"] <= FOUND_OUT


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
def test_an_advertised_limit_on_tokens_holds_for_calls_that_waited_already(server):
    """Whatever was queued before the first answer told of the limit would count as nothing: one in five refused."""
    model = ProviderModel(
        ProviderSettings(tpm=600_000, headers="openai", reserve_max_tokens=False, **server, **QUICK), 1
    )

    async def main() -> float:
        async with client(SimulatedTransport(model)) as made:
            results = await made.gather([f"{n} " + "word " * (n * 7919 % 2_000) for n in range(1_500)])
            assert all(result.ok for result in results)
            return asyncio.get_running_loop().time()

    seconds = run_virtual(main(), limit=1e6)
    stats = model.stats()
    assert stats["refused"] <= FOUND_OUT
    assert stats["tokens_admitted"] / seconds >= 0.95 * 10_000


@pytest.mark.parametrize(
    ("server", "headers"),
    [("bucket 60 s", "openai"), ("bucket 60 s", "mistral"), ("sliding", "openai"), ("fixed", "anthropic")],
)
@pytest.mark.parametrize("given", [True, False], ids=["given", "told"])
def test_tokens_are_reserved_as_they_are_charged(server, headers, given):
    """A gateway that charges prompts alone would be sent half of what it takes."""
    settings = ProviderSettings(
        tpm=300_000, headers=headers, reserve_max_tokens=True, output_tokens=300, **SERVERS[server], **QUICK
    )
    model = ProviderModel(settings, 1)

    async def main() -> float:
        async with client(SimulatedTransport(model), limits=Limits(tpm=300_000) if given else None) as made:
            results = await made.gather([f"{n} " + "word " * (50 + n * 7919 % 500) for n in range(3_600)])
            assert all(result.ok for result in results)
            return asyncio.get_running_loop().time()

    seconds = run_virtual(main(), limit=1e6)
    stats = model.stats()
    assert stats["refused"] <= 5
    assert stats["tokens_admitted"] / seconds >= 0.75 * 5_000  # half of it without


@pytest.mark.parametrize("retry_after", ["seconds", ""], ids=["retry-after", "bare 429"])
def test_a_limit_that_nobody_tells_is_found_and_kept_to(retry_after):
    """Who knows nothing of limits would be refused time after time, or wait for nothing."""
    admitted, refused, _ = drive(180, rpm=3_000, retry_after=retry_after, **BUCKET)
    assert used(admitted, 60, 180, 50.0) >= 0.98
    assert refused <= 0.002


@pytest.mark.parametrize("rpm", [60, 600])
@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
def test_a_limit_that_a_refusal_names_is_kept_to_from_then_on(server, rpm):
    """What the provider said would be searched for by being refused again and again."""
    admitted, _, stats = drive(200, rpm=rpm, names_limits=True, **server, **QUICK)
    # Until the climb's requests have left a sliding window, it lets in only as many as leave it.
    assert used(admitted, 70, 200, rpm / 60) >= 0.975
    assert stats["refused"] <= FOUND_OUT + 0.001 * stats["received"]


@pytest.mark.parametrize(
    ("limits", "more", "most"),
    [(Limits(rpm=2_400), {}, 1.08), (None, {"headers": "openai"}, 1.05), (None, {"retry_after": ""}, 1.1)],
    ids=["known", "advertised", "bare 429s"],
)
def test_a_short_job_takes_little_more_than_it_must(limits, more, most):
    """Most jobs would be over before the pacing has found its feet."""
    results, seconds = gathered(ProviderModel(ProviderSettings(rpm=2_400, **BUCKET, **more), 1), 800, limits=limits)
    assert all(result.ok for result in results)
    assert seconds <= most * 20


def test_a_full_minute_s_bucket_is_spent_at_once():
    """A job of half a minute would take a minute and a half."""
    results, seconds = gathered(ProviderModel(ProviderSettings(rpm=600, headers="openai", **QUICK), 1), 900)
    assert all(result.ok for result in results)
    assert seconds <= 1.1 * 30


@pytest.mark.parametrize(
    ("headers", "settled", "least"), [("", 60, 0.95), ("openai", 60, 0.97)], ids=["unknown", "advertised"]
)
def test_a_limit_that_is_halved_is_followed(headers, settled, least):
    """A provider that lowers a limit at noon would be run into all afternoon."""
    change = ((120.0, {"rpm": 300.0}),)
    admitted, _, stats = drive(300, rpm=600, changes=change, headers=headers, **BUCKET)
    assert stats["refused"] <= FOUND_OUT + 0.005 * stats["received"]
    assert used(admitted, 120 + settled, 300, 5.0) >= least


@pytest.mark.parametrize(("headers", "settled"), [("", 300), ("openai", 60)], ids=["unknown", "advertised"])
def test_a_limit_that_is_doubled_is_followed(headers, settled):
    """A raised limit would be of no use until the next run."""
    change = ((120.0, {"rpm": 600.0}),)
    admitted, _, stats = drive(120 + settled + 60, rpm=300, changes=change, headers=headers, **BUCKET)
    assert used(admitted, 120 + settled, 180 + settled, 10.0) >= 0.95
    assert stats["refused"] <= FOUND_OUT + 0.003 * stats["received"]


@pytest.mark.parametrize("how", [{}, {"queue": 8}, {"queue": 8, "queue_status": 429}], ids=["queue", "503", "429"])
def test_a_server_of_one_s_own_is_kept_busy(how):
    """Slots that are paid for by the hour would stand idle."""
    counts = {}
    for name, limits in (("fixed", Limits(concurrency=16)), ("adaptive", Limits(adaptive="concurrency"))):
        admitted, _, _ = drive(100, limits=limits, slots=16, latency=0.5, latency_p99=2.0, **how)
        counts[name] = sum(admitted[30:100])
    assert counts["adaptive"] >= 0.98 * counts["fixed"]


def test_stray_refusals_at_low_traffic_do_not_slow_a_run_for_ever():
    """One 429 in fifty that means nothing would turn minutes into hours."""
    settings = ProviderSettings(latency=0.5, faults=Faults(rate_limited=0.02), retry_after="")
    times = []
    for seed in range(5):
        results, seconds = gathered(ProviderModel(settings, seed), 200, limits=Limits(concurrency=2))
        assert all(result.ok for result in results)
        times.append(seconds)
    _, calm = gathered(ProviderModel(replace(settings, faults=Faults()), 1), 200, limits=Limits(concurrency=2))
    assert max(times) <= 2.0 * calm
    assert mean(times) <= 1.4 * calm


def test_stray_refusals_do_not_hide_that_there_is_room():
    """Where no limit is known, each of them would be taken for it, until hardly anything goes."""
    settings = ProviderSettings(rpm=6_000, burst=1.0, latency=0.1, faults=Faults(rate_limited=0.02))
    for seed in range(2):
        results, seconds = gathered(ProviderModel(settings, seed), 2_000)
        assert all(result.ok for result in results)
        assert seconds < 1.2 * 20


@pytest.mark.parametrize(
    ("limits", "share", "most"),
    [
        (None, 0.05, 25),
        (None, 0.15, 120),
        (None, 0.5, 800),  # where half is refused and nothing is known, it takes long to tell that from a limit
        (Limits(rpm=6_000), 0.05, 28),
        (Limits(rpm=6_000), 0.15, 120),
        (Limits(rpm=6_000), 0.5, 115),
        (Limits(concurrency=50), 0.05, 21),
        (Limits(concurrency=50), 0.15, 115),
        (Limits(concurrency=50), 0.5, 80),
    ],
)
def test_refusals_whatever_the_rate_do_not_bring_a_run_to_a_crawl(limits, share, most):
    """A provider that is half broken would be asked once a second: a thousand calls would take hours."""
    settings = ProviderSettings(rpm=6_000, burst=1.0, latency=0.5, faults=Faults(rate_limited=share))
    results, seconds = gathered(ProviderModel(settings, 1), 1_000, limits=limits, deadline=1e5)
    assert all(result.ok for result in results)
    assert seconds <= most


@pytest.mark.parametrize(
    ("server", "limits", "seconds"),
    [
        ("bucket 60 s", Limits(rpm=6_000), 180),
        ("bucket 1 s", Limits(rpm=780), 300),
        ("bucket 1 s", Limits(concurrency=50), 300),
        pytest.param("bucket 1 s", Limits(rpm=6_000), 180, marks=pytest.mark.soak),
        pytest.param("bucket 60 s", Limits(rpm=780), 300, marks=pytest.mark.soak),
        pytest.param("bucket 60 s", Limits(concurrency=50), 300, marks=pytest.mark.soak),
    ],
)
def test_a_limit_that_was_given_too_high_is_not_stormed(server, limits, seconds):
    """A figure that is out of date, or a key that others use, would have every second call refused."""
    beyond = []  # what finding out does not explain
    for seed in (1, 2, 3):
        admitted, _, stats = drive(seconds, seed=seed, limits=limits, rpm=600, **SERVERS[server], **QUICK)
        assert used(admitted, 60, seconds, 10.0) >= 0.93
        beyond.append((stats["refused"] - FOUND_OUT) / stats["received"])
    assert sorted(beyond)[1] <= 0.02
    assert max(beyond) <= 0.15  # a limit that refuses as rarely as strays may be taken for them


def test_a_day_s_requests_may_go_in_a_minute():
    """Sixty calls under a limit of a hundred a day would take fourteen hours."""
    results, seconds = gathered(ProviderModel(ProviderSettings(), 1), 60, limits=Limits(rpm=600, rpd=100))
    assert all(result.ok for result in results)
    assert seconds < 7.5


# -- pauses -----------------------------------------------------------------------------------------------------------


class Scripted:
    """Refuses while its clock says so; keeps the times of all that came."""

    def __init__(self, refuse, latency: float = 0.05) -> None:
        self.refuse, self.latency = refuse, latency
        self.times: list[float] = []

    async def send(self, request: Request) -> Response:
        now = asyncio.get_running_loop().time()
        self.times.append(now)
        refusal = self.refuse(now, len(self.times))
        await asyncio.sleep(0.02 if refusal else self.latency)
        if refusal:
            return refusal
        body = answers.completion(
            number=1, model="m", message={"content": "fine"}, finish="stop", wall=0.0, usage=answers.usage(1, 1)
        )
        return Response(200, {}, body)

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("refuses", "unknown", "known"),
    [
        (lambda number: number == 3, 2, 4),
        (lambda number: number <= 5, 25, 4),
        (lambda number: number % 2 == 0, 24, 32),
        (lambda number: number % 3 == 0, 20, 29),
        (lambda number: number % 10 == 0, 4, 15),
    ],
    ids=["the third", "the first five", "every second", "every third", "every tenth"],
)
@pytest.mark.parametrize("limits", [None, Limits(rpm=6_000)], ids=["none", "rpm"])
def test_refusals_by_number_do_not_bring_a_run_to_a_crawl(limits, refuses, unknown, known):
    """A provider that counts oddly, or a test double, would have the run wait for minutes."""
    transport = Scripted(lambda now, number: throttle(1.0) if refuses(number) else None, latency=0.3)

    async def main():
        async with client(transport, limits=limits, deadline=1e5) as made:
            return await made.gather(prompts(200)), asyncio.get_running_loop().time()

    results, seconds = run_virtual(main(), limit=1e6)
    assert all(result.ok for result in results)
    assert seconds <= (unknown if limits is None else known)


@pytest.mark.parametrize("number", [20, 100])
def test_one_refusal_that_names_some_seconds_does_not_end_a_run_s_pace(number):
    """It would be taken for a window of a minute, and the rest be sent at one in three seconds."""
    transport = Scripted(lambda now, count: throttle(5.0) if count == number else None, latency=0.3)

    async def main():
        async with client(transport) as made:
            return await made.gather(prompts(200)), asyncio.get_running_loop().time()

    results, seconds = run_virtual(main(), limit=1e6)
    assert all(result.ok for result in results)
    assert seconds < 8


@pytest.mark.parametrize("limits", [None, Limits(rpm=6_000)], ids=["none", "rpm"])
def test_a_call_that_is_always_refused_holds_up_no_other(limits):
    """One prompt that a provider refuses for ever would cost all others their deadline."""

    class OneRefused(Scripted):
        async def send(self, request: Request) -> Response:
            if b'prompt 7"' in request.body:
                await asyncio.sleep(0.02)
                return throttle(1.0)
            return await super().send(request)

    async def main():
        async with client(OneRefused(lambda now, number: None), limits=limits, deadline=120.0) as made:
            return await made.gather(prompts(60))

    results = run_virtual(main(), limit=1e6)
    assert [result.index for result in results if not result.ok] == [7]
    assert max(result.elapsed for result in results if result.ok) < 2


def throttle(retry_after: float, **headers: str) -> Response:
    body = answers.error("too many requests", "requests", "rate_limit_exceeded")
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(429, {"retry-after": f"{retry_after:g}", **given}, body)


def quota(retry_after: float | None = None) -> Response:
    headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
    return Response(429, headers, answers.error("no credit", "insufficient_quota", "insufficient_quota"))


def batch(transport, count: int, **options):
    async def main():
        async with client(transport, **options) as made:
            return await made.gather(prompts(count))

    return run_virtual(main(), limit=1e6)


@cache
def last_sent(limits: Limits | None, told: float | None) -> float:
    """When the last of four thousand calls is sent, where one in two hundred is refused if there is a time to tell."""
    wire = Scripted(lambda now, number: throttle(told) if told and number % 200 == 100 else None, latency=2.0)
    assert all(result.ok for result in batch(wire, 4_000, limits=limits))
    return wire.times[-1]


@pytest.mark.parametrize("told", [2.0, 30.0])
@pytest.mark.parametrize("limits", [None, Limits(rpm=10_000), Limits(concurrency=400)], ids=["none", "rpm", "slots"])
def test_one_stray_refusal_in_two_hundred_costs_a_run_next_to_nothing(limits, told):
    """Each of them would pause everybody: a minute of calls would take an hour."""
    assert last_sent(limits, told) <= 1.2 * last_sent(limits, None) + told


def test_a_retry_after_that_one_call_hears_is_its_own_affair():
    """A stray 429 that names half a minute would stop a run of thousands for so long."""
    wire = Scripted(lambda now, number: throttle(30) if number == 20 else None)
    assert all(result.ok for result in batch(wire, 300))
    others = [at for at in wire.times if at < wire.times[19] + 29]
    assert len(others) == 300
    assert others[-1] < 1.5


@pytest.mark.parametrize("limits", [Limits(rpm=6_000), Limits(concurrency=50)], ids=["rpm", "slots"])
def test_a_retry_after_pauses_everybody_and_then_not_all_at_once(limits):
    """Each of a thousand calls would meet its own 429, and all would come back in one instant."""
    wire = Scripted(lambda now, number: throttle(5) if 20 <= number <= 22 else None)
    assert all(result.ok for result in batch(wire, 300, limits=limits))
    began = wire.times[21] + 0.02
    assert not [at for at in wire.times if began + 0.01 < at < began + 5]
    after = [at for at in wire.times if at >= began + 4.99]
    assert sum(at < after[0] + 0.1 for at in after) <= 10


def test_a_gateway_that_exaggerates_is_tried_early():
    """A minute would be lost for a place that is free again in two seconds."""
    wire = Scripted(lambda now, number: throttle(60, x_litellm_call_id="1") if 1.0 <= now < 2.5 else None)
    assert all(result.ok for result in batch(wire, 300, limits=Limits(rpm=6_000)))
    assert wire.times[-1] < 9


def test_a_long_retry_after_is_obeyed_to_the_end():
    """A provider that means it would be asked again and again, and lock the key."""
    closed: list[float] = []

    def refuse(now: float, number: int) -> Response | None:
        closed.extend([now] * (number == 20))
        return throttle(60) if closed and now < closed[0] + 60 else None

    wire = Scripted(refuse)
    assert all(result.ok for result in batch(wire, 50, limits=Limits(rpm=6_000)))
    began = wire.times[19] + 0.02
    assert not [at for at in wire.times if began + 0.1 < at < began + 60]


@pytest.mark.parametrize("limits", [None, Limits(rpm=6_000), Limits(concurrency=50)], ids=["none", "rpm", "slots"])
def test_an_absurd_wait_is_looked_at_before_it_ends(limits):
    """One header with a bug in it would stop a run for years, or fail all of its calls."""
    wire = Scripted(lambda now, number: throttle(1.8e8) if number in (20, 21) else None)
    assert all(result.ok for result in batch(wire, 300, limits=limits))
    assert wire.times[-1] < 9


@pytest.mark.parametrize("told", [0.0, 0.001])
@pytest.mark.parametrize("limits", [None, Limits(rpm=6_000), Limits(concurrency=50)], ids=["none", "rpm", "slots"])
def test_waits_that_are_always_too_short_grow(limits, told):
    """A gateway whose every 429 says 0 seconds would be asked forty times a second."""
    wire = Scripted(lambda now, number: throttle(told))
    assert not any(result.ok for result in batch(wire, 20, limits=limits, deadline=30.0))
    assert len([at for at in wire.times if at > 0.5]) <= 13  # they double, up to 15 s


@pytest.mark.parametrize("retry_after", [None, 120.0], ids=["no time", "a time"])
def test_a_used_up_quota_is_waited_for_on_request(retry_after):
    """A run over night would fail its second half, although the quota comes back at midnight."""
    wire = Scripted(lambda now, number: quota(retry_after) if 1.0 <= now < 3_600 else None)
    results = batch(wire, 300, limits=Limits(rpm=6_000), wait_for_quota=True)
    assert all(result.ok for result in results)
    assert 3_600 <= wire.times[-1] <= 3_600 + (retry_after or 300)
    assert len([at for at in wire.times if 2.0 < at < 3_600]) <= 3_600 / (retry_after or 300) + 1


def test_a_used_up_quota_fails_the_rest_fast_and_says_so_once():
    """Ten thousand calls would each be sent to be told the same."""
    wire = Scripted(lambda now, number: quota() if now >= 1.0 else None)
    results = batch(wire, 1_000, limits=Limits(rpm=6_000))
    failed = [result.error for result in results if not result.ok]
    assert 800 < len(failed) < 1_000
    assert all(isinstance(error, QuotaExhausted | CircuitOpen) for error in failed)
    assert sum(isinstance(error, CircuitOpen) for error in failed) >= len(failed) - 10
    assert all("no credit" in str(error) for error in failed)
    assert wire.times[-1] < 1.5


def test_an_overloaded_provider_is_left_in_peace_and_its_limit_not_forgotten():
    """An outage of a minute would cost the rest of the run its speed."""
    model = ProviderModel(ProviderSettings(rpm=1_200, outage=(60.0, 90.0), **BUCKET), 1)
    model.start(0.0)
    results, _ = gathered(model, 3_000, retries=20)
    assert all(result.ok for result in results)
    admitted = model.stats()["admitted_per_second"]
    assert model.stats()["faults"]["outage"] < 100
    last = len(admitted) - 5
    assert used(admitted, last - 30, last, 20.0) >= 0.9


# -- where the time went ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cause", "limits", "refuse"),
    [
        ("requests", Limits(rpm=600), None),
        ("tokens", Limits(tpm=6_000), None),
        ("concurrency", Limits(concurrency=2), None),
        ("pause", Limits(rpm=60_000), throttle(20)),
        ("backoff", Limits(concurrency=100), Response(500, {}, answers.error("a bug", "server_error"))),
    ],
)
def test_waits_name_the_right_cause_and_add_up(cause, limits, refuse):
    """A user would raise the wrong limit, or look for minutes that nobody explains."""
    wire = Scripted(lambda now, number: refuse if number <= 3 else None, latency=0.5)
    results = batch(wire, 40, limits=limits)
    most = max(results, key=lambda result: result.elapsed)
    assert max((seconds, name) for name, seconds in most.waits.items())[1] == cause
    for result in results:
        served = 0.5 + 0.02 * (result.attempts - 1)  # the script books no time on the wire itself
        assert sum(result.waits.values()) + served == pytest.approx(result.elapsed, abs=0.02)
