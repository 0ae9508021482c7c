"""OpenAI's chat completions, the wire format that nearly every provider and server understands.

What differs between them is data in their `Endpoint`. Requests are built with care, since a wrong one costs a round
trip; answers are read leniently, since a surprising one may be paid for already. A 200 is not yet an answer: it may
hold an error, a refusal, half an answer or nothing, and each of those is an error by its own name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from msgspec import structs

from flatout import errors
from flatout.errors import CallError, ConfigError, InvalidRequest
from flatout.layer import Request, Response
from flatout.values import Call, Endpoint, Message, Reply, Target, ToolCall, Usage

from .failures import error_in_answer, error_of, request_id, unusable
from .problem import clean, decode_json, is_problem
from .structured import parse_output, response_format

_SAME_NAME = ("temperature", "top_p", "stop", "seed", "reasoning_effort", "service_tier", "tool_choice")
"""Parameters that a Call and the wire call alike."""


_AZURE_RESOURCE = re.compile(r"https://[\w-]+\.(?:openai|services\.ai|cognitiveservices)\.azure\.com")
"""Azure's portal shows the bare address of a resource, which is not yet an API."""


class OpenAIChat:
    """Encodes calls as chat completion requests to one target, and decodes the answers.

    Raises:
        ConfigError: the endpoint has no address, or its key or a header cannot be sent in a header.
    """

    def __init__(self, target: Target) -> None:
        self._endpoint = target.endpoint
        self._model = target.model
        self._url = _url(target)
        self._headers = MappingProxyType(_headers(target.endpoint))

    def encode(self, call: Call, /) -> Request:
        """The request for a call.

        Raises:
            InvalidRequest: a parameter cannot be sent as JSON, or asks for what a chat completion cannot do.
        """
        payload: dict[str, Any] = {"model": self._model, "messages": self._messages(call)}
        if not self._model:
            del payload["model"]  # a server of one model needs no name
        if call.max_tokens is not None:
            payload[self._endpoint.max_tokens_field] = call.max_tokens
        for name in _SAME_NAME:
            value = getattr(call, name)
            if value is not None:
                payload[name] = value
        if call.logprobs is not None and call.logprobs is not False:
            payload["logprobs"] = True
            if call.logprobs is not True:
                payload["top_logprobs"] = call.logprobs
        if call.tools:
            payload["tools"] = _tools(call.tools)
        if call.output is not None:
            payload["response_format"] = response_format(call.output, self_hosted=self._endpoint.self_hosted)
        if call.extra:
            payload.update(_extra(call.extra))
        return Request("POST", self._url, self._headers, _encode(payload))

    def decode(self, call: Call, response: Response, /) -> Reply:
        """The answer in a response.

        Raises:
            CallError: the response holds no usable answer. Where one was paid for, the error's ``reply`` has it.
        """
        if not 200 <= response.status < 300:
            raise error_of(response.status, response.headers, response.body, self._endpoint)
        data, body = self._object(response)
        choice = _first(data.get("choices"))
        message = _dict(choice.get("message"))
        reply = Reply(
            text=_text(message.get("content")),
            tool_calls=_tool_calls(message),
            finish_reason=_string(choice.get("finish_reason")),
            usage=_usage(data.get("usage")),
            model=_string(data.get("model")),
            body=body,
            request_id=request_id(response.headers),
            headers=response.headers,
        )
        error = self._error(call, response, reply, data, choice, message)
        if error is not None:
            raise error
        if call.output is not None and not reply.tool_calls:
            return structs.replace(reply, output=parse_output(call, reply))
        return reply

    def _messages(self, call: Call) -> list[Message]:
        if not _is_list(call.messages) and call.messages is not None:
            raise InvalidRequest(f"messages takes a list of dicts, not {type(call.messages).__name__}")
        messages = call.chat()
        system = self._endpoint.system
        if system is not None and not any(_is_system(message) for message in messages):
            messages.insert(0, {"role": "system", "content": system})
        return messages

    def _object(self, response: Response) -> tuple[dict[str, Any], bytes]:
        """The answer decoded, and its bytes, mended where they were not quite JSON."""
        body = response.body
        try:
            data = msgspec.json.decode(body)
        except (ValueError, RecursionError):
            data, body = self._lenient(response)
        if not isinstance(data, dict):
            text = f"sent JSON that is no answer: a {type(data).__name__}"
            raise unusable(errors.ProtocolError, text, response, self._endpoint)
        return data, body

    def _lenient(self, response: Response) -> tuple[Any, bytes]:
        try:
            data = decode_json(response.body)
            return data, msgspec.json.encode(data)
        except ValueError:
            kind = response.headers.get("content-type", "no content type")
            text = f"sent no JSON, or half of it ({len(response.body)} bytes, {kind})"
            raise unusable(errors.ProtocolError, text, response, self._endpoint) from None

    def _error(
        self,
        call: Call,
        response: Response,
        reply: Reply,
        data: dict[str, Any],
        choice: dict[str, Any],
        message: dict[str, Any],
    ) -> CallError | None:
        """What is wrong with a successful answer; None when nothing is."""
        for part in (data, choice):  # OpenRouter puts an upstream's failure into the choice
            if is_problem(part):
                return error_in_answer(part, response, self._endpoint, reply if _paid(reply) else None)
        if not choice and "choices" not in data:
            return unusable(errors.ProtocolError, "sent JSON without choices", response, self._endpoint)
        if refusal := _refusal(message):
            return self._unusable(errors.Refused, f"declined to answer: {refusal}", response, reply)
        return self._unfinished(call, response, reply)

    def _unfinished(self, call: Call, response: Response, reply: Reply) -> CallError | None:
        reason = reply.finish_reason
        blank = not reply.text.strip()
        if reason == "content_filter":
            return self._unusable(errors.ContentFiltered, "stopped the answer by its content filter", response, reply)
        if reason == "insufficient_system_resource":  # DeepSeek ran out of capacity in the middle
            return self._unusable(errors.Overloaded, "broke the answer off for want of capacity", response, reply)
        if reason in ("error", "abort"):  # OpenRouter; vLLM
            return self._unusable(errors.ServerError, "broke the answer off", response, reply)
        if reason == "length" and (blank or call.output is not None or reply.tool_calls):
            where = "before any text" if blank and not reply.tool_calls else "in the middle of the answer"
            return self._unusable(errors.Truncated, f"stopped at the token limit {where}", response, reply)
        if blank and not reply.tool_calls:
            return self._unusable(errors.EmptyAnswer, "sent neither text nor a tool call", response, reply)
        return None

    def _unusable(self, kind: type[CallError], text: str, response: Response, reply: Reply) -> CallError:
        return unusable(kind, text, response, self._endpoint, reply)


