from __future__ import annotations

import hashlib
import json
import statistics

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout.errors import ConfigError
from flatout.testing import Faults, ProviderModel, ProviderSettings, SimulatedResponse, digest, digest_of
from flatout.testing._answers import count_tokens
from flatout.testing._faults import DRAWN

WALL = 1_767_225_600.0


def body(prompt: str = "hello", **fields) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": prompt}], **fields}).encode()


def ask(provider: ProviderModel, /, now: float = 0.0, prompt: str = "hello", **fields) -> SimulatedResponse:
    """Send a request and let it end at once."""
    outcome = provider.receive(now, WALL + now, body(prompt, **fields))
    provider.finish(now, outcome)
    return outcome


def error_of(outcome: SimulatedResponse) -> dict:
    return json.loads(outcome.body)["error"]


def left(model: ProviderModel, now: float = 0.0) -> int:
    """What the headers say is left of the limit on requests, after one more."""
    return int(ask(model, now).headers["x-ratelimit-remaining-requests"])


def test_an_answer_is_a_chat_completion_that_tells_its_prompt():
    """A test could not prove that the right answer stands beside the right prompt."""
    outcome = ask(ProviderModel(), prompt="what is CAP?")
    answer = json.loads(outcome.body)
    assert outcome.status == 200
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "m"
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"].startswith(f"digest:{digest_of('what is CAP?')} ")
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 10


def test_the_digest_covers_the_system_prompt_and_every_message():
    """Two different conversations would be taken for one."""
    system = {"role": "system", "content": "be brief"}
    user = {"role": "user", "content": "hi"}
    assert digest_of("hi", system="be brief") == digest([system, user]) == digest_of([system, user])
    assert len({digest_of("hi"), digest_of("hi", system="be brief"), digest_of("ho"), digest([user, user])}) == 4
    assert digest([{**user, "name": "ann"}]) == digest_of("hi")


PARTS = st.lists(st.dictionaries(st.text(max_size=5), st.integers(-(2**63), 2**63) | st.text(max_size=9)), max_size=4)


def test_the_digest_is_what_its_documentation_says():
    """Answers that were kept from an older version would no longer match their prompts."""
    assert digest_of("hi") == hashlib.sha256(b'[["user","hi"]]').hexdigest()[:16]


@given(st.text() | PARTS)
@settings(max_examples=50)
def test_the_digest_is_the_same_from_the_wire_and_from_python(content):
    """Answers to prompts with odd characters or with parts would look wrong although they are right."""
    messages = [{"role": "user", "content": content}]
    try:
        request = msgspec.json.encode({"model": "m", "messages": messages})
    except UnicodeEncodeError:
        return
    outcome = ProviderModel().receive(0.0, WALL, request)
    assert digest(messages) in json.loads(outcome.body)["choices"][0]["message"]["content"]


def test_the_same_seed_gives_the_same_outcomes():
    """A failing simulation could not be repeated."""
    given_settings = ProviderSettings(rpm=60, burst=1, faults=Faults(server_error=0.3, hang=0.2))

    def run(seed: int) -> list[tuple]:
        model = ProviderModel(given_settings, seed)
        outcomes = [ask(model, now=at / 3, prompt=f"p{at}") for at in range(50)]
        return [(each.kind, each.delay, each.body) for each in outcomes]

    assert run(1) == run(1) != run(2)


def test_an_answer_follows_from_its_prompt_alone():
    """A resumed run would differ from one that was never interrupted."""

    def text(outcome: SimulatedResponse) -> str:
        return json.loads(outcome.body)["choices"][0]["message"]["content"]

    first, second = ProviderModel(seed=7), ProviderModel(seed=7)
    ask(first, prompt="another")
    assert text(ask(first, prompt="this", now=5.0)) == text(ask(second, prompt="this"))


def test_max_tokens_cuts_the_answer():
    """Truncated answers could not be played."""
    for name in ("max_tokens", "max_completion_tokens"):
        answer = json.loads(ask(ProviderModel(ProviderSettings(output_tokens=500)), **{name: 3}).body)
        assert answer["usage"]["completion_tokens"] == 3
        assert answer["choices"][0]["finish_reason"] == "length"


@given(st.text(max_size=200), st.text(max_size=200))
def test_token_counts_are_sane(one, two):
    """Token limits would be charged with nonsense."""
    assert count_tokens(one) <= len(one.encode("utf-8", "surrogatepass")) + len(one) + 1
    assert count_tokens(one) <= count_tokens(one + " " + two)


