"""The simulated provider's prompt cache: what is read, what is written, and from when."""

from __future__ import annotations

import json

import pytest

from flatout.errors import ConfigError
from flatout.testing import ProviderModel, ProviderSettings, digest_of
from flatout.testing._answers import count_tokens

WALL = 1_767_225_600.0
LONG = "All mails about parcels go to the third team. " * 120  # some 1,250 tokens
MARK = {"type": "ephemeral"}


def provider(kind="breakpoints", **more) -> ProviderModel:
    return ProviderModel(ProviderSettings(prompt_cache=kind, latency=1.0, latency_p99=1.0, output_tokens=5, **more))


def block(text: str, marked: bool = False, name: str = "cache_control") -> dict:
    value = MARK if name == "cache_control" else {"mode": "explicit"}
    return {"type": "text", "text": text, **({name: value} if marked else {})}


def message(model, now, /, system, prompt="hi", *, key="k", begins=True, **more):
    """Send a Messages request, and return its usage as (fresh, written, read)."""
    body = {"model": "m", "max_tokens": 9, "system": system, "messages": [{"role": "user", "content": prompt}], **more}
    outcome = model.receive(now, WALL + now, json.dumps(body).encode(), f"Bearer {key}", messages=True)
    if begins:
        model.begin(now + outcome.delay, outcome)
    model.finish(now + outcome.delay, outcome)
    usage = json.loads(outcome.body)["usage"]
    return usage["input_tokens"], usage["cache_creation_input_tokens"], usage["cache_read_input_tokens"]


def chat(model, now, /, prompt, *, key="k", begins=True, system=LONG, **more):
    """Send a chat completion, and return the tokens of its prompt that were written and read."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
    body = {"model": "m", "messages": messages, **more}
    outcome = model.receive(now, WALL + now, json.dumps(body).encode(), f"Bearer {key}")
    if begins:
        model.begin(now + outcome.delay, outcome)
    model.finish(now + outcome.delay, outcome)
    details = json.loads(outcome.body)["usage"]["prompt_tokens_details"]
    return details.get("cache_write_tokens", 0), details["cached_tokens"]


def test_messages_have_anthropics_own_form():
    """Nobody could test a program that speaks Anthropic's format."""
    body = {"model": "m", "max_tokens": 50, "system": "Be brief.", "messages": [{"role": "user", "content": "CAP?"}]}
    outcome = ProviderModel().receive(0, WALL, json.dumps(body).encode(), messages=True)
    answer = json.loads(outcome.body)
    assert (answer["type"], answer["role"], answer["stop_reason"]) == ("message", "assistant", "end_turn")
    assert answer["content"][0]["text"].startswith(f"digest:{digest_of('CAP?', system='Be brief.')}")
    assert answer["usage"]["input_tokens"] > 0


def test_a_marked_beginning_is_written_once_and_then_read():
    """The savings that one measures would not be those that Anthropic gives."""
    model = provider()
    fresh, written, read = message(model, 0, [block(LONG, marked=True)])
    assert (read, written) == (0, count_tokens(LONG) + 4)
    again, more, cached = message(model, 2, [block(LONG, marked=True)], "another")
    assert (more, cached) == (0, written)
    assert again < 20
    assert fresh < 20
    assert model.stats()["cached_tokens"] == cached
    assert model.stats()["cache_write_tokens"] == written


def test_what_is_not_marked_is_not_cached():
    """A client that sets no markers would seem to save."""
    model = provider()
    assert message(model, 0, LONG)[1:] == message(model, 2, LONG)[1:] == (0, 0)


def test_an_entry_can_be_read_once_its_answer_has_begun():
    """A client that sends all rows at once would seem to save, and pays each of them with the provider."""
    model = provider()
    assert message(model, 0, [block(LONG, marked=True)], begins=False)[2] == 0
    assert message(model, 0.5, [block(LONG, marked=True)])[2] == 0
    assert message(model, 2, [block(LONG, marked=True)])[2] > 0


def test_an_entry_lasts_five_minutes_from_its_last_use():
    """A slow job would seem to save what it does not."""
    model = provider()
    for now, cached in ((0, False), (299, True), (597, True), (900, False)):
        assert (message(model, now, [block(LONG, marked=True)])[2] > 0) is cached, now