# -- requests ---------------------------------------------------------------------------------------------------------


def _url(target: Target) -> str:
    """Where the requests go. ``{model}`` in the address stands for the model (Azure's deployments)."""
    endpoint = target.endpoint
    base, _, query = endpoint.base_url.partition("?")
    if not base:
        raise ConfigError(f"{endpoint.name} needs a base_url: its address differs from account to account")
    url = base.rstrip("/").replace("{model}", quote(target.model, safe=""))
    if _AZURE_RESOURCE.fullmatch(url):
        url += "/openai/v1"
    if not url.endswith("/chat/completions"):
        url += "/chat/completions"
    query = "&".join(part for part in (query, urlencode(endpoint.query)) if part)
    return f"{url}?{query}" if query else url


def _headers(endpoint: Endpoint) -> dict[str, str]:
    headers = {"content-type": "application/json", "accept": "application/json", "user-agent": _user_agent()}
    if endpoint.api_key is not None:
        key = endpoint.api_key.reveal()
        name = endpoint.key_header.lower()
        headers[name] = f"Bearer {key}" if name == "authorization" else key
    headers.update((name.lower(), value) for name, value in endpoint.headers.items())
    for name, value in headers.items():
        if not (name.isascii() and value.isascii() and name.isprintable() and value.isprintable()):
            # The value stays untold: it may be the key, which often is pasted with a line break.
            raise ConfigError(f"{endpoint.name}: the header {name!r} holds a line break or a character beyond ASCII")
    return headers


@cache
def _user_agent() -> str:
    from importlib.metadata import PackageNotFoundError, version  # slow to import, and needed once

    try:
        return f"flatout/{version('flatout')}"
    except PackageNotFoundError:
        return "flatout"


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, Sequence) and not isinstance(value, str | bytes))


def _is_system(message: Any) -> bool:
    return isinstance(message, Mapping) and message.get("role") in ("system", "developer")


def _extra(extra: Any) -> Mapping[str, Any]:
    if not isinstance(extra, Mapping) or not all(isinstance(name, str) for name in extra):
        raise InvalidRequest("extra takes a dict of parameters by their names")
    if extra.get("stream"):
        raise InvalidRequest("extra.stream: flatout reads whole answers, so that none is taken half")
    return extra


def _tools(tools: Sequence[Any]) -> Sequence[Any]:
    if not _is_list(tools):
        raise InvalidRequest(f"tools takes a list of dicts, not {type(tools).__name__}")
    for tool in tools:
        if not isinstance(tool, Mapping):
            raise InvalidRequest(f"tools takes dicts as the provider defines them, not {type(tool).__name__}")
    return tools


