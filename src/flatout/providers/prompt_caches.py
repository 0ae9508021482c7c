"""What providers take to cache the beginnings of prompts, and how a call says it.

Anthropic caches up to a marker (``cache_control``) on a block. OpenAI caches by itself; ``prompt_cache_key`` sends
calls with the same beginning to the same machine. From GPT-5.6 on it, too, caches only up to a marker
(``prompt_cache_breakpoint``), or else to the end of the last message, which no other row of a job has. The figures are
from both vendors' guides to prompt caching (November 2026). All other providers cache by themselves or not at all:
nothing is sent to them.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct, structs

from flatout.errors import InvalidRequest
from flatout.policies.prefixes import Beginning, Place, text_of
from flatout.values import Call, Message, Target

from .tools import tools_of
from .wire.messages import conversation, is_system
from .wire.payload import is_list

ANTHROPIC_LEAST = (
    (re.compile(r"opus-4-[56]|haiku-4-5"), 4_096),
    (re.compile(r"opus-4-7|haiku-3|3-haiku|3-5-haiku"), 2_048),
    (re.compile(r"(opus|fable|mythos)-5"), 512),
)
"""The fewest tokens that Anthropic caches, by model."""

LEAST = 1_024
"""The fewest tokens that are cached for all other models of Anthropic's, and for OpenAI's."""

MOST_MARKERS = 4
"""The most markers that Anthropic takes in a request."""

PER_MINUTE = 15
"""Calls a minute beyond which one of OpenAI's keys may lead to a machine without the cache."""

FIVE_MINUTES, HALF_AN_HOUR = 300.0, 1_800.0

_GPT = re.compile(r"gpt-(\d+)(?:\.(\d+))?")
_OWN = ("cache_control", "prompt_cache_breakpoint")
_OWN_OF_CALL = ("cache_control", "prompt_cache_key", "prompt_cache_options")


class CacheRules(Struct, frozen=True, kw_only=True):
    """How one target caches beginnings.

    Attributes:
        least: the fewest tokens of a beginning.
        lifetime: seconds that it lasts after its last use.
        marker: the field that ends it; "" if it needs none.
        most: the most markers that are worth setting.
        per_minute: calls a minute for one key; None if there are no keys.
    """

    least: int
    lifetime: float
    marker: str
    most: int
    per_minute: int | None


def rules_of(target: Target) -> CacheRules | None:
    """The rules of a target; None if nothing is to be sent to it."""
    kind = target.endpoint.prompt_cache
    if not kind:
        return None
    if kind == "cache_control":
        name = target.model.replace(".", "-")
        least = next((tokens for models, tokens in ANTHROPIC_LEAST if models.search(name)), LEAST)
        return CacheRules(least=least, lifetime=FIVE_MINUTES, marker=kind, most=MOST_MARKERS, per_minute=None)
    if kind == "breakpoints" and _takes_breakpoints(target.model):
        marker, lifetime = "prompt_cache_breakpoint", HALF_AN_HOUR
    else:
        marker, lifetime = "", FIVE_MINUTES
    return CacheRules(least=LEAST, lifetime=lifetime, marker=marker, most=1, per_minute=PER_MINUTE)


def _takes_breakpoints(model: str) -> bool:
    match = _GPT.search(model)
    return match is not None and (int(match[1]), int(match[2] or 0)) >= (5, 6)


class Prompt(NamedTuple):
    """A call's prompt as blocks of text, up to the first part that is not text.

    Attributes:
        blocks: the tools, then each message's role and its texts.
        head: what else must be equal for two prompts to share a beginning.
        messages: the conversation.
        spots: of each block, the message and the part of it that can carry a marker; None if it cannot.
    """

    blocks: list[str]
    head: Hashable
    messages: list[Message]
    spots: list[tuple[int, int] | None]


WHOLE = -1
"""In place of a part's number: the message's content is one text."""

RESULT = -2
"""In place of a part's number: a tool's result, which carries the marker itself."""


