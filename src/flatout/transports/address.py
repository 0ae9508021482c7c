"""Turns a request's URL into where it goes and what its request line says."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

PORTS = {"http": 80, "https": 443}

UNIX = "http+unix"
"""The scheme of HTTP over a Unix socket. The socket's path is the host, percent-encoded: ``http+unix://%2Frun%2Fx/v1``."""

_AS_THEY_ARE = "!#$%&'()*+,/:;=?@[]~"
"""Characters that stay as they are in a path or query. "%" is one: the URL may be encoded already."""


class Origin(NamedTuple):
    """Where requests go: ``scheme`` is "http", "https" or `UNIX`, whose ``host`` is the socket's path."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return self.host if self.scheme == UNIX else f"{self.host}:{self.port}"


class Address(NamedTuple):
    """A URL in parts.

    Attributes:
        origin: where to connect.
        authority: the value of the ``Host`` header.
        path: the path and query, as the request line says them.
    """

    origin: Origin
    authority: str
    path: str


def address_of(url: str) -> Address:
    """The parts of a URL.

    Raises:
        ValueError: it is none that requests can be sent to.
    """
    parts = urlsplit(url)
    host = unquote(parts.netloc) if parts.scheme == UNIX else _ascii(parts.hostname or "")
    if not host or parts.scheme not in (*PORTS, UNIX) or "@" in parts.netloc:
        raise ValueError(f"not an http:// or https:// address: {url}")
    path = quote(parts.path or "/", safe=_AS_THEY_ARE)
    if parts.query:
        path += "?" + quote(parts.query, safe=_AS_THEY_ARE)
    if parts.scheme == UNIX:
        return Address(Origin(UNIX, host, 0), "localhost", path)
    port = parts.port if parts.port is not None else PORTS[parts.scheme]
    origin = Origin(parts.scheme, host, port)
    return Address(origin, _authority(origin), path)


def _authority(origin: Origin) -> str:
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    return host if origin.port == PORTS[origin.scheme] else f"{host}:{origin.port}"


def _ascii(host: str) -> str:
    return host if host.isascii() else host.encode("idna").decode()