def test_latency_has_the_median_and_the_tail_that_were_asked_for():
    """Timeouts and hedging would be tuned against another distribution."""
    model = ProviderModel(ProviderSettings(latency=2.0, latency_p99=20.0))
    delays = [ask(model).delay for _ in range(4000)]
    assert statistics.median(delays) == pytest.approx(2.0, rel=0.1)
    assert statistics.quantiles(delays, n=100)[-1] == pytest.approx(20.0, rel=0.3)


@given(
    st.sampled_from(["bucket", "sliding", "fixed"]),
    st.lists(st.tuples(st.floats(0, 3), st.integers(1, 400)), max_size=120),
    st.booleans(),
)
def test_the_model_admits_no_more_than_its_limits(kind, arrivals, charge_failed):
    """A client that breaks the limits would pass its tests."""
    settings = ProviderSettings(rpm=30, tpm=3000, limit=kind, charge_failed=charge_failed)
    model = ProviderModel(settings)
    now, through = 0.0, []
    for gap, tokens in arrivals:
        now += gap
        outcome = ask(model, now=now, max_tokens=tokens)
        if outcome.status == 200:
            through.append((now - arrivals[0][0], max(tokens, 9)))
    for minute in range(8):
        within = [tokens for at, tokens in through if minute * 60 <= at < minute * 60 + 60]
        assert len(within) <= (60 if kind == "bucket" else 30)
        assert sum(within) <= (6000 if kind == "bucket" else 3000)
    stats = model.stats()
    assert stats["admitted"] + stats["refused"] == stats["received"] == len(arrivals)
    assert sum(stats["admitted_per_second"]) == stats["admitted"] == stats["answered"]


def test_tokens_are_reserved_by_max_tokens_or_charged_as_used():
    """A client's accounting would be tested against the wrong provider's rule."""
    reserving = ProviderModel(ProviderSettings(tpm=1000))
    assert [ask(reserving, max_tokens=600).status for _ in range(2)] == [200, 429]
    using = ProviderModel(
        ProviderSettings(tpm=1000, reserve_max_tokens=False, output_tokens=500, output_tokens_p99=500)
    )
    assert [ask(using, max_tokens=600).status for _ in range(3)] == [200, 200, 429]
    assert using.stats()["tokens_admitted"] == 2 * (500 + 9)


@pytest.mark.parametrize(("charged", "remaining"), [(True, 4), (False, 9)])
def test_failed_requests_count_where_they_do(charged, remaining):
    """A client that retries too much would pass its tests, as it would not at OpenAI."""
    model = ProviderModel(ProviderSettings(rpm=10, headers="openai", models=("m",), charge_failed=charged))
    assert [ask(model, model="other").status for _ in range(5)] == [404] * 5
    assert left(model) == remaining


@pytest.mark.parametrize(("charged", "status"), [(True, 429), (False, 200)])
def test_refused_requests_count_where_they_do(charged, status):
    """Hammering at a limit would do no harm, as it does at OpenAI."""
    model = ProviderModel(ProviderSettings(rpm=60, limit="sliding", charge_failed=charged))
    for _ in range(60):
        ask(model)
    for second in range(1, 60):
        ask(model, now=float(second))
        ask(model, now=float(second))
    assert ask(model, now=61.0).status == status


def test_a_prompt_above_the_whole_limit_never_gets_a_retry_after():
    """A client would wait for something that cannot come."""
    outcome = ask(ProviderModel(ProviderSettings(tpm=100)), max_tokens=101)
    assert (outcome.status, "retry-after" in outcome.headers) == (429, False)
    assert ask(ProviderModel(ProviderSettings(tpm=100, headers="groq")), max_tokens=101).status == 413


def test_a_refusal_reads_as_openais():
    """The classification of errors would be tested against other bodies."""
    model = ProviderModel(ProviderSettings(rpm=1))
    ask(model)
    error = error_of(ask(model))
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    assert "requests per min (RPM)" in error["message"]


@pytest.mark.parametrize("name", DRAWN)
def test_every_fault_happens_as_often_as_asked(name):
    """Chances would be other than what a test was told."""
    model = ProviderModel(ProviderSettings(faults=Faults(**{name: 0.25})))
    kinds = [ask(model).kind for _ in range(800)]
    assert kinds.count(name) == model.stats()["faults"][name]
    assert 140 < kinds.count(name) < 260
    assert kinds.count("answered") == model.stats()["answered"] == 800 - kinds.count(name)


