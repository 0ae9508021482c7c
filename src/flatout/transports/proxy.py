"""Proxies: which one the environment names for an address, and the tunnel through it.

A request for ``https`` goes through a tunnel (CONNECT). A request for ``http`` goes to the proxy itself, with the whole
address in its request line.
"""

from __future__ import annotations

import asyncio
import socket
from base64 import b64encode
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from flatout.errors import ConnectError
from flatout.policies.failures.decision import PROXY_REFUSED

from .address import UNIX

DEFAULT_PORT = 80

MAX_HEAD = 16 * 1024
"""The most bytes of a proxy's answer to CONNECT."""


class Proxy(NamedTuple):
    """An HTTP proxy. ``authorization`` is the header's value; None without a user in the proxy's address."""

    host: str
    port: int
    authorization: str | None

    def __repr__(self) -> str:
        return f"Proxy({self.host}:{self.port})"  # without the password


def proxy_for(scheme: str, host: str, port: int) -> Proxy | None:
    """The proxy that the environment names for an address; None if it is reached directly, as a Unix socket always is.

    It reads ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``, in lower case too.

    Raises:
        ConnectError: the proxy is of a kind that flatout does not use.
    """
    from urllib.request import getproxies, proxy_bypass

    if scheme == UNIX:
        return None
    named = getproxies()
    address = named.get(scheme) or named.get("all")
    shown = _shown(host)
    if not address or any(map(proxy_bypass, (host, shown, f"{shown}:{port}"))):
        return None
    return _proxy(address if "://" in address else f"http://{address}")


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _proxy(address: str) -> Proxy:
    parts = urlsplit(address)
    if parts.scheme != "http" or not parts.hostname:
        kind = f"{parts.scheme}://{parts.hostname or ''}"
        raise ConnectError(f"no usable proxy: {kind} (flatout uses proxies of the form http://…)", should_retry=False)
    return Proxy(parts.hostname, parts.port or DEFAULT_PORT, _basic(parts.username, parts.password))


def _basic(user: str | None, password: str | None) -> str | None:
    if user is None:
        return None
    return "Basic " + b64encode(f"{unquote(user)}:{unquote(password or '')}".encode()).decode()


async def open_tunnel(sock: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Ask a proxy for a tunnel to a host, over a connected socket.

    Raises:
        ConnectError: the proxy refused, or its answer is not valid HTTP.
        OSError: the connection broke.
    """
    loop = asyncio.get_running_loop()
    target = f"{_shown(host)}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"host: {target}"]
    if proxy.authorization is not None:
        lines.append(f"proxy-authorization: {proxy.authorization}")
    await loop.sock_sendall(sock, "\r\n".join([*lines, "", ""]).encode())
    head = b""
    while b"\r\n\r\n" not in head:
        more = await loop.sock_recv(sock, MAX_HEAD)
        head += more
        if not more or len(head) > MAX_HEAD:
            raise ConnectError(f"the proxy {proxy.host}:{proxy.port} closed the connection without an answer")
    _check(head, proxy, target)


def _check(head: bytes, proxy: Proxy, target: str) -> None:
    protocol, _, said = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    status, _, reason = said.partition(" ")
    if not protocol.startswith("HTTP/1.") or not status.isdecimal():
        raise ConnectError(f"the proxy {proxy.host}:{proxy.port} does not speak HTTP")
    if not 200 <= int(status) < 300:
        said = f"{status} {reason}".strip()
        retry = None if int(status) >= 500 else False
        text = f"the proxy {proxy.host}:{proxy.port} refused a connection to {target}: {said}"
        raise ConnectError(text, code=PROXY_REFUSED, should_retry=retry)
    if not head.endswith(b"\r\n\r\n"):  # the server speaks second: these bytes are not its own
        raise ConnectError(f"the proxy {proxy.host}:{proxy.port} sent more than its answer")
