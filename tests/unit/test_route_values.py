"""Routes as values: what they say, and what they refuse."""

from __future__ import annotations

import pickle

import pytest

from flatout import Call, Client, ConfigError, Route
from flatout.config.file import load, parse
from flatout.values.route import Leg, parsed


def test_a_route_is_known_by_its_text():
    """A run file, a cache or another process could not tell which route it was."""
    route = Route("a/m", "b/m", order="spread", fallback={"schema": "d/m", "context": "c/m"}, hedge=0.05)
    assert route == "spread(a/m, b/m, context=c/m, schema=d/m, hedge=0.05)"
    for same in (parsed(route), pickle.loads(pickle.dumps(route))):
        assert (same.targets, same.order, same.fallback, same.hedge) == (
            ("a/m", "b/m"),
            "spread",
            {"context": "c/m", "schema": "d/m"},
            0.05,
        )


@pytest.mark.parametrize("name", ["openai/gpt-5-mini", "local", "meta/llama(3)", "fast"])
def test_a_plain_name_is_no_route(name):
    """A model with a bracket in its name could not be asked."""
    assert parsed(name) is None


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ((), {}, "a route needs a target"),
        (("a/m", "a/m"), {}, "names each target once; 'a/m' is there twice"),
        ((1,), {}, "a route lists models' names"),
        (("",), {}, "a route lists models' names"),
        ((Route("a/m"),), {}, "lists models, not other routes"),
        (("a/m,b/m",), {}, "no comma and no bracket"),
        (("a/m",), {"order": "random"}, "spill or spread, not 'random'"),
        (("a/m",), {"fallback": {"boredom": "b/m"}}, "no cause of a fallback is named 'boredom'; there are down, rate"),
        (("a/m",), {"fallback": {"down": "a/m"}}, "'a/m', is a target of the route already"),
        (("a/m",), {"fallback": ["b/m"]}, "fallback is a mapping"),
        (("a/m",), {"hedge": 5}, "hedge is a share of the requests from 0 to 0.5"),
        (("a/m",), {"hedge": True}, "hedge is a share"),
    ],
)
def test_a_route_that_cannot_be_used_is_refused_in_a_sentence(arguments, options, says):
    """The mistake would show only when the first target is down."""
    with pytest.raises(ConfigError) as caught:
        Route(*arguments, **options)
    assert says in str(caught.value)


@pytest.mark.parametrize("text", ["spill(", "spill()", "spread(a/m", "spill(a/m, hedge=much)"])
def test_a_text_that_begins_like_a_route_must_be_one(text):
    """A slip of the pen would be sent as a model's name."""
    with pytest.raises(ConfigError):
        parsed(text)


def test_a_call_keeps_a_route_as_a_plain_text():
    """Run files are written by an encoder that knows no other texts than str."""
    assert type(Call("x", model=Route("a/m", "b/m")).model) is str


ENDPOINTS = """
[endpoints.a]
base_url = "http://a.test/v1"
[endpoints.b]
base_url = "http://b.test/v1"
"""


@pytest.mark.parametrize(
    ("table", "model", "says"),
    [
        ("[routes.fast]\ntargets = []", "fast", "a route needs a target"),
        ('[routes.fast]\ntargets = ["fast"]', "fast", "lists itself as a target"),
        (
            '[routes.fast]\ntargets = ["slow"]\n[routes.slow]\ntargets = ["a/m"]',
            "fast",
            "lists the route slow as a target",
        ),
        ('[routes.fast]\ntargets = ["a/m"]\nfallback = { down = "fast" }', "fast", "has itself as a fallback"),
        ('[routes.fast]\ntargets = ["nobody/m"]', "fast", "nobody"),
        ('[routes.fast]\ntargets = ["a/m"]\nfallback = { down = "nobody/m" }', "fast", "nobody"),
        ('[routes.fast]\ntargets = ["a/m"]\nspeed = 3', "fast", "no setting is named 'speed'"),
        ('[routes."a/m"]\ntargets = ["b/m"]', "b/m", "cannot be named 'a/m'"),
        ('[routes.local]\ntargets = ["b/m"]', "b/m", "cannot be named 'local'"),
        ("", "slow", "names no provider"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_a_sentence(table, model, says):
    """It would be found out in the middle of a run."""
    with pytest.raises(ConfigError) as caught:
        Client(model, config=parse((ENDPOINTS + table).encode(), "flatout.toml")).check(Call("hi"))
    assert says in str(caught.value)


def test_endpoints_of_a_group_with_different_limits_are_refused():
    """One of the two limits would be passed."""
    config = load(
        {
            "endpoints": {name: {"base_url": f"http://{name}.test/v1", "group": "org"} for name in "ab"},
            "limits": {"a": {"rpm": 100}, "b": {"rpm": 200}},
        }
    )
    with pytest.raises(ConfigError, match="the group 'org' share their limits, but have different ones"):
        Client(Route("a/m", "b/m"), config=config)


def test_two_routes_may_fall_back_to_each_other():
    """A call would go round in circles, or the tables would be refused although they make sense."""
    config = load(
        {
            "endpoints": {name: {"base_url": f"http://{name}.test/v1"} for name in "ab"},
            "routes": {
                "one": {"targets": ["a/m"], "fallback": {"context": "two"}},
                "two": {"targets": ["b/m"], "fallback": {"context": "one"}},
            },
        }
    )
    Client("one", config=config).check(Call("hi"))


def test_a_fallback_that_cannot_take_the_call_is_refused_before_anything_is_sent(monkeypatch):
    """It would fail when it is needed."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    config = load({"endpoints": {"a": {"base_url": "http://a.test/v1"}}})
    client = Client(Route("a/m", fallback={"down": "anthropic/claude-haiku-4-5"}), config=config)
    client.check(Call("hi"))
    sound = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    with pytest.raises(ConfigError, match=r"a fallback of .* cannot take the call: .*audio"):
        client.check(Call(messages=[{"role": "user", "content": [sound]}]))


def test_attempts_at_one_target_are_one_leg():
    """A call with ten retries would show eleven targets."""
    leg = Leg("a/m", "RateLimited", 1, 0.5, None, None).and_then(Leg("a/m", "", 2, None, 3, 4))
    assert leg == Leg("a/m", "", 3, None, 3, 4)


def test_one_key_goes_to_no_two_endpoints(monkeypatch):
    """The key of one provider would be sent to another; or be left out without a word."""
    monkeypatch.setenv("GROQ_API_KEY", "k")
    with pytest.raises(ConfigError, match=r"api_key is one key, and .* several endpoints \(groq, openai\)"):
        Client(Route("openai/gpt-5-mini", "groq/llama-3.3-70b-versatile"), api_key="sk-1", config={})
    client = Client(Route("openai/gpt-5-mini", "openai/gpt-5-nano"), api_key="sk-1", config={})
    keys = {target.endpoint.api_key.reveal() for target in client._engine.targets.all(client.model)}
    assert keys == {"sk-1"}


def test_a_route_to_the_embedded_model_is_known_as_such():
    """Several workers would each compute with all processors."""
    client = Client("a/m", config={"endpoints": {"a": {"base_url": "http://a.test/v1"}}})
    assert client._engine.targets.needs_local(Route("a/m", fallback={"down": "local"}))
    assert not client._engine.targets.needs_local(Route("a/m"))
