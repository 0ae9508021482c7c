"""Anthropic's Messages API.

It takes the system prompt apart from the messages, tool results as parts of the user's turn, and always requires
``max_tokens``. Its structured outputs guarantee only schemas in the strict form, and no recursive ones. Any other
schema becomes a tool that the model has to call; the tool's arguments are then the answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flatout import errors
from flatout.errors import InvalidRequest
from flatout.providers.schemas.strict import ANTHROPIC
from flatout.providers.schemas.structured import Schema, is_recursive, schema_of
from flatout.providers.tools import chosen_tool, function_of, tools_of
from flatout.providers.wire.answer import Answer, Fault, as_count, as_dict, as_dicts, as_text, tool_call
from flatout.providers.wire.messages import (
    Media,
    answered_call,
    arguments_of,
    conversation,
    is_system,
    media_of,
    parts_of,
    short_id,
    tool_calls_of,
)
from flatout.providers.wire.payload import is_list, refuse, shown, split_address, stop_list
from flatout.providers.wire.stream import Assembly
from flatout.values import Call, Target, Usage

from .anthropic_stream import MessageBlocks
from .anthropic_turns import ANSWER_TOOL, answer_in, joined, thought_is_missing, turn_of
from .anthropic_usual import usage_of, usual
from .codec import JSONCodec

VERSION = "2023-06-01"
"""The version of the API, which every request names."""

MAX_TOKENS = 4_096
"""Answer tokens for a call without ``max_tokens``, which this API requires. The thinking budget is added to them."""

_BUDGETS = {"minimal": 1_024, "low": 2_048, "medium": 8_192, "high": 16_384, "xhigh": 24_576, "max": 24_576}
"""Thinking tokens by ``reasoning_effort``, for models that take a budget. The figures are flatout's own choice."""

_MODEL = re.compile(r"claude-(?:(\d+)(?:-(\d))?-[a-z]+|[a-z]+-(\d+)(?:-(\d{1,2})(?!\d))?)")

_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}

_CHOICES = {"auto": {"type": "auto"}, "required": {"type": "any"}, "none": {"type": "none"}}


