"""Programs over vendors' SDKs and frameworks, as their users write them, each over flatout and by itself.

Run one as ``python sdk_programs.py NAME URL COUNT [alone]``: it prints what became of its calls, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from pydantic import BaseModel

import flatout
from flatout import Client, Limits

os.environ |= {
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "DSPY_CACHEDIR": "/nonexistent",
}

KEY = "sk-test-1234567890"
MODEL = "gpt-5-mini"
CLAUDE = "claude-sonnet-4-5"


class Label(BaseModel):
    """What a text is."""

    label: Literal["spam", "ham"]
    reason: str


Ask = Callable[[str], Awaitable[Any]]
"""Asks one question, and returns the answer as the library has it."""


def messages(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def vendor(client: Client | None, url: str) -> Any:
    """OpenAI's client: over flatout, or as it is."""
    if client is not None:
        return flatout.sdk.openai(client)
    import openai

    return openai.AsyncOpenAI(api_key=KEY, base_url=url)


def openai_chat(client: Client | None, url: str) -> Ask:
    ai = vendor(client, url)

    async def ask(text: str) -> str:
        answer = await ai.chat.completions.create(model=MODEL, messages=messages(text))
        assert answer.usage.total_tokens
        return answer.choices[0].message.content

    return ask


def openai_sync(client: Client | None, url: str) -> Ask:
    import openai

    ai = flatout.sdk.openai(client, sync=True) if client else openai.OpenAI(api_key=KEY, base_url=url)

    def ask(text: str) -> str:
        answer = ai.chat.completions.create(model=MODEL, messages=messages(text), stream=True)
        return "".join(choice.delta.content or "" for chunk in answer for choice in chunk.choices)

    return lambda text: asyncio.to_thread(ask, text)


def openai_responses(client: Client | None, url: str) -> Ask:
    ai = vendor(client, url)

    async def ask(text: str) -> str:
        return (await ai.responses.create(model=MODEL, input=text)).output_text

    return ask


def openai_parse(client: Client | None, url: str) -> Ask:
    ai = vendor(client, url)

    async def ask(text: str) -> Label:
        answer = await ai.chat.completions.parse(model=MODEL, messages=messages(text), response_format=Label)
        parsed: Label = answer.choices[0].message.parsed
        return parsed

    return ask


def openai_parse_responses(client: Client | None, url: str) -> Ask:
    ai = vendor(client, url)

    async def ask(text: str) -> Label:
        parsed: Label = (await ai.responses.parse(model=MODEL, input=text, text_format=Label)).output_parsed
        return parsed

    return ask


def openai_stream(client: Client | None, url: str) -> Ask:
    ai = vendor(client, url)

    async def ask(text: str) -> str:
        said = []
        async with await ai.chat.completions.create(model=MODEL, messages=messages(text), stream=True) as stream:
            async for chunk in stream:
                said += [choice.delta.content or "" for choice in chunk.choices]
        return "".join(said)

    return ask


def openai_stream_responses(client: Client | None, url: str) -> Ask:
    ai = vendor(client, url)

    async def ask(text: str) -> str:
        async with ai.responses.stream(model=MODEL, input=text) as stream:
            async for _ in stream:
                pass
            return (await stream.get_final_response()).output_text

    return ask


def openai_embeddings(client: Client | None, url: str) -> Ask:
    ai = vendor(client, url)

    async def ask(text: str) -> list[float]:
        answer = await ai.embeddings.create(model="text-embedding-3-small", input=text)
        vector: list[float] = answer.data[0].embedding
        assert isinstance(vector[0], float)
        return vector

    return ask


def anthropic_client(client: Client | None, url: str) -> Any:
    if client is not None:
        return flatout.sdk.anthropic(client)
    import anthropic

    return anthropic.AsyncAnthropic(api_key=KEY, base_url=url.removesuffix("/v1"))


def anthropic(client: Client | None, url: str) -> Ask:
    ai = anthropic_client(client, url)

    async def ask(text: str) -> str:
        answer = await ai.messages.create(model=CLAUDE, max_tokens=100, messages=messages(text))
        assert answer.usage.output_tokens
        return answer.content[0].text

    return ask


