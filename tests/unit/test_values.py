"""The values that go in and come out."""

from __future__ import annotations

import copy
import json
import pickle
import traceback
from contextlib import suppress
from types import MappingProxyType

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from flatout import (
    Answered,
    Call,
    ConfigError,
    Endpoint,
    Failed,
    Limits,
    RateLimited,
    Reply,
    Result,
    ToolCall,
    Usage,
)
from flatout.layer import Request
from flatout.values import Target
from flatout.values.reply import said_in
from flatout.values.secret import Secret

KEY = "sk-" + "never-shown"


def test_a_string_is_a_call():
    """The shortest way to use flatout would not work."""
    assert Call.of("hello") == Call("hello")
    assert Call.of("hello").chat() == [{"role": "user", "content": "hello"}]


def test_a_call_stays_what_it_is():
    """A prepared Call would be copied, or changed, on its way in."""
    call = Call("hello", temperature=0)
    assert Call.of(call) is call


def test_a_dict_is_a_call_and_what_is_unknown_travels_in_extra():
    """A provider's own parameter would be refused, or lost."""
    call = Call.of({"prompt": "hi", "temperature": 0.5, "top_k": 5, "min_p": 0.1})
    assert call == Call("hi", temperature=0.5, extra={"top_k": 5, "min_p": 0.1})


def test_a_dicts_own_extra_and_its_unknown_keys_meet():
    """One of the two would be lost."""
    assert Call.of({"prompt": "x", "extra": {"a": 1, "b": 1}, "b": 2}).extra == {"a": 1, "b": 2}
    assert Call.of({"prompt": "x", "extra": None, "b": 2}).extra == {"b": 2}


def test_any_mapping_will_do():
    """A database row or a frozen mapping would have to be copied into a dict first."""
    assert Call.of(MappingProxyType({"prompt": "x"})) == Call("x")


def test_a_conversation_starts_with_its_system_prompt():
    """The model would not be told how to behave."""
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    assert Call(messages=messages, system="be brief").chat() == [{"role": "system", "content": "be brief"}, *messages]
    assert Call(messages=messages).chat() == messages


@pytest.mark.parametrize("value", [5, 5.0, None, b"bytes", ["list"], object(), True, {"set"}])
def test_other_things_are_no_calls(value):
    """A mistake would be sent to a provider, and paid."""
    with pytest.raises(ConfigError, match="a call is a string, a dict or a Call"):
        Call.of(value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "neither"),
        ({"prompt": "a", "messages": []}, "both"),
        ({"temperature": 1}, "neither"),
        ({"prompt": 5}, "prompt is a string"),
        ({"messages": "hello"}, "messages are a list"),
        ({"messages": 5}, "messages are a list"),
        ({"messages": {"role": "user"}}, "messages are a list"),
        ({"prompt": "x", "model": 5}, "model is a string"),
        ({"prompt": "x", "model": ["a"]}, "model is a string"),
        ({"prompt": "x", "system": 5}, "system is a string"),
        ({"prompt": "x", "max_tokens": "5"}, "max_tokens"),
        ({"prompt": "x", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "x", "max_tokens": 1.5}, "max_tokens"),
        ({"prompt": "x", "max_tokens": True}, "max_tokens"),
        ({"prompt": "x", "timeout": 0}, "timeout"),
        ({"prompt": "x", "timeout": "5"}, "timeout"),
        ({"prompt": "x", "timeout": float("nan")}, "timeout"),
        ({"prompt": "x", "timeout": float("inf")}, "timeout"),
        ({"prompt": "x", "deadline": -1}, "deadline"),
        ({"prompt": "x", "deadline": True}, "deadline"),
        ({"prompt": "x", "extra": 5}, "extra is a dict"),
        ({"prompt": "x", "extra": 5, "top_k": 1}, "extra is a dict"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(fields, said):
    """A typo would show as a TypeError from deep inside, or as a provider's 400 for every row."""
    with pytest.raises(ConfigError, match=said):
        Call.of(fields)


@settings(max_examples=50)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_of_makes_a_call_or_says_no(value):
    """A strange row in a file would end the whole run instead of failing by itself."""
    with suppress(ConfigError):
        assert isinstance(Call.of(value), Call)


@given(
    st.dictionaries(
        st.sampled_from([*Call.__struct_fields__, "other"]),
        st.none() | st.integers() | st.text() | st.lists(st.integers()),
    )
)
def test_of_makes_a_call_of_any_fields_or_says_no(fields):
    """A wrong type under a right name would end the whole run instead of failing by itself."""
    try:
        call = Call.of(fields)
    except ConfigError:
        return
    kept = set(fields) - {"extra", "other"}
    assert all(getattr(call, name) == fields[name] for name in kept)


def test_calls_are_values():
    """Calls could not be compared, or one task would change another's."""
    assert Call("a", seed=1) == Call("a", seed=1) != Call("a", seed=2)
    with pytest.raises(AttributeError):
        Call("a").prompt = "b"


def test_a_secret_does_not_show_itself():
    """A key would end up in a log."""
    secret = Secret(KEY)
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        "%s" % secret,  # noqa: UP031 - as older programs format
        f"{secret!r:>20}",
        repr([secret]),
        repr({"k": secret}),
    ]
    assert not any(KEY in text for text in shown)
    assert secret.reveal() == KEY
    assert secret == Secret(KEY) != Secret("other")
    assert hash(secret) == hash(Secret(KEY))
    assert secret != KEY


