"""Choose the error class when a provider answers with an error.

The body decides first, the status second: the same 429 may be a passing throttle, an empty account, or a prompt that
can never fit. The tables hold what providers document and what their traffic shows. One set of tables serves all of
them, since compatible servers and gateways mix each other's vocabularies. This module does not decide what to do about
an error: `flatout.policies.failures.decision` does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from flatout import errors
from flatout.errors import CallError
from flatout.layer import Response
from flatout.policies.failures.decision import UNKNOWN_MODEL, WRONG_PATH
from flatout.policies.failures.retry_after import retry_after
from flatout.values import Endpoint, Reply

from . import problem as problems
from .named import named_limits, wait_named
from .problem import Problem
from .redact import excerpt, redact, redact_body, redact_headers, secrets_of

_MESSAGE_CAP = 300
"""Characters of an error's message."""

_REQUEST_IDS = ("x-request-id", "request-id", "x-amzn-requestid", "apim-request-id", "x-ms-request-id", "cf-ray")
"""Headers that hold the provider's id for a request, best first."""


class _Phrase(Struct, frozen=True):
    """Words in a message that identify a class, and the statuses with which they do."""

    kind: type[CallError]
    statuses: frozenset[int]
    pattern: re.Pattern[str]


_WORDS: dict[type[CallError], set[str]] = {
    errors.QuotaExhausted: {
        *("insufficient_quota", "insufficient_balance", "credit_balance_exhausted", "credit_limit"),
        *("organization_spend_limit_exceeded", "project_spend_limit_exceeded", "organization_usage_limit_exceeded"),
        *("billing_error", "billing_not_active", "billing_hard_limit_reached", "enforced_spend_limit_reached"),
        "servicequotaexceededexception",
    },
    errors.ContextTooLong: {"context_length_exceeded", "exceed_context_size_error", "model_context_window_exceeded"},
    errors.ContentFiltered: {
        *("content_filter", "content_policy_violation", "responsibleaipolicyviolation", "invalid_prompt"),
        "moderation",
    },
    errors.AuthenticationError: {
        *("invalid_api_key", "api_key_invalid", "authentication_error", "unauthenticated", "permission_error"),
        *("account_deactivated", "ip_not_authorized"),
        *("accessdeniedexception", "unrecognizedclientexception", "expiredtokenexception"),
    },
    errors.RateLimited: {
        *("rate_limit_exceeded", "rate_limit_error", "too_many_requests", "slow_down", "resource_exhausted"),
        "throttlingexception",
    },
    errors.Overloaded: {
        *("overloaded_error", "engine_overloaded", "service_unavailable", "unavailable", "unavailable_error"),
        *("nocapacity", "modelnotreadyexception", "serviceunavailableexception"),
        *("resource_unavailable", "flex_tier_capacity_exceeded"),
    },
}
"""Codes, types and reasons, in lower case. The first class with one of an error's words wins.

Words that providers use for everything are left out on purpose: ``invalid_request_error`` comes with a wrong key
(OpenAI) and with an empty account (DeepSeek, Anthropic), ``not_found_error`` not only with unknown models.
"""

_GENERIC: dict[type[CallError], set[str]] = {
    errors.AuthenticationError: {"permission_denied"},
    errors.InvalidRequest: {
        *("invalid_request_error", "bad_request", "badrequesterror", "invalid_argument", "validationexception"),
        *("not_found", "not_found_error", "request_too_large", "unprocessable_entity"),
    },
}
"""Words that count only if no status says more: in an error that arrived with a 200."""


def _phrase(kind: type[CallError], statuses: set[int], *alternatives: str) -> _Phrase:
    return _Phrase(kind, frozenset(statuses), re.compile("|".join(alternatives), re.IGNORECASE))


_CONTEXT = _phrase(
    errors.ContextTooLong,
    {200, 400, 413, 422, 500},
    r"maximum (?:context|prompt) length|context length exceeded|(?:available|maximum) context size",
    r"(?:exceeds?|larger than|beyond) (?:the |its )?(?:model'?s )?(?:maximum )?context (?:length|window|size)",
    r"prompt is too long|input is too long",
    r"input token count.{0,40}exceeds|too large for model with \d+ maximum context",
    r"`?inputs`? tokens \+ `?max_new_tokens`? must be",
)
_TOO_LARGE = _phrase(errors.InvalidRequest, {200, 413, 429}, r"request too large")
"""OpenAI (429) and Groq (413): one request alone exceeds the limit per minute. No wait makes it fit."""

_NO_ROOM = _phrase(
    errors.Overloaded,
    {200, 429},
    r"\bresources? (?:is |are )?(?:currently |temporarily )?unavailable",
    r"\bflex\b.{0,40}\bcapacity\b|\bcapacity\b.{0,40}\bflex\b",
)
"""The cheap tier has no room at the moment. OpenAI answers 429 to that, which is not billed. It says nothing about the
limits, which a slower pace would keep no better."""

