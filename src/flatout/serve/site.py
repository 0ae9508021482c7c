"""What each address of the gateway does."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from flatout.errors import ConfigError
from flatout.http_server.answer import Answer
from flatout.http_server.requests import Request
from flatout.providers.relay import inbound_for
from flatout.providers.relay.inbound import JSON

from .callers import Caller, Callers
from .calls import Calls, refuse
from .guard import Denied, Guard
from .models import Models, UnknownModel
from .offered import Found, Offered

CALLS = {
    "/chat/completions": "openai",
    "/responses": "openai-responses",
    "/messages": "anthropic",
    "/embeddings": "embeddings",
}
"""The formats of calls, by their addresses. Each is served with and without ``/v1``."""

_KINDS = {401: "authentication_error", 403: "permission_error", 421: "invalid_request_error"}

Page = Callable[[Request, Answer, Caller], Awaitable[None]]

_METHODS: dict[str, frozenset[str]] = {
    "/messages/count_tokens": frozenset({"POST"}),
    "/files": frozenset({"GET", "HEAD", "POST"}),
    "/files/": frozenset({"GET", "HEAD", "DELETE"}),
    "/batches": frozenset({"GET", "HEAD", "POST"}),
    "/batches/": frozenset({"GET", "HEAD", "POST"}),
}
"""What can be asked of a page other than to show it."""

_SHOWS = frozenset({"GET", "HEAD"})

_log = logging.getLogger("flatout")


class Site:
    """Answers requests (a `flatout.http_server.server.Handler`).

    Args:
        guard: looks at each request first.
        callers: those who have asked.
        calls: answers calls.
        models: the models that are served.
        offered: says what models the providers have.
        pages: other addresses, without ``/v1``: an address that ends with a slash stands for all below it.
    """

    def __init__(
        self, guard: Guard, callers: Callers, calls: Calls, models: Models, offered: Offered, pages: dict[str, Page]
    ) -> None:
        self._guard = guard
        self._callers = callers
        self._calls = calls
        self._models = models
        self._offered = offered
        self._pages = {**pages, "/models": self._list, "/models/": self._one}
        self._below = [at for at in self._pages if at.endswith("/")]

    async def __call__(self, request: Request, answer: Answer) -> None:
        """Answer a request."""
        path = request.path.removeprefix("/v1")
        if path == "/healthz":
            answer.send(200, {"content-type": "text/plain"}, b"ok\n")
            return
        dialect = CALLS.get(path)
        words = inbound_for(dialect or ("anthropic" if path.startswith("/messages/") else "openai"))
        try:
            self._guard.check_host(request.headers)
            caller = await self._callers.of(*self._guard.caller_of(request.headers))
        except Denied as denied:
            answer.send(denied.status, JSON, words.refusal(denied.status, _KINDS[denied.status], str(denied)))
            return
        except ConfigError as error:
            refuse(answer, error, words)
            return
        if dialect is not None and request.method == "POST":
            await self._calls.answer(request, answer, dialect, caller)
            return
        at = path if path in self._pages else next(filter(path.startswith, self._below), "")
        if not at or request.method not in _METHODS.get(at, _SHOWS):
            status = 405 if at or dialect is not None else 404
            message = f"there is no {request.method} {request.path[:200]} here"
            answer.send(status, JSON, words.refusal(status, "invalid_request_error", message))
            return
        try:
            await self._pages[at](request, answer, caller)
        except Denied as denied:
            answer.send(denied.status, JSON, words.refusal(denied.status, "invalid_request_error", str(denied)))
        except OSError as error:
            if request.method != "POST":  # the answer may have begun
                raise
            _log.warning("%s %s is refused: %s", request.method, request.path, error)
            message = f"the gateway cannot keep it: {error.strerror or error}"
            answer.send(507, JSON, words.refusal(507, "server_error", message))

    async def _list(self, request: Request, answer: Answer, caller: Caller) -> None:
        """List the models. Those of a provider that does not tell its own are missing, and it says why."""
        found = await self._offered.all() if self._models.any else Found([], {})
        data = [_model(name) for name in dict.fromkeys([*self._models, *found.names])]
        missing = {"missing": found.missing} if found.missing else {}
        send_json(answer, {"object": "list", "data": data, "has_more": False, **missing})

    async def _one(self, request: Request, answer: Answer, caller: Caller) -> None:
        try:
            name = self._models.find(request.path.partition("/models/")[2])
        except UnknownModel as error:
            refuse(answer, error, inbound_for("openai"))
        else:
            send_json(answer, _model(name))


def send_json(answer: Answer, data: Any, status: int = 200) -> None:
    """Send a value as JSON."""
    answer.send(status, JSON, msgspec.json.encode(data))


def query(request: Request) -> Mapping[str, str]:
    """The parameters in a request's address; of those with the same name, the last."""
    return dict(parse_qsl(request.target.partition("?")[2]))


def send_page(answer: Answer, request: Request, found: Sequence[dict[str, Any]], *, usual: int, most: int) -> None:
    """Send a page of a list, as OpenAI's clients ask for it: up to ``limit`` items, beginning behind ``after``.

    Args:
        answer: where to.
        request: says which part.
        found: the whole list, in its usual order; ``order=asc`` turns it round.
        usual: the items of a page without ``limit``.
        most: the most items of a page.

    Raises:
        Denied: the request's parameters mean nothing.
    """
    asked = query(request)
    limit, after = asked.get("limit", f"{usual}"), asked.get("after")
    if not (limit.isdecimal() and len(limit) < 10 and 1 <= int(limit) <= most):
        raise Denied(400, f"limit is a number from 1 to {most:,}, not {limit[:20]!r}")
    if asked.get("order") == "asc":
        found = found[::-1]
    begin = 0
    if after is not None:
        begin = next((n for n, each in enumerate(found, 1) if each["id"] == after), 0)
        if not begin:
            raise Denied(400, f"no item is named {after[:80]!r}, so no page can begin after it")
    page = found[begin : begin + int(limit)]
    ends = {"first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None}
    send_json(answer, {"object": "list", "data": page, **ends, "has_more": begin + len(page) < len(found)})


def _model(name: str) -> dict[str, Any]:
    """A model as OpenAI's and Anthropic's clients expect it."""
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": name.partition("/")[0],
        "type": "model",
        "display_name": name,
        "created_at": "1970-01-01T00:00:00Z",
    }
