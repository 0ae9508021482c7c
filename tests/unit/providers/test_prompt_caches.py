"""What calls say to have the beginnings of their prompts cached, and which are left alone."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from flatout import Call
from flatout.policies.prefixes import Beginning, Place
from flatout.providers import codec_for
from flatout.providers.prompt_caches import HALF_AN_HOUR, PromptReader, rules_of
from flatout.providers.registry import BUILT_IN
from flatout.values import Endpoint, Target
from flatout.values.secret import Secret

LONG = "The rules of the house. " * 200


def target(name: str) -> Target:
    provider, _, model = name.partition("/")
    return Target(replace(BUILT_IN[provider], api_key=Secret("k")), model)


def marked(name: str, call: Call, *ends: str, lane: int = 0) -> dict:
    """The request for a call whose prompt has common beginnings that end with these texts."""
    to = target(name)
    rules = rules_of(to)
    assert rules is not None
    reader = PromptReader(to, rules)
    prompt = reader.read(call)
    assert prompt is not None
    shared = []
    for end in ends:
        block = next(number for number, text in enumerate(prompt.blocks) if end in text)
        shared.append(Beginning(Place(block, prompt.blocks[block].index(end) + len(end))))
    return json.loads(codec_for(to).encode(reader.marked(call, prompt, shared, lane)).body)


def untouched(name: str, call: Call) -> bool:
    to = target(name)
    rules = rules_of(to)
    return rules is None or PromptReader(to, rules).read(call) is None


@pytest.mark.parametrize(
    ("model", "least"),
    [
        ("claude-opus-5", 512),
        ("claude-fable-5-1", 512),
        ("claude-sonnet-5", 1_024),
        ("claude-sonnet-4-5-20250929", 1_024),
        ("claude-opus-4-8", 1_024),
        ("claude-opus-4-1", 1_024),
        ("claude-opus-4-7", 2_048),
        ("claude-3-5-haiku-20241022", 2_048),
        ("claude-haiku-4-5", 4_096),
        ("claude-opus-4.6", 4_096),
    ],
)
def test_each_model_of_anthropic_has_its_least(model, least):
    """A group would wait for a cache that the model never fills."""
    assert rules_of(target(f"anthropic/{model}")).least == least


def test_only_later_models_of_openai_get_markers():
    """Earlier models refuse them, and later ones save nothing without."""
    assert rules_of(target("openai/gpt-5-mini")).marker == ""
    assert rules_of(target("openai/o3")).marker == ""
    assert rules_of(target("openai/gpt-5.6-luna")).marker == "prompt_cache_breakpoint"
    assert rules_of(target("openai/gpt-6")).lifetime == HALF_AN_HOUR
    assert rules_of(target("azure/gpt-5.6")).marker == ""  # the name of a deployment may be any


@pytest.mark.parametrize("name", ["gemini/gemini-2.5-flash", "groq/x", "mistral/x", "vllm/x", "openrouter/a/b"])
def test_nothing_is_sent_to_a_provider_that_caches_by_itself(name):
    """A server would refuse a parameter that it does not know."""
    assert rules_of(target(name)) is None


def test_anthropics_marker_stands_at_the_end_of_the_system_prompt():
    """Anthropic caches nothing without it."""
    body = marked("anthropic/claude-sonnet-5", Call("hello", system=LONG), LONG)
    assert body["system"] == [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]
    assert body["messages"] == [{"role": "user", "content": "hello"}]


def test_a_prompt_with_a_common_beginning_is_cut_in_two():
    """The marker can only stand at the end of a block, and the rest of the prompt differs from row to row."""
    body = marked("anthropic/claude-sonnet-5", Call(LONG + "and this"), LONG)
    first, second = body["messages"][0]["content"]
    assert (first["text"], "cache_control" in first) == (LONG, True)
    assert second == {"type": "text", "text": "and this"}


def test_a_text_may_have_two_markers():
    """The rules that all rows share, and the document that some of them do, may stand in one prompt."""
    body = marked("anthropic/claude-sonnet-5", Call("AAAA" + LONG + "BBBB" + LONG + "CCCC"), "AAAA", "BBBB")
    parts = body["messages"][0]["content"]
    assert "".join(part["text"] for part in parts) == "AAAA" + LONG + "BBBB" + LONG + "CCCC"
    assert ["cache_control" in part for part in parts] == [True, True, False]


def test_a_beginning_that_ends_with_the_models_turn_is_marked_before_it():
    """The model's own turn goes back unchanged: a marker in it would lose its reasoning."""
    turns = [
        {"role": "user", "content": LONG},
        {"role": "assistant", "content": "what a text"},
        {"role": "user", "content": "and now?"},
    ]
    body = marked("anthropic/claude-sonnet-5", Call(messages=turns), "what a text")
    assert body["messages"][0]["content"][0]["cache_control"] == {"type": "ephemeral"}
    assert body["messages"][1] == {"role": "assistant", "content": "what a text"}


