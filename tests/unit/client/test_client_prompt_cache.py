"""``prompt_cache``: who is asked for it, what it changes in a request, and what is refused."""

from __future__ import annotations

import asyncio
import json

import pytest

from flatout import Call, Client, ConfigError
from flatout.config.file import load
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport, run_virtual

RULES = "Mails about parcels go to the third team. " * 150


class Recorder(SimulatedTransport):
    """Keeps the requests."""

    def __init__(self, **settings) -> None:
        super().__init__(ProviderModel(ProviderSettings(prompt_cache="breakpoints", **settings)))
        self.bodies: list[dict] = []

    def send(self, request):
        self.bodies.append(json.loads(request.body))
        return super().send(request)

    def stream(self, request):
        self.bodies.append(json.loads(request.body))
        return super().stream(request)


def gather(model: str, calls, **options):
    transport = Recorder()

    async def main():
        async with Client(model, api_key="k", transport=transport, config={}, **options) as client:
            return await client.gather(calls)

    return run_virtual(main()), transport.bodies


CALLS = [Call(f"mail {number}", system=RULES, max_tokens=9) for number in range(4)]


def test_nobody_gets_it_unasked():
    """Requests would change for people who know nothing of it."""
    for model in ("anthropic/claude-sonnet-5", "openai/gpt-5.6"):
        _, bodies = gather(model, CALLS)
        assert "cache" not in json.dumps(bodies)
        _, bodies = gather(model, CALLS, prompt_cache="off")
        assert "cache" not in json.dumps(bodies)


def test_the_answers_are_those_of_the_calls_as_they_were_given():
    """A result would show a call that the user never made, and a cache of answers would know none of them again."""
    plain, _ = gather("anthropic/claude-sonnet-5", CALLS)
    cached, bodies = gather("anthropic/claude-sonnet-5", CALLS, prompt_cache="auto")
    assert [result.text for result in cached] == [result.text for result in plain]
    assert [result.call for result in cached] == CALLS
    assert all(body["system"][0]["cache_control"] == {"type": "ephemeral"} for body in bodies)
    assert cached[-1].reply.usage.cached_tokens > 1_000
    assert cached[-1].waits["prompt_cache"] > 0


def test_only_the_call_that_fills_the_cache_is_streamed():
    """All answers would cost the time of a stream."""
    _, bodies = gather("openai/gpt-5-mini", CALLS, prompt_cache="auto")
    assert [body.get("stream", False) for body in bodies] == [True, False, False, False]


def test_a_stream_can_fill_the_cache():
    """A chat program would not save what a job does."""
    transport = Recorder()

    async def main():
        async with Client("anthropic/claude-sonnet-5", api_key="k", transport=transport, prompt_cache="auto") as client:
            usage = []
            for number in range(3):
                stream = client.stream(Call(f"mail {number}", system=RULES, max_tokens=9))
                text = "".join([piece async for piece in stream])
                assert text == stream.reply.text
                usage.append(stream.reply.usage)
            return usage

    usage = run_virtual(main())
    assert [bool(each.cached_tokens) for each in usage] == [False, False, True]


def test_embeddings_know_nothing_of_it():
    """Their requests would carry a parameter that they do not have."""
    transport = Recorder()

    async def main():
        async with Client(
            "openai/text-embedding-3-small", api_key="k", transport=transport, prompt_cache="auto"
        ) as client:
            return await client.embed([RULES + str(number) for number in range(3)])

    assert all(result.ok for result in run_virtual(main()))
    assert "cache" not in json.dumps([body.keys() - {"input"} for body in transport.bodies], default=list)


def test_cancelling_the_call_that_fills_the_cache_lets_another_do_it():
    """A program that gives up one call would stop the others."""
    transport = Recorder(latency=2.0, latency_p99=2.0)

    async def main():
        async with Client("anthropic/claude-sonnet-5", api_key="k", transport=transport, prompt_cache="auto") as client:
            tasks = [asyncio.create_task(client.call(call)) for call in CALLS]
            await asyncio.sleep(0.2)
            assert len(transport.bodies) == 1
            tasks[0].cancel()
            replies = await asyncio.gather(*tasks[1:])
            return replies, asyncio.get_running_loop().time()

    replies, seconds = run_virtual(main())
    assert len(replies) == 3
    assert seconds < 5


@pytest.mark.parametrize("wrong", [True, "on", "", 1])
def test_another_word_is_refused(wrong):
    """A typing error would silently be taken for no."""
    with pytest.raises(ConfigError, match=r"prompt_cache is 'auto' or 'off', not "):
        Client("openai/gpt-5-mini", api_key="k", prompt_cache=wrong)


def test_a_wrong_setting_is_named_with_its_file(tmp_path):
    """A user would look for it in the code."""
    path = tmp_path / "flatout.toml"
    path.write_text('prompt_cache = "yes"\n')
    with pytest.raises(ConfigError, match=r"flatout\.toml: .*prompt_cache"):
        load(path)
