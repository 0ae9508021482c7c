"""flatout beneath the vendors' SDKs: their calls wait, are retried, cached, billed and traced as flatout's own.

::

    async with flatout.Client(limits=Limits(rpm=600)) as client:
        ai = flatout.sdk.openai(client)                # an openai.AsyncOpenAI
        answers = await asyncio.gather(*(ai.responses.create(model="gpt-5-mini", input=text) for text in texts))

`http_client` is what stands beneath: any program that takes a client of httpx2 or httpx can be given one. A request to
a provider that flatout knows is a call; any other passes as it is. See https://flatout.github.io/flatout/sdk/.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flatout._lazy import lazy

if TYPE_CHECKING:
    from ._http import http_client
    from ._vendors import anthropic, genai, openai
else:  # not for type checkers: with a __getattr__ they accept misspelt names
    __getattr__ = lazy(__name__, {"_http": ("http_client",), "_vendors": ("anthropic", "genai", "openai")})

__all__ = ["anthropic", "genai", "http_client", "openai"]


def __dir__() -> list[str]:
    return list(__all__)
