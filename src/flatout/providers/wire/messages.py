"""Read a call's conversation, in the form of OpenAI's chat completions, for formats with another form.

It reads the field's common form (``role``, ``content`` as a string or parts, ``tool_calls``, role ``tool``) into small
values, so that each format only decides how to write them. An `Image` or a `File` counts as OpenAI's equivalent part.
Nothing is fetched: an address of an image or a file is passed on.
"""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Struct

from flatout.errors import InvalidRequest
from flatout.values import Call, Endpoint, Message, ToolCall
from flatout.values.attachments import Attachment

from .payload import is_list, shown

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Media(Struct, frozen=True, kw_only=True, gc=False):
    """An image, a file or a sound in a message: its bytes, its address, or the provider's id for it.

    Attributes:
        kind: ``image``, ``file`` or ``audio``.
        mime: its type; None if unknown.
        data: its bytes in base64.
        url: its address.
        file_id: the provider's id for an uploaded file.
        name: the file's name.
        detail: how closely to look at an image.
    """

    kind: str
    mime: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    name: str | None = None
    detail: str | None = None

    def text(self) -> str:
        """The data as text.

        Raises:
            InvalidRequest: it is not base64.
        """
        try:
            return base64.b64decode(self.data or "", validate=True).decode("utf-8", "replace")
        except ValueError:
            raise InvalidRequest(f"messages: the data of the {self.kind} is not base64") from None


def is_system(message: Any) -> bool:
    """Whether a message is a system prompt."""
    return isinstance(message, Mapping) and message.get("role") in ("system", "developer")


def conversation(call: Call, endpoint: Endpoint) -> list[Message]:
    """The call's messages, with the endpoint's system prompt if the call has none.

    Raises:
        InvalidRequest: the messages are not a list of dicts.
    """
    if call.messages is not None and not is_list(call.messages):
        raise InvalidRequest(f"messages takes a list of dicts, not {type(call.messages).__name__}")
    messages = call.chat()
    for message in messages:
        if not isinstance(message, Mapping):
            raise InvalidRequest(f"messages takes a list of dicts, not one with a {type(message).__name__}")
    if endpoint.system is not None and not any(map(is_system, messages)):
        messages.insert(0, {"role": "system", "content": endpoint.system})
    return messages


def parts_of(content: Any) -> list[Mapping[str, Any]]:
    """A message's content as a list of parts. Empty texts are left out, since providers refuse them.

    Raises:
        InvalidRequest: it is neither a string nor a list of parts.
    """
    if content is None:
        return []
    if isinstance(content, str | Attachment):
        content = [content]
    if not is_list(content):
        raise InvalidRequest(f"messages: content is a text or a list of parts, not a {type(content).__name__}")
    parts = [_typed(part) if isinstance(part, Attachment) else _spelt(part) for part in content]
    for part in parts:
        if not isinstance(part, Mapping):
            raise InvalidRequest(f"messages: a part of the content is a dict, not a {type(part).__name__}")
    return [part for part in parts if part.get("type") != "text" or part.get("text") != ""]


def spelt_out(message: Any) -> Any:
    """A message with its strings, images and files as OpenAI's parts; any other message unchanged."""
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, Attachment):
        content = [content]
    if content is None or not is_list(content) or not any(isinstance(part, str | Attachment) for part in content):
        return message
    return {**message, "content": [_spelt(part) for part in content]}


def text_of(content: Any, where: str) -> str:
    """Content that has to be text only, as one string.

    Raises:
        InvalidRequest: it holds something else; ``where`` names the place.
    """
    texts: list[str] = []
    for part in parts_of(content):
        text = part.get("text")
        if not isinstance(text, str):
            raise InvalidRequest(f"messages: {where} takes text alone, not a part of type {shown(part.get('type'))}")
        texts.append(text)
    return "\n".join(texts)


def media_of(part: Mapping[str, Any]) -> Media | None:
    """The image, file or sound in a part; None if the part has another type.

    The type of an address is only known from the part's ``media_type``.

    Raises:
        InvalidRequest: the part does not hold what its type says.
    """
    kind = part.get("type")
    if kind == "image_url":
        inner = part.get("image_url")
        inner = {"url": inner} if isinstance(inner, str) else inner
        stated, detail = _text(part, "media_type", kind), _text(inner, "detail", kind)
        return _located("image", _text(inner, "url", kind), "image/jpeg", stated, detail=detail)
    if kind == "file":
        inner, stated = part.get("file"), _text(part, "media_type", kind)
        name, file_id = _text(inner, "filename", kind), _text(inner, "file_id", kind)
        if file_id:
            return Media(kind="file", file_id=file_id, name=name)
        where = _text(inner, "file_data", kind) or _text(inner, "file_url", kind)
        usual = mimetypes.guess_type(name or "")[0] or "application/pdf"
        sort = "audio" if stated is not None and stated.startswith("audio/") else "file"
        return _located(sort, where, usual, stated, name=name)
    if kind == "input_audio":
        inner = part.get("input_audio")
        return Media(kind="audio", data=_text(inner, "data", kind), mime=f"audio/{_text(inner, 'format', kind)}")
    return None