@pytest.mark.parametrize("change", [{"system": [block(LONG + "!", marked=True)]}, {"key": "other"}, {"model": "n"}])
def test_only_an_equal_beginning_of_the_same_organisation_and_model_is_read(change):
    """One organisation would seem to read what another wrote."""
    model = provider()
    message(model, 0, [block(LONG, marked=True)])
    assert message(model, 2, **{"system": [block(LONG, marked=True)], **change})[2] == 0


def test_a_short_beginning_is_not_cached():
    """Markers on short prompts would seem to pay."""
    model = provider()
    for now in (0, 2):
        assert message(model, now, [block(LONG[:3_000], marked=True)])[1:] == (0, 0)


def test_only_what_lies_behind_a_cached_beginning_is_written():
    """A conversation would seem to be written anew with each turn."""
    model = provider()
    system = [block(LONG, marked=True)]
    _, first, _ = message(model, 0, system)
    _, written, read = message(model, 2, system, [block("A document. " * 300, marked=True), block("What is it about?")])
    assert read == first
    assert 0 < written < first


def test_a_text_is_the_same_as_a_block_of_it():
    """A later turn, in which the earlier ones are plain texts, would seem to read nothing."""
    model = provider()
    _, written, _ = message(model, 0, None, [block(LONG, marked=True)])
    turns = [{"role": "user", "content": LONG}, {"role": "assistant", "content": "and?"}]
    turns.append({"role": "user", "content": [block("that is all", marked=True)]})
    assert message(model, 2, None, messages=turns)[2] == written


def test_anthropics_reads_do_not_count_against_the_tokens_per_minute():
    """A job whose rows share a beginning would seem to take as long as without the cache."""
    model = provider(tpm=3_000, reserve_max_tokens=False)
    for now in range(10):
        message(model, now * 2, [block(LONG, marked=True)])
    assert model.stats()["answered"] == 10


def test_earlier_models_of_openai_know_any_beginning_again():
    """The savings that one measures would not be those that OpenAI gives."""
    model = provider("prefix")
    assert chat(model, 0, "one") == (0, 0)
    written, read = chat(model, 2, "two")
    assert written == 0
    assert read == 1_152 + (count_tokens(LONG) - 1_152) // 128 * 128


def test_later_models_of_openai_read_only_up_to_a_marker():
    """Rows with a common system prompt would seem to save without a marker; they are written anew, at 1.25 times."""
    model = provider()
    assert [chat(model, now, f"row {now}")[1] for now in (0, 2, 4)] == [0, 0, 0]
    assert chat(model, 6, "row 6")[0] > 1_000
    marked = {
        "system": [block(LONG, marked=True, name="prompt_cache_breakpoint")],
        "prompt_cache_options": {"mode": "explicit"},
    }
    assert chat(model, 8, "one", **marked)[0] > 1_000
    written, read = chat(model, 10, "two", **marked)
    assert written == 0
    assert read > 1_000


def test_more_calls_than_one_machine_serves_go_to_another():
    """A thousand calls a minute under one key would all seem to be read from one cache."""
    model = provider("prefix")
    read = [chat(model, now / 10, f"row {now}")[1] > 0 for now in range(48)]
    assert [place for place, hit in enumerate(read) if not hit] == [0, 15, 30, 45]
    assert chat(model, 50, "other", prompt_cache_key="a")[1] == 0
    assert chat(model, 100, "later")[1] > 0


def test_markers_do_not_change_an_answer():
    """A test could not compare a job with the cache with the same job without."""
    model = provider()
    texts = []
    for system in (LONG, [block(LONG[:500], marked=True), block(LONG[500:])]):
        body = {"model": "m", "max_tokens": 9, "system": system, "messages": [{"role": "user", "content": "hi"}]}
        outcome = model.receive(0, WALL, json.dumps(body).encode(), messages=True)
        texts.append(json.loads(outcome.body)["content"])
    assert texts[0] == texts[1]


def test_a_streamed_message_has_anthropics_events():
    """Nobody could test a program that streams Anthropic's answers."""
    body = {"model": "m", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    outcome = ProviderModel().receive(0, WALL, json.dumps(body).encode(), messages=True)
    text = b"".join(piece for _, piece in outcome.pieces).decode()
    kinds = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


@pytest.mark.parametrize("wrong", [{"prompt_cache_least": 0}, {"prompt_cache_seconds": -1.0}, {"prompt_cache_rpm": 0}])
def test_impossible_caches_are_refused(wrong):
    """A simulation would run with a cache that cannot be."""
    with pytest.raises(ConfigError, match="is a number above 0"):
        ProviderSettings(**wrong)
