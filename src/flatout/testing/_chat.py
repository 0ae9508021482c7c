"""A chat completion request as a simulated provider reads it, and the message that answers it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from random import Random
from statistics import NormalDist
from typing import Any

import msgspec
from msgspec import Struct

from . import _answers as answers
from ._answers import MARKERS, MESSAGE_TOKENS, ChatRequest, Rejection, fate
from ._messages import MessagesRequest, decode_messages
from ._prompt_cache import CacheUse, Piece, PromptCache, Scope, routed
from ._responses import decode_responses
from ._schemas import BadSchema, fitting, misfitting
from ._settings import ProviderSettings

Script = Callable[[dict[str, Any]], "str | dict[str, Any]"]
"""Returns the answer to a request body: its text, or the whole message (for example with ``tool_calls``)."""

_normal_quantile = NormalDist().inv_cdf
_P99 = _normal_quantile(0.99)
_SPREAD = math.log(4.0) / _P99  # spread of the length: its 99th percentile is four times the median
_encode = msgspec.json.Encoder().encode


class Written(Struct, gc=False):
    """A message, why it ended, its tokens, and whether it fits the request's schema."""

    message: dict[str, Any]
    finish: str
    tokens: int
    fits: bool = True


EMPTY = Written({"role": "assistant", "content": ""}, "stop", 0)