def _plain(value: Any) -> Any:
    """What msgspec does not take by itself: mappings other than dicts, and subclasses such as numpy's numbers."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"a {type(value).__name__} has no form in JSON")


_encoder = msgspec.json.Encoder(enc_hook=_plain)


def _encode(payload: dict[str, Any]) -> bytes:
    try:
        body = _encoder.encode(payload)
    except (ValueError, TypeError, OverflowError, RecursionError):
        payload, body = _encode_each(payload)
    # msgspec writes NaN as null. Only a body with a null can hide one, so only such a body is searched.
    if b"null" in body:
        _refuse_nan(payload)
    return body


def _refuse_nan(payload: dict[str, Any]) -> None:
    for name, value in payload.items():
        try:
            finite = _is_finite(value)
        except RecursionError:
            raise InvalidRequest(f"{name} is nested too deeply") from None
        if not finite:
            raise InvalidRequest(f"{name} holds NaN or infinity, for which JSON has no form")


def _encode_each(payload: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Encode a payload that holds lone surrogates, with these replaced; or name what in it cannot be encoded."""
    cleaned: dict[str, Any] = {}
    for name, value in payload.items():
        try:
            cleaned[name] = clean(value)
            _encoder.encode(cleaned[name])
        except RecursionError:
            raise InvalidRequest(f"{name} is nested too deeply, or holds itself") from None
        except (ValueError, TypeError, OverflowError) as error:
            raise InvalidRequest(f"{name} cannot be sent as JSON: {error}") from None
    try:
        cleaned = clean(cleaned)
        return cleaned, _encoder.encode(cleaned)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidRequest(f"the parameters cannot be sent as JSON: {error}") from None


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(_is_finite(item) for item in value.values())
    if isinstance(value, str | bytes):
        return True
    if isinstance(value, Sequence | set | frozenset):
        return all(_is_finite(item) for item in value)
    return True


# -- answers ----------------------------------------------------------------------------------------------------------


def _text(content: Any) -> str:
    """The text of a message, also where it comes in parts (Mistral, and answers that reason in the open)."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part.get("text") if isinstance(part, dict) else part for part in content)
    return "".join(part for part in parts if isinstance(part, str))


def _refusal(message: dict[str, Any]) -> str:
    if refusal := _string(message.get("refusal")):
        return refusal
    parts = message.get("content")
    found = (
        (_string(part.get("refusal")) for part in parts if isinstance(part, dict)) if isinstance(parts, list) else ()
    )
    return next((refusal for refusal in found if refusal), "")


def _tool_calls(message: dict[str, Any]) -> tuple[ToolCall, ...]:
    asked = message.get("tool_calls")
    if isinstance(asked, list) and asked:
        calls = (_tool_call(item, index) for index, item in enumerate(asked) if isinstance(item, dict))
        return tuple(call for call in calls if call is not None)
    legacy = message.get("function_call")
    call = _tool_call({"function": legacy}, 0) if isinstance(legacy, dict) else None
    return () if call is None else (call,)


def _tool_call(item: dict[str, Any], index: int) -> ToolCall | None:
    function = _dict(item.get("function")) or _dict(item.get("custom"))
    name = _string(function.get("name"))
    if not name:
        return None
    arguments = function.get("arguments", function.get("input")) or ""
    if not isinstance(arguments, str):  # Ollama sends the object itself
        arguments = msgspec.json.encode(arguments).decode()
    return ToolCall(id=_string(item.get("id")) or f"call_{index}", name=name, arguments=arguments)


def _usage(data: Any) -> Usage:
    if not isinstance(data, dict):
        return Usage()
    answer = _count(data.get("completion_tokens"))
    prompt = _count(data.get("prompt_tokens"))
    reasoning = _count(_dict(data.get("completion_tokens_details")).get("reasoning_tokens"))
    cached = _count(_dict(data.get("prompt_tokens_details")).get("cached_tokens"))
    if cached is None:
        cached = _count(data.get("prompt_cache_hit_tokens"))  # DeepSeek
    if reasoning and _counted_beside(data, prompt, answer, reasoning):
        answer = (answer or 0) + reasoning
    return Usage(input_tokens=prompt, output_tokens=answer, cached_tokens=cached, reasoning_tokens=reasoning)


def _counted_beside(data: dict[str, Any], prompt: int | None, answer: int | None, reasoning: int) -> bool:
    """Whether reasoning is counted beside the answer instead of in it (xAI), which only the total shows."""
    total = _count(data.get("total_tokens"))
    return prompt is not None and answer is not None and total == prompt + answer + reasoning


def _paid(reply: Reply) -> bool:
    return reply.usage.input_tokens is not None or bool(reply.text.strip())


def _count(value: Any) -> int | None:
    """A count of tokens; None for what can be none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def _first(choices: Any) -> dict[str, Any]:
    return _dict(choices[0]) if isinstance(choices, list) and choices else {}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) else None