class Anthropic(JSONCodec):
    """Encodes calls as Messages requests to one target, and decodes the answers.

    Raises:
        ConfigError: the endpoint has no address, or its key or a header cannot be sent in a header.
    """

    merged = frozenset({"output_config"})
    translated = frozenset({"parallel_tool_calls"})

    def __init__(self, target: Target) -> None:
        super().__init__(target, anthropic_version=VERSION)
        self._version = _version(target.model)

    def _url(self, *, stream: bool) -> str:
        base, query = split_address(self._endpoint)
        return f"{base}/messages?{query}" if query else f"{base}/messages"

    def _payload(self, call: Call, stream: bool) -> dict[str, Any]:
        refuse(call, "anthropic", seed="leave it out", logprobs="leave it out")
        system, messages = self._conversation(call)
        payload: dict[str, Any] = {"model": self._model, "max_tokens": call.max_tokens, "messages": messages}
        if system:
            payload["system"] = system
        for name in ("temperature", "top_p", "service_tier"):
            value = getattr(call, name)
            if value is not None:
                payload[name] = value
        if call.stop is not None:
            payload["stop_sequences"] = stop_list(call.stop)
        self._think(call, payload)
        if call.tools:
            payload["tools"] = [_tool(tool) for tool in tools_of(call.tools)]
        if call.tool_choice is not None:
            payload["tool_choice"] = _choice(call.tool_choice)
        if call.output is not None:
            self._ask_for(schema_of(call.output, ANTHROPIC), payload)
        if call.extra and call.extra.get("parallel_tool_calls") is False:
            _one_at_a_time(payload)
        if stream:
            payload["stream"] = True
        return payload

    def _think(self, call: Call, payload: dict[str, Any]) -> None:
        """Set how much to think, and how many tokens the answer may have."""
        effort: Any = call.reasoning_effort
        budget = 0
        if effort == "none":
            payload["thinking"] = {"type": "disabled"}
        elif effort is not None:
            if not isinstance(effort, str) or effort not in _BUDGETS:
                raise InvalidRequest(
                    f"reasoning_effort: anthropic knows none, {', '.join(_BUDGETS)}, not {shown(effort)}"
                )
            budget = _BUDGETS[effort]
            if self._version is None or self._version >= (4, 6):
                payload["thinking"] = {"type": "adaptive"}
                payload["output_config"] = {"effort": "low" if effort == "minimal" else effort}
            elif not thought_is_missing(payload["messages"]):
                payload["thinking"] = {"type": "enabled", "budget_tokens": _within(budget, call.max_tokens)}
        if call.max_tokens is None:
            payload["max_tokens"] = unasked_tokens(call)

    def _ask_for(self, schema: Schema, payload: dict[str, Any]) -> None:
        if self._takes_format(schema):
            described = {"type": "json_schema", "schema": schema.schema}
            payload["output_config"] = {**payload.get("output_config", {}), "format": described}
            return
        answer = {
            "name": ANSWER_TOOL,
            "description": "Gives the answer. Call it once, with the whole answer.",
            "input_schema": {"type": "object", **schema.schema},
        }
        tools = payload.setdefault("tools", [])
        tools.append(answer)
        if "tool_choice" not in payload:
            thinks = payload.get("thinking", {}).get("type") in ("enabled", "adaptive")
            forced = {"type": "tool", "name": ANSWER_TOOL} if len(tools) == 1 else {"type": "any"}
            payload["tool_choice"] = {"type": "auto"} if thinks else forced  # with thinking, no tool can be forced

    def _takes_format(self, schema: Schema) -> bool:
        known = self._version is None or self._version >= (4, 1)
        return known and schema.strict and not is_recursive(schema.schema)

    def _conversation(self, call: Call) -> tuple[Any, list[dict[str, Any]]]:
        """The system prompt (all system messages, joined if they are plain text), and the turns."""
        system: list[Any] = []
        turns: list[dict[str, Any]] = []
        for message in conversation(call, self._endpoint):
            if is_system(message):
                system.append(message)
                continue
            role = message.get("role")
            if role == "tool":
                _add_result(turns, message)
            elif role == "assistant":
                turns.append({"role": role, "content": self._model_content(message)})
            else:
                content = _content(message, [])
                if role == "user" and turns and _holds_results(turns[-1]):
                    turns[-1]["content"].extend(_as_blocks(content))
                else:
                    turns.append({"role": role, "content": content})
        # Only the last turn may be empty. A model that had nothing to add after a tool's result leaves an empty turn.
        turns = [turn for turn in turns if turn["content"] or turn["role"] != "assistant" or turn is turns[-1]]
        texts = [message.get("content") for message in system]
        if all(isinstance(text, str) for text in texts) and not any("cache_control" in message for message in system):
            return "\n\n".join(texts), turns
        return [block for message in system for block in _as_blocks(_content(message, []))], turns

    def _model_content(self, message: Mapping[str, Any]) -> Any:
        """The content of the model's turn, unchanged if this provider made it."""
        own = self._own_turn(message)
        return list(own) if is_list(own) else _content(message, _tool_uses(message))

    def _usual(self, body: bytes) -> Answer | None:
        return usual(body)

    def _read(self, call: Call, data: dict[str, Any]) -> Answer:
        blocks = as_dicts(data.get("content"))
        reason = as_text(data.get("stop_reason"))
        finish = _REASONS.get(reason, reason) if reason else None
        text = joined(blocks, "text")
        given = answer_in(blocks) if call.output is not None else None
        if given is not None:
            text, blocks = given
        tool_uses = [block for block in blocks if block.get("type") == "tool_use"]
        calls = [tool_call(b.get("id"), b.get("name"), b.get("input"), i) for i, b in enumerate(tool_uses)]
        tool_calls = tuple(call for call in calls if call is not None)
        return Answer(
            text=text,
            reasoning=joined(blocks, "thinking"),
            tool_calls=tool_calls,
            finish_reason="stop" if given is not None and finish == "tool_calls" and not tool_calls else finish,
            usage=_usage(data.get("usage")),
            model=as_text(data.get("model")),
            service_tier=as_text(as_dict(data.get("usage")).get("service_tier")),
            turn=turn_of(blocks, tool_calls),
            fault=_fault(data, reason),
        )

    def _may_be_silent(self, call: Call) -> bool:
        """After a tool's result the model may have nothing to add. Anthropic documents this under stop reasons, as
        "Empty responses with end_turn".
        """
        last = call.messages[-1] if call.messages else None
        if not isinstance(last, Mapping):
            return False
        return last.get("role") == "tool" or any(_is_result(part) for part in as_dicts(last.get("content")))

    def _assembly(self, call: Call) -> Assembly:
        return MessageBlocks(answer_tool=ANSWER_TOOL if call.output is not None else None)


# -- requests ---------------------------------------------------------------------------------------------------------


def _version(model: str) -> tuple[int, int] | None:
    """A model's version from its name (``claude-sonnet-4-5`` is 4.5); None if the name does not contain it."""
    match = _MODEL.search(model)
    if match is None:
        return None
    major, minor = (match[1], match[2]) if match[1] else (match[3], match[4])
    return int(major), int(minor or 0)


def unasked_tokens(call: Call) -> int:
    """The answer tokens, thinking included, that a call without ``max_tokens`` asks for."""
    return MAX_TOKENS + _BUDGETS.get(str(call.reasoning_effort), 0)


