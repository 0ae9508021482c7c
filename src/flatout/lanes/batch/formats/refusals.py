"""Why a provider refused something about a batch, in one vocabulary for all of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from flatout import errors
from flatout.lanes.batch.format import Refusal
from flatout.layer import Response
from flatout.policies.failures.decision import UNKNOWN_MODEL, WRONG_PATH
from flatout.providers.failures.naming import error_of
from flatout.providers.failures.redact import excerpt, redact, secrets_of
from flatout.values import Endpoint

_FULL = re.compile(
    r"enqueued|token_?limit_?exceeded|(?:batch|processing) queue|queue (?:is )?full|queue limit"
    r"|too many (?:active |open |concurrent |running |pending )?(?:batches|batch jobs|batch requests in)"
    r"|maximum number of (?:active|concurrent|open|pending) batch",
    re.IGNORECASE,
)
"""OpenAI: "Enqueued token limit reached for …" (``token_limit_exceeded``); Azure the same code; Groq and Anthropic name
the batches or the queue."""

_TOO_LARGE = re.compile(
    r"too_many_tasks|too_large|too large|exceeds? the (?:maximum |max )?(?:file |request |batch )?(?:size|number)"
    r"|(?:more than|exceeds?) (?:the (?:limit|maximum) of )?[\d,]+ (?:requests|lines|rows)|payload size",
    re.IGNORECASE,
)
"""OpenAI and Azure: ``too_many_tasks``, "file too large"; Anthropic: ``request_too_large``; Gemini: "payload size"."""

_OVER = re.compile(
    r"cannot (?:be )?cancel|can(?:no|')t (?:be )?cancel|already (?:ended|completed|cancell?ed)", re.IGNORECASE
)
"""OpenAI (409) and Anthropic (400): a batch that has ended is cancelled too late. To ask again is no use."""

_NOT_READY = re.compile(
    r"not (?:yet )?(?:ready|processed|in (?:an )?active state)|(?:is |still )(?:being )?process(?:ed|ing)",
    re.IGNORECASE,
)
"""Azure and Gemini look through an uploaded file before a batch can run it. That takes a moment."""

_DENIED_CODES = UNKNOWN_MODEL | {
    # of the whole batch (OpenAI, Azure): each line would be refused alike
    *("invalid_url", "url_mismatch", "invalid_endpoint", "invalid_method", "unsupported_model", "unsupported_endpoint"),
    *("billing_hard_limit_reached", "insufficient_quota", "billing_not_active", "permission_denied", "unauthenticated"),
}
"""Codes for which no row has a chance, so that a smaller batch would not help."""

_NO_BATCHES = re.compile(r"not supported (?:for|in|by) batch|does(?: not|n't) support batch", re.IGNORECASE)
"""xAI, Fireworks: the model is asked live only."""

_AGAIN_CODES = frozenset({"server_error", "internal_error", "internal", "unavailable", "timeout", "system_error"})

_REASON = 300
"""Characters of the provider's words that are kept."""


def refused(response: Response, endpoint: Endpoint, *, waits: bool = False) -> tuple[Refusal, str] | None:
    """Why an answer is a refusal, and the provider's words without any key; None if the request was accepted.

    Args:
        response: the answer.
        endpoint: where it came from.
        waits: whether any 429 means that the queue is full (Gemini), and not that requests come too fast.
    """
    if 200 <= response.status < 300:
        return None
    error = error_of(response.status, response.headers, response.body, endpoint)
    return _of_error(error, response.status, waits), str(error)


def _of_error(error: errors.CallError, status: int, waits: bool) -> Refusal:
    words = f"{error.code or ''} {error}"
    if isinstance(error, errors.AuthenticationError | errors.QuotaExhausted | errors.ContentFiltered):
        return "denied"
    if _OVER.search(words):
        return "invalid"
    if _NOT_READY.search(words):
        return "again"
    if _FULL.search(words):
        return "full"
    if status == 413 or (400 <= status < 500 and _TOO_LARGE.search(words)):
        return "too_large"
    if isinstance(error, errors.RateLimited):
        return "full" if waits else "again"
    if error.code == WRONG_PATH or (error.code or "").lower() in _DENIED_CODES or status == 405:
        return "denied"
    if status in (404, 410):
        return "unknown"
    return "invalid" if isinstance(error, errors.InvalidRequest | errors.ContextTooLong) else "again"


def failure(code: Any, message: Any, endpoint: Endpoint) -> tuple[Refusal, str]:
    """Why a whole batch failed, from its job's code and words; ``invalid`` if they say nothing of another kind."""
    said = " ".join(part for part in (_text(code), _text(message)) if part)
    reason = excerpt(said, _REASON, lambda text: redact(text, secrets_of(endpoint)))
    code = _text(code).lower()
    if _FULL.search(said):
        return "full", reason
    if _TOO_LARGE.search(said):
        return "too_large", reason
    if code in _DENIED_CODES or _NO_BATCHES.search(said):
        return "denied", reason
    return ("again" if code in _AGAIN_CODES else "invalid"), reason


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else str(value) if isinstance(value, int) else ""


_STATUSES = {
    # OpenAI's and Anthropic's types, and the names of google.rpc's codes
    "invalid_request_error": 400,
    "invalid_argument": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "permission_denied": 403,
    "not_found_error": 404,
    "not_found": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "resource_exhausted": 429,
    "api_error": 500,
    "internal": 500,
    "unavailable": 503,
    "timeout_error": 504,
    "overloaded_error": 529,
}

_RPC = {3: 400, 5: 404, 7: 403, 8: 429, 9: 400, 11: 400, 13: 500, 14: 503, 16: 401}
"""HTTP's statuses by the numbers of google.rpc's codes, as Gemini's results carry them."""


_RPC_NEVER_RUN: Mapping[str, Literal["cancelled", "expired"]] = {"1": "cancelled", "4": "expired"}
"""google.rpc's CANCELLED and DEADLINE_EXCEEDED: the row goes into another batch."""


def status_of(error: Mapping[str, Any]) -> int:
    """The HTTP status that the live endpoint would have sent with an error; 500 if the error does not tell."""
    for name in ("status_code", "code", "status", "type"):
        value = error.get(name)
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value[:9])
        if isinstance(value, int) and not isinstance(value, bool):
            if 400 <= value <= 599:
                return value
            if value in _RPC:
                return _RPC[value]
        elif isinstance(value, str) and value.lower() in _STATUSES:
            return _STATUSES[value.lower()]
    return 500


def never_run(error: Mapping[str, Any]) -> Literal["expired", "cancelled"] | None:
    """``expired`` or ``cancelled`` if an error says that the row was not run; else None.

    OpenAI and its like write ``batch_expired`` and ``batch_cancelled``, others spell them in other ways, or give the
    numbers of google.rpc's codes.
    """
    code = _text(error.get("code")).lower()
    if code in _RPC_NEVER_RUN:
        return _RPC_NEVER_RUN[code]
    if "expired" in code and "key" not in code and "token" not in code:
        return "expired"
    return "cancelled" if code.startswith(("batch_cancel", "cancel")) else None