class Chat(Struct, gc=False):
    """A readable chat completion request, or one of another format in its form: Messages or Responses."""

    body: bytes
    request: ChatRequest
    mark: bytes
    prompt_tokens: int
    messages: MessagesRequest | None = None
    responses: bool = False
    use: CacheUse = CacheUse()

    @classmethod
    def of(cls, body: bytes) -> Chat:
        return cls._of(body, answers.decode_request(body))

    @classmethod
    def of_messages(cls, body: bytes) -> Chat:
        asked = decode_messages(body)
        return cls._of(body, asked.as_chat(), messages=asked)

    @classmethod
    def of_responses(cls, body: bytes) -> Chat:
        return cls._of(body, decode_responses(body).as_chat(), responses=True)

    @classmethod
    def _of(
        cls, body: bytes, request: ChatRequest, *, messages: MessagesRequest | None = None, responses: bool = False
    ) -> Chat:
        mark, tokens = answers.fingerprint(request.messages), answers.count_prompt(request.messages)
        return cls(body, request, mark, tokens, messages, responses)

    def cost(self, *, reserve: bool) -> int:
        """Tokens that are charged on admission. Anthropic does not charge what is read from the cache."""
        tokens = self.prompt_tokens - (self.use.read if self.messages is not None else 0)
        return max(tokens, self.request.token_cap or 0) if reserve else tokens

    def look(self, now: float, settings: ProviderSettings, organisation: str, cache: PromptCache) -> None:
        """Find out what the request takes from the prompt cache, and what it will put there."""
        scope: Scope = (organisation, self.request.model)
        if self.messages is not None:
            use = cache.marked(now, settings, scope, list(_pieces(self.messages.blocks())))
        else:
            pieces = list(_pieces(_blocks(self.request)))
            scope = cache.machine(now, settings, (*scope, self.request.prompt_cache_key or "", routed(pieces)))
            if settings.prompt_cache == "prefix":
                use = cache.unmarked(now, settings, scope, pieces)
            else:
                use = cache.marked(now, settings, scope, _with_implicit(self.request, pieces))
        read = min(use.read, self.prompt_tokens)
        self.use = CacheUse(read, min(use.written, self.prompt_tokens - read), use.writes)

    def marks(self) -> list[bytes]:
        """The marks that decide whether the prompt is refused every time."""
        return [self.mark]

    def problem(self, settings: ProviderSettings) -> Rejection | None:
        """Why the request gets a 400; None if it does not."""
        if not self.request.messages:
            return answers.bad_request("messages is empty")
        longest = settings.context_tokens
        if longest is not None and self.prompt_tokens > longest:
            return answers.too_long(longest, self.prompt_tokens, "the messages are")
        return None

    def write(self, settings: ProviderSettings, seed: int, script: Script | None) -> Written:
        """The answer.

        Raises:
            BadSchema: no answer can have the requested form.
        """
        request = self.request
        if script is not None:
            return _scripted(script(msgspec.json.decode(self.body)))
        if request.tool_choice is not None and (function := _function(request, self._random(seed))) is not None:
            arguments, fits = self._fitting(function.get("parameters") or {"type": "object"}, settings, seed)
            return _tool_call(f"call_{self.mark.hex()[:16]}", function["name"], arguments, fits)
        if request.response_format is not None and (schema := _schema(request.response_format)) is not None:
            return self._json(schema, settings, seed)
        tokens, finish = self._length(settings, seed), "stop"
        cap = request.token_cap
        if cap is not None and tokens > cap:
            tokens, finish = cap, "length"
        return Written({"role": "assistant", "content": answers.text_of(tokens, self.mark[:8].hex())}, finish, tokens)

    def _json(self, schema: Any, settings: ProviderSettings, seed: int) -> Written:
        text, fits = (
            self._fitting(schema, settings, seed)
            if schema
            else (_json_text({"answer": f"digest:{self.mark.hex()[:16]}"}), True)
        )
        tokens, finish, cap = answers.count_tokens(text), "stop", self.request.token_cap
        if cap is not None and tokens > cap:
            text, tokens, finish = text[: len(text) * cap // tokens], cap, "length"
        return Written({"role": "assistant", "content": text}, finish, tokens, fits)

    def _fitting(self, schema: Any, settings: ProviderSettings, seed: int) -> tuple[str, bool]:
        """JSON for a schema, and whether it fits; the fault ``schema`` decides."""
        value = fitting(schema, self._random(seed))
        fits = fate(self.mark, 24, seed) >= settings.faults.schema
        return _json_text(value if fits else misfitting(value)), fits

    def _length(self, settings: ProviderSettings, seed: int) -> int:
        median, p99 = settings.output_tokens, settings.output_tokens_p99
        if not median:
            return 0
        spread = _SPREAD if p99 is None else math.log(p99 / median) / _P99
        return max(1, round(median * math.exp(spread * _normal_quantile(fate(self.mark, 8, seed)))))

    def _random(self, seed: int) -> Random:
        """A random generator that is fixed for the conversation."""
        return Random(f"{seed} {self.mark.hex()}")


def _blocks(request: ChatRequest) -> Iterator[tuple[str, Any]]:
    """The blocks of a prompt in the order in which the model reads them, each with the role that it begins, or ""."""
    for tool in request.tools or ():
        yield "", tool
    if request.response_format is not None:
        yield "", request.response_format
    for message in request.messages:
        content = message.content
        for place, block in enumerate(content if isinstance(content, list) else [content]):
            yield "" if place else message.role, block


def _pieces(blocks: Iterable[tuple[str, Any]]) -> Iterator[Piece]:
    for role, block in blocks:
        marked = isinstance(block, dict) and any(block.get(name) for name in MARKERS)
        plain = block if isinstance(block, str) else answers.plain_content([block])
        plain = plain if isinstance(plain, str) else _encode(plain).decode()
        tokens = answers.count_tokens(plain) + (MESSAGE_TOKENS if role else 0)
        yield Piece(f"{role}\0{plain}" if role else plain, tokens, marked)


def _with_implicit(request: ChatRequest, pieces: list[Piece]) -> list[Piece]:
    """The pieces with the marker that OpenAI itself puts at the end of the latest message, unless it is told not to."""
    if (request.prompt_cache_options or {}).get("mode") == "explicit":
        return pieces
    return [*pieces[:-1], pieces[-1]._replace(marked=True)]


def _schema(form: Mapping[str, Any]) -> Any:
    """The schema that a ``response_format`` asks for: {} for any JSON, None for text."""
    if form.get("type") == "json_object":
        return {}
    if form.get("type") != "json_schema":
        return None
    described = form.get("json_schema")
    if not isinstance(described, Mapping) or not isinstance(described.get("schema"), Mapping):
        raise BadSchema("response_format: json_schema has no schema")
    return described["schema"]


def _function(request: ChatRequest, random: Random) -> Mapping[str, Any] | None:
    """The function that the request forces; None if the answer may be text."""
    choice = request.tool_choice
    offered = [function for tool in request.tools or () if (function := _named(tool)) is not None]
    if choice == "required":
        if not offered:
            raise BadSchema("tool_choice is required, but no tool is offered")
        return random.choice(offered)
    wanted = _named(choice) if isinstance(choice, Mapping) else None
    if wanted is None:
        return None
    for function in offered:
        if function["name"] == wanted["name"]:
            return function
    raise BadSchema("tool_choice names a tool that is not offered")


def _named(tool: Mapping[str, Any]) -> Mapping[str, Any] | None:
    function = tool.get("function")
    return function if isinstance(function, Mapping) and isinstance(function.get("name"), str) else None


def _tool_call(identity: str, name: str, arguments: str, fits: bool) -> Written:
    call = {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return Written(message, "tool_calls", answers.count_tokens(name + arguments), fits)


def _scripted(answer: str | dict[str, Any]) -> Written:
    message = {"content": answer} if isinstance(answer, str) else answer
    content = message.get("content")
    tokens = answers.count_tokens(content if isinstance(content, str) else repr(message))
    return Written({"role": "assistant", **message}, "tool_calls" if message.get("tool_calls") else "stop", tokens)


def _json_text(value: Any) -> str:
    try:
        return _encode(value).decode()
    except OverflowError as error:
        raise BadSchema(f"the schema cannot be followed: {error}") from error
