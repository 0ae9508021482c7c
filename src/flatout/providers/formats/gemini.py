"""Google's Gemini API, ``generateContent``.

Its messages are contents made of parts. The system prompt is separate, tool results carry the function's name as well
as the call's id, and most parameters are in ``generationConfig``.

Newer models sign their tool calls and want the signature back when the conversation continues. It is the ``signature``
of a `ToolCall`, and of an entry in a message's ``tool_calls``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from flatout import errors
from flatout.errors import InvalidRequest
from flatout.providers.schemas.structured import schema_of
from flatout.providers.tools import chosen_tool, function_of, tools_of
from flatout.providers.wire.answer import Answer, Fault, as_count, as_dict, as_dicts, as_text, tool_call, total
from flatout.providers.wire.messages import (
    Media,
    answered_call,
    arguments_of,
    conversation,
    is_system,
    media_of,
    parts_of,
    text_of,
    tool_calls_of,
)
from flatout.providers.wire.payload import is_list, shown, split_address, stop_list
from flatout.providers.wire.sse import ServerSentEvent
from flatout.providers.wire.stream import Assembly
from flatout.values import Call, Target, ToolCall, Usage

from .codec import JSONCodec

_LEVELS = ("minimal", "low", "medium", "high")

_BUDGETS = {"none": 0, "minimal": 1_024, "low": 1_024, "medium": 8_192, "high": 24_576}
"""Thinking tokens by ``reasoning_effort``, for models before Gemini 3. Google's OpenAI-compatible API uses the same."""

_UNSIGNED = "skip_thought_signature_validator"
"""The signature that Google documents for unsigned tool calls, from a conversation that began elsewhere."""

_MODES = {"auto": "AUTO", "required": "ANY", "none": "NONE"}

_REASONS = {"STOP": "stop", "MAX_TOKENS": "length"}

