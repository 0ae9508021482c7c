"""One request about batches, and the form that uploads a file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from email.message import Message
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from msgspec import Struct


class Refused(Exception):
    """A request is refused. Formats raise it with a body of their own.

    Attributes:
        status: the HTTP status.
        body: the error's JSON.
    """

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body


class BadBody(ValueError):
    """A body is not what it should be: a JSON object, or a form that uploads a file."""


class Ask(Struct, frozen=True):
    """One request about batches.

    Attributes:
        method: such as ``POST``.
        origin: the scheme and the host, as the client addresses them.
        path: the path, without a query.
        query: the query's parameters.
        headers: by lower-case names.
        body: the body.
    """

    method: str
    origin: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""

    @classmethod
    def of(cls, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Ask:
        parts = urlsplit(url)
        lower = {name.lower(): value for name, value in headers.items()}
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        return cls(method, f"{parts.scheme}://{parts.netloc}", unquote(parts.path), query, lower, body)

    @property
    def authorization(self) -> str:
        """The key, in whichever header or parameter it stands, as an Authorization header has it."""
        if (whole := self.headers.get("authorization")) is not None:
            return whole
        key = self.headers.get("x-api-key") or self.headers.get("x-goog-api-key") or self.query.get("key", "")
        return f"Bearer {key}" if key else ""

    @property
    def media_type(self) -> str:
        """The body's type, without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def json(self) -> dict[str, Any]:
        """The body as a JSON object.

        Raises:
            BadBody: it is none, or its headers say that it is something else.
        """
        if self.media_type != "application/json":
            raise BadBody(f"content-type is application/json, not {self.media_type!r}")
        return decode_object(self.body)

    def form(self) -> dict[str, Part]:
        """The fields of a form, by name.

        Raises:
            BadBody: the body is no form, or a field stands in it twice.
        """
        if self.media_type != "multipart/form-data":
            raise BadBody(f"content-type is multipart/form-data, not {self.media_type!r}")
        return _parts(self.body, _parameter(self.headers["content-type"], "boundary"))

    def related(self) -> tuple[bytes, bytes]:
        """The two parts of Google's uploads: what is said about a file, and the file.

        Raises:
            BadBody: the body has others.
        """
        if self.media_type != "multipart/related":
            raise BadBody(f"content-type is multipart/related, not {self.media_type!r}")
        parts = [data for _, data in _pieces(self.body, _parameter(self.headers["content-type"], "boundary"))]
        if len(parts) != 2:
            raise BadBody(f"an upload has two parts, not {len(parts)}")
        return parts[0], parts[1]


class Part(Struct, frozen=True):
    """One field of a form; a file has a name, too."""

    data: bytes
    filename: str | None = None

    @property
    def text(self) -> str:
        """The field as text."""
        return self.data.decode("utf-8", "replace")


def decode_object(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        BadBody: it is none.
    """
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.ValidationError:
        raise BadBody("not a JSON object") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise BadBody(f"not JSON: {problem}") from None


_DISPOSITION = re.compile(rb"content-disposition:\s*([^\r\n]+)", re.IGNORECASE)


def _pieces(body: bytes, boundary: str) -> Iterator[tuple[bytes, bytes]]:
    """The heads and the data of a multipart body's parts (RFC 2046): each delimiter stands at the start of a line."""
    delimiter = b"\r\n--" + boundary.encode()
    pieces = (b"\r\n" + body).split(delimiter)
    if len(pieces) < 3 or pieces[-1].strip() != b"--":
        raise BadBody("the form has no end")
    for piece in pieces[1:-1]:
        head, blank, data = piece.partition(b"\r\n\r\n")
        if not blank:
            raise BadBody("a part of the form has no head")
        yield head, data


def _parts(body: bytes, boundary: str) -> dict[str, Part]:
    """The fields of a form (RFC 7578)."""
    found: dict[str, Part] = {}
    for head, data in _pieces(body, boundary):
        disposition = _DISPOSITION.search(head)
        if disposition is None:
            raise BadBody("a part of the form has no Content-Disposition")
        told = disposition[1].decode("utf-8", "replace")
        name = _parameter(told, "name")
        if name in found:
            raise BadBody(f"{name!r} stands twice in the form")
        found[name] = Part(data, _parameter(told, "filename") if "filename" in told else None)
    return found


def _parameter(header: str, name: str) -> str:
    message = Message()
    message["content-type"] = header if "/" in header.partition(";")[0] else f"x/{header}"
    value = message.get_param(name)
    if not isinstance(value, str) or not value:
        raise BadBody(f"{name} is missing in {header!r}")
    return value
