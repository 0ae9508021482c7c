"""A transport whose answers a test scripts, for tests of the client."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

from flatout import Client
from flatout.layer import Request, Response
from flatout.testing import digest_of

Answer = Callable[[str], Any]
"""A function of a prompt, plain or async. It returns a text, a `Response`, seconds to wait, or an error to raise."""


def completion(text: str, tokens: int = 1, headers: Mapping[str, str] | None = None) -> Response:
    body = {
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": tokens, "completion_tokens": tokens},
    }
    return Response(200, headers or {}, json.dumps(body).encode())


def refusal(status: int, **headers: str) -> Response:
    body = b'{"error": {"message": "no"}}'
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


class Wire:
    """Counts its requests: the prompts in order of arrival, those in progress, and the most at once."""

    def __init__(self, answer: Answer = lambda prompt: digest_of(prompt)) -> None:
        self.answer = answer
        self.prompts: list[str] = []
        self.requests: list[Request] = []
        self.times: list[float] = []
        self.active = self.most = self.cancelled = 0
        self.closed = False

    async def send(self, request: Request) -> Response:
        prompt = json.loads(request.body)["messages"][-1]["content"]
        self.prompts.append(prompt)
        self.requests.append(request)
        self.times.append(asyncio.get_running_loop().time())
        self.active += 1
        self.most = max(self.most, self.active)
        try:
            answer = self.answer(prompt)
            if inspect.isawaitable(answer):
                answer = await answer
            if isinstance(answer, int | float):
                await asyncio.sleep(answer)
                answer = digest_of(prompt)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.active -= 1
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Response) else completion(answer)

    async def close(self) -> None:
        self.closed = True


def client(wire: Any, **options: Any) -> Client:
    """A client whose requests go to the wire. It reads no flatout.toml, and its jitter is always the same."""
    given = {"base_url": "http://sim/v1", "config": {}, "seed": 1, **options}
    return Client("m", transport=wire, **given)