_PHRASES = (
    _phrase(
        errors.QuotaExhausted,
        {200, 400, 402, 403, 429},
        r"credit balance is (?:too low|exhausted)",
        r"reached your specified (?:api )?usage limits",
        r"insufficient (?:balance|credits?|funds|quota)",
        r"(?:spend|spending|key) limit (?:exceeded|reached)|reached its monthly spending limit",
        r"used all (?:available|of your) credits|billing hard limit|check your billing",
    ),
    _phrase(
        errors.ContentFiltered,
        {200, 400, 403, 422},
        r"content (?:management|filtering|moderation|filter) ?policy|blocked by (?:our )?content filter",
        r"requires moderation|flagged (?:for|as|by)|rejected (?:as a result of|by) (?:our |the )?safety system",
    ),
    _phrase(
        errors.AuthenticationError,
        {200, 400},
        r"api key not valid|(?:invalid|incorrect) api key|api key (?:expired|not found)|no auth credentials",
        r"user location is not supported",
    ),
    _phrase(errors.Overloaded, {200, 500, 502}, r"\boverloaded\b|loading model|no capacity|at capacity"),
)
"""For providers that name the problem only in prose. The first match wins."""

_NO_SUCH_MODEL = re.compile(
    r"^models?:? ?[`'\"]?[\w./:@-]{0,200}[`'\"]?,? (?:is )?(?:was )?(?:not found|does not exist|not exist)"
    r"|\bthe (?:requested )?model [`'\"]?[\w./:@-]{1,200}[`'\"]? (?:does not exist|was not found|is not found)"
    r"|^model: \S{1,200}$|^model not (?:exist|found)|is not a valid model|^(?:invalid|unknown) model\b|no such model"
    r"|no endpoints found for \S|model identifier is invalid|does not have access to model",
    re.IGNORECASE,
)

_NO_SUCH_PATH = re.compile(
    r"^(?:not found|resource not found)\.?$|^invalid url\b|^(?:unknown|unrecognized) request url\b"
    r"|^no (?:route matched|static resource)\b|^cannot post /",
    re.IGNORECASE,
)

_BY_STATUS: dict[int, type[CallError]] = {
    401: errors.AuthenticationError,
    402: errors.QuotaExhausted,
    403: errors.AuthenticationError,
    407: errors.AuthenticationError,
    408: errors.ServerError,
    409: errors.ServerError,
    421: errors.ServerError,
    424: errors.ServerError,
    425: errors.ServerError,
    429: errors.RateLimited,
    498: errors.Overloaded,  # Groq: the flex tier has no room
    499: errors.ServerError,
    503: errors.Overloaded,
    529: errors.Overloaded,
}


def error_of(
    status: int, headers: Mapping[str, str], body: bytes, endpoint: Endpoint, wall: float | None = None
) -> CallError:
    """The error for an unsuccessful answer. It keeps everything that helps, but no key.

    Args:
        status: the HTTP status.
        headers: the answer's headers, names in lower case.
        body: the answer's body, of any shape.
        endpoint: where the answer came from. Its secrets are removed from everything that the error keeps.
        wall: now, in seconds since the epoch. Used only for a Retry-After date if the answer has no date of its own.
    """
    response = Response(status, headers, body)
    if 300 <= status < 400:
        text = f"answered {status}, a redirect, which is never followed: check its address"
        return unusable(errors.ProtocolError, text, response, endpoint)
    return _classified(problems.read(body), response, endpoint, None, wall)


def error_in_answer(data: Mapping[str, Any], response: Response, endpoint: Endpoint, reply: Reply | None) -> CallError:
    """The error inside the JSON of an answer whose status reports success.

    Args:
        data: the JSON, or the part of it with the error.
        response: the answer.
        endpoint: where the answer came from.
        reply: the decoded answer, if it shows that something was paid for.
    """
    return _classified(problems.of_json(data), response, endpoint, reply, None)


def unusable(
    kind: type[CallError], text: str, response: Response, endpoint: Endpoint, reply: Reply | None = None
) -> CallError:
    """An error in flatout's own words, for an answer that arrived but cannot be used.

    The error keeps the body only if there is no reply to hold it.
    """
    return _error(kind, f"{endpoint.name} {text}", Problem(), response, endpoint, reply, None)


def request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's id for a request."""
    if headers:  # a batch's answers have none
        for name in _REQUEST_IDS:
            if value := headers.get(name):
                return value
    return None


