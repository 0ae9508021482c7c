"""Where workers on several machines share something: the address of a server, and a name for those who share."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct

from flatout.errors import ConfigError

PASSWORD = "FLATOUT_REDIS_PASSWORD"  # noqa: S105 -- the name of the variable that has it
"""The environment variable with the server's password: addresses are shown and stored, so they hold none."""

EXAMPLE = "redis://host:6379/0/team"

RAY = "ray:/"
"""The server's part of an address in the cluster of Ray that the program is in: ``ray://team``."""

_SERVERS = ("redis", "rediss", "unix")

SCHEMES = (*_SERVERS, "ray")
"""What an address may begin with."""


class Place(Struct, frozen=True):
    """An address such as ``redis://host:6379/0/team`` or ``ray://team``.

    Attributes:
        server: the server's part of it, such as ``redis://host:6379/0``.
        name: what those who share have agreed on, such as ``team``.
    """

    server: str
    name: str

    def __str__(self) -> str:
        return f"{self.server}/{self.name}"


def is_place(shared: str) -> bool:
    """Whether this is an address, and not only a name for the processes of this machine."""
    return "://" in shared


def place_of(shared: str) -> Place:
    """The place that an address names.

    Raises:
        ConfigError: it is no such address, or has a password in it.
    """
    server, _, name = shared.rpartition("/")
    try:
        parts = urlsplit(server)
        parts.port  # noqa: B018 -- raises if it is no number
    except ValueError:
        raise _wrong(shared) from None
    if parts.password is not None or any("password" in option for option in parse_qs(parts.query)):
        raise ConfigError(f"an address such as {EXAMPLE} holds no password; put it in {PASSWORD}")
    if server == RAY and name.strip():
        return Place(server, name)
    if parts.scheme not in _SERVERS:
        raise _wrong(shared)
    where = parts.path if parts.scheme == "unix" else parts.netloc
    if not where.strip("/") or not name.strip() or (name.isdigit() and not parts.path.strip("/")):
        raise _wrong(shared)
    if parts.scheme != "unix" and re.fullmatch(r"(/\d*)?", parts.path) is None:
        raise _wrong(shared)
    return Place(server, name)


def redis_place(address: str, what: str) -> Place:
    """The place of something that only a server of Redis keeps, not a cluster of Ray.

    Args:
        address: its address.
        what: what it is, for people: ``answers``.

    Raises:
        ConfigError: it is no such address.
    """
    place = place_of(address)
    if place.server == RAY:
        raise ConfigError(f"a cluster of Ray shares limits, and keeps no {what}: give a server of Redis, not {address}")
    return place


def _wrong(shared: str) -> ConfigError:
    """The error. It shows neither the user's part of the address nor its options: a password may be in them."""
    shown = re.sub(r"\?.*", "?…", re.sub(r"//.*@", "//", shared))
    return ConfigError(f"what machines share has an address such as {EXAMPLE}, with a name at its end, not {shown!r}")
