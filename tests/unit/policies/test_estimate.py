"""Tokens, guessed before a call is sent."""

from __future__ import annotations

import json
import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout import Call, File, Image, Usage
from flatout.policies.pacing.tokens import (
    FILE,
    MARGIN,
    PART,
    USUAL_OUTPUT,
    USUAL_PART,
    Estimator,
    most_input,
    most_output,
)
from flatout.testing._answers import count_tokens

WORDS = ["the", "answer", "has", "one", "part", "that", "holds", "2026", "1234", "naïve", "東京", "Größe"]
contents = st.text() | st.lists(
    st.fixed_dictionaries({"type": st.just("text"), "text": st.text()})
    | st.fixed_dictionaries({"type": st.just("image_url"), "image_url": st.text()})
    | st.integers()
)
messages = st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": contents | st.none()}))


def text(chance: Random) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randint(20, 400)))


def test_a_first_guess_is_near_and_rather_high():
    """The first calls would overrun the limit on tokens."""
    prompt = "Explain the CAP theorem in three sentences, with an example for each of its parts. " * 10
    need = Estimator().need(Call(prompt))
    assert count_tokens(prompt) <= need.input <= 2 * count_tokens(prompt)
    assert need.output == USUAL_OUTPUT
    assert need.tokens == need.input + need.output


def test_it_learns_from_usage():
    """Limits on tokens would be kept by a guess that is 23 % off."""
    chance, estimator = Random(1), Estimator()

    for _ in range(300):
        call = Call(text(chance))
        estimator.learn(estimator.need(call), Usage(input_tokens=count_tokens(call.prompt), output_tokens=40))
    guesses = []
    for _ in range(100):
        call = Call(text(chance))
        need = estimator.need(call)
        guesses.append(need.input / count_tokens(call.prompt))
    assert sum(abs(guess - 1) for guess in guesses) / 100 < 0.09
    assert need.output == pytest.approx(40, abs=1)


def test_the_output_is_never_guessed_above_its_cap():
    """A short answer would be charged like a long one, and half of the limit lie idle."""
    estimator = Estimator()
    assert estimator.need(Call("x", max_tokens=5)).output == 5
    estimator.learn(estimator.need(Call("x", max_tokens=5)), Usage(input_tokens=1, output_tokens=900))
    assert estimator.need(Call("x", max_tokens=5)).output == 5


def test_conversations_count_whole():
    """System prompts and earlier turns would be free."""
    estimator = Estimator()
    turns = [
        {"role": "user", "content": "a" * 400},
        {"role": "assistant", "content": [{"type": "text", "text": "b" * 400}]},
    ]
    alone = estimator.need(Call("a" * 400)).input
    assert estimator.need(Call(messages=turns)).input > 1.9 * alone
    assert estimator.need(Call("a" * 400, system="s" * 400)).input > 1.9 * alone


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.text(max_size=200), st.none() | st.integers(0, 100_000), st.none() | st.integers(0, 100_000)))
)
def test_it_stays_sane_whatever_it_is_told(answers):
    """One odd usage would make every later call look larger than the limit, or cost nothing."""
    estimator = Estimator()
    for prompt, tokens_in, tokens_out in answers:
        estimator.learn(estimator.need(Call(prompt)), Usage(input_tokens=tokens_in, output_tokens=tokens_out))
        need = estimator.need(Call(prompt))
        assert math.isfinite(need.input)
        assert need.input >= 1
        assert 0 <= need.output < math.inf


@given(messages, st.none() | st.text())
def test_any_conversation_can_be_guessed(turns, system):
    """A strange message would end the call with a TypeError."""
    call = Call(messages=turns, system=system)
    assert Estimator().need(call).input >= 1
    assert most_input(call) >= 1


@given(st.text(), st.none() | st.text())
def test_the_bound_on_the_input_is_a_bound(prompt, system):
    """A budget would be exceeded by prompts that a tokenizer cuts small."""
    call = Call(prompt, system=system)
    pieces = sum(len(part.encode("utf-8", "surrogatepass")) for part in (prompt, system or ""))
    assert most_input(call) >= pieces + 16 * (2 if system else 1)
    assert most_input(call) >= Estimator().need(call).input / MARGIN / 2


