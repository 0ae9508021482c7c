"""Who may use the gateway.

On this machine, without keys, programs of this machine may. A browser may not be used against its user: it names the
page that sends a request, and the host that it was asked for. So requests of web pages are refused, and so is a name
that was made to point at this machine (DNS rebinding). With local keys, whoever has one may.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from .callers import Allowed
from .keys import Keyring

HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})

_KEYS = (b"x-api-key", b"api-key", b"x-goog-api-key")

ANYBODY = "anybody"
"""The name of callers that send no key."""


class Denied(Exception):
    """The request is refused, for what it is, and not for a failure.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Guard:
    """Looks at each request before anything else does.

    Args:
        keyring: the local keys.
        remote: whether other machines can connect. Then a key is needed even if all were removed.
    """

    def __init__(self, keyring: Keyring, *, remote: bool) -> None:
        self._keyring = keyring
        self._remote = remote

    def check_host(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse what a web page sends to a gateway on this machine.

        Raises:
            Denied: it is refused.
        """
        if self._remote:
            return
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if host and _name(host) not in HOSTS:
            raise Denied(421, f"this gateway is on 127.0.0.1, and not known as {host[:100]!r}")
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        if origin and _name(origin.partition("://")[2]) not in HOSTS:
            raise Denied(403, "web pages cannot use this gateway")

    def caller_of(self, headers: Mapping[bytes, bytes]) -> tuple[str, Allowed | None]:
        """The caller's name, and what its key allows; None for a caller without a local key.

        Raises:
            Denied: a key is needed, and this is none.
        """
        key = key_in(headers)
        if not (self._remote or self._keyring):
            return (f"key-{sha256(key.encode()).hexdigest()[:8]}" if key else ANYBODY), None
        found = self._keyring.find(key) if key else None
        if found is None:
            what = "this key is not one of the gateway's, or was removed" if key else "a local key is needed"
            raise Denied(401, f"{what}: flatout serve key add NAME makes one")
        return found.name, found.allowed


def key_in(headers: Mapping[bytes, bytes]) -> str:
    """The key that a client sends, in whichever header; "" for none."""
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer" and key.strip():
        return key.strip().decode("latin-1")
    return next((value.decode("latin-1") for name in _KEYS if (value := headers.get(name))), "")


def _name(host: str) -> str:
    """A host without its port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host
