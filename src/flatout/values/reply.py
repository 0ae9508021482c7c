"""What a model answers: its text, its thought, the tools that it asks for, and its turn as a conversation goes on.

A model's turn is more than its text. Reasoning models want their thought back with the results of the tools that they
asked for, in the provider's own form and unchanged; so a Reply holds that form, and hands it on in its `message`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from flatout.text.shown import shown

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault  # so that a call without ``output`` needs no annotation

    OutputT = TypeVarWithDefault("OutputT", default=Any)
else:
    OutputT = TypeVar("OutputT")

Message = Mapping[str, Any]
"""One chat message as the field writes it: ``{"role": "user", "content": "…"}``."""

_AS_THEY_CAME = frozenset({"body", "headers", "native"})
"""What a Reply's repr leaves out, beside what is not there: it says the rest once more, and some servers repeat the key
in it."""

NATIVE = "native"
"""The entry of a message that holds the turn in the form of the provider that made it. Opaque to all others."""


class Usage(Struct, frozen=True, kw_only=True, gc=False, repr_omit_defaults=True):
    """Tokens as the provider counted them. None where it did not say.

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
"""JSON Schema takes 3.0 for an integer (draft 6 and later), and some providers write all numbers so."""


class ToolCall(Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    """A tool that the model asks for.

    Attributes:
        id: the provider's name for this request; what the tool returns is sent back under it.
        name: the tool's name.
        arguments: the JSON text exactly as the model wrote it.
        signature: what some providers want back with the tool's result, to go on with their reasoning; opaque.
    """

    id: str
    name: str
    arguments: str
    signature: str | None = None

    def parsed(self) -> Any:
        """The arguments as Python values; a whole number as an int, also where it was written as 3.0.

        Raises:
            ValueError: the model wrote no valid JSON.
        """
        return _ARGUMENTS.decode(self.arguments or "{}")

    def sendable(self) -> str:
        """The arguments as they can be sent back: not every provider takes some that are no JSON object."""
        try:
            return self.arguments if isinstance(self.parsed(), dict) and self.arguments else "{}"
        except (ValueError, RecursionError):
            return "{}"

    def entry(self) -> dict[str, Any]:
        """The tool call as an entry of a message's ``tool_calls``."""
        function = {"name": self.name, "arguments": self.sendable()}
        entry: dict[str, Any] = {"id": self.id, "type": "function", "function": function}
        return entry if self.signature is None else {**entry, "signature": self.signature}


class Reply(Struct, Generic[OutputT], frozen=True, kw_only=True, gc=False):
    """A provider's answer to one attempt.

    Attributes:
        text: the answer; "" when it consists of tool calls alone.
        reasoning: what the model thought before, as far as the provider shows it; "" when it shows nothing. Where the
            call asks for ``output``, also what stands in the text as ``<think>…</think>``.
        tool_calls: the tools that the model asks for.
        finish_reason: ``stop``, ``length``, ``tool_calls``, or the provider's own word.
        usage: tokens, as far as the provider told.
        output: the validated object, where the call asked for one; None where the model asked for tools instead.
        repaired: whether ``output`` was got out of an answer that was not quite JSON: fenced, amid prose, with a line
            break in a text or a comma too many, or cut off.
        service_tier: the tier that served it, where the provider told.
        model: the model that answered, as the provider names it.
        body: the answer as it came. `raw` is the same, decoded: kept as bytes because a hundred thousand kept
            answers, decoded, would keep the garbage collector busier than the calls.
        request_id: the provider's id for the request.
        headers: the answer's headers; look them up by lower-case names.
        native: the model's turn in its provider's own form, as JSON, where text and tool calls are not all of it;
            opaque, and a part of `message`.
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

    def __rich_repr__(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override]  # any iterable is what rich wants
        yield "text", self.text
        for name, default in zip(self.__struct_fields__[1:], self.__struct_defaults__, strict=True):
            value = getattr(self, name)
            if name not in _AS_THEY_CAME and value is not default:
                yield name, value

    def __repr__(self) -> str:
        return shown("Reply", self.__rich_repr__())

    @property
    def raw(self) -> Any:
        """The whole answer, decoded anew at each look; None when there is none."""
        return msgspec.json.decode(self.body) if self.body else None

    @property
    def message(self) -> Message:
        """The answer as the assistant's turn of a conversation, to be put into the next call's ``messages`` as it is.

        The provider that made it gets it back as it was made, reasoning and signatures included. Any other gets the
        text and the tool calls, and so does every one once these were changed. It is JSON, so it can be stored.
        """
        message: dict[str, Any] = {"role": "assistant", "content": self.text or (None if self.tool_calls else "")}
        if self.tool_calls:
            message["tool_calls"] = [asked.entry() for asked in self.tool_calls]
        if self.native:
            message[NATIVE] = {**msgspec.json.decode(self.native), "of": said_in(message)}
        return message


def said_in(message: Message) -> str:
    """A digest of what a turn says to all, by which a provider's own form of it is known to say the same still.

    Whoever cuts a turn short, or takes a name or a tool call out of it, would otherwise find it sent as it was.
    """
    said = message.get("content") or "", message.get("tool_calls") or ()
    try:
        kept = msgspec.json.encode(said, order="deterministic", enc_hook=repr)
    except (ValueError, TypeError, RecursionError):  # none that a Reply has made
        return ""
    return blake2b(kept, digest_size=16).hexdigest()