def tool_calls_of(message: Message) -> list[ToolCall]:
    """The tool calls in an assistant's message.

    Raises:
        InvalidRequest: one has no name.
    """
    asked = message.get("tool_calls")
    if asked is None:
        return []
    if not is_list(asked):
        raise InvalidRequest(f"messages: tool_calls is a list, not a {type(asked).__name__}")
    calls: list[ToolCall] = []
    for index, item in enumerate(asked):
        if isinstance(item, ToolCall):
            calls.append(item)
            continue
        function = item.get("function") if isinstance(item, Mapping) else None
        if isinstance(function, ToolCall):
            calls.append(function)
            continue
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(item, Mapping) or not isinstance(function, Mapping) or not isinstance(name, str) or not name:
            raise InvalidRequest("messages: a tool call is a dict with a function that has a name")
        arguments = function.get("arguments") or ""
        if not isinstance(arguments, str):
            arguments = _encoded(arguments)
        identity, signature = item.get("id"), item.get("signature")
        calls.append(
            ToolCall(
                id=identity if isinstance(identity, str) else f"call_{index}",
                name=name,
                arguments=arguments,
                signature=signature if isinstance(signature, str) else None,
            )
        )
    return calls


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """A tool call's arguments as an object, for formats that do not take them as a string.

    Raises:
        InvalidRequest: they are not a JSON object.
    """
    try:
        arguments = call.parsed()
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise InvalidRequest(f"messages: the arguments of the tool call {call.name!r} are not a JSON object")
    return arguments


def answered_call(message: Message) -> str:
    """The id of the tool call that a ``tool`` message answers.

    Raises:
        InvalidRequest: it has none.
    """
    identity = message.get("tool_call_id")
    if not isinstance(identity, str) or not identity:
        raise InvalidRequest("messages: a tool's result needs the tool_call_id of the call that it answers")
    return identity


def short_id(identity: str) -> str:
    """An id in the form that all providers accept. Equal ids give equal results.

    A conversation may have begun at another provider, whose ids are longer or hold other characters.
    """
    if _ID.fullmatch(identity):
        return identity
    return "call_" + hashlib.sha256(identity.encode("utf-8", "replace")).hexdigest()[:24]


def _spelt(part: Any) -> Any:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return part.part if isinstance(part, Attachment) else part


def _typed(attachment: Attachment) -> Mapping[str, Any]:
    """An attachment as a part. For an address it adds the media type, for which OpenAI has no field."""
    if attachment.size is not None or attachment.media_type is None:
        return attachment.part
    return {**attachment.part, "media_type": attachment.media_type}


def _located(kind: str, where: str | None, usual: str, stated: str | None, **more: str | None) -> Media:
    """The media at an address, in a data: address, or in plain base64."""
    if not where:
        raise InvalidRequest(f"messages: a part with an {kind} has neither its data nor its address")
    head, comma, data = where[:200].partition(",")
    if not head.startswith("data:"):
        if kind == "image" or "://" in where[:20]:
            return Media(kind=kind, url=where, mime=stated, **more)
        return Media(kind=kind, mime=stated or usual, data=where, **more)
    if not comma:
        raise InvalidRequest("messages: a data: address has no data")
    data = where[len(head) + 1 :]
    mime, *options = head.removeprefix("data:").split(";")
    if "base64" not in options:
        data = base64.b64encode(unquote_to_bytes(data)).decode()
    return Media(kind=kind, mime=mime or usual, data=data, **more)


def _text(holder: Any, name: str, kind: Any) -> str | None:
    if not isinstance(holder, Mapping):
        raise InvalidRequest(f"messages: a part of type {shown(kind)} needs a dict under that name")
    value = holder.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"messages: {kind}.{name} is a text, not a {type(value).__name__}")
    return value


def _encoded(arguments: Any) -> str:
    try:
        return msgspec.json.encode(arguments).decode()
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidRequest(f"messages: a tool call's arguments cannot be sent as JSON: {str(error)[:100]}") from None