class PromptReader:
    """Reads the prompts of one target's calls, and marks them.

    Args:
        target: the target.
        rules: its rules.
    """

    def __init__(self, target: Target, rules: CacheRules) -> None:
        self._endpoint = target.endpoint
        self._rules = rules

    def read(self, call: Call) -> Prompt | None:
        """A call's prompt; None if it is too short, cannot be sent, or brings markers or a key of the user's own."""
        if call.prompt is not None and not call.tools and self._is_short(call):
            return None
        if call.extra and any(name in call.extra for name in _OWN_OF_CALL):
            return None
        try:
            tools = [] if call.tools is None else tools_of(call.tools)
            messages = conversation(call, self._endpoint)
            if _has_own(tools) or any(_has_own([message, *_parts(message)]) for message in messages):
                return None
            described = msgspec.json.encode(tools, enc_hook=repr).decode() if tools else ""
        except (InvalidRequest, ValueError, TypeError, RecursionError):
            return None  # the endpoint will say what is wrong
        head = tuple(map(_hashable, (call.output, call.tool_choice, call.reasoning_effort)))
        prompt = Prompt([described] if described else [], head, messages, [None] if described else [])
        for number, message in enumerate(messages):
            if not self._add(prompt, number, message):
                break
        return prompt

    def marked(self, call: Call, prompt: Prompt, shared: Sequence[Beginning], lane: int, /) -> Call:
        """The call with a marker at the end of each beginning, and with a key if there are keys.

        Its prompt then is a list of messages. A text with a beginning that ends within it is cut in two.

        Args:
            call: the call.
            prompt: its prompt.
            shared: the beginnings, the longest last.
            lane: which of the keys of the longest one it gets.
        """
        marker = self._rules.marker
        changes: dict[str, Any] = {}
        if marker and (cuts := self._cuts(prompt, [beginning.place for beginning in shared])):
            messages = list(prompt.messages)
            for number, parts in cuts.items():
                messages[number] = _cut(messages[number], parts, marker)
            changes = {"prompt": None, "system": None, "messages": messages}
        if self._rules.per_minute is not None:
            key = f"flatout-{_name(prompt, shared[-1])}-{lane}"
            options = {"prompt_cache_options": {"mode": "explicit"}} if marker and changes else {}
            changes["extra"] = {**(call.extra or {}), "prompt_cache_key": key, **options}
        return structs.replace(call, **changes)

    def _is_short(self, call: Call) -> bool:
        system = call.system if call.system is not None else self._endpoint.system
        return len(call.prompt or "") + len(system or "") < self._rules.least

    def _add(self, prompt: Prompt, number: int, message: Message) -> bool:
        """Add a message's blocks. Returns whether all of it is text."""
        role, content = message.get("role"), message.get("content")
        prompt.blocks.append(str(role))
        prompt.spots.append(None)
        if role == "assistant":  # its own form goes back to the provider unchanged
            prompt.blocks.append(repr(content) + repr(message.get("tool_calls")))
            prompt.spots.append(None)
            return True
        able = is_system(message) or role == "user"
        if isinstance(content, str):
            result = role == "tool" and self._rules.marker == "cache_control"
            prompt.blocks.append(content)
            prompt.spots.append((number, WHOLE) if able else (number, RESULT) if result else None)
            return True
        for place, part in enumerate(_parts(message)):
            text = part if isinstance(part, str) else part.get("text") if _is_text(part) else None
            if not isinstance(text, str):
                return False
            prompt.blocks.append(text)
            prompt.spots.append((number, place) if able else None)
        return True

    def _cuts(self, prompt: Prompt, places: Sequence[Place]) -> dict[int, dict[int, list[int]]]:
        """Where markers go: by message and part, after how many of its characters."""
        found: dict[int, dict[int, list[int]]] = {}
        for block, characters in places:
            while block >= 0 and not _can_end(prompt, block, characters):
                block -= 1
                characters = len(prompt.blocks[block])
            if block >= 0 and (spot := prompt.spots[block]) is not None:
                ends = found.setdefault(spot[0], {}).setdefault(spot[1], [])
                if characters not in ends:
                    ends.append(characters)
        return found


def _name(prompt: Prompt, beginning: Beginning) -> str:
    """A name for a beginning, which is the same in every process."""
    if beginning.name is None:
        text = repr(prompt.head) + text_of(prompt.blocks, beginning.place)
        beginning.name = blake2b(text.encode("utf-8", "replace"), digest_size=10).hexdigest()
    return beginning.name


def _can_end(prompt: Prompt, block: int, characters: int) -> bool:
    """Whether a marker can stand after this many characters of a block."""
    spot = prompt.spots[block]
    if spot is None or not characters:
        return False
    return spot[1] != RESULT or characters == len(prompt.blocks[block])


def _cut(message: Message, cuts: Mapping[int, list[int]], marker: str) -> Message:
    """A message with markers in it."""
    value = {"type": "ephemeral"} if marker == "cache_control" else {"mode": "explicit"}
    if RESULT in cuts:
        return {**message, marker: value}
    content = message["content"]
    parts: list[Any] = []
    for place, part in enumerate([content] if isinstance(content, str) else content):
        ends = cuts.get(WHOLE if isinstance(content, str) else place)
        if ends is None:
            parts.append(part)
            continue
        shape = {"type": "text"} if isinstance(part, str) else part
        text = part if isinstance(part, str) else part["text"]
        start = 0
        for end in sorted(ends):
            parts.append({**shape, "text": text[start:end], marker: value})
            start = end
        if start < len(text):
            parts.append({**shape, "text": text[start:]})
    return {**message, "content": parts}


def _parts(message: Message) -> Sequence[Any]:
    content: Any = message.get("content")
    return content if is_list(content) else ()


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text"


def _has_own(items: Sequence[Any]) -> bool:
    return any(isinstance(item, Mapping) and name in item for item in items for name in _OWN)


def _hashable(value: Any) -> Hashable:
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return value  # type: ignore[no-any-return]