def _classified(
    problem: Problem, response: Response, endpoint: Endpoint, reply: Reply | None, wall: float | None
) -> CallError:
    kind, code = _class_of(problem, response)
    words = " ".join(problem.message.split())
    missing = _without_key(endpoint) if kind is errors.AuthenticationError and response.status != 407 else ""
    answered = f"{endpoint.name} answered {response.status}{missing}"
    if problem.html:
        text = f"{answered} with a web page" + (f": {words}" if words else "")
    else:
        text = f"{answered}: {words or 'no explanation'}"
    if code is not None:
        problem = replace(problem, code=code)
    return _error(kind, text, problem, response, endpoint, reply, wall)


def _without_key(endpoint: Endpoint) -> str:
    """A note on the missing key if none was sent: most servers call that a wrong key."""
    own = any(name.lower() in ("authorization", endpoint.key_header.lower()) for name in endpoint.headers)
    if endpoint.api_key is not None or own:
        return ""
    return f" (no key was sent{f': {endpoint.key_env} is not set' if endpoint.key_env else ''})"


def _class_of(problem: Problem, response: Response) -> tuple[type[CallError], str | None]:
    """The error's class, and a code to use if the provider's own does not name the problem."""
    status = problem.status or (200 if 200 <= response.status < 300 else response.status)
    words = problem.words | {response.headers.get("x-amzn-errortype", "").partition(":")[0].rpartition("#")[2].lower()}
    if any("perday" in quota.lower() for quota, _ in problem.quotas):
        return errors.QuotaExhausted, None
    # These checks precede the words: "too large" comes with a throttle's word, an unknown model with any word or none.
    if _matches(_CONTEXT, problem, status):
        return errors.ContextTooLong, None
    if status == 498 or _matches(_NO_ROOM, problem, status):
        return errors.Overloaded, None
    if status == 413 or _matches(_TOO_LARGE, problem, status):
        return errors.InvalidRequest, None
    if named := words & UNKNOWN_MODEL:
        return errors.InvalidRequest, None if (problem.code or "").lower() in named else min(named)
    if status in (200, 400, 403, 404) and _NO_SUCH_MODEL.search(problem.message):
        return errors.InvalidRequest, "model_not_found"
    if _is_wrong_path(problem, response):
        return errors.InvalidRequest, WRONG_PATH
    return _by_words(words, _WORDS) or _by_phrase(problem, status) or _by_status(problem, status, words), None


def _is_wrong_path(problem: Problem, response: Response) -> bool:
    """Whether nothing is served at this path: a framework or gateway answered, with no word about the request."""
    if response.status != 404:
        return response.status == 405
    if not response.body.lstrip().startswith((b"{", b"[")):
        return True  # a web page, a line of text or nothing: an API reports its own errors in JSON
    return _NO_SUCH_PATH.search(problem.message) is not None if problem.message else not problem.words


def _by_words(words: frozenset[str], table: Mapping[type[CallError], set[str]]) -> type[CallError] | None:
    return next((kind for kind, known in table.items() if words & known), None)


def _by_phrase(problem: Problem, status: int) -> type[CallError] | None:
    return next((phrase.kind for phrase in _PHRASES if _matches(phrase, problem, status)), None)


def _by_status(problem: Problem, status: int, words: frozenset[str]) -> type[CallError]:
    if status == 200:
        return _by_words(words, _GENERIC) or errors.ServerError
    if status == 403 and problem.html:
        return errors.InvalidRequest  # a firewall in front of the API refused this text; nobody checked the key
    return _BY_STATUS.get(status, errors.InvalidRequest if 400 <= status < 500 else errors.ServerError)


def _matches(phrase: _Phrase, problem: Problem, status: int) -> bool:
    return status in phrase.statuses and phrase.pattern.search(problem.message) is not None


def _error(
    kind: type[CallError],
    text: str,
    problem: Problem,
    response: Response,
    endpoint: Endpoint,
    reply: Reply | None,
    wall: float | None,
) -> CallError:
    secrets = secrets_of(endpoint)
    identity = request_id(response.headers) or problem.request_id
    wait = retry_after(response.headers, wall)
    if wait is None:
        wait = problem.retry_after if problem.retry_after is not None else wait_named(problem.message)
    clean = partial(redact, secrets=secrets)
    text = excerpt(text, _MESSAGE_CAP + 1, clean)
    return kind(
        text if len(text) <= _MESSAGE_CAP else text[: _MESSAGE_CAP - 1] + "…",
        status=response.status,
        request_id=excerpt(identity, 200, clean) if identity else None,
        retry_after=wait,
        body=redact_body(response.body, secrets) if reply is None else None,
        code=clean(problem.code) if problem.code else None,
        should_retry={"true": True, "false": False}.get(response.headers.get("x-should-retry", "").lower()),
        headers=redact_headers(response.headers, secrets),
        reply=reply,
        limits=named_limits(problem.message, problem.quotas) if kind is errors.RateLimited else None,
    )