@given(messages)
def test_the_bound_counts_every_part(turns):
    """Pictures, tools and schemas would be free."""
    plain = most_input(Call(messages=turns))
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x"}}]}
    tools = [{"type": "function", "function": {"name": "f", "description": "d" * 500}}]
    assert most_input(Call(messages=[*turns, picture])) >= plain + 1_000
    assert most_input(Call(messages=turns, tools=tools)) >= plain + len(json.dumps(tools)) - 50
    assert most_input(Call(messages=turns, output={"type": "object", "title": "t" * 500})) >= plain + 500


def test_the_bound_counts_a_pydantic_schema():
    """A large output schema would be free."""
    from pydantic import BaseModel

    class Answer(BaseModel):
        a_rather_long_name_for_a_field: int

    assert most_input(Call("x", output=Answer)) > most_input(Call("x")) + 50


def asked(*parts):
    return Call(messages=[{"role": "user", "content": list(parts)}])


def test_an_image_counts_what_images_take_and_not_its_bytes():
    """A photo would be held back as a million tokens, or let through as none, and overrun the limit."""
    photo = Image(b"\xff\xd8\xff" + bytes(3_000_000))
    assert Estimator().need(asked("what is it?", photo)).input == pytest.approx(MARGIN * USUAL_PART, rel=0.01)
    assert Estimator().need(asked("?", photo, photo)).input == pytest.approx(2 * MARGIN * USUAL_PART, rel=0.01)
    located = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    assert Estimator().need(asked("?", located)).input < 2 * USUAL_PART
    assert Estimator().need(asked("?", File(b"word " * 10_000))).input > 10_000


def test_it_learns_what_images_take_without_forgetting_texts():
    """Pictures would be guessed wrong for ever, or spoil the guesses of texts."""
    chance, estimator = Random(1), Estimator()
    photo = Image(b"\xff\xd8\xff")
    for _ in range(100):
        plain, pictured = Call(text(chance)), asked(text(chance), photo)
        estimator.learn(estimator.need(plain), Usage(input_tokens=count_tokens(plain.prompt)))
        tokens = count_tokens(pictured.messages[0]["content"][0]) + 258
        estimator.learn(estimator.need(pictured), Usage(input_tokens=tokens))
    assert estimator.need(asked("?", photo)).input == pytest.approx(258, rel=0.1)
    prompt = text(chance)
    assert estimator.need(Call(prompt)).input == pytest.approx(count_tokens(prompt), rel=0.1)


def test_the_bound_on_attachments():
    """A budget would be exceeded by a long document, or refuse every photo as a million tokens."""
    plain = most_input(asked("?"))
    assert most_input(asked("?", Image(b"\xff\xd8\xff" + bytes(3_000_000)))) == plain + PART
    assert most_input(asked("?", File(b"word " * 10_000))) == plain + 50_000
    assert most_input(asked("?", File(b"%PDF-1.7"))) == plain + PART
    assert most_input(asked("?", File(b"%PDF-1.7" + bytes(3_000_000)))) == plain + FILE
    assert most_input(asked("?", File("https://example.org/a.pdf"))) == plain + FILE


def test_its_repr_shows_what_it_learnt():
    """A wrong estimate could not be looked into."""
    estimator = Estimator()
    assert "seen=0" in repr(estimator)
    assert repr(estimator.need(Call("x", max_tokens=3))) == "Need(input=1, output=3)"


@pytest.mark.parametrize(("n", "times"), [(8, 8), (1, 1), (0, 1), (-3, 1), ("8", 1), (None, 1)])
def test_a_call_for_several_answers_may_cost_as_many(n: object, times: int):
    """A budget would be exceeded many times over by a parameter that each client can set."""
    assert most_output(Call("a", max_tokens=100, extra={"n": n})) == 100 * times
    assert most_output(Call("a", extra={"n": n})) == most_output(Call("a")) * times
