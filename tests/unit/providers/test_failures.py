"""Every status and body of the providers' facts: the class it stands for, and what is done about it."""

# ruff: noqa: E501 (a row a line is what makes the table readable)

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout import errors
from flatout.errors import CallError
from flatout.policies.failures.decision import Decision, decide
from flatout.providers.failures.naming import error_of
from flatout.values import Endpoint
from flatout.values.secret import Secret

RETRY, THROTTLE, OVERLOADED, STOP, FAIL = (
    Decision.RETRY,
    Decision.THROTTLE,
    Decision.OVERLOADED,
    Decision.STOP_TARGET,
    Decision.FAIL,
)

KEY = "sk-proj-Zx81hhTTqq-secret/+="
ENDPOINT = Endpoint(name="somewhere", base_url="https://api.example.com/v1", api_key=Secret(KEY))


def openai(message: str = "no", code: Any = None, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic(kind: str, message: str = "no") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_a"}


def gemini(code: int, status: str, message: str = "no", *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def quota(name: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": name}]}


RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.07s"}

ROWS: list[tuple[str, int, Any, dict[str, str], type[CallError], Decision]] = [
    # Statuses alone
    *((f"bare {s}", s, "", {}, errors.InvalidRequest, FAIL) for s in (400, 410, 413, 418, 422)),
    *((f"bare {s}", s, "", {}, errors.InvalidRequest, STOP) for s in (404, 405)),
    *((f"bare {s}", s, "", {}, errors.AuthenticationError, STOP) for s in (401, 403, 407)),
    ("bare 402", 402, "", {}, errors.QuotaExhausted, STOP),
    ("bare 429", 429, "", {}, errors.RateLimited, THROTTLE),
    *((f"bare {s}", s, "", {}, errors.Overloaded, OVERLOADED) for s in (498, 503, 529)),
    *(
        (f"bare {s}", s, "", {}, errors.ServerError, RETRY)
        for s in (408, 409, 424, 499, 500, 502, 504, *range(520, 528), 599)
    ),
    *((f"redirect {s}", s, "", {"location": "/x"}, errors.ProtocolError, FAIL) for s in (301, 302, 307, 308)),
    # Paths that do not exist
    ("path fastapi", 404, {"detail": "Not Found"}, {}, errors.InvalidRequest, STOP),
    ("path page", 404, "<html><title>404 Not Found</title></html>", {}, errors.InvalidRequest, STOP),
    ("path text", 404, "404 page not found", {}, errors.InvalidRequest, STOP),
    ("path json", 404, {"path": "/x"}, {}, errors.InvalidRequest, STOP),
    ("path spring", 404, {"status": 404, "error": "Not Found", "path": "/x"}, {}, errors.InvalidRequest, STOP),
    ("path openai", 404, openai("Invalid URL (POST /chat/completions)"), {}, errors.InvalidRequest, STOP),
    ("path groq", 404, openai("Unknown request URL: POST /v1/x.", "unknown_url"), {}, errors.InvalidRequest, STOP),
    ("path anthropic", 404, anthropic("not_found_error", "Not Found"), {}, errors.InvalidRequest, STOP),
    ("method", 405, {"detail": "Method Not Allowed"}, {}, errors.InvalidRequest, STOP),
    ("a file", 404, openai("No such File object: file-1", None), {}, errors.InvalidRequest, FAIL),
    ("a file by code alone", 404, {"error": {"code": "file_gone"}}, {}, errors.InvalidRequest, FAIL),
    ("a file in a detail", 404, {"detail": "File 5 not found"}, {}, errors.InvalidRequest, FAIL),
    ("a 404 in a 200", 200, {"error": {"code": 404, "message": "Not Found"}}, {}, errors.InvalidRequest, FAIL),
    # OpenAI
    ("openai rate", 429, openai("Rate limit reached", "rate_limit_exceeded", "tokens"), {}, errors.RateLimited, THROTTLE),
    ("openai flex", 429, openai("Resource unavailable. Please try again later.", "resource_unavailable"), {}, errors.Overloaded, OVERLOADED),
    ("openai flex, in prose", 429, openai("The requested resource is currently unavailable", None), {}, errors.Overloaded, OVERLOADED),
    ("openai slow_down", 429, openai("Slow down", "slow_down"), {}, errors.RateLimited, THROTTLE),
    ("openai slow_down 503", 503, openai("Slow down", "slow_down"), {}, errors.RateLimited, THROTTLE),
    *(
        (f"openai {code}", 429, openai("You exceeded your current quota", code, code), {}, errors.QuotaExhausted, STOP)
        for code in (
            "insufficient_quota",
            "credit_balance_exhausted",
            "organization_spend_limit_exceeded",
            "project_spend_limit_exceeded",
            "organization_usage_limit_exceeded",
        )
    ),
    (
        "openai prompt above TPM",
        429,
        openai("Request too large for gpt-5 on tokens per min (TPM): Limit 30000, Requested 35000", "rate_limit_exceeded"),
        {},
        errors.InvalidRequest,
        FAIL,
    ),
    ("openai key", 401, openai("Incorrect API key provided: sk-abc", "invalid_api_key"), {}, errors.AuthenticationError, STOP),
    ("openai context", 400, openai("too long", "context_length_exceeded"), {}, errors.ContextTooLong, FAIL),
    ("openai schema", 400, openai("Invalid schema for response_format", None), {}, errors.InvalidRequest, FAIL),
    ("openai model", 404, openai("The model `x` does not exist", "model_not_found"), {}, errors.InvalidRequest, STOP),
    ("openai model 403", 403, openai("Project `p` does not have access to model `x`", "model_not_found"), {}, errors.InvalidRequest, STOP),
    ("openai prompt filter", 400, openai("violates our usage policy", "invalid_prompt"), {}, errors.ContentFiltered, FAIL),
    ("openai region", 403, openai("Country not supported", "unsupported_country_region_territory"), {}, errors.AuthenticationError, STOP),
    ("openai busy", 503, openai("The engine is currently overloaded", None, "server_error"), {}, errors.Overloaded, OVERLOADED),
    ("openai 500", 500, openai("The server had an error", None, "server_error"), {}, errors.ServerError, RETRY),
    # x-should-retry
    ("do not retry a 500", 500, openai(), {"x-should-retry": "false"}, errors.ServerError, FAIL),
    ("do not retry a 429", 429, openai(), {"x-should-retry": "false"}, errors.RateLimited, FAIL),
    ("retry a 400", 400, openai(), {"x-should-retry": "true"}, errors.InvalidRequest, RETRY),
    ("a 429 stays a throttle", 429, openai(), {"x-should-retry": "true"}, errors.RateLimited, THROTTLE),
    ("no retry mends a key", 401, openai(), {"x-should-retry": "true"}, errors.AuthenticationError, STOP),
    ("no retry mends a quota", 429, openai("", "insufficient_quota"), {"x-should-retry": "true"}, errors.QuotaExhausted, STOP),
    ("a wrong key stops all", 401, openai(), {"x-should-retry": "false"}, errors.AuthenticationError, STOP),
    ("garbage in x-should-retry", 500, openai(), {"x-should-retry": "maybe"}, errors.ServerError, RETRY),
    # Azure
    ("azure rate", 429, {"error": {"code": "429", "message": "exceeded call rate limit. Please retry after 6 seconds."}}, {}, errors.RateLimited, THROTTLE),
    ("azure filter", 400, {"error": {"code": "content_filter", "message": "no", "innererror": {"code": "ResponsibleAIPolicyViolation"}, "status": 400}}, {}, errors.ContentFiltered, FAIL),
    ("azure filter, inner only", 400, {"error": {"code": None, "message": "no", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, {}, errors.ContentFiltered, FAIL),
    ("azure deployment", 404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}}, {}, errors.InvalidRequest, STOP),
    ("azure url", 404, {"error": {"code": "404", "message": "Resource not found"}}, {}, errors.InvalidRequest, STOP),
    ("azure gateway key", 401, {"statusCode": 401, "message": "Access denied due to invalid subscription key"}, {}, errors.AuthenticationError, STOP),
    # Anthropic
    ("anthropic rate", 429, anthropic("rate_limit_error"), {}, errors.RateLimited, THROTTLE),
    ("anthropic spend", 429, {"type": "error", "error": {"type": "rate_limit_error", "message": "no", "code": "enforced_spend_limit_reached"}}, {}, errors.QuotaExhausted, STOP),
    ("anthropic usage limits", 400, anthropic("invalid_request_error", "You have reached your specified API usage limits. You will regain access on 2026-12-01."), {}, errors.QuotaExhausted, STOP),
    ("anthropic credit", 400, anthropic("invalid_request_error", "Your credit balance is too low to access the Anthropic API."), {}, errors.QuotaExhausted, STOP),
    ("anthropic billing", 402, anthropic("billing_error"), {}, errors.QuotaExhausted, STOP),
    ("anthropic overloaded", 529, anthropic("overloaded_error", "Overloaded"), {}, errors.Overloaded, OVERLOADED),
    ("anthropic overloaded as 500", 500, anthropic("overloaded_error", "Overloaded"), {}, errors.Overloaded, OVERLOADED),
    ("anthropic api_error", 500, anthropic("api_error"), {}, errors.ServerError, RETRY),
    ("anthropic timeout", 504, anthropic("timeout_error"), {}, errors.ServerError, RETRY),
    ("anthropic key", 401, anthropic("authentication_error", "invalid x-api-key"), {}, errors.AuthenticationError, STOP),
    ("anthropic permission", 403, anthropic("permission_error"), {}, errors.AuthenticationError, STOP),
    ("anthropic model", 404, anthropic("not_found_error", "model: claude-x"), {}, errors.InvalidRequest, STOP),
    ("anthropic other 404", 404, anthropic("not_found_error", "File not found"), {}, errors.InvalidRequest, FAIL),
    ("anthropic long", 400, anthropic("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"), {}, errors.ContextTooLong, FAIL),
    ("anthropic large", 413, anthropic("request_too_large", "Request exceeds the maximum size"), {}, errors.InvalidRequest, FAIL),
    ("anthropic filter", 400, anthropic("invalid_request_error", "Output blocked by content filtering policy"), {}, errors.ContentFiltered, FAIL),
    # Gemini
    ("gemini minute", 429, gemini(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan and billing details.", quota("GenerateRequestsPerMinutePerProjectPerModel"), RETRY_INFO), {}, errors.RateLimited, THROTTLE),
    ("gemini day", 429, gemini(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota", quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"), RETRY_INFO), {}, errors.QuotaExhausted, STOP),
    ("gemini in a list", 429, [gemini(429, "RESOURCE_EXHAUSTED", "q", quota("xPerDay"))], {}, errors.QuotaExhausted, STOP),
    ("gemini key", 400, gemini(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", {"reason": "API_KEY_INVALID"}), {}, errors.AuthenticationError, STOP),
    ("gemini context", 400, gemini(400, "INVALID_ARGUMENT", "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."), {}, errors.ContextTooLong, FAIL),
    ("gemini model", 404, gemini(404, "NOT_FOUND", "models/foo is not found for API version v1beta, or is not supported"), {}, errors.InvalidRequest, STOP),
    ("gemini busy", 503, gemini(503, "UNAVAILABLE", "The model is overloaded."), {}, errors.Overloaded, OVERLOADED),
    ("gemini denied", 403, gemini(403, "PERMISSION_DENIED"), {}, errors.AuthenticationError, STOP),
    # Groq
    ("groq rate", 429, openai("Rate limit reached ... on tokens per minute (TPM): Limit 6000, Used 5900", "rate_limit_exceeded", "tokens"), {"retry-after": "2"}, errors.RateLimited, THROTTLE),
    ("groq flex", 498, openai("Flex tier capacity exceeded", "flex_tier_capacity_exceeded"), {}, errors.Overloaded, OVERLOADED),
    ("groq flex, in a throttle's words", 498, openai("Flex tier capacity exceeded", "rate_limit_exceeded"), {}, errors.Overloaded, OVERLOADED),
    ("groq 413", 413, openai("Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested 12000", "rate_limit_exceeded", "tokens"), {}, errors.InvalidRequest, FAIL),
    ("groq 413, in other words", 413, openai("Please reduce your message size", "rate_limit_exceeded", "tokens"), {}, errors.InvalidRequest, FAIL),
    # Mistral
    ("mistral rate", 429, {"message": "Requests rate limit exceeded"}, {}, errors.RateLimited, THROTTLE),
    ("mistral key", 401, {"detail": "Unauthorized"}, {}, errors.AuthenticationError, STOP),
    ("mistral validation", 422, {"object": "error", "message": {"detail": [{"type": "missing", "loc": ["body", "messages"], "msg": "Field required"}]}, "type": "invalid_request_error"}, {}, errors.InvalidRequest, FAIL),
    ("mistral model", 400, {"object": "error", "message": "Invalid model: foo", "type": "invalid_model", "code": "1500"}, {}, errors.InvalidRequest, STOP),
    ("mistral context", 400, {"object": "error", "message": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length", "type": "invalid_request_error"}, {}, errors.ContextTooLong, FAIL),
    # Together, Fireworks
    ("together rate", 429, openai("You are above your dynamic rate limit", None, "dynamic_request_limited"), {}, errors.RateLimited, THROTTLE),
    ("together capacity", 503, openai("The server is overloaded", None, "service_unavailable"), {}, errors.Overloaded, OVERLOADED),
    ("together credit", 402, openai("Credit limit exceeded", None, "credit_limit"), {}, errors.QuotaExhausted, STOP),
    ("together context", 422, openai("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193"), {}, errors.ContextTooLong, FAIL),
    ("together model", 404, openai("Unable to access model x", "model_not_available"), {}, errors.InvalidRequest, STOP),
    ("fireworks model", 404, openai("Model not found, inaccessible, and/or not deployed", "NOT_FOUND"), {}, errors.InvalidRequest, STOP),
    # OpenRouter
    ("openrouter 402", 402, openai("Insufficient credits", 402), {}, errors.QuotaExhausted, STOP),
    ("openrouter 402 with a wait", 402, openai("Insufficient credits", 402), {"retry-after": "3"}, errors.QuotaExhausted, RETRY),
    ("openrouter moderation", 403, {"error": {"code": 403, "message": "Input was flagged", "metadata": {"reasons": ["violence"], "flagged_input": "x"}}}, {}, errors.ContentFiltered, FAIL),
    ("openrouter moderation in words", 403, {"error": {"code": 403, "message": "openai/gpt requires moderation"}}, {}, errors.ContentFiltered, FAIL),
    ("openrouter key limit", 403, {"error": {"code": 403, "message": "Key limit exceeded (total limit)"}}, {}, errors.QuotaExhausted, STOP),
    ("openrouter model", 400, {"error": {"code": 400, "message": "foo/bar is not a valid model ID"}}, {}, errors.InvalidRequest, STOP),
    ("openrouter no endpoint", 404, {"error": {"code": 404, "message": "No endpoints found for foo/bar."}}, {}, errors.InvalidRequest, STOP),
    ("openrouter upstream", 502, {"error": {"code": 429, "message": "Provider returned error", "metadata": {"raw": "slow", "provider_name": "x"}}}, {}, errors.RateLimited, THROTTLE),
    # DeepSeek, xAI
    ("deepseek balance", 402, openai("Insufficient Balance", "invalid_request_error", "unknown_error"), {}, errors.QuotaExhausted, STOP),
    ("deepseek model", 400, openai("Model Not Exist", "invalid_request_error"), {}, errors.InvalidRequest, STOP),
    ("xai key", 400, {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: xa***zz."}, {}, errors.AuthenticationError, STOP),
    ("xai model", 404, {"code": "Some resource was not found", "error": "The model grok-x does not exist or your team does not have access to it."}, {}, errors.InvalidRequest, STOP),
    ("xai credits", 403, {"code": "no", "error": "Your team has either used all available credits or reached its monthly spending limit."}, {}, errors.QuotaExhausted, STOP),
    ("xai context", 400, {"code": "no", "error": "This model's maximum prompt length is 131072 but the request contains 140000 tokens."}, {}, errors.ContextTooLong, FAIL),
    # Bedrock
    ("bedrock throttle", 429, {"message": "Too many requests"}, {"x-amzn-errortype": "ThrottlingException:http://x"}, errors.RateLimited, THROTTLE),
    ("bedrock throttle in the body", 400, {"__type": "com.amazon.coral#ThrottlingException", "message": "Rate exceeded"}, {}, errors.RateLimited, THROTTLE),
    ("bedrock not ready", 429, {"message": "no"}, {"x-amzn-errortype": "ModelNotReadyException"}, errors.Overloaded, OVERLOADED),
    ("bedrock timeout", 408, {"message": "no"}, {"x-amzn-errortype": "ModelTimeoutException"}, errors.ServerError, RETRY),
    ("bedrock model error", 424, {"message": "no"}, {"x-amzn-errortype": "ModelErrorException"}, errors.ServerError, RETRY),
    ("bedrock quota", 400, {"message": "no"}, {"x-amzn-errortype": "ServiceQuotaExceededException"}, errors.QuotaExhausted, STOP),
    ("bedrock token", 403, {"message": "expired"}, {"x-amzn-errortype": "ExpiredTokenException"}, errors.AuthenticationError, STOP),
    ("bedrock model", 400, {"message": "The provided model identifier is invalid."}, {"x-amzn-errortype": "ValidationException"}, errors.InvalidRequest, STOP),
    # Servers of one's own
    ("vllm context", 400, {"object": "error", "message": "This model's maximum context length is 4096 tokens. However, you requested 5000.", "type": "BadRequestError", "code": 400}, {}, errors.ContextTooLong, FAIL),
    ("vllm model", 404, {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404}, {}, errors.InvalidRequest, STOP),
    ("vllm full", 503, "", {}, errors.Overloaded, OVERLOADED),
    ("llama.cpp loading", 503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, {}, errors.Overloaded, OVERLOADED),
    ("llama.cpp context", 400, {"error": {"code": 400, "message": "the request exceeds the available context size", "type": "exceed_context_size_error"}}, {}, errors.ContextTooLong, FAIL),
    ("llama.cpp context, older", 500, {"error": {"code": 500, "message": "the request exceeds the available context size. try increasing it", "type": "server_error"}}, {}, errors.ContextTooLong, FAIL),
    ("ollama model", 404, {"error": 'model "llama9" not found, try pulling it first'}, {}, errors.InvalidRequest, STOP),
    ("ollama text", 400, {"error": "invalid temperature"}, {}, errors.InvalidRequest, FAIL),
    ("fastapi", 422, {"detail": [{"loc": ["body", "temperature"], "msg": "Input should be less than 2", "type": "x"}]}, {}, errors.InvalidRequest, FAIL),
    # Gateways
    ("html 502", 502, "<html><head><title>502 Bad Gateway</title></head></html>", {}, errors.ServerError, RETRY),
    ("cloudflare 524", 524, "<!DOCTYPE html><title>A timeout occurred</title>", {}, errors.ServerError, RETRY),
    ("firewall", 403, "<html><title>Attention Required!</title></html>", {}, errors.InvalidRequest, FAIL),
    ("plain text", 503, "upstream connect error", {}, errors.Overloaded, OVERLOADED),
    ("gateway's inner code", 500, {"error": {"message": "litellm.RateLimitError", "type": "None", "code": "429"}}, {}, errors.RateLimited, THROTTLE),
]  # fmt: skip


def made(status: int, body: Any, headers: dict[str, str] | None = None) -> CallError:
    raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return error_of(status, headers or {}, raw, ENDPOINT)


@pytest.mark.parametrize(("name", "status", "body", "headers", "kind", "todo"), ROWS, ids=[row[0] for row in ROWS])
def test_class_and_verdict(
    name: str, status: int, body: Any, headers: dict[str, str], kind: type[CallError], todo: Decision
) -> None:
    """A failure would be retried for ever, stop a whole run, or be given up, wrongly."""
    error = made(status, body, headers)
    assert (type(error), decide(error)) == (kind, todo), str(error)
    assert error.status == status


def test_message_is_one_clear_sentence() -> None:
    """A user would read a wall of JSON, or nothing, instead of the provider's own words."""
    assert str(made(400, openai("Bad\n  things"))) == "somewhere answered 400: Bad things"
    assert (
        str(made(502, "<html><title>502 Bad Gateway</title>"))
        == "somewhere answered 502 with a web page: 502 Bad Gateway"
    )
    assert str(made(500, "")) == "somewhere answered 500: no explanation"
    assert (
        str(made(422, {"detail": [{"loc": ["body", "n"], "msg": "too big"}]}))
        == "somewhere answered 422: body.n: too big"
    )
    assert str(made(502, {"error": {"message": "Provider returned error", "metadata": {"raw": "cold"}}})).endswith(
        ": cold"
    )
    assert len(str(made(400, openai("x" * 5000)))) <= 300


def test_details_are_kept() -> None:
    """Support asks for the request id, and the wait that was asked for would be ignored."""
    error = made(429, gemini(429, "RESOURCE_EXHAUSTED", "slow", RETRY_INFO))
    assert error.retry_after == pytest.approx(34.07)
    error = made(
        529, anthropic("overloaded_error"), {"request-id": "req_h", "retry-after": "7", "x-should-retry": "true"}
    )
    assert (error.request_id, error.retry_after, error.should_retry) == ("req_h", 7.0, True)
    assert made(529, anthropic("overloaded_error")).request_id == "req_a"
    assert made(429, openai("", "insufficient_quota")).code == "insufficient_quota"
    assert made(404, {"error": "model 'x' not found"}).code == "model_not_found"
    assert made(404, {"error": {"code": "DeploymentNotFound", "message": "x"}}).code == "DeploymentNotFound"
    assert len(made(400, "y" * 10_000).body or "") == 2_000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["error", "message", "code", "type", "detail", "details", "status", "metadata", "raw", "loc",
                         "violations", "quotaId", "retryDelay", "innererror", "request_id", "reasons", "msg"])
        | st.text(max_size=5),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=200)
@given(
    status=st.integers(100, 999),
    body=st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()),
    headers=st.dictionaries(
        st.sampled_from(
            ["retry-after", "retry-after-ms", "date", "x-should-retry", "x-amzn-errortype", "x-request-id"]
        ),
        st.text(max_size=12),
    ),
)
def test_anything_makes_a_call_error(status: int, body: bytes, headers: dict[str, str]) -> None:
    """A surprising body would crash the run instead of failing one call."""
    error = error_of(status, headers, body, ENDPOINT)
    assert isinstance(error, CallError)
    assert type(error) is not CallError
    assert isinstance(decide(error), Decision)
    assert str(error)
    assert error.code is None or isinstance(error.code, str)
    assert error.request_id is None or isinstance(error.request_id, str)


@settings(max_examples=150)
@given(
    key=st.text("abcXYZ0189-_./+=\"'\\", min_size=8, max_size=40),
    status=st.sampled_from([400, 401, 404, 429, 500, 302]),
    before=st.text(max_size=10) | st.integers(1_900, 2_100).map(lambda n: "x" * n),
    shape=st.integers(0, 4),
)
def test_the_key_is_in_no_error(key: str, status: int, before: str, shape: int) -> None:
    """A provider that echoes the key would have it printed, logged and stored."""
    endpoint = Endpoint(name="somewhere", base_url="https://api.example.com/v1", api_key=Secret(key))
    text = f"{before}{key} {key}{key} Bearer {key}"
    shapes: list[Any] = [
        openai(text, text),
        {"error": text, "code": text},
        {"detail": text},
        text,
        anthropic(text, text),
    ]
    body = shapes[shape].encode() if isinstance(shapes[shape], str) else json.dumps(shapes[shape]).encode()
    headers = {"x-request-id": text, "x-echo": text, "authorization": f"Bearer {key}", "set-cookie": key}
    error = error_of(status, headers, body, endpoint)
    for where in (
        str(error),
        error.body or "",
        str(error.code),
        str(error.request_id),
        *(error.headers or {}).values(),
    ):
        assert key not in where
    assert key not in repr(error)
    assert json.dumps(key)[1:-1] not in (error.body or "")


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ({"key_env": "FLATOUT_API_KEY"}, "s answered 401 (no key was sent: FLATOUT_API_KEY is not set): wrong API key"),
        ({}, "s answered 401 (no key was sent): wrong API key"),
        ({"key_env": "X", "api_key": Secret(KEY)}, "s answered 401: wrong API key"),
        ({"key_env": "X", "headers": {"authorization": "Bearer x"}}, "s answered 401: wrong API key"),
    ],
    ids=["a variable", "none to look for", "a key", "a header of the user's"],
)
def test_a_key_that_is_missing_is_not_called_wrong(endpoint: dict[str, Any], said: str) -> None:
    """A user would look for the mistake in a key that was never read, since its variable is another one."""
    error = error_of(401, {}, b'{"error": "wrong API key"}', Endpoint(name="s", base_url="https://s/v1", **endpoint))
    assert str(error) == said