def test_a_tools_result_carries_the_marker_itself():
    """An agent's conversation grows by tools' results: without a marker there, each turn would be paid for again."""
    asked = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [
        {"role": "user", "content": "look"},
        {"role": "assistant", "content": None, "tool_calls": [asked]},
        {"role": "tool", "tool_call_id": "t1", "content": LONG},
    ]
    body = marked("anthropic/claude-sonnet-5", Call(messages=turns), LONG)
    assert body["messages"][2]["content"][0]["cache_control"] == {"type": "ephemeral"}


def test_openais_earlier_models_get_a_key_alone():
    """They refuse markers; the key leads all calls of a group to one machine."""
    body = marked("openai/gpt-5-mini", Call("hello", system=LONG), LONG, lane=3)
    assert body["prompt_cache_key"].startswith("flatout-")
    assert body["prompt_cache_key"].endswith("-3")
    assert len(body["prompt_cache_key"]) <= 64
    assert body["messages"] == [{"role": "system", "content": LONG}, {"role": "user", "content": "hello"}]


@pytest.mark.parametrize("api", ["openai", "openai-responses"])
def test_openais_later_models_get_a_marker_and_no_other_is_set(api):
    """Each row's end would be written to the cache, at a quarter more, and nobody would ever read it."""
    body = marked(f"{api}/gpt-5.6", Call("hello", system=LONG), LONG)
    assert body["prompt_cache_options"] == {"mode": "explicit"}
    system = (body.get("messages") or body["input"])[0]
    assert system["content"][0]["text"] == LONG
    assert system["content"][0]["prompt_cache_breakpoint"] == {"mode": "explicit"}


def test_a_key_is_the_same_in_every_process_and_differs_between_beginnings():
    """A run that is continued would begin with a cold cache; or two groups would crowd one machine."""
    keys = [
        marked("openai/gpt-5-mini", Call("hello", system=system), system)["prompt_cache_key"]
        for system in (LONG, LONG, LONG + "!")
    ]
    assert keys[0] == keys[1] == "flatout-" + keys[0].split("-")[1] + "-0"
    assert keys[2] != keys[0]
    assert LONG[:9] not in keys[0]


@pytest.mark.parametrize(
    "call",
    [
        Call("x", system="short"),
        Call("x", system=LONG, extra={"prompt_cache_key": "mine"}),
        Call("x", system=LONG, extra={"cache_control": {"type": "ephemeral"}}),
        Call(messages=[{"role": "user", "content": LONG, "cache_control": {"type": "ephemeral"}}]),
        Call(
            messages=[
                {
                    "role": "user",
                    "content": [{"type": "text", "text": LONG, "prompt_cache_breakpoint": {"mode": "explicit"}}],
                }
            ]
        ),
        Call("x", system=LONG, tools=[{"type": "function", "function": {"name": "f"}, "cache_control": {}}]),
        Call("x", system=LONG, tools=[3]),
        Call(messages=[3, LONG]),
    ],
)
@pytest.mark.parametrize("name", ["anthropic/claude-sonnet-5", "openai/gpt-5.6"])
def test_short_calls_and_those_with_markers_of_their_own_are_left_alone(call, name):
    """The user's own markers would be doubled, or moved."""
    assert untouched(name, call)


def test_a_prompt_is_read_up_to_the_first_picture():
    """A marker behind a picture would promise that all rows have the same one."""
    picture = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
    call = Call(messages=[{"role": "user", "content": [LONG, picture, LONG]}])
    to = target("anthropic/claude-sonnet-5")
    assert PromptReader(to, rules_of(to)).read(call).blocks == ["user", LONG]


def test_the_system_prompt_of_an_endpoint_counts():
    """Its users could not have it cached."""
    endpoint = Endpoint(
        name="own", base_url="https://x/v1", dialect="anthropic", system=LONG, prompt_cache="cache_control"
    )
    to = Target(endpoint, "claude-sonnet-5")
    assert PromptReader(to, rules_of(to)).read(Call("hello")).blocks == ["system", LONG, "user", "hello"]
