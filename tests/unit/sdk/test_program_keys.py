"""No key of a program in what flatout adds to its errors and tracebacks."""

from __future__ import annotations

import json
import traceback
from typing import Any

import pytest

import flatout
from flatout import Client, errors
from flatout.testing import run_virtual
from tests.unit.test_no_key_shows import KEY, OWN, Telltale, assert_clean, inside

CHAT = "https://api.openai.com/v1/chat/completions"
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hello?"}]}).encode()
HEADERS = ({"authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}, {"api-key": KEY})


def shown(error: BaseException) -> str:
    """An error, those behind it, and what stands in flatout's own variables there."""
    said, seen, left = [], set(), [error]
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        said.append(repr(each) + str(each) + repr({**vars(each), "_request": None}))
        for frame, _ in traceback.walk_tb(each.__traceback__):
            if "/flatout/" in frame.f_code.co_filename:
                said += [inside(value) for value in frame.f_locals.values() if not of_httpx(value)]
        left += [each.__cause__, each.__context__]
    return "\n".join(said)


def of_httpx(value: object) -> bool:
    """Whether httpx shows it: its own objects, and errors, to which it adds the request."""
    return type(value).__module__.startswith("httpx") or isinstance(value, BaseException)


def failure(answer: Any, url: str = CHAT, headers: Any = HEADERS[0]) -> BaseException:
    async def ask() -> BaseException:
        client = Client(transport=Telltale(answer), retries=0, deadline=60)
        async with client, flatout.sdk.http_client(client) as http:
            try:
                await http.post(url, headers=headers, content=BODY)
            except BaseException as error:
                return error
        raise AssertionError("it was answered")

    return run_virtual(ask())


@pytest.mark.parametrize("headers", HEADERS)
@pytest.mark.parametrize(
    "kind", [kind for kind in OWN if not issubclass(kind, errors.ProviderError)] + [RuntimeError, KeyError]
)
def test_no_failure_shows_the_key(kind: type[Exception], headers: dict[str, str]):
    """A program's traceback with variables would hold its user's key, in frames that flatout has added."""
    error = failure(lambda _: kind("it failed"), headers=headers)
    assert_clean(shown(error), kind.__name__)


def test_no_key_in_an_address_shows():
    """A program may have its key in the address, where its own HTTP client shows it, but nothing of ours may."""
    error = failure(lambda _: errors.ConnectError("it failed"), f"{CHAT}?key={KEY}")
    assert_clean(shown(error))