_FILTERED = frozenset({
    *("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "ESCALATION", "LANGUAGE"),
    *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"),
})  # fmt: skip

_MALFORMED = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE"})


class Gemini(JSONCodec):
    """Encodes calls as ``generateContent`` requests to one target, and decodes the answers.

    Raises:
        ConfigError: the endpoint has no address, or its key or a header cannot be sent in a header.
    """

    merged = frozenset({"generationConfig", "toolConfig"})
    translated = frozenset({"parallel_tool_calls"})

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        generation = re.search(r"gemini-(\d+)", target.model)
        self._signs = generation is not None and int(generation[1]) >= 3
        self._has_levels = generation is None or int(generation[1]) >= 3

    def _url(self, *, stream: bool) -> str:
        base, query = split_address(self._endpoint)
        model = self._model if "/" in self._model else f"models/{self._model}"
        url = f"{base}/{quote(model)}:{'streamGenerateContent' if stream else 'generateContent'}"
        query = "&".join(part for part in (query, "alt=sse" if stream else "") if part)
        return f"{url}?{query}" if query else url

    def _payload(self, call: Call, stream: bool) -> dict[str, Any]:
        if call.extra and call.extra.get("parallel_tool_calls") is False:
            raise InvalidRequest("parallel_tool_calls: gemini cannot be limited to one tool call at a time")
        payload: dict[str, Any] = {}
        system, payload["contents"] = self._conversation(call)
        if system:
            payload["systemInstruction"] = {"parts": [{"text": text} for text in system]}
        if config := self._config(call):
            payload["generationConfig"] = config
        if call.tools:
            payload["tools"] = _tools(tools_of(call.tools))
        if call.tool_choice is not None:
            payload["toolConfig"] = _choice(call.tool_choice)
        if call.service_tier is not None:
            payload["serviceTier"] = call.service_tier
        return payload

    def _config(self, call: Call) -> dict[str, Any]:
        named: dict[str, Any] = {
            "maxOutputTokens": call.max_tokens,
            "temperature": call.temperature,
            "topP": call.top_p,
            "seed": call.seed,
            "stopSequences": None if call.stop is None else stop_list(call.stop),
        }
        config = {name: value for name, value in named.items() if value is not None}
        if call.logprobs is not None and call.logprobs is not False:
            config["responseLogprobs"] = True
            if call.logprobs is not True:
                config["logprobs"] = call.logprobs
        if call.reasoning_effort is not None:
            config["thinkingConfig"] = self._thinking(call.reasoning_effort)
        if call.output is not None:
            config["responseMimeType"] = "application/json"
            config["responseJsonSchema"] = _bare_references(schema_of(call.output, None).schema)
        return config

    def _thinking(self, effort: Any) -> dict[str, Any]:
        known = _LEVELS if self._has_levels else tuple(_BUDGETS)
        if not isinstance(effort, str) or effort not in known:
            raise InvalidRequest(f"reasoning_effort: {self._model} knows {', '.join(known)}, not {shown(effort)}")
        return {"thinkingLevel": effort.upper()} if self._has_levels else {"thinkingBudget": _BUDGETS[effort]}

    def _conversation(self, call: Call) -> tuple[list[str], list[dict[str, Any]]]:
        system: list[str] = []
        turns: list[dict[str, Any]] = []
        names: dict[str, str] = {}
        for message in conversation(call, self._endpoint):
            role = message.get("role")
            if is_system(message):
                system.append(text_of(message.get("content"), "a system prompt"))
            elif role == "tool":
                _add(turns, "user", [_result(message, names)])
            elif role == "assistant":
                calls = tool_calls_of(message)
                names.update((each.id, each.name) for each in calls)
                _add(turns, "model", self._model_parts(message, calls))
            elif role == "user":
                _add(turns, "user", [_part(part) for part in parts_of(message.get("content"))])
            else:
                raise InvalidRequest(f"messages: gemini knows no role {shown(role)}")
        return [text for text in system if text], turns

    def _model_parts(self, message: Mapping[str, Any], calls: list[ToolCall]) -> list[Any]:
        """The parts of the model's turn, unchanged if this provider made it."""
        own = self._own_turn(message)
        if is_list(own):
            return list(own)
        return [_part(part) for part in parts_of(message.get("content"))] + self._function_calls(calls)

    def _function_calls(self, calls: list[ToolCall]) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = []
        for place, call in enumerate(calls):
            signature = call.signature
            part: dict[str, Any] = {"functionCall": {"id": call.id, "name": call.name, "args": arguments_of(call)}}
            if not signature and place == 0 and self._signs:
                signature = _UNSIGNED  # of several parallel calls, only the first one is signed
            if signature:
                part["thoughtSignature"] = signature
            parts.append(part)
        return parts

    def _read(self, call: Call, data: dict[str, Any]) -> Answer:
        candidates = as_dicts(data.get("candidates"))
        candidate = candidates[0] if candidates else {}
        parts = as_dicts(as_dict(candidate.get("content")).get("parts"))
        reason = as_text(candidate.get("finishReason"))
        calls = _tool_calls(parts)
        finish = _REASONS.get(reason, "content_filter" if reason in _FILTERED else reason) if reason else None
        return Answer(
            text=_texts(parts, thought=False),
            reasoning=_texts(parts, thought=True),
            tool_calls=calls,
            finish_reason="tool_calls" if calls and finish == "stop" else finish,
            usage=_usage(data.get("usageMetadata")),
            model=as_text(data.get("modelVersion")),
            turn=_turn(parts, calls),
            fault=_fault(data, candidate, reason),
        )

    def _assembly(self, call: Call) -> Assembly:
        return _Parts()


class _Parts:
    """Assembles the parts of a streamed answer. Only the first candidate counts."""

    def __init__(self) -> None:
        self.complete = False
        self._whole: dict[str, Any] = {}
        self._candidate: dict[str, Any] = {}
        self._parts: list[tuple[dict[str, Any], list[str]]] = []  # each part with the pieces of its text

    def add(self, event: ServerSentEvent, data: dict[str, Any]) -> str:
        self._whole.update((name, value) for name, value in data.items() if name != "candidates")
        if as_dict(data.get("promptFeedback")).get("blockReason"):
            self.complete = True
        candidates = as_dicts(data.get("candidates"))
        if not candidates:
            return ""
        candidate = candidates[0]
        self._candidate.update((name, value) for name, value in candidate.items() if name != "content")
        if candidate.get("finishReason"):
            self.complete = True
        return "".join(self._part(part) for part in as_dicts(as_dict(candidate.get("content")).get("parts")))

    def whole(self) -> dict[str, Any]:
        if not self._candidate and not self._parts:
            return dict(self._whole)
        parts = [{**part, "text": "".join(pieces)} if pieces else part for part, pieces in self._parts]
        return {**self._whole, "candidates": [{**self._candidate, "content": {"role": "model", "parts": parts}}]}

    def _part(self, part: dict[str, Any]) -> str:
        text = as_text(part.get("text"))
        if text is None:
            self._parts.append((part, []))
            return ""
        if self._parts and _continues(self._parts[-1], part):
            self._parts[-1][1].append(text)
        else:
            self._parts.append((part, [text]))
        return "" if part.get("thought") else text


def _continues(last: tuple[dict[str, Any], list[str]], part: dict[str, Any]) -> bool:
    """Whether a piece of text continues the part before it. A signed part has to stay separate."""
    before, pieces = last
    return (
        bool(pieces)
        and all(each.keys() <= _SPOKEN for each in (before, part))
        and (bool(before.get("thought")) == bool(part.get("thought")))
    )


# -- requests ---------------------------------------------------------------------------------------------------------


def _add(turns: list[dict[str, Any]], role: str, parts: list[Any]) -> None:
    """Add parts to the conversation. Its turns have to alternate, so parts of the same role are joined."""
    if turns and turns[-1]["role"] == role:
        turns[-1]["parts"].extend(parts)
    elif parts:
        turns.append({"role": role, "parts": parts})


def _part(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """A part of a message. A part without a type is passed on: it is Gemini's own."""
    kind = part.get("type")
    if kind is None:
        return part
    if kind in ("text", "refusal"):
        return {"text": part.get(kind)}
    media = media_of(part)
    if media is None:
        raise InvalidRequest(f"messages: gemini takes no part of type {shown(kind)}")
    return _media(media)


def _media(media: Media) -> dict[str, Any]:
    if media.data is not None:
        return {"inlineData": {"mimeType": media.mime, "data": media.data}}
    located: dict[str, Any] = {"fileUri": media.url or media.file_id}
    if media.mime:
        located["mimeType"] = media.mime
    return {"fileData": located}


def _result(message: Mapping[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """A tool's result. The answered call, or the result's own ``name``, tells which function it is from."""
    identity = answered_call(message)
    name = names.get(identity, message.get("name"))
    if not isinstance(name, str) or not name:
        raise InvalidRequest("messages: a tool's result answers no tool call of an earlier message, and has no name")
    text = text_of(message.get("content"), "a tool's result")
    try:
        result = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        result = text
    response = result if isinstance(result, dict) else {"result": result}
    return {"functionResponse": {"id": identity, "name": name, "response": response}}


def _tools(tools: list[Mapping[str, Any]]) -> list[Any]:
    """All functions as one tool, followed by Gemini's own tools."""
    functions: list[dict[str, Any]] = []
    others: list[Any] = []
    for tool in tools:
        function = function_of(tool)
        if function is None:
            others.append(tool)
            continue
        described = {name: function[name] for name in ("name", "description") if function.get(name)}
        if function.get("parameters"):
            described["parametersJsonSchema"] = _bare_references(function["parameters"])
        functions.append(described)
    return [*([{"functionDeclarations": functions}] if functions else []), *others]


def _choice(choice: Any) -> dict[str, Any]:
    if isinstance(choice, str) and choice in _MODES:
        return {"functionCallingConfig": {"mode": _MODES[choice]}}
    if name := chosen_tool(choice):
        return {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [name]}}
    if isinstance(choice, Mapping):
        return dict(choice)
    raise InvalidRequest(f"tool_choice: gemini takes auto, required, none or one function, not {shown(choice)}")


def _bare_references(schema: Any) -> Any:
    """A schema in which every ``$ref`` stands alone, as Gemini requires."""
    if isinstance(schema, Mapping):
        if isinstance(schema.get("$ref"), str):
            return {name: _bare_references(value) for name, value in schema.items() if str(name).startswith("$")}
        return {name: _bare_references(value) for name, value in schema.items()}
    return [_bare_references(item) for item in schema] if isinstance(schema, list | tuple) else schema


# -- answers ----------------------------------------------------------------------------------------------------------


_SPOKEN = frozenset({"text", "thought"})


def _texts(parts: list[dict[str, Any]], *, thought: bool) -> str:
    return "".join(as_text(part.get("text")) or "" for part in parts if bool(part.get("thought")) == thought)


def _turn(parts: list[dict[str, Any]], calls: tuple[ToolCall, ...]) -> list[dict[str, Any]] | None:
    """The parts as they were made; None if they are only text and tool calls.

    Any part may be signed, even the empty last part of a stream. A tool call gets the id that its result will name.
    """
    if all(part.keys() <= {"text", "functionCall"} for part in parts):
        return None
    left = iter(calls)
    turn: list[dict[str, Any]] = []
    for part in parts:
        function_call = as_dict(part.get("functionCall"))
        if as_text(function_call.get("name")):
            turn.append({**part, "functionCall": {**function_call, "id": next(left).id}})
        elif "functionCall" not in part:
            turn.append(part)
    return turn


def _tool_calls(parts: list[dict[str, Any]]) -> tuple[ToolCall, ...]:
    calls: list[ToolCall] = []
    for part in parts:
        function_call = as_dict(part.get("functionCall"))
        call = tool_call(function_call.get("id"), function_call.get("name"), function_call.get("args"), len(calls))
        if call is None:
            continue
        if signature := as_text(part.get("thoughtSignature")):
            call = msgspec.structs.replace(call, signature=signature)
        calls.append(call)
    return tuple(calls)


def _fault(data: dict[str, Any], candidate: dict[str, Any], reason: str | None) -> Fault | None:
    message = as_text(candidate.get("finishMessage"))
    more = f": {message}" if message else ""
    if not candidate:
        if blocked := as_text(as_dict(data.get("promptFeedback")).get("blockReason")):
            return errors.ContentFiltered, f"blocked the prompt ({blocked})"
        if not {"candidates", "usageMetadata", "promptFeedback"} & data.keys():
            return errors.ProtocolError, "sent JSON without candidates"
    if reason in _FILTERED:
        return errors.ContentFiltered, f"stopped the answer by its content filter ({reason}){more}"
    if reason in _MALFORMED:
        return errors.SchemaMismatch, f"reports that the model wrote an unusable tool call ({reason}){more}"
    if reason == "MISSING_THOUGHT_SIGNATURE":
        return errors.InvalidRequest, f"requires the signature of an earlier tool call, which is missing{more}"
    if reason in ("OTHER", "TOO_MANY_TOOL_CALLS"):
        return errors.ServerError, f"broke off the answer ({reason}){more}"
    return None


def _usage(data: Any) -> Usage:
    usage = as_dict(data)
    prompt = as_count(usage.get("promptTokenCount"))
    tools = as_count(usage.get("toolUsePromptTokenCount"))
    thoughts = as_count(usage.get("thoughtsTokenCount"))
    answer = as_count(usage.get("candidatesTokenCount"))
    everything = as_count(usage.get("totalTokenCount"))
    if answer is None and everything is not None and prompt is not None:  # Gemini leaves out a count of 0
        answer = max(0, everything - prompt - (tools or 0) - (thoughts or 0))
    return Usage(
        input_tokens=None if prompt is None else total(prompt, tools),
        output_tokens=total(answer, thoughts),
        cached_tokens=as_count(usage.get("cachedContentTokenCount")),
        reasoning_tokens=thoughts,
    )