@pytest.mark.parametrize(
    ("name", "status", "wire"),
    [
        ("rate_limited", 429, "whole"),
        ("server_error", 500, "whole"),
        ("overloaded", 503, "whole"),
        ("reset", 200, "reset"),
        ("hang", 200, "hang"),
        ("truncated", 200, "truncated"),
        ("malformed", 200, "whole"),
        ("empty", 200, "whole"),
        ("stall", 200, "stall"),
        ("late_error", 200, "whole"),
        ("invalid", 400, "whole"),
    ],
)
def test_every_fault_looks_as_documented(name, status, wire):
    """A fault would be another one than its name says."""
    outcome = ask(ProviderModel(ProviderSettings(faults=Faults(**{name: 1.0}))))
    assert (outcome.kind, outcome.status, outcome.wire) == (name, status, wire)
    if name == "malformed":
        with pytest.raises(json.JSONDecodeError):
            json.loads(outcome.body)
    if name == "empty":
        assert json.loads(outcome.body)["choices"][0]["message"]["content"] == ""
    if name == "late_error":
        assert error_of(outcome)["type"] == "server_error"
    if name == "rate_limited":
        assert outcome.headers["retry-after"] == "1"


def test_an_invalid_prompt_is_invalid_every_time():
    """A permanent failure would go away on retry, which no provider's does."""
    model = ProviderModel(ProviderSettings(faults=Faults(invalid=0.5)))
    rounds = [[ask(model, prompt=f"p{n}").status for n in range(60)] for _ in range(3)]
    assert rounds[0] == rounds[1] == rounds[2]
    assert {200, 400} == set(rounds[0])


def test_the_wrong_key_is_refused_and_never_shown():
    """A key in a repr ends up in logs."""
    settings = ProviderSettings(key="sk-secret")
    model = ProviderModel(settings)
    assert model.receive(0, WALL, body(), "Bearer sk-secret").status == 200
    for wrong in ("", "sk-secret", "Bearer sk-other"):
        outcome = model.receive(0, WALL, body(), wrong)
        assert (outcome.status, error_of(outcome)["code"]) == (401, "invalid_api_key")
        assert b"sk-" not in outcome.body
    assert "sk-secret" not in repr(settings) + repr(model)


def test_unknown_models_long_prompts_and_bad_requests():
    """Final errors could not be told from passing ones."""
    model = ProviderModel(ProviderSettings(models=("m",), context_tokens=50))
    outcome = ask(model, model="other")
    assert (outcome.status, error_of(outcome)["code"]) == (404, "model_not_found")
    outcome = ask(model, prompt="word " * 100)
    assert (outcome.status, error_of(outcome)["code"]) == (400, "context_length_exceeded")
    assert ask(model, messages=[]).status == 400
    for broken in (b"", b"{", b"[]", b'{"model":1,"messages":[]}', b"\xff"):
        assert model.receive(0, WALL, broken).status == 400
    assert json.loads(model.model_list())["data"][0]["id"] == "m"


def test_an_outage_begins_and_ends():
    """An outage in the middle of a run could not be played."""
    model = ProviderModel(ProviderSettings(outage=(10, 20)))
    model.start(1000.0)
    assert [ask(model, now=1000.0 + at).status for at in (0, 9.9, 10, 19.9, 20)] == [200, 200, 503, 503, 200]
    refusing = ProviderModel(ProviderSettings(outage=(0, 20), outage_as="refused"))
    assert ask(refusing).wire == "refused"


def test_limits_change_as_scheduled():
    """A provider that cuts your limit in the middle of a run could not be played."""
    model = ProviderModel(ProviderSettings(rpm=60, limit="fixed", changes=((60.0, {"rpm": 6}), (120.0, {"rpm": None}))))
    statuses = {minute: [ask(model, now=minute * 60.0).status for _ in range(100)] for minute in range(3)}
    assert [statuses[minute].count(200) for minute in range(3)] == [60, 6, 100]


def test_slots_serve_so_many_at_once_and_queue_the_rest():
    """A server of one's own could not be played: its backpressure is latency."""
    model = ProviderModel(ProviderSettings(slots=2, queue=2))
    first, second, third, fourth, fifth = (model.receive(0.0, WALL, body()) for _ in range(5))
    assert [each.queued for each in (first, second, third, fourth)] == [False, False, True, True]
    assert (fifth.status, fifth.kind) == (503, "queue_full")
    assert model.finish(1.0, fifth) == ()
    assert model.finish(1.0, third, delivered=False) == []
    assert model.finish(1.0, first) == [fourth]
    assert not fourth.queued
    assert model.finish(1.0, first) == ()
    stats = model.stats()
    assert (stats["serving"], stats["queued"], stats["most_queued"]) == (2, 0, 2)


