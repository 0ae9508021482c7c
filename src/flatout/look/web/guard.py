"""Who may see the page: browsers on this machine that were sent to this address by their user, and nobody else.

The page has no password. So neither a web page elsewhere nor another user of this machine may get at it. A browser
names the host that it was asked for: a name that was made to point at this machine (DNS rebinding) is refused. It also
names the page that sends a request: one from another page is refused, unless the user only follows a link.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from socket import inet_aton

HOSTS = ("127.0.0.1", "localhost", "[::1]")

_READING = ("GET", "HEAD")
_OWN = ("same-origin", "none")
_CONNECTIONS = Path("/proc/net/tcp")
_USER = 7  # its column there
_NO_USER = "65534"  # a user whom this process cannot name: one outside its container


def refusal(method: str, path: str, headers: Mapping[bytes, bytes], port: int) -> tuple[HTTPStatus, str] | None:
    """Why a request is refused; None if it may be answered.

    Args:
        method: its method.
        path: its path.
        headers: its headers, by lower-case names.
        port: where the server listens.
    """
    if method not in _READING:
        return HTTPStatus.METHOD_NOT_ALLOWED, "this page can only be read"
    own = {f"{host}:{port}" for host in HOSTS} | (set(HOSTS) if port == 80 else set())
    host = headers.get(b"host", b"").decode("latin-1").lower()
    if host not in own:
        return HTTPStatus.MISDIRECTED_REQUEST, f"this page is at http://127.0.0.1:{port}/, and has no other name"
    origin = headers.get(b"origin", b"").decode("latin-1").lower()
    if origin and origin not in {f"http://{each}" for each in own}:
        return HTTPStatus.FORBIDDEN, "other pages cannot read this one"
    if path != "/" and headers.get(b"sec-fetch-site", b"none").decode("latin-1") not in _OWN:
        return HTTPStatus.FORBIDDEN, "other pages cannot read this one"
    return None


def user_of(client: tuple[str, int], port: int) -> int | None:
    """The user at the other end of a connection from this machine; None if the system does not tell.

    Linux lists its connections with their users. Reading the list takes milliseconds if there are thousands.

    Args:
        client: the client's address and port.
        port: where the server listens.
    """
    ends = [_as_listed(*client), _as_listed("127.0.0.1", port)]
    try:
        listed = _CONNECTIONS.read_text()
    except OSError:
        return None
    found = next((fields for fields in map(str.split, listed.splitlines()) if fields[1:3] == ends), None)
    return int(found[_USER]) if found is not None and found[_USER] != _NO_USER else None


def _as_listed(host: str, port: int) -> str:
    """An address as that list has it: in the machine's byte order."""
    return f"{int.from_bytes(inet_aton(host), sys.byteorder):08X}:{port:04X}"