def _within(budget: int, most: int | None) -> int:
    """A thinking budget that leaves at least as many tokens for the answer. Thinking counts towards ``max_tokens``."""
    if most is None:
        return budget
    if most < 2 * _BUDGETS["minimal"]:
        raise InvalidRequest(
            f"reasoning_effort: this model thinks in 1,024 tokens or more; max_tokens={most} is too few"
        )
    return min(budget, int(most) // 2)


def _tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    function = function_of(tool)
    if function is None:
        return tool
    described: dict[str, Any] = {"name": function["name"]}
    if function.get("description"):
        described["description"] = function["description"]
    described["input_schema"] = function.get("parameters") or {"type": "object", "properties": {}}
    if function.get("strict"):
        described["strict"] = True
    if cache := tool.get("cache_control"):
        described["cache_control"] = cache
    return described


def _choice(choice: Any) -> dict[str, Any]:
    if isinstance(choice, str) and choice in _CHOICES:
        return dict(_CHOICES[choice])
    if name := chosen_tool(choice):
        return {"type": "tool", "name": name}
    if isinstance(choice, Mapping):
        return dict(choice)
    raise InvalidRequest(f"tool_choice: anthropic takes auto, required, none or one function, not {shown(choice)}")


def _one_at_a_time(payload: dict[str, Any]) -> None:
    """Allow only one tool call per turn. The API refuses this setting if there can be none."""
    choice = payload.get("tool_choice", {"type": "auto"})
    if "tools" in payload and choice.get("type") != "none":
        payload["tool_choice"] = {**choice, "disable_parallel_tool_use": True}


def _content(message: Mapping[str, Any], more: list[dict[str, Any]]) -> Any:
    """A message's content: a string if possible, blocks if needed."""
    content = message.get("content")
    if isinstance(content, str) and not more and "cache_control" not in message:
        return content
    blocks = [_block(part) for part in parts_of(content)] + more
    if blocks and "cache_control" in message:
        blocks[-1] = {**blocks[-1], "cache_control": message["cache_control"]}
    return blocks


def _as_blocks(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _block(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """A part of a message. A part of none of OpenAI's types is passed on: it is Anthropic's own."""
    if part.get("type") == "refusal":
        return {"type": "text", "text": part.get("refusal")}
    media = media_of(part)
    if media is None:
        return part
    if media.kind == "audio":
        raise InvalidRequest("messages: anthropic takes no audio; transcribe it first")
    block: dict[str, Any] = {"type": "image" if media.kind == "image" else "document", "source": _source(media)}
    if media.name and media.kind == "file":
        block["title"] = media.name
    if cache := part.get("cache_control"):
        block["cache_control"] = cache
    return block


def _source(media: Media) -> dict[str, Any]:
    if media.file_id:
        return {"type": "file", "file_id": media.file_id}
    if media.url:
        return {"type": "url", "url": media.url}
    if media.kind == "file" and media.mime and media.mime.startswith("text/"):
        return {"type": "text", "media_type": "text/plain", "data": media.text()}  # the only text type of the API
    return {"type": "base64", "media_type": media.mime, "data": media.data}


def _tool_uses(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "tool_use", "id": short_id(call.id), "name": call.name, "input": arguments_of(call)}
        for call in tool_calls_of(message)
    ]


def _add_result(turns: list[dict[str, Any]], message: Mapping[str, Any]) -> None:
    """Add a tool's result to the user's turn. All results of one round of calls have to be in the same turn."""
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": short_id(answered_call(message))}
    content = message.get("content")
    block["content"] = content if isinstance(content, str) else [_block(part) for part in parts_of(content)]
    if cache := message.get("cache_control"):
        block["cache_control"] = cache
    if turns and _holds_results(turns[-1]):
        turns[-1]["content"].append(block)
    else:
        turns.append({"role": "user", "content": [block]})


def _holds_results(turn: dict[str, Any]) -> bool:
    content = turn["content"]
    return turn["role"] == "user" and isinstance(content, list) and bool(content) and _is_result(content[0])


def _is_result(block: Any) -> bool:
    return isinstance(block, Mapping) and block.get("type") == "tool_result"


# -- answers ----------------------------------------------------------------------------------------------------------


def _fault(data: dict[str, Any], reason: str | None) -> Fault | None:
    if "content" not in data:
        return errors.ProtocolError, "sent JSON without content"
    if reason == "refusal":
        why = as_text(as_dict(data.get("stop_details")).get("explanation"))
        return errors.Refused, "declined to answer" + (f": {why}" if why else "")
    if reason == "pause_turn":
        return (
            errors.Truncated,
            "paused in the middle of its turn; send the turn back as the last message to continue it",
        )
    return None


def _usage(data: Any) -> Usage:
    usage = as_dict(data)
    return usage_of(
        as_count(usage.get("input_tokens")),
        as_count(usage.get("output_tokens")),
        cached=as_count(usage.get("cache_read_input_tokens")),
        written=as_count(usage.get("cache_creation_input_tokens")),
        reasoning=as_count(as_dict(usage.get("output_tokens_details")).get("thinking_tokens")),
    )
