"""What the batch formats share: addresses, headers, forms, and reading an answer's JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from flatout.errors import ProtocolError
from flatout.lanes.batch.format import Line
from flatout.layer import Request, Response
from flatout.providers.failures.problem import decode_json
from flatout.providers.wire.payload import headers_of, split_address
from flatout.values import Endpoint
from flatout.values.secret import Secret, Veiled


class Server:
    """The requests to one endpoint. They carry its key.

    Args:
        endpoint: the endpoint.
        base: its address, if that of its batches is another than that of its calls.
        headers: headers that the format needs, with ``_`` for ``-``.

    Raises:
        ConfigError: the endpoint has no address, or its key or a header cannot be sent in a header.
    """

    def __init__(self, endpoint: Endpoint, base: str | None = None, /, **headers: str) -> None:
        usual, query = split_address(endpoint)
        self.endpoint = endpoint
        self._base = Secret(usual if base is None else base)
        self._query = Secret(query)  # it may hold a key
        self._headers = headers_of(endpoint, **headers)

    def request(
        self, method: str, path: str, body: bytes = b"", /, content: str = "application/json", **query: str | None
    ) -> Request:
        """A request.

        Args:
            method: of HTTP.
            path: what follows the address, with a slash; or a whole address.
            body: the body.
            content: its type.
            query: parameters of the address; None leaves one out.
        """
        return Request(method, self._url(path, query), Veiled({**self._headers, "content-type": content}), body)

    def form(self, path: str, fields: Mapping[str, str], filename: str, lines: Sequence[bytes], /) -> Request:
        """A request that uploads lines as a file of a form."""
        body, content = multipart(fields, filename, lines)
        return self.request("POST", path, body, content)

    def read(self, response: Response, /) -> dict[str, Any]:
        """The JSON object in an answer.

        Raises:
            ProtocolError: there is none.
        """
        try:
            data = decode_json(response.body)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise ProtocolError(f"{self.endpoint.name} answered a request about a batch with no JSON object")
        return data

    def identity(self, data: Mapping[str, Any], what: str = "its id", /, *, field: str = "id") -> str:
        """The provider's name for what an answer describes.

        Raises:
            ProtocolError: the answer has no such name.
        """
        found = data.get(field)
        if not isinstance(found, str) or not found:
            raise self.broken(what)
        return found

    def broken(self, said: str, /) -> ProtocolError:
        """The error for an answer that lacks what it must have."""
        return ProtocolError(f"{self.endpoint.name} answered a request about a batch without {said}")

    def _url(self, path: str, query: Mapping[str, str | None]) -> str:
        url = path if "://" in path else self._base.reveal() + path
        more = urlencode({name: value for name, value in query.items() if value is not None})
        joined = "&".join(part for part in (self._query.reveal(), more) if part)
        return f"{url}{'&' if '?' in url else '?'}{joined}" if joined else url


_BOUNDARY = "flatout-7f3c1e9a5d2b48c6a0e4"
"""Separates the parts of a form. No line of JSON begins with two hyphens, so none can be taken for it."""


def multipart(fields: Mapping[str, str], filename: str, lines: Sequence[bytes]) -> tuple[bytes, str]:
    """A form with fields and one file, and its content type. The file comes last: some servers read in order."""
    head = "".join(
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    head += (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n'
        "Content-Type: application/jsonl\r\n\r\n"
    )
    body = b"".join((head.encode(), *lines, f"\r\n--{_BOUNDARY}--\r\n".encode()))
    return body, f"multipart/form-data; boundary={_BOUNDARY}"


def related(metadata: Mapping[str, Any], lines: Sequence[bytes]) -> tuple[bytes, str]:
    """Google's form of an upload: a JSON part about the file, and the file; with the content type of both."""
    head = f"--{_BOUNDARY}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode() + encoded(metadata)
    head += f"\r\n--{_BOUNDARY}\r\nContent-Type: application/jsonl\r\n\r\n".encode()
    body = b"".join((head, *lines, f"\r\n--{_BOUNDARY}--\r\n".encode()))
    return body, f"multipart/related; boundary={_BOUNDARY}"


def row_of_openai(path: str) -> Callable[[Line], bytes]:
    """Writes rows as OpenAI's files have them; ``path`` is the endpoint that answers them."""
    before = b',"method":"POST","url":%b,"body":' % encoded(path)
    return lambda line: b'{"custom_id":%b%b%b}\n' % (encoded(line.key), before, line.body)


def segment(identity: str) -> str:
    """An id as one part of an address. Ids are the provider's, so they must not change where a request goes."""
    return quote(identity, safe="") if identity.strip(".") else quote(identity, safe="").replace(".", "%2E")


def encoded(value: Any) -> bytes:
    """A value of ours as JSON."""
    return msgspec.json.encode(value)


def seconds_of(value: Any) -> float | None:
    """A moment as Unix seconds: from a number (OpenAI), or from a date (all others); None if it is neither."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def named(*ids: Any) -> tuple[str, ...]:
    """The ids among the values: providers write null, an empty text or nothing if there is no file."""
    return tuple(dict.fromkeys(one for one in ids if isinstance(one, str) and one.strip()))
