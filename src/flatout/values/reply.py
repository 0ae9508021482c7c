"""A model's answer: its text, its reasoning, the tools that it asks for, and its turn in the conversation.

A model's turn is more than its text. Reasoning models want their reasoning back together with the tool results, in the
provider's own form and unchanged. So a Reply holds that form, and its `message` passes it on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from flatout.text.shown import shown

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault  # so that a call without ``output`` needs no annotation

    OutputT = TypeVarWithDefault("OutputT", default=Any)
else:
    OutputT = TypeVar("OutputT")

Message = Mapping[str, Any]
"""One chat message as the field writes it: ``{"role": "user", "content": "…"}``."""

_NOT_SHOWN = frozenset({"body", "headers", "native"})
"""Fields that a Reply's repr leaves out, beside those with their defaults. They repeat the rest, and some servers
repeat the key in them."""

NATIVE = "native"
"""The entry of a message that holds the turn in the form of the provider that made it. Other providers ignore it."""


class Usage(Struct, frozen=True, kw_only=True, gc=False, repr_omit_defaults=True):
    """Tokens as the provider counted them; None if it did not report them.

    Attributes:
        input_tokens: the prompt, cached tokens included.
        output_tokens: the answer, reasoning included.
        cached_tokens: the part of the input that was read from the provider's prompt cache.
        cache_write_tokens: the part of the input that was written to it.
        reasoning_tokens: the part of the output that was reasoning.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None

    @property
    def total_tokens(self) -> int | None:
        """Input and output together; None unless both are known."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens + self.output_tokens


def _number(text: str) -> float:
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


_ARGUMENTS = msgspec.json.Decoder(float_hook=_number)
"""JSON Schema accepts 3.0 as an integer (draft 6 and later), and some providers write all numbers that way."""


class ToolCall(Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    """A tool that the model asks for.

    Attributes:
        id: the provider's id for this request. The tool's result is sent back under it.
        name: the tool's name.
        arguments: the JSON text exactly as the model wrote it.
        signature: opaque data that some providers want back with the tool's result, to continue their reasoning.
    """

    id: str
    name: str
    arguments: str
    signature: str | None = None

    def parsed(self) -> Any:
        """The arguments as Python values. A whole number is an int, even if it was written as 3.0.

        Raises:
            ValueError: the model wrote invalid JSON.
        """
        return _ARGUMENTS.decode(self.arguments or "{}")

    def sendable(self) -> str:
        """The arguments in a form that can be sent back. Some providers refuse any that are not a JSON object."""
        try:
            return self.arguments if isinstance(self.parsed(), dict) and self.arguments else "{}"
        except (ValueError, RecursionError):
            return "{}"

    def entry(self) -> dict[str, Any]:
        """The tool call as an entry of a message's ``tool_calls``."""
        function = {"name": self.name, "arguments": self.sendable()}
        entry: dict[str, Any] = {"id": self.id, "type": "function", "function": function}
        return entry if self.signature is None else {**entry, "signature": self.signature}


class Cached(Struct, frozen=True, kw_only=True, gc=False):
    """Where an answer from a cache comes from.

    Attributes:
        at: when the model gave it, in Unix seconds; None if unknown.
        cost: US dollars that it cost then; None if unknown.
    """

    at: float | None = None
    cost: float | None = None


class Reply(Struct, Generic[OutputT], frozen=True, kw_only=True, gc=False):
    """A provider's answer to one attempt.

    Attributes:
        text: the answer; "" if it consists only of tool calls.
        reasoning: the model's reasoning before it, as far as the provider shows it; "" if it shows none. If the call
            asks for ``output``, it includes any ``<think>…</think>`` from the text.
        tool_calls: the tools that the model asks for.
        finish_reason: ``stop``, ``length``, ``tool_calls``, or the provider's own word.
        usage: tokens, as far as the provider reported them.
        output: the validated object, if the call asked for one; None if the model asked for tools instead.
        repaired: whether ``output`` was recovered from not quite valid JSON: fenced, amid prose, with a raw line break
            in a string, with a trailing comma, or cut off.
        service_tier: the tier that served the call, if the provider reported it.
        model: the model that answered, as the provider names it.
        body: the answer's bytes as they came; `raw` decodes them. b"" in a result, unless the client keeps them
            (``keep_raw``): they are most of what a hundred thousand results would hold.
        request_id: the provider's id for the request.
        headers: the answer's headers; look them up by lower-case names. Empty in a result, like ``body``.
        native: the model's turn in its provider's own form, as JSON, if there is more to it than text and tool calls.
            It is opaque, and a part of `message`.
        cached: where it comes from, if it comes from a cache and nothing was sent; ``usage`` is then that of the time.
    """

    text: str
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    usage: Usage = Usage()
    output: OutputT = None  # type: ignore[assignment]  # not there where nothing asks for it, and then it is Any
    repaired: bool = False
    service_tier: str | None = None
    model: str | None = None
    body: bytes = b""
    request_id: str | None = None
    headers: Mapping[str, str] = {}
    native: bytes = b""
    cached: Cached | None = None

    def __rich_repr__(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override]  # any iterable is what rich wants
        yield "text", self.text
        for name, default in zip(self.__struct_fields__[1:], self.__struct_defaults__, strict=True):
            value = getattr(self, name)
            if name not in _NOT_SHOWN and value is not default:
                yield name, value

    def __repr__(self) -> str:
        return shown("Reply", self.__rich_repr__())

    @property
    def raw(self) -> Any:
        """The whole answer, decoded anew at each access; None if it was not kept."""
        return msgspec.json.decode(self.body) if self.body else None

    @property
    def message(self) -> Message:
        """The answer as the assistant's turn of a conversation. Put it into the next call's ``messages`` unchanged.

        The provider that made the turn gets it back as it was made, reasoning and signatures included. Any other
        provider gets the text and the tool calls; so does every provider after you change either. The message is plain
        JSON, so it can be stored.
        """
        message: dict[str, Any] = {"role": "assistant", "content": self.text or (None if self.tool_calls else "")}
        if self.tool_calls:
            message["tool_calls"] = [asked.entry() for asked in self.tool_calls]
        if self.native:
            message[NATIVE] = {**msgspec.json.decode(self.native), "of": said_in(message)}
        return message


def without_raw(reply: Reply[OutputT]) -> Reply[OutputT]:
    """A reply without what it repeats: the answer as it came, and its headers."""
    return replace(reply, body=b"", headers=_NOT_KEPT)


_NOT_KEPT: Mapping[str, str] = {}
"""One for all replies: an empty dict takes 64 bytes."""


def said_in(message: Message) -> str:
    """A digest of what a turn says, to notice later whether its text or tool calls have changed.

    Without it, if a user cut a turn short, or removed a name or a tool call from it, the provider's own form of the
    turn would still be sent unchanged.
    """
    said = message.get("content") or "", message.get("tool_calls") or ()
    try:
        kept = msgspec.json.encode(said, order="deterministic", enc_hook=repr)
    except (ValueError, TypeError, RecursionError):  # no Reply has made such a message
        return ""
    return blake2b(kept, digest_size=16).hexdigest()