def anthropic_sync(client: Client | None, url: str) -> Ask:
    import anthropic

    base = url.removesuffix("/v1")
    ai = flatout.sdk.anthropic(client, sync=True) if client else anthropic.Anthropic(api_key=KEY, base_url=base)

    def ask(text: str) -> str:
        answer = ai.messages.create(model=CLAUDE, max_tokens=100, messages=messages(text))
        said: str = answer.content[0].text
        return said

    return lambda text: asyncio.to_thread(ask, text)


def anthropic_stream(client: Client | None, url: str) -> Ask:
    ai = anthropic_client(client, url)

    async def ask(text: str) -> str:
        async with ai.messages.stream(model=CLAUDE, max_tokens=100, messages=messages(text)) as stream:
            return await stream.get_final_text()

    return ask


def genai_client(client: Client | None, url: str) -> Any:
    if client is not None:
        return flatout.sdk.genai(client)
    from google import genai

    base = url.removesuffix("/v1")
    return genai.Client(api_key=KEY, http_options={"base_url": base, "api_version": "v1"})


def genai(client: Client | None, url: str) -> Ask:
    ai = genai_client(client, url)

    async def ask(text: str) -> Label:
        config = {"response_mime_type": "application/json", "response_schema": Label}
        answer = await ai.aio.models.generate_content(model="gemini-2.5-flash", contents=text, config=config)
        parsed: Label = answer.parsed
        return parsed

    return ask


def genai_stream(client: Client | None, url: str) -> Ask:
    ai = genai_client(client, url)

    async def ask(text: str) -> str:
        stream = await ai.aio.models.generate_content_stream(model="gemini-2.5-flash", contents=text)
        return "".join([piece.text async for piece in stream])

    return ask


def legacy(client: Client | None, option: str, **off: Any) -> dict[str, Any]:
    """What changes for an SDK over httpx: its HTTP client, and its own retries switched off."""
    return {} if client is None else {option: flatout.sdk.http_client(client, legacy=True), **off}


def completions(ai: Any) -> Ask:
    """Chat completions of an SDK that is made as OpenAI's is."""

    async def ask(text: str) -> str:
        answer = await ai.chat.completions.create(model=MODEL, messages=messages(text))
        return answer.choices[0].message.content

    return ask


def groq(client: Client | None, url: str) -> Ask:
    from groq import AsyncGroq

    base = url.removesuffix("/v1")
    return completions(AsyncGroq(api_key=KEY, base_url=base, **legacy(client, "http_client", max_retries=0)))


def together(client: Client | None, url: str) -> Ask:
    from together import AsyncTogether

    base = url.removesuffix("/v1")
    return completions(AsyncTogether(api_key=KEY, base_url=base, **legacy(client, "http_client", max_retries=0)))


def fireworks(client: Client | None, url: str) -> Ask:
    from fireworks import AsyncFireworks

    base = url.removesuffix("/v1")
    return completions(AsyncFireworks(api_key=KEY, base_url=base, **legacy(client, "http_client", max_retries=0)))


def mistral_client(client: Client | None, url: str) -> Any:
    from mistralai.client import Mistral

    return Mistral(api_key=KEY, server_url=url.removesuffix("/v1"), **legacy(client, "async_client"))


def mistral(client: Client | None, url: str) -> Ask:
    ai = mistral_client(client, url)

    async def ask(text: str) -> Label:
        parsed: Label = (
            (await ai.chat.parse_async(Label, model=MODEL, messages=messages(text))).choices[0].message.parsed
        )
        return parsed

    return ask


def mistral_stream(client: Client | None, url: str) -> Ask:
    ai = mistral_client(client, url)

    async def ask(text: str) -> str:
        stream = await ai.chat.stream_async(model=MODEL, messages=messages(text))
        return "".join([event.data.choices[0].delta.content or "" async for event in stream if event.data.choices])

    return ask


def openrouter(client: Client | None, url: str) -> Ask:
    from openrouter import OpenRouter

    ai = OpenRouter(api_key=KEY, server_url=url, **legacy(client, "async_client", retry_config=None))

    async def ask(text: str) -> str:
        answer = await ai.chat.send_async(model=MODEL, messages=messages(text))
        return answer.choices[0].message.content

    return ask