@given(st.lists(st.integers(0, 20), max_size=120), st.integers(1, 4), st.none() | st.integers(0, 3))
def test_slots_are_never_overfull_and_none_leaks(choices, slots, queue):
    """A simulated server would jam, or serve more than it can."""
    model = ProviderModel(ProviderSettings(slots=slots, queue=queue))
    held: list[SimulatedResponse] = []
    for choice in choices:
        if choice < 10 or not held:
            held.append(model.receive(0.0, WALL, body()))
        else:
            model.finish(0.0, held.pop(choice % len(held)), delivered=bool(choice % 2))
        serving = [each for each in held if each.holds and not each.queued]
        waiting = [each for each in held if each.holds and each.queued]
        stats = model.stats()
        assert stats["serving"] == len(serving) <= slots
        assert stats["queued"] == len(waiting)
        assert not waiting or len(serving) == slots
        assert stats["in_flight"] == len(held)
    while held:
        model.finish(0.0, held.pop(0))
    assert (model.stats()["serving"], model.stats()["queued"]) == (0, 0)


def test_an_overloaded_server_slows_down():
    """A server that gets slower under load could not be played."""
    model = ProviderModel(ProviderSettings(slow_above=2, latency=1.0, latency_p99=1.0))
    assert [model.receive(0.0, WALL, body()).delay for _ in range(4)] == [1.0, 1.0, 1.5, 2.0]


def test_answers_that_were_given_twice_are_counted():
    """A run that pays twice after a crash would not be found out."""
    model = ProviderModel()
    for prompt in ("a", "b", "a", "a"):
        ask(model, prompt=prompt)
    model.finish(0.0, model.receive(0.0, WALL, body("b")), delivered=False)
    stats = model.stats()
    assert (stats["answered"], stats["duplicates"]) == (4, 2)
    assert (stats["in_flight"], stats["most_in_flight"]) == (0, 1)
    json.dumps(stats)


def test_reset_forgets_all_but_the_open_requests():
    """The second of two measurements would carry the first one's counts, or jam the slots."""
    model = ProviderModel(ProviderSettings(rpm=1, slots=1))
    opened = model.receive(5.0, WALL, body())
    assert ask(model, now=5.0).status == 429
    model.reset()
    assert model.stats()["received"] == 0
    assert model.stats()["serving"] == model.stats()["in_flight"] == 1
    model.finish(6.0, opened)
    assert ask(model, now=6.0).status == 200
    assert model.stats()["in_flight"] == 0


def test_a_script_gives_the_answers():
    """Tests of agents could not say what the model answers."""

    def script(request: dict) -> str | dict:
        if request["messages"][-1]["content"] == "tool":
            return {"content": None, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f"}}]}
        return "as told"

    model = ProviderModel(script=script)
    told = json.loads(ask(model).body)["choices"][0]
    assert told["message"] == {"role": "assistant", "content": "as told"}
    tool = json.loads(ask(model, prompt="tool").body)["choices"][0]
    assert tool["finish_reason"] == "tool_calls"
    assert tool["message"]["tool_calls"][0]["id"] == "1"


@pytest.mark.parametrize(
    "nonsense",
    [
        {"rpm": 0},
        {"slots": -1},
        {"latency": -1.0},
        {"first_token": -1.0},
        {"embedding_dimensions": 0},
        {"latency_p99": 0.1, "latency": 1.0},
        {"changes": ((1.0, {"limit": 3}),)},
        {"changes": ((1.0, {"rpm": 0}),)},
    ],
)
def test_settings_without_sense_are_refused(nonsense):
    """A typing mistake would show as a provider that behaves strangely."""
    with pytest.raises(ConfigError):
        ProviderSettings(**nonsense)


@pytest.mark.parametrize("faults", [{"hang": 1.1}, {"hang": -0.1}, {"hang": 0.6, "reset": 0.6}])
def test_faults_are_probabilities(faults):
    """A typing mistake would show as a provider that behaves strangely."""
    with pytest.raises(ConfigError):
        Faults(**faults)


def test_settings_can_be_read_from_json():
    """The command could not take them from a file."""
    text = b'{"rpm": 60, "limit": "sliding", "faults": {"hang": 0.1}, "changes": [[5, {"rpm": 6}]], "outage": [1, 2]}'
    settings = msgspec.json.decode(text, type=ProviderSettings)
    assert settings.faults.hang == 0.1
    assert settings.changes == ((5.0, {"rpm": 6}),)