def test_a_secret_is_not_pickled_copied_or_encoded():
    """A key would be written into a cache, a queue or a core file by those who pickle everything."""
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy, msgspec.json.encode):
        with pytest.raises(TypeError):
            attempt(Secret(KEY))


def test_a_secret_is_not_shown_among_a_tracebacks_locals():
    """A crash report with local variables (rich, Sentry) would hold the key."""
    secret = Secret(KEY)
    endpoint = Endpoint(name="mine", base_url="http://x", api_key=secret)
    target = Target(endpoint, "m")
    headers = {"authorization": secret.reveal()}
    request = Request("POST", "http://x", headers, b"{}")
    del headers
    try:
        raise RuntimeError((secret, endpoint, target, request))
    except RuntimeError as error:
        report = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "request = Request(" in report
    assert KEY not in report


def test_targets_with_two_keys_differ_and_hide_both():
    """Two keys would share one limit, or a key show in a status line."""
    one, two = (Target(Endpoint(name="e", base_url="http://x", api_key=Secret(key)), "m") for key in (KEY, KEY + "2"))
    bare = Target(Endpoint(name="e", base_url="http://x"), "m")
    assert len({one.key, two.key, bare.key}) == 3
    assert KEY not in one.key + one.name + repr(one)
    assert one.name == "e/m"
    assert Target(one.endpoint, "").name == "e"


def test_usage_totals_only_what_is_known():
    """A bill would look smaller than it is."""
    assert Usage(input_tokens=3, output_tokens=4).total_tokens == 7
    assert Usage(input_tokens=3).total_tokens is None
    assert Usage().input_tokens is None


def test_a_result_is_ok_or_has_an_error():
    """A loop over results could not tell answers from failures."""
    good = Result(index=0, reply=Reply(text="hi"))
    bad = Result(index=1, error=ValueError("x"))
    assert (good.ok, good.text) == (True, "hi")
    assert (bad.ok, bad.text) == (False, None)


def test_a_result_is_one_of_two_kinds():
    """Who tells answers from failures by `isinstance` or `match`, as type checkers know them, would meet neither."""
    good, bad = Result(index=0, reply=Reply(text="hi")), Result(index=1, error=ValueError("x"))
    kinds = (Result, Answered, Failed)
    assert [isinstance(good, kind) for kind in kinds] == [True, True, False]
    assert [isinstance(bad, kind) for kind in kinds] == [True, False, True]
    assert [isinstance("hi", kind) for kind in kinds] == [False, False, False]
    match good:
        case Answered(text=text):
            assert text == "hi"
        case _:
            pytest.fail("it is an answer")
    assert Answered(index=0, reply=Reply(text="hi")) == good
    failed = msgspec.structs.replace(good, reply=None, error=ValueError("x"))
    assert isinstance(failed, Failed)


@pytest.mark.parametrize("kind", [Answered, Failed])
def test_a_result_of_one_kind_cannot_be_made_as_the_other(kind):
    """A stand-in in somebody's tests would be the opposite of what it is called."""
    wrong = {"error": ValueError("x")} if kind is Answered else {"reply": Reply(text="hi")}
    with pytest.raises(TypeError, match=kind.__name__):
        kind(index=0, **wrong)


def test_results_travel_as_they_did():
    """A result that was pickled, copied or taken apart by msgspec would come back as something else."""
    result = Result(index=2, id="a", call=Call("x"), reply=Reply(text="hi", output=[1]), output=[1], cost=0.5)
    assert pickle.loads(pickle.dumps(result)) == copy.deepcopy(result) == result
    assert type(pickle.loads(pickle.dumps(result))) is Result
    assert msgspec.structs.asdict(result)["output"] == [1]
    assert msgspec.json.decode(msgspec.json.encode(result))["reply"]["text"] == "hi"


def test_unwrap_gives_what_was_asked_for():
    """Everybody would write the same three lines; and a null that was asked for would come as the text of a null."""
    kind = Call("x", output=int | None)
    text, error = Reply(text="null"), RateLimited("too fast")
    assert Result(index=0, call=Call("x"), reply=text).unwrap() == "null"
    assert Result(index=0, call=kind, reply=text).unwrap() is None
    assert Result(index=0, reply=text, output=7).unwrap() == 7
    assert Result(index=0, item="a").unwrap() is None
    with pytest.raises(RateLimited) as caught:
        Result(index=0, error=error).unwrap()
    assert caught.value is error