def litellm(client: Client | None, url: str) -> Ask:
    import litellm as library

    ai = vendor(client, url)

    async def ask(text: str) -> str:
        answer = await library.acompletion(model=f"openai/{MODEL}", messages=messages(text), client=ai)
        return answer.choices[0].message.content

    return ask


def langchain(client: Client | None, url: str) -> Ask:
    from langchain_openai import ChatOpenAI

    over: dict[str, Any] = {}
    if client is not None:
        over = {"http_async_client": flatout.sdk.http_client(client, legacy=True), "max_retries": 0}
    model = ChatOpenAI(model=MODEL, api_key=KEY, base_url=url, **over).with_structured_output(Label)

    async def ask(text: str) -> Label:
        return await model.ainvoke(text)

    return ask


def llama_index(client: Client | None, url: str) -> Ask:
    from llama_index.llms.openai import OpenAI

    over: dict[str, Any] = {}
    if client is not None:
        over = {"async_http_client": flatout.sdk.http_client(client, legacy=True), "max_retries": 0}
    model = OpenAI(model=MODEL, api_key=KEY, api_base=url, **over)

    async def ask(text: str) -> str:
        return (await model.acomplete(text)).text

    return ask


def pydantic_ai(client: Client | None, url: str) -> Ask:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    agent = Agent(OpenAIChatModel(MODEL, provider=OpenAIProvider(openai_client=vendor(client, url))), output_type=Label)

    async def ask(text: str) -> Label:
        return (await agent.run(text)).output

    return ask


def instructor(client: Client | None, url: str) -> Ask:
    import instructor as library

    ai = library.from_openai(vendor(client, url))

    async def ask(text: str) -> Label:
        return await ai.chat.completions.create(model=MODEL, messages=messages(text), response_model=Label)

    return ask


def dspy(client: Client | None, url: str) -> Ask:
    import dspy as library
    import litellm as beneath

    if client is not None:
        beneath.aclient_session = flatout.sdk.http_client(client, legacy=True)
    lm = library.LM(
        f"openai/{MODEL}", api_key=KEY, api_base=url, engine="litellm", cache=False, num_retries=0 if client else 2
    )

    async def ask(text: str) -> Any:
        return (await lm.acall(text))[0]

    return ask


def agents(client: Client | None, url: str) -> Ask:
    from agents import Agent, OpenAIChatCompletionsModel, Runner

    model = OpenAIChatCompletionsModel(MODEL, openai_client=vendor(client, url))
    agent = Agent("judge", instructions="Spam or ham?", model=model, output_type=Label)

    async def ask(text: str) -> Label:
        return (await Runner.run(agent, text)).final_output

    return ask


async def run(made: Callable[[Client | None, str], Ask], url: str, count: int, rpm: float, *, alone: bool) -> Any:
    """What became of the calls: their answers' types, their errors, and what they took."""
    options: Any = {"base_url": url, "api_key": KEY}
    async with Client(f"{MODEL}", **options, limits=Limits(rpm=rpm, burst=2), config={}) as client:
        ask = made(None if alone else client, url)
        await ask("warm up")
        began, cpu = time.perf_counter(), time.process_time()
        got = await asyncio.gather(*(ask(f"text number {n}") for n in range(count)), return_exceptions=True)
        took, spent = time.perf_counter() - began, time.process_time() - cpu
    good = [each for each in got if not isinstance(each, BaseException) and each]
    bad = Counter(f"{type(each).__name__}: {str(each)[:100]}" for each in got if isinstance(each, BaseException))
    kinds = Counter(type(each).__name__ for each in good)
    return {"good": len(good), "bad": bad, "kinds": kinds, "seconds": took, "cpu": spent / count}


if __name__ == "__main__":
    name, where, number, rate, *rest = sys.argv[1:]
    told = asyncio.run(run(globals()[name], where, int(number), float(rate), alone=bool(rest)))
    print(json.dumps(told))  # noqa: T201 - a program