USED = Usage(input_tokens=12, output_tokens=340)
LONG = "word " * 1_000


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (
            Result(
                index=1_234_567,
                id="row-1234567",
                call=Call(LONG),
                reply=Reply(text=f"Ada\nLovelace {LONG}", usage=USED, model="gpt-5-mini-2025-08-07", body=b"the body"),
                cost=0.000123456789,
                waits={"requests": 1.0},
            ),
            "Result(index=1234567, id='row-1234567', ok=True, text='Ada\\nLovelace word word word word word word word "
            "word word w…', model='gpt-5-mini-2025-08-07', tokens=352, cost=0.0001235)",
        ),
        (
            Result(index=0, call=Call("x", model="a/b"), error=RateLimited("too fast"), cost=0.0, attempts=6),
            "Result(index=0, ok=False, error=RateLimited('too fast'), model='a/b', cost=0)",
        ),
        (Result(index=1, error=ValueError(LONG)), f"Result(index=1, ok=False, error=ValueError('{LONG[:59]}…'))"),
        (Result(index=2, item=LONG, output=7), "Result(index=2, ok=True, output=7)"),
        (Result(index=3, output=[LONG, "b"]), f"Result(index=3, ok=True, output=['{LONG[:57]}…)"),
    ],
)
def test_a_result_shows_itself_on_a_line_or_two(result, words):
    """A list of results in a notebook would fill the screen with bodies and Nones."""
    assert repr(result) == words
    assert len(words) < 200
    assert pretty_repr(result, max_width=200) == words


def test_values_show_what_they_hold_and_nothing_else():
    """What somebody has set would drown in what nobody has."""
    assert repr(Call("x", temperature=0)) == "Call(prompt='x', temperature=0)"
    assert repr(Limits(rpm=5)) == "Limits(rpm=5)"
    assert repr(Reply(text="x", usage=USED)) == "Reply(text='x', usage=Usage(input_tokens=12, output_tokens=340))"
    assert repr(Reply(text="", tool_calls=(ToolCall(id="1", name="f", arguments="{}"),))) == (
        "Reply(text='', tool_calls=(ToolCall(id='1', name='f', arguments='{}'),))"
    )


def test_a_tool_call_reads_its_arguments():
    """Every user would parse them by hand, and journey over a tool without any."""
    assert ToolCall(id="1", name="f", arguments='{"a": 1}').parsed() == {"a": 1}
    assert ToolCall(id="1", name="f", arguments="").parsed() == {}
    with pytest.raises(ValueError, match=r"malformed|truncated"):
        ToolCall(id="1", name="f", arguments='{"a": ').parsed()


@pytest.mark.parametrize("name", ["rpm", "tpm", "itpm", "otpm", "rpd", "burst", "concurrency"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "60", True])
def test_a_wrong_limit_is_refused(name, value):
    """A limit that means nothing would be taken for none at all."""
    with pytest.raises(ConfigError, match=name):
        Limits(**{name: value})


def test_limits_refuse_what_they_do_not_know():
    """A misspelt limit would not be kept."""
    with pytest.raises(ConfigError, match="whole"):
        Limits(concurrency=2.5)
    with pytest.raises(ConfigError, match="adaptive"):
        Limits(adaptive="both")
    with pytest.raises(TypeError):
        Limits(rmp=5)
    with pytest.raises(msgspec.ValidationError, match="rmp"):
        msgspec.convert({"rmp": 5}, Limits)


@given(st.lists(st.none() | st.integers(1, 9), min_size=4, max_size=4))
def test_the_nearer_limits_win_and_the_others_fill_in(values):
    """A limit given by name would be overruled by flatout.toml, or wipe out another."""
    near, far = Limits(rpm=values[0], tpm=values[1]), Limits(rpm=values[2], tpm=values[3])
    merged = near.over(far)
    assert merged.rpm == (values[0] or values[2])
    assert merged.tpm == (values[1] or values[3])
    assert near.over(Limits()) == near == Limits().over(near)


def test_a_reply_is_the_next_message():
    """Whoever goes on with a conversation would have to write the model's turn down by hand, and lose its thought."""
    native = {"dialect": "anthropic", "server": "api", "turn": [{"type": "thinking", "signature": "s"}]}
    asked = ToolCall(id="c1", name="f", arguments='{"a": 1}', signature="c2ln")
    reply = Reply(text="", tool_calls=(asked,), native=json.dumps(native).encode())
    message = json.loads(json.dumps(reply.message))
    assert message == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}, "signature": "c2ln"}
        ],
        "native": {**native, "of": said_in(message)},
    }
    assert Reply(text="hi").message == {"role": "assistant", "content": "hi"}
    assert Reply(text="").message["content"] == ""


@pytest.mark.parametrize(
    ("slip", "meant"), [("promt", "prompt"), ("Prompt", "prompt"), ("message", "messages"), ("prompts", "prompt")]
)
def test_a_misspelt_prompt_is_told(slip, meant):
    """ "Neither prompt nor messages" would send the user to look for a prompt that is there."""
    with pytest.raises(ConfigError, match=f"did you mean {meant} by '{slip}'"):
        Call.of({slip: "x"})
